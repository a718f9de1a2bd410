//! `wordmill demo`

use super::bar::progress;
use super::run::TrainFlags;
use super::train_lm::LmFlags;
use super::train_ner::NerFlags;
use super::train_softmax::SoftmaxFlags;
use crate::error::{Error, Result};
use crate::math::exp;
use crate::pool::{Pool, pool};
use crate::tasks::generate::{Draws, Generator};
use crate::tasks::language_model::{Evaluator, Trained};
use crate::tasks::tagger::{Tagger, evaluate, read_tagged};
use crate::tasks::{Model, softmax};
use crate::text::blobs::Blobs;
use crate::text::conll::{Conll, Form};
use crate::text::grammar::Grammar;
use crate::text::tags::{Kinds, Tag};
use crate::text::{Corpus, Inputs};
use clap::Parser;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Train a small language model, a tagger and a classifier on bundled data, in about a minute
#[derive(Debug, clap::Args)]
pub struct Demo {
    /// Directory to create [default: wordmill-demo, or wordmill-demo-2 …]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Number of threads, 0: one per core
    #[arg(long, default_value = "0", value_parser = super::values::threads)]
    threads: usize,
}

/// The bundled text, drawn from the bundled grammar.
const TEXTS: [(&str, &str); 6] = [
    ("train.txt", include_str!("../../data/lm/train.txt")),
    ("valid.txt", include_str!("../../data/lm/valid.txt")),
    ("test.txt", include_str!("../../data/lm/test.txt")),
    ("train.conll", include_str!("../../data/ner/train.conll")),
    ("valid.conll", include_str!("../../data/ner/valid.conll")),
    ("test.conll", include_str!("../../data/ner/test.conll")),
];

/// A command line for the options of a command.
#[derive(Parser)]
struct Line<O: clap::Args> {
    #[command(flatten)]
    options: O,
}

/// Trains with the options of a command line.
fn train<F: TrainFlags + clap::Args>(fixed: &[&str], paths: [(&str, &Path); 3], quiet: bool) -> Result<()> {
    let fixed = ["train"].iter().chain(fixed).map(Into::into);
    let paths = paths.into_iter().flat_map(|(name, path)| [name.into(), path.into()]);
    let args: Vec<std::ffi::OsString> = fixed.chain(paths).collect();
    let flags = Line::<F>::try_parse_from(args).expect("the demo's options are right").options;
    flags.train(&Inputs::default(), progress(quiet)).map(|_| ())
}

impl Demo {
    /// Runs the command.
    pub fn run(self, out: &mut (dyn Write + Send)) -> Result<()> {
        let dir = self.out.clone().unwrap_or_else(free_name);
        std::fs::create_dir(&dir).map_err(|e| Error::io(&dir, "making the directory", e))?;
        for (name, text) in TEXTS {
            let path = dir.join(name);
            std::fs::write(&path, text).map_err(|e| Error::io(&path, "writing", e))?;
        }
        let mut say = |line: String| writeln!(out, "{line}").and_then(|()| out.flush()).map_err(Error::output);
        let grammar = Grammar::bundled();
        say(format!(
            "A synthetic newspaper: {} words from a hidden Markov model of {} states.\n",
            TEXTS[0].1.split_whitespace().count(),
            grammar.states()
        ))?;
        let pool = pool(self.threads)?;
        self.language_model(&dir, &grammar, &pool, &mut say)?;
        self.tagger(&dir, &grammar, &pool, &mut say)?;
        self.classifier(&dir, &pool, &mut say)?;

        let dir = dir.display();
        let next = [
            (format!("wordmill generate {dir}/lm"), "continue your own words"),
            (format!("wordmill eval {dir}/lm {dir}/test.txt"), "evaluate it"),
            (format!("wordmill tag {dir}/tagger --text"), "tag sentences that you type"),
            ("wordmill train lm --help".into(), "train on your own text"),
            (format!("{dir}/lm/curves.svg"), "its learning curves"),
        ];
        say("\nNext:".into())?;
        let width = next.iter().map(|(command, _)| command.chars().count()).max().unwrap_or(0);
        next.iter().try_for_each(|(command, what)| say(format!("  {command:width$}   {what}")))
    }

