//! `wordmill train ner`

use super::form::{FormOptions, column};
use super::inputs::InputOptions;
use super::run::{ExampleFlags, ProfileFlags, RunFlags, TrainFlags};
use super::values::{keep_probability, not_negative, size};
use crate::error::{Result, quoted, reject};
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

/// Help of --batch.
const BATCH: &str = "Batch size: tokens per optimizer step; with --objective sentence, as many sentences as have this \
                     many tokens on average";

/// Train a tagger on CoNLL files: one token per line, its word in the first column, its tag in the last
///
/// The defaults suit texts of ten thousand to several hundred thousand words. eval and tag use the model with the best
/// F1 on the validation text.
#[derive(Clone, Debug, clap::Args, Serialize)]
#[serde(rename_all = "kebab-case")]
#[command(mut_arg("epochs", |arg| arg.default_value("10")))]
#[command(mut_arg("batch", |arg| arg.value_name("TOKENS").help(BATCH)))]
#[command(after_help = "\
Examples:
  wordmill train ner --train train.conll --valid valid.conll --test test.conll --out tagger
  wordmill train ner --train train.conll --valid valid.conll --out tagger --vectors glove.6B.50d.txt
  wordmill train ner --train train.conll --valid valid.conll --out tagger --features none --objective window
  wordmill train ner --out tagger --resume               resume after Ctrl-C, with bit-identical results")]
pub struct NerFlags {
    #[command(flatten)]
    #[serde(flatten)]
    fixed: NerFixed,
    /// Tagged text to evaluate the best model on after training
    #[arg(long, value_name = "FILE")]
    test: Option<PathBuf>,
    /// No effect, kept for compatibility with older commands and option files: tags that their scheme does not allow
    /// are always read as conlleval reads them.
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

/// Options that a resumed run must share with the run it continues.
#[derive(Clone, Debug, clap::Args, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct NerFixed {
    /// Tagged training text
    #[arg(long, value_name = "FILE")]
    train: PathBuf,
    /// Tagged validation text; its F1 is computed after every epoch
    #[arg(long, value_name = "FILE")]
    valid: Option<PathBuf>,
    /// Window size: tokens that the network sees at a time, an odd number
    #[arg(long, default_value = "3", value_parser = window, value_name = "TOKENS")]
    window: usize,
    /// Embedding size: width of a word vector [default: 50, or that of --vectors]
    #[arg(long, value_parser = size, value_name = "D")]
    embed: Option<usize>,
    /// Hidden units
    #[arg(long, default_value = "100", value_parser = size, value_name = "H")]
    hidden: usize,
    /// Dropout: probability of keeping an input or a hidden unit
    #[arg(long, default_value = "0.9", value_parser = keep_probability, value_name = "P")]
    keep_prob: f64,
    /// L2 penalty lambda/2 (|W|^2 + |U|^2)
    #[arg(long, default_value = "0.001", value_parser = not_negative, value_name = "LAMBDA")]
    l2: f64,
    /// Pretrained word vectors: GloVe text, word2vec text or binary
    #[arg(long, value_name = "FILE")]
    vectors: Option<PathBuf>,
    /// Do not train the word vectors
    #[arg(long)]
    freeze_vectors: bool,
    /// Features of a word besides its vector: caps and suffix, or none
    #[arg(long, default_value = "caps,suffix", value_enum, value_delimiter = ',')]
    features: Vec<Feature>,
    /// Training objective: the log-likelihood of each tag given its window, or of the tag sequence of the sentence
    #[arg(long, default_value = "sentence", value_enum)]
    objective: Objective,
    /// Tagging scheme that the model learns and writes; the scheme of a file is detected automatically and converted
    #[arg(long, default_value = "auto", value_enum)]
    scheme: SchemeOption,
    /// Column of the tags, from 1 [default: the last]
    #[arg(long, value_name = "N", value_parser = column)]
    column: Option<usize>,
    #[command(flatten)]
    #[serde(flatten)]
    form: FormOptions,
    /// Ignore the case of words
    #[arg(long)]
    lowercase: bool,
    /// Words that occur less often are replaced by their lower-case form, then by that with all digits alike, then by <unk>
    #[arg(long, default_value = "1", value_name = "N")]
    min_count: u64,
    /// In training, replace a word that occurs n times by <unk> with probability A / (A + n), so that <unk> is learned
    #[arg(long, default_value = "0.25", value_parser = not_negative, value_name = "A")]
    unknown: f64,
    #[command(flatten)]
    #[serde(flatten)]
    examples: ExampleFlags,
}

/// Features of a word besides its vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
enum Feature {
    /// Capitalisation, and whether it contains digits
    Caps,
    /// Suffixes: its last 2, 3 and 4 characters
    Suffix,
    /// None: the basic window model
    None,
}

/// The tagging scheme that is learned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
enum SchemeOption {
    /// The scheme of the training text
    Auto,
    /// B- only between two adjacent entities of one type
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

impl TrainFlags for NerFlags {
    type Fixed = NerFixed;
    type Plan = Plan;
    const TRAIN: fn(&Plan, &Inputs, Progress) -> Result<Summary> = train;

    fn parts(&self) -> (&NerFixed, &RunFlags, &InputOptions) {
        (&self.fixed, &self.run, &self.fixed.examples.inputs)
    }

    fn plan(&self) -> Result<Plan> {
        let fixed = &self.fixed;
        let has = |feature: Feature| fixed.features.contains(&feature);
        let none_of_some = has(Feature::None) && fixed.features.len() > 1;
        reject(&[(none_of_some, "--features none cannot be combined with other features")])?;
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

    fn next(&self) -> String {
        let dir = quoted(&self.run.out);
        format!("echo 'Some words of your own' | wordmill tag {dir} --text")
    }

    fn tested(&self, summary: &Summary) -> String {
        let tested = summary.test.as_ref().zip(self.test.as_ref());
        tested.map_or(String::new(), |(report, path)| format!("\n{}:\n{}", path.display(), report.table()))
    }
}
