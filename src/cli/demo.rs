//! `wordmill demo`

use super::bar::progress;
use super::run::TrainFlags;
use super::train_lm::LmFlags;
use super::train_ner::NerFlags;
use super::train_softmax::SoftmaxFlags;
use crate::error::{Error, Result};
use crate::pool::pool;
use crate::tasks::demo;
use crate::text::Inputs;
use clap::Parser;
use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;

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

/// A command line for the options of a command.
#[derive(Parser)]
#[command(no_binary_name = true)]
struct Line<O: clap::Args> {
    #[command(flatten)]
    options: O,
}

/// Trains with the options of a command line.
fn train<F: TrainFlags + clap::Args>(options: Vec<OsString>, quiet: bool) -> Result<()> {
    let flags = Line::<F>::try_parse_from(options).expect("the demo's options are right").options;
    F::TRAIN(&flags.plan()?, &Inputs::default(), progress(quiet)).map(|_| ())
}

impl Demo {
    /// Runs the command.
    pub fn run(self, out: &mut (dyn Write + Send)) -> Result<()> {
        let demo = demo::Demo::create(self.out)?;
        let pool = pool(self.threads)?;
        let mut say = |line: &str| writeln!(out, "{line}").and_then(|()| out.flush()).map_err(Error::output);
        let [words, states] = demo.size();
        say(&format!("A synthetic newspaper: {words} words from a hidden Markov model of {states} states.\n"))?;
        say("A recurrent network learns to predict it, word by word.\n")?;
        pool.install(|| train::<LmFlags>(demo.language_model_options(), false))?;
        say(&format!("\n{}", pool.install(|| demo.language_model())?))?;
        say("\nA tagger learns to find people, organisations, places and other names in it.\n")?;
        pool.install(|| train::<NerFlags>(demo.tagger_options(), false))?;
        say(&format!("\n{}", pool.install(|| demo.tagger())?))?;
        say("\nA softmax classifier learns to separate points around five centres.\n")?;
        pool.install(|| train::<SoftmaxFlags>(demo.classifier_options(), true))?;
        say(&pool.install(|| demo.classifier())?)?;

        let dir = demo.dir.display();
        let next = [
            (format!("wordmill generate {dir}/lm"), "continue your own words"),
            (format!("wordmill eval {dir}/lm {dir}/test.txt"), "evaluate it"),
            (format!("wordmill tag {dir}/tagger --text"), "tag sentences that you type"),
            ("wordmill train lm --help".into(), "train on your own text"),
            (format!("{dir}/lm/curves.svg"), "its learning curves"),
        ];
        say("\nNext:")?;
        let width = next.iter().map(|(command, _)| command.chars().count()).max().unwrap_or(0);
        next.iter().try_for_each(|(command, what)| say(&format!("  {command:width$}   {what}")))
    }
}