    fn language_model(
        &self,
        dir: &Path,
        grammar: &Grammar,
        pool: &Pool,
        say: &mut dyn FnMut(String) -> Result<()>,
    ) -> Result<()> {
        say("A recurrent network learns to predict it, word by word.\n".into())?;
        let (text, valid, test, model) =
            (dir.join("train.txt"), dir.join("valid.txt"), dir.join("test.txt"), dir.join("lm"));
        let fixed = ["--embed=64", "--hidden=160", "--epochs=8", "--lr=0.004", "--keep-prob=0.8", "--schedule=linear"];
        let inputs = Inputs::default();
        let (trained, loss) = pool.install(|| {
            train::<LmFlags>(&fixed, [("--train", &text), ("--valid", &valid), ("--out", &model)], false)?;
            let trained = Trained::load(&model)?;
            let corpus = Corpus::read_with(&test, &trained.vocabulary, &inputs)?;
            let mut evaluator = Evaluator::new(&trained.model, corpus.ids.len());
            let special = [trained.vocabulary.unk(), trained.vocabulary.eos()];
            let loss = evaluator.evaluate(&trained.model, &trained.w, &corpus.ids, special).loss;
            Ok::<_, Error>((trained, loss))
        })?;
        let best = grammar.perplexity(TEXTS[2].1.lines()).perplexity();
        say(format!(
            "\nPerplexity on unseen text:\n  before training   {:7.1}   (a uniform guess among {0} words)\n  \
             after training    {:7.1}\n  best possible     {best:7.1}   (the true model, by the forward algorithm)",
            trained.vocabulary.len() as f64,
            exp(loss)
        ))?;
        say("\nSome sentences generated by the model:".into())?;
        let mut writer = Generator::new(&trained, None);
        let draws = Draws { words: 40, temperature: 0.8, ..Draws::default() };
        (0..5).try_for_each(|number| say(format!("  {}", writer.sentence("", &draws, number).text)))
    }

    fn tagger(
        &self,
        dir: &Path,
        grammar: &Grammar,
        pool: &Pool,
        say: &mut dyn FnMut(String) -> Result<()>,
    ) -> Result<()> {
        say("\nA tagger learns to find people, organisations, places and other names in it.\n".into())?;
        let (text, valid, test, model) =
            (dir.join("train.conll"), dir.join("valid.conll"), dir.join("test.conll"), dir.join("tagger"));
        let (found, best) = pool.install(|| {
            train::<NerFlags>(&["--epochs=4"], [("--train", &text), ("--valid", &valid), ("--out", &model)], false)?;
            let tagger = Tagger::load(&model)?;
            let mut kinds = tagger.config.labels.kinds.clone();
            let tagged =
                read_tagged(&test, Form::default(), Some(tagger.config.labels.scheme), &mut kinds, &Inputs::default())?;
            let found = tagger.evaluate_tagged(&tagged, &kinds, &Inputs::default())?;
            let best = evaluate(&source_tags(grammar, &tagged.file, &mut kinds), &tagged, &kinds);
            Ok::<_, Error>((found.conlleval.overall.f1, best.conlleval.overall.f1))
        })?;
        say(format!(
            "\nF1 of entities in unseen text:\n  after training    {:7.2} %\n  \
             best possible     {:7.2} %   (the true model, by the forward-backward algorithm)",
            100.0 * found,
            100.0 * best
        ))
    }

    fn classifier(&self, dir: &Path, pool: &Pool, say: &mut dyn FnMut(String) -> Result<()>) -> Result<()> {
        say("\nA softmax classifier learns to separate points around five centres.\n".into())?;
        let [text, valid, test] =
            ["points-train.csv", "points-valid.csv", "points-test.csv"].map(|name| dir.join(name));
        let drawn = [2000, 500, 2000].into_iter().zip(0..).map(|(n, part)| Blobs::draw(n, 1, part)).collect::<Vec<_>>();
        for (path, points) in [&text, &valid, &test].into_iter().zip(&drawn) {
            std::fs::write(path, points.csv()).map_err(|e| Error::io(path, "writing", e))?;
        }
        let model = dir.join("points");
        let found = pool.install(|| {
            let paths: [(&str, &Path); 3] = [("--train", &text), ("--valid", &valid), ("--out", &model)];
            train::<SoftmaxFlags>(&["--epochs=20", "--quiet"], paths, true)?;
            softmax::Trained::load(&model)?.evaluate_rows(&test, &Inputs::default())
        })?;
        say(format!(
            "Accuracy on unseen points:\n  after training    {:7.2} %\n  \
             best possible     {:7.2} %   (the true model, by Bayes' rule)",
            100.0 * found.accuracy(),
            100.0 * drawn[2].best().0
        ))
    }
}

/// The most probable tags under the source, one per token.
fn source_tags(grammar: &Grammar, file: &Conll, kinds: &mut Kinds) -> Vec<Tag> {
    let words: Vec<&str> = file.words().collect();
    let sentences = file.sentences().map(|sentence| {
        let tags = grammar.posterior_tags(&words[sentence]).expect("the sample is the source's");
        tags.into_iter().map(|tag| Tag::parse(tag, kinds).expect("the source's tags are tags")).collect::<Vec<_>>()
    });
    sentences.collect::<Vec<_>>().concat()
}

/// The first of wordmill-demo, wordmill-demo-2, … that does not exist.
fn free_name() -> PathBuf {
    let names = (1..).map(|i| if i == 1 { "wordmill-demo".into() } else { format!("wordmill-demo-{i}") });
    names.map(PathBuf::from).find(|path| !Path::new(path).exists()).expect("there are names enough")
}
