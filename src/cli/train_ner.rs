//! `wordmill train ner`

use super::form::{FormOptions, column};
use super::inputs::InputOptions;
use super::run::{ExampleFlags, ProfileFlags, RunFlags, TrainFlags};
use super::values::{keep_probability, not_negative, size};
use crate::error::{Error, Result};
use crate::kernels::dropout::Keep;
use crate::models::ner::Objective;
use crate::tasks::run::{self, Summary};
use crate::tasks::tagger::{MOST_PLACES, Plan, train};
use crate::text::Inputs;
use crate::text::conll::Form;
use crate::text::tags::Scheme;
use crate::train::progress::Progress;
use serde::Serialize;
use std::path::PathBuf;

/// What --batch counts.
const BATCH: &str = "Tokens of a step; with --objective sentence, of as many sentences as have so many on average";

/// Train a tagger on CoNLL files: one token per line, its word in the first column, its tag in the last
///
/// The defaults suit texts of some ten to some hundred thousand words. The best model on the validation text is what eval and
/// tag use.
#[derive(Clone, Debug, clap::Args, Serialize)]
#[serde(rename_all = "kebab-case")]
#[command(mut_arg("epochs", |arg| arg.default_value("10")))]
#[command(mut_arg("batch", |arg| arg.value_name("TOKENS").help(BATCH)))]
#[command(after_help = "\
Examples:
  wordmill train ner --train train.conll --valid valid.conll --test test.conll --out tagger
  wordmill train ner --train train.conll --valid valid.conll --out tagger --vectors glove.6B.50d.txt
  wordmill train ner --train train.conll --valid valid.conll --out tagger --features none --objective window
  wordmill train ner --out tagger --resume               continue after Ctrl-C, to the same bits")]
pub struct NerFlags {
    #[command(flatten)]
    #[serde(flatten)]
    fixed: NerFixed,
    /// Tagged text to evaluate the best model on in the end
    #[arg(long, value_name = "FILE")]
    test: Option<PathBuf>,
    /// What is always done now: tags that their scheme does not allow are read as conlleval reads them. For commands and files of
    /// options from before.
    #[arg(long, hide = true)]
    #[serde(skip)]
    repair: bool,
    #[command(flatten)]
    #[serde(flatten)]
    profile: ProfileFlags,
    #[command(flatten)]
    #[serde(flatten)]
    run: RunFlags,
}

/// Options that a resumed run must share with the one it continues.
#[derive(Clone, Debug, clap::Args, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct NerFixed {
    /// Tagged text to learn from
    #[arg(long, value_name = "FILE")]
    train: PathBuf,
    /// Tagged text to measure F1 on after every epoch
    #[arg(long, value_name = "FILE")]
    valid: Option<PathBuf>,
    /// Tokens that the net sees at a time, odd
    #[arg(long, default_value = "3", value_parser = window, value_name = "TOKENS")]
    window: usize,
    /// Width of a word vector [default: 50, or that of --vectors]
    #[arg(long, value_parser = size, value_name = "D")]
    embed: Option<usize>,
    /// Hidden units
    #[arg(long, default_value = "100", value_parser = size, value_name = "H")]
    hidden: usize,
    /// Dropout: the share of the net's inputs and of its hidden units that is kept
    #[arg(long, default_value = "0.9", value_parser = keep_probability, value_name = "P")]
    keep_prob: f64,
    /// L2 penalty lambda/2 (|W|^2 + |U|^2)
    #[arg(long, default_value = "0.001", value_parser = not_negative, value_name = "LAMBDA")]
    l2: f64,
    /// Word vectors to begin with: GloVe text, word2vec text or binary
    #[arg(long, value_name = "FILE")]
    vectors: Option<PathBuf>,
    /// Leave word vectors as they are
    #[arg(long)]
    freeze_vectors: bool,
    /// What the net sees of a word beside itself: caps and suffix, or none
    #[arg(long, default_value = "caps,suffix", value_enum, value_delimiter = ',')]
    features: Vec<Feature>,
    /// What is learned to be likely: the tag of each token in its window, or the tags of the sentence together
    #[arg(long, default_value = "sentence", value_enum)]
    objective: Objective,
    /// Scheme of the tags that are learned, and written; the scheme of a file is found by itself, and converted
    #[arg(long, default_value = "auto", value_enum)]
    scheme: SchemeOption,
    /// Column of the tags, from 1 [default: the last]
    #[arg(long, value_name = "N", value_parser = column)]
    column: Option<usize>,
    #[command(flatten)]
    #[serde(flatten)]
    form: FormOptions,
    /// Do not tell words apart by their case
    #[arg(long)]
    lowercase: bool,
    /// Words seen less often count as their lower-case form, then with digits made equal, then as <unk>
    #[arg(long, default_value = "1", value_name = "N")]
    min_count: u64,
    /// Take a word seen n times for <unk> with probability A / (A + n) in training, so that <unk> is learned
    #[arg(long, default_value = "0.25", value_parser = not_negative, value_name = "A")]
    unknown: f64,
    #[command(flatten)]
    #[serde(flatten)]
    examples: ExampleFlags,
}

