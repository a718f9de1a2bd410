//! `wordmill demo`

use super::generate::Generate;
use super::language_model::{Evaluator, Trained};
use super::train::LmOptions;
use super::{output_failed, train};
use crate::error::{Error, Result};
use crate::pool::pool;
use crate::text::Corpus;
use crate::text::grammar::Grammar;
use clap::Parser;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Train a small language model on the bundled text, in about a minute
#[derive(Debug, clap::Args)]
pub struct Demo {
    /// Directory to make [default: wordmill-demo, or wordmill-demo-2 …]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Worker threads, 0 for one a core
    #[arg(long, default_value = "0")]
    threads: usize,
}

/// The bundled text, drawn from the bundled grammar.
const TEXTS: [(&str, &str); 3] = [
    ("train.txt", include_str!("../../data/lm/train.txt")),
    ("valid.txt", include_str!("../../data/lm/valid.txt")),
    ("test.txt", include_str!("../../data/lm/test.txt")),
];

/// A command line for the options of `train lm`.
#[derive(Parser)]
struct Options {
    #[command(flatten)]
    lm: LmOptions,
}

impl Demo {
    /// Does it.
    pub fn run(self, out: &mut (dyn Write + Send)) -> Result<()> {
        let dir = self.out.clone().unwrap_or_else(free_name);
        std::fs::create_dir(&dir).map_err(|e| Error::io(&dir, "making the directory", e))?;
        for (name, text) in TEXTS {
            let path = dir.join(name);
            std::fs::write(&path, text).map_err(|e| Error::io(&path, "writing", e))?;
        }
        let (train, valid, test) = (dir.join("train.txt"), dir.join("valid.txt"), dir.join("test.txt"));
        let model = dir.join("lm");
        let mut say = |line: String| writeln!(out, "{line}").and_then(|()| out.flush()).map_err(output_failed);

        let grammar = Grammar::bundled();
        say(format!(
            "A made-up newspaper: {} words by a hidden Markov source of {} states. A recurrent net learns to predict them.\n",
            TEXTS[0].1.split_whitespace().count(),
            grammar.states()
        ))?;
        let fixed =
            ["train", "--embed", "64", "--hidden", "160", "--epochs", "8", "--lr", "0.004", "--keep-prob", "0.8"];
        let paths = [("--train", &train), ("--valid", &valid), ("--out", &model)];
        let threads = self.threads.to_string();
        let mut args: Vec<std::ffi::OsString> = fixed.iter().map(Into::into).collect();
        args.extend(["--schedule", "linear", "--threads", &threads].map(Into::into));
        args.extend(paths.into_iter().flat_map(|(name, path)| [name.into(), path.into()]));
        let options = Options::try_parse_from(args).expect("the demo's options are right").lm;

        let (trained, loss) = pool(self.threads)?.install(|| {
            train::train_lm(&options)?;
            let trained = Trained::load(&model)?;
            let corpus = Corpus::read_with(&test, &trained.vocabulary)?;
            let mut evaluator = Evaluator::new(&trained.model, corpus.ids.len());
            let loss = evaluator.loss(&trained.model, &trained.w, &corpus.ids, trained.vocabulary.eos());
            Ok::<_, Error>((trained, loss))
        })?;
        let best = grammar.perplexity(TEXTS[2].1.lines()).perplexity();
        say(format!(
            "\nPerplexity on text it has not seen:\n  before training   {:7.1}   (a word in {0}: any word of the vocabulary)\n  \
             after training    {:7.1}\n  best possible     {best:7.1}   (the source itself, by the forward algorithm)",
            trained.vocabulary.len() as f64,
            loss.exp()
        ))?;
        say("\nSome sentences that the model writes:".into())?;
        Generate::demo(&trained, 5).into_iter().try_for_each(|sentence| say(format!("  {sentence}")))?;
        let (model, dir) = (model.display(), dir.display());
        say(format!(
            "\nNext:\n  wordmill generate {model}                    let it go on from your words\n  \
             wordmill eval {model} {dir}/test.txt    measure it\n  \
             wordmill train lm --help                          train on your own text\n  \
             {model}/curves.svg                       how it learnt"
        ))
    }
}

/// The first of wordmill-demo, wordmill-demo-2, … that is not there.
fn free_name() -> PathBuf {
    let names = (1..).map(|i| if i == 1 { "wordmill-demo".into() } else { format!("wordmill-demo-{i}") });
    names.map(PathBuf::from).find(|path| !Path::new(path).exists()).expect("there are names enough")
}