/// What the net sees of a word beside itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
enum Feature {
    /// How it is capitalised, and whether it holds digits
    Caps,
    /// How it ends: its last 2, 3 and 4 characters
    Suffix,
    /// Nothing: the net of the plain equations
    None,
}

/// The scheme that is learned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
enum SchemeOption {
    /// That of the training text
    Auto,
    /// B- only between two neighbours of one type
    Iob1,
    /// Every entity begins with B-
    Iob2,
    /// B- I- E-, and S- for an entity of one token
    Iobes,
    /// I- only
    Io,
}

impl SchemeOption {
    fn scheme(self) -> Option<Scheme> {
        match self {
            SchemeOption::Auto => None,
            SchemeOption::Iob1 => Some(Scheme::Iob1),
            SchemeOption::Iob2 => Some(Scheme::Iob2),
            SchemeOption::Iobes => Some(Scheme::Iobes),
            SchemeOption::Io => Some(Scheme::Io),
        }
    }
}

fn window(text: &str) -> std::result::Result<usize, String> {
    match text.parse() {
        Ok(n) if n % 2 == 1 && n <= MOST_PLACES => Ok(n),
        _ => Err(format!("expected an odd number from 1 to {MOST_PLACES}")),
    }
}

impl NerFlags {
    /// What they ask for.
    pub fn plan(&self) -> Result<Plan> {
        let fixed = &self.fixed;
        let has = |feature: Feature| fixed.features.contains(&feature);
        let run = fixed.examples.plan(fixed.l2, &self.run, self)?;
        Ok(Plan {
            valid: fixed.valid.clone(),
            test: self.test.clone(),
            form: fixed.form.choice(fixed.column).form(Form::default())?,
            scheme: fixed.scheme.scheme(),
            vectors: fixed.vectors.clone(),
            freeze_vectors: fixed.freeze_vectors,
            window: fixed.window,
            embed: fixed.embed,
            hidden: fixed.hidden,
            caps: has(Feature::Caps),
            suffix: has(Feature::Suffix),
            objective: fixed.objective,
            keep: Keep::inverted(fixed.keep_prob),
            lowercase: fixed.lowercase,
            min_count: fixed.min_count,
            unknown: fixed.unknown,
            run: run::Plan { profile: self.profile.profile.clone(), ..run },
            ..Plan::new(&fixed.train, &self.run.out)
        })
    }
}

impl TrainFlags for NerFlags {
    type Fixed = NerFixed;

    fn parts(&self) -> (&NerFixed, &RunFlags, &InputOptions) {
        (&self.fixed, &self.run, &self.fixed.examples.inputs)
    }

    fn check(&self) -> Result<()> {
        let fixed = &self.fixed;
        let usage = |what: &str| Err(Error::Usage(what.into()));
        if fixed.freeze_vectors && fixed.vectors.is_none() {
            return usage("--freeze-vectors needs --vectors: random vectors would never be learned");
        }
        if fixed.features.contains(&Feature::None) && fixed.features.len() > 1 {
            return usage("--features none goes with no other feature");
        }
        Ok(())
    }

    fn train(&self, inputs: &Inputs, progress: Progress) -> Result<Summary> {
        train(&self.plan()?, inputs, progress)
    }

    fn next(&self) -> String {
        let dir = self.run.out.display();
        format!("echo 'Some words of yours' | wordmill tag {dir} --text")
    }

    fn tested(&self, summary: &Summary) -> String {
        let tested = summary.test.as_ref().zip(self.test.as_ref());
        tested.map_or(String::new(), |(report, path)| format!("\n{}:\n{}", path.display(), report.table()))
    }
}
