//! `wordmill train lm`

use super::config::Preset;
use super::inputs::{InputOptions, print_json};
use super::language_model::{LmData, LmTask, STRIP_MARKS, Trained};
use super::memory;
use super::profile::{self, Profiled};
use super::run::{absolute, check_patience, check_there, first_state, quoted, resumed_state, to_toml};
use super::saved::{CONFIG, OPTIONS, Saved, VOCABULARY, check_same};
use super::tuning::{self, Subject, Tuning};
use super::values::{
    Cutoffs, check_precision, count, keep_probability, not_negative, positive, probability, seed, size, threads,
};
use crate::blas::Precision;
use crate::error::{Error, Result};
use crate::kernels::activation::Activation;
use crate::kernels::dropout::Keep;
use crate::layers::output::{Draws, Negatives, Objective, Tail, clusters};
use crate::layers::recurrence::{Cell, Kind, Unit};
use crate::models::language_model::{Config, Loss, Sizes};
use crate::models::{Init, LanguageModel};
use crate::notices::Notice;
use crate::params::{Arena, Gradients};
use crate::pool::pool;
use crate::sys::signals::Signals;
use crate::text::marks::Marks;
use crate::text::{Corpus, Inputs, Lanes, Subset, Vocabulary, Windows};
use crate::train::checkpoint::Checkpoint;
use crate::train::fit::{Fit, Plan, State, Task, read_optimizer};
use crate::train::metrics::Metrics;
use crate::train::optimizer::{Optimizer, Rule};
use crate::train::progress::{Progress, Style, short};
use crate::train::saver::Saver;
use crate::train::schedule::{Schedule, ScheduleKind};
use crate::train::stepper::Stepper;
use crate::train::writer::Writer;
use serde::Serialize;
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

/// Train a recurrent language model on text: one sentence per line, words separated by spaces
///
/// The defaults suit a text of a million words. The best model on the validation text is what eval, generate and score use.
#[derive(Clone, Debug, clap::Args, Serialize)]
#[serde(rename_all = "kebab-case")]
#[command(after_help = "\
Examples:
  wordmill train lm --train train.txt --valid valid.txt --out model
  wordmill train lm --train train.txt --valid valid.txt --out model --hidden 200 --embed 100 --epochs 20 --patience 3
  wordmill train lm --preset fast --train train.txt --valid valid.txt --out model --epochs 3
  wordmill train lm --out model --resume                 continue after Ctrl-C, to the same bits
  wordmill train lm --out model --resume --epochs 30     go on longer
  wordmill train lm --config options.toml                all options from a file, as: hidden = 200")]
pub struct LmOptions {
    /// Text to learn from
    #[arg(long, value_name = "FILE")]
    train: PathBuf,
    /// Text to measure perplexity on after every epoch
    #[arg(long, value_name = "FILE")]
    valid: Option<PathBuf>,
    /// Directory of the model; made if it is not there
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Other defaults for the options below: fast is a GRU with sampled softmax that learns most of what it will in few passes (--cell
    /// gru --embed 128 --hidden 128 --batch 32 --loss sampled --samples 512 --keep-prob 0.95 --epochs 3)
    #[arg(long, value_enum, value_name = "NAME")]
    #[serde(skip)]
    preset: Option<Preset>,
    /// Recurrent cell
    #[arg(long, default_value = "rnn", value_enum)]
    cell: Kind,
    /// Units of a gated-feedback net [default: gru]
    #[arg(long, value_enum)]
    #[serde(skip_serializing_if = "Option::is_none")]
    unit: Option<Unit>,
    /// Width of a word vector [default: 50, with --tie that of --hidden]
    #[arg(long, value_parser = size, value_name = "D")]
    #[serde(skip_serializing_if = "Option::is_none")]
    embed: Option<usize>,
    /// Units of a recurrent layer
    #[arg(long, default_value = "100", value_parser = size, value_name = "H")]
    hidden: usize,
    /// Recurrent layers, one on the other
    #[arg(long, default_value = "1", value_parser = layers)]
    layers: usize,
    /// Non-linearity of the recurrent units of --cell rnn [default: tanh]
    #[arg(long, value_enum)]
    #[serde(skip_serializing_if = "Option::is_none")]
    activation: Option<Activation>,
    /// One table for word vectors and output weights: fewer parameters, and as wide as --hidden
    #[arg(long)]
    tie: bool,
    /// Steps that a gradient goes back in time
    #[arg(long, default_value = "10", value_parser = size, value_name = "STEPS")]
    tau: usize,
    /// New targets in a window of tau steps: tau shares a walk among all its targets, 1 gives each its own [default: tau]
    #[arg(long, value_parser = size, value_name = "STEPS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    stride: Option<usize>,
    /// Places of the text that are read side by side
    #[arg(long, default_value = "64", value_parser = size, value_name = "LANES")]
    batch: usize,
    /// What is learned: the softmax over all words; over a sample of them; which words are noise (Mnih and Teh 2012); or the softmax
    /// over all words with fewer units for rare ones (Grave et al. 2017)
    ///
    /// The adaptive softmax is exact, as the full one is; its rare words stand in tails that only the tokens of their words look at.
    ///
    /// With a sample a step costs the same for any vocabulary; the progress then shows the sample's loss, and only the validation
    /// text is measured with all words. L2 leaves the output weights out.
    #[arg(long, default_value = "full", value_enum)]
    loss: LossKind,
    /// Words that a step draws for --loss sampled or nce
    #[arg(long, default_value = "1024", value_parser = size, value_name = "S")]
    samples: usize,
    /// How they are distributed: by rank (nearly Zipf's law), or by count
    #[arg(long, default_value = "log-uniform", value_enum)]
    sampler: SamplerKind,
    /// Exponent of the counts for --sampler unigram
    #[arg(long, default_value = "0.75", value_parser = not_negative, value_name = "P")]
    power: f64,
    /// Which draws count
    #[arg(long, default_value = "with-replacement", value_enum)]
    recipe: Draws,
    /// Whether all lanes learn from the same sample, or each from its own: less noise, at as many times the rows to gather and update
    #[arg(long, default_value = "shared", value_enum)]
    negatives: Negatives,
    /// ln Z to which --loss nce normalises the model
    #[arg(long, default_value = "9", value_parser = not_negative, value_name = "X")]
    ln_z: f64,
    /// Words that the tails of --loss adaptive begin with, by rank [default: those that make a step shortest]
    #[arg(long, value_name = "N,N,…")]
    #[serde(skip_serializing_if = "Option::is_none")]
    cutoffs: Option<Cutoffs>,
    /// What the units of each tail of --loss adaptive are divided by, to make those of the next [default: 4]
    #[arg(long, value_name = "N", value_parser = size)]
    #[serde(skip_serializing_if = "Option::is_none")]
    tail_divisor: Option<usize>,
    /// Dropout: the share of word vectors' and layers' outputs that is kept
    #[arg(long, default_value = "0.9", value_parser = keep_probability, value_name = "P")]
    keep_prob: f64,
    /// Whether dropout scales: what is kept by 1/P in training, or (none) everything by P afterwards
    #[arg(long, default_value = "inverted", value_enum)]
    dropout_scaling: Scaling,
    /// The same dropout mask for all steps of a window (Gal and Ghahramani 2016)
    #[arg(long)]
    variational: bool,
    /// Update rule; --optimizer adagrad-rowwise keeps one number for a word's vector where adagrad keeps one for each weight
    #[arg(long, default_value = "adam", value_enum)]
    optimizer: Rule,
    /// Learning rate [default: adam 0.004, adagrad and adagrad-rowwise 0.1, sgd 1]
    #[arg(long, value_parser = positive, value_name = "RATE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    lr: Option<f64>,
    /// Largest norm of a gradient; larger ones are scaled down
    #[arg(long, default_value = "5", value_parser = positive, value_name = "NORM")]
    clip: f64,
    /// L2 penalty lambda/2 |W|^2 on weight matrices
    #[arg(long, default_value = "0", value_parser = not_negative, value_name = "LAMBDA")]
    l2: f64,
    /// How the learning rate changes
    #[arg(long, default_value = "linear", value_enum)]
    schedule: ScheduleKind,
    /// Validate on so many words only, a fixed random subset of the lines
    #[arg(long, value_name = "N", value_parser = count)]
    #[serde(skip_serializing_if = "Option::is_none")]
    eval_tokens: Option<u64>,
    /// Stop after so many epochs without a better validation perplexity
    #[arg(long, value_name = "EPOCHS", value_parser = count)]
    #[serde(skip_serializing_if = "Option::is_none")]
    patience: Option<u64>,
    /// Passes over the text; a text of fewer than a million words takes more
    #[arg(long, default_value = "5", value_parser = count)]
    epochs: u64,
    /// Stop after so many optimizer steps
    #[arg(long, value_name = "STEPS", value_parser = count)]
    #[serde(skip_serializing_if = "Option::is_none")]
    max_steps: Option<u64>,
    /// Seed of all random numbers
    #[arg(long, default_value = "1", value_parser = seed)]
    seed: u64,
    /// Worker threads, 0: one per core; the result does not depend on them
    #[arg(long, default_value = "0", value_parser = threads)]
    pub threads: usize,
    /// Threads and sizes that wordmill tune found to be fast for such a model: its file, or auto for the one in its usual place
    #[arg(long, value_name = "FILE|auto")]
    #[serde(skip)]
    tuning: Option<PathBuf>,
    /// Lanes that the recurrent part works on together; this and the next two change speed and last bits [default: 16 to 32]
    #[arg(long, value_parser = size, value_name = "LANES")]
    #[serde(skip_serializing_if = "Option::is_none")]
    shard: Option<usize>,
    /// Most tokens that the output layer works on together [default: 320]
    #[arg(long, value_parser = size, value_name = "TOKENS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    chunk: Option<usize>,
    /// Most words that a thread of the output layer works on together [default: 160]
    #[arg(long, value_parser = size, value_name = "WORDS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    block: Option<usize>,
    /// What the operands of matrix products are rounded to in training: with bf16 a processor that has AVX-512 BF16 reads up to 1.6 times
    /// as many words/s, and learns as well
    ///
    /// Weights, sums and the optimizer stay f32, and validation is in f32.
    #[arg(long, default_value = "f32", value_enum)]
    #[serde(skip_serializing_if = "Precision::is_f32")]
    precision: Precision,
    /// Words seen less often become <unk>
    #[arg(long, default_value = "1", value_name = "N")]
    min_count: u64,
    /// Keep the most frequent words only, <unk> and <eos> included
    #[arg(long, value_name = "N", value_parser = vocabulary_size)]
    #[serde(skip_serializing_if = "Option::is_none")]
    max_vocab: Option<usize>,
    /// Leave out other tools' marks around lines, as <s> and </s>, [CLS] and [SEP], <bos> and <eos>; eval, score and generate then do so
    /// too
    #[arg(long)]
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    strip_marks: bool,
    /// A word of the text that stands for unknown ones, as <UNK>: it is taken for <unk>
    #[arg(long, value_name = "TOKEN", value_parser = word)]
    #[serde(skip_serializing_if = "Option::is_none")]
    unk_token: Option<String>,
    /// How weights begin [default: uniform, with gated cells orthogonal]
    ///
    /// In any case the words' output biases begin as the logarithms of their shares of the text.
    #[arg(long, value_enum)]
    #[serde(skip_serializing_if = "Option::is_none")]
    init: Option<Init>,
    /// Probability that a lane begins a window with a state of zero, so that the net learns to begin as well as to go on
    #[arg(long, default_value = "0.01", value_parser = probability, value_name = "P")]
    forget: f64,
    /// Begin every sentence with a state of zero
    #[arg(long)]
    reset_at_eos: bool,
    /// Minutes between checkpoints within an epoch
    #[arg(long, default_value = "15", value_parser = positive, value_name = "MINUTES")]
    save_every: f64,
    /// Save and end after so many minutes, for schedulers that would kill: --resume goes on as if it had never ended
    #[arg(long, value_name = "MINUTES", value_parser = positive)]
    #[serde(skip)]
    max_minutes: Option<f64>,
    #[command(flatten)]
    #[serde(flatten)]
    pub inputs: InputOptions,
    /// Continue the run in --out, with its options
    #[arg(long)]
    #[serde(skip)]
    resume: bool,
    /// Replace the model in --out
    #[arg(long)]
    #[serde(skip)]
    force: bool,
    /// Print at the end where the time went, part by part, and write a trace for chrome://tracing or ui.perfetto.dev to FILE
    #[arg(long, value_name = "FILE", num_args = 0..=1)]
    #[serde(skip)]
    profile: Option<Option<PathBuf>>,
    /// Show nothing but errors
    #[arg(long, short)]
    #[serde(skip)]
    pub quiet: bool,
    /// Print a summary as JSON
    #[arg(long)]
    #[serde(skip)]
    json: bool,
}

/// Options that a resumed run must share with the one it continues.
const FIXED: [&str; 38] = [
    "train",
    "valid",
    "cell",
    "unit",
    "embed",
    "hidden",
    "layers",
    "activation",
    "tie",
    "tau",
    "stride",
    "batch",
    "loss",
    "samples",
    "sampler",
    "power",
    "recipe",
    "negatives",
    "ln-z",
    "cutoffs",
    "tail-divisor",
    "eval-tokens",
    "keep-prob",
    "dropout-scaling",
    "variational",
    "optimizer",
    "seed",
    "min-count",
    "max-vocab",
    STRIP_MARKS,
    "unk-token",
    "init",
    "forget",
    "reset-at-eos",
    "shard",
    "chunk",
    "block",
    "precision",
];

fn word(text: &str) -> std::result::Result<String, String> {
    let one = !text.is_empty() && !text.contains(char::is_whitespace);
    if one { Ok(text.to_owned()) } else { Err("expected a word without spaces".into()) }
}

fn layers(text: &str) -> std::result::Result<usize, String> {
    size(text).and_then(|n| if n <= 64 { Ok(n) } else { Err("expected at most 64".into()) })
}

fn vocabulary_size(text: &str) -> std::result::Result<usize, String> {
    let n: usize = text.parse().map_err(|_| "expected a whole number".to_owned())?;
    if n >= 3 { Ok(n) } else { Err("expected 3 or more: <unk>, <eos> and a word".into()) }
}

/// What is learned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LossKind {
    /// The exact softmax
    Full,
    /// The softmax over a sample
    Sampled,
    /// Noise-contrastive estimation
    Nce,
    /// The exact softmax, with fewer units for rare words
    Adaptive,
}

/// How samples are distributed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum SamplerKind {
    /// By rank
    LogUniform,
    /// By count
    Unigram,
}

/// Whether dropout scales in training.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Scaling {
    /// What is kept, by 1/P in training; nothing afterwards
    Inverted,
    /// Nothing in training; everything by P afterwards
    None,
}

impl LmOptions {
    fn files(&self) -> [(&'static str, Option<&PathBuf>); 2] {
        [("train", Some(&self.train)), ("valid", self.valid.as_ref())]
    }

    /// The loss for words with `counts`.
    fn loss(&self, counts: &[u64]) -> Result<Loss> {
        let objective = match self.loss {
            LossKind::Full => return Ok(Loss::Full),
            LossKind::Adaptive => return Ok(Loss::Adaptive { tails: self.tails(counts)? }),
            LossKind::Sampled => Objective::Softmax,
            LossKind::Nce => Objective::Nce(self.ln_z),
        };
        let power = (self.sampler == SamplerKind::Unigram).then_some(self.power);
        let (draws, negatives) = (self.recipe, self.negatives);
        Ok(Loss::Sampled { objective, draws, negatives, samples: self.samples, power })
    }

    /// The tails of an adaptive softmax, chosen or as asked for.
    fn tails(&self, counts: &[u64]) -> Result<Vec<Tail>> {
        let divisor = self.tail_divisor.unwrap_or(4);
        let Some(Cutoffs(cutoffs)) = &self.cutoffs else {
            return Ok(clusters::choose(counts, self.hidden, divisor, self.stride.unwrap_or(self.tau) * self.batch));
        };
        match cutoffs.last().filter(|&&last| last >= counts.len()) {
            Some(last) => Err(Error::Usage(format!(
                "--cutoffs {last}: expected less than the {} words of the text",
                counts.len()
            ))),
            None => Ok(clusters::tails_at(cutoffs, self.hidden, divisor)),
        }
    }

    /// Whether a step learns from a sample of the words.
    fn samples(&self) -> bool {
        matches!(self.loss, LossKind::Sampled | LossKind::Nce)
    }

    /// The model, for a vocabulary of `words` words.
    fn model(&self, words: usize, eos: u32, loss: Loss) -> Config {
        Config {
            words,
            embed: self.embed(),
            hidden: self.hidden,
            layers: self.layers,
            cell: Cell::new(self.cell, self.activation.unwrap_or(Activation::Tanh), self.unit.unwrap_or(Unit::Gru)),
            tie: self.tie,
            reset_at: self.reset_at_eos.then_some(eos),
            variational: self.variational,
            loss,
            at_test: match self.dropout_scaling {
                Scaling::Inverted => 1.0,
                Scaling::None => self.keep().share(),
            },
            sizes: Sizes { shard: self.shard, chunk: self.chunk, block: self.block },
            precision: self.precision,
        }
    }

    fn embed(&self) -> usize {
        self.embed.unwrap_or(if self.tie { self.hidden } else { 50 })
    }

    fn init(&self) -> Init {
        self.init.unwrap_or(if self.cell == Kind::Rnn { Init::Uniform } else { Init::Orthogonal })
    }

    fn keep(&self) -> Keep {
        match self.dropout_scaling {
            Scaling::Inverted => Keep::inverted(self.keep_prob),
            Scaling::None => Keep::unscaled(self.keep_prob),
        }
    }

    /// With what `--tuning` says for a vocabulary of `words`, where the options do not say it themselves.
    fn tuned(&self, words: usize) -> Result<LmOptions> {
        let mut options = self.clone();
        let Some(path) = &self.tuning else { return Ok(options) };
        let path = tuning::place(path)?;
        let subject = Subject {
            isa: Subject::isa(),
            precision: self.precision,
            cell: self.cell,
            sampled: self.loss != LossKind::Full,
            words,
            embed: self.embed(),
            hidden: self.hidden,
            layers: self.layers,
            tau: self.tau,
            batch: self.batch,
        };
        let tuning = Tuning::read(&path)?;
        let Some(entry) = tuning.find(&subject) else {
            let kind = if subject.sampled { "with a sampled loss" } else { "with the full softmax" };
            let model = format!("no {:?} {kind} in {:?} on {}", self.cell, self.precision, subject.isa);
            return Err(Error::input(&path, 0, model.to_lowercase(), "an entry for one, as wordmill tune makes"));
        };
        let Sizes { shard, chunk, block } = entry.sizes;
        options.shard = self.shard.or(shard);
        options.chunk = self.chunk.or(chunk);
        options.block = self.block.or(block);
        if self.threads == 0 {
            options.threads = entry.threads;
        }
        Ok(options)
    }

    /// Makes the batch smaller, and then the windows shorter, where the text has not as many words.
    fn fit_batch(&mut self, tokens: usize, inputs: &Inputs) -> Result<()> {
        let targets = tokens.saturating_sub(1);
        let fits = self.batch.checked_mul(self.tau).is_some_and(|needed| needed <= targets);
        if fits || targets == 0 {
            return Ok(());
        }
        let given = format!("{tokens} words, fewer than --batch {} lanes of --tau {} steps need", self.batch, self.tau);
        self.tau = self.tau.min(targets);
        self.stride = self.stride.map(|stride| stride.min(self.tau));
        self.batch = (targets / self.tau).max(1);
        let fits = format!("--batch {} --tau {}", self.batch, self.tau);
        let notice = Notice::of_file(&self.train, 0, given).done(format!("trained with {fits}"));
        inputs.warn(notice.option(format!("{fits} asks for this")))
    }

    fn rate(&self) -> f64 {
        self.lr.unwrap_or(match self.optimizer {
            Rule::Adam => 0.004,
            Rule::Adagrad | Rule::AdagradRowwise => 0.1,
            Rule::Sgd => 1.0,
        })
    }

    /// For `--config`, and to be read again on resuming.
    fn to_toml(&self) -> Result<String> {
        let mut saved = self.clone();
        saved.train = absolute(&self.train)?;
        saved.valid = self.valid.as_deref().map(absolute).transpose()?;
        saved.out = absolute(&self.out)?;
        saved.stride = Some(self.stride.unwrap_or(self.tau));
        saved.lr = Some(self.rate());
        saved.embed = Some(self.embed());
        saved.init = Some(self.init());
        to_toml(&saved)
    }

    fn check(&self) -> Result<()> {
        check_precision(self.precision)?;
        let stride = self.stride.unwrap_or(self.tau);
        if stride > self.tau {
            return Err(Error::Usage(format!("--stride {stride}: expected at most --tau {}", self.tau)));
        }
        if self.tie && self.loss != LossKind::Full {
            return Err(Error::Usage(
                "--tie needs --loss full: a sample's rows are updated apart from word vectors, and tails have other widths"
                    .into(),
            ));
        }
        if self.tie && self.embed() != self.hidden {
            let what =
                format!("--tie makes word vectors as wide as --hidden {}, found --embed {}", self.hidden, self.embed());
            return Err(Error::Usage(what));
        }
        if self.activation.is_some() && self.cell != Kind::Rnn {
            return Err(Error::Usage("--activation is for --cell rnn; gated cells have σ and tanh".into()));
        }
        if self.unit.is_some() && self.cell != Kind::GatedFeedback {
            return Err(Error::Usage("--unit is for --cell gated-feedback".into()));
        }
        if self.loss == LossKind::Nce && self.recipe == Draws::Unique {
            return Err(Error::Usage("--recipe unique is for --loss sampled; nce draws with replacement".into()));
        }
        if self.resume && self.preset.is_some() {
            return Err(Error::Usage(
                "--preset is for a new run; --resume takes the options of the run it continues".into(),
            ));
        }
        if self.tuning.is_some() && self.resume {
            return Err(Error::Usage("--tuning is for a new run: one that is continued keeps its sizes".into()));
        }
        if self.loss != LossKind::Full && (self.chunk.is_some() || self.block.is_some()) {
            return Err(Error::Usage("--chunk and --block are for --loss full".into()));
        }
        if self.loss != LossKind::Adaptive && (self.cutoffs.is_some() || self.tail_divisor.is_some()) {
            return Err(Error::Usage("--cutoffs and --tail-divisor are for --loss adaptive".into()));
        }
        if self.negatives == Negatives::PerLane && !self.samples() {
            return Err(Error::Usage("--negatives per-lane is for --loss sampled and nce, which draw them".into()));
        }
        check_patience(self.patience, self.valid.is_some() || self.resume)?;
        if self.eval_tokens.is_some() && self.valid.is_none() {
            return Err(Error::Usage("--eval-tokens is of the text that --valid names".into()));
        }
        if self.resume && self.force {
            return Err(Error::Usage("--resume continues the model, --force replaces it: give one of them".into()));
        }
        Ok(())
    }
}

/// What a run came to.
#[derive(Serialize)]
pub struct Summary {
    parameters: usize,
    words: usize,
    epochs: f64,
    steps: u64,
    tokens: u64,
    seconds: f64,
    words_per_second: f64,
    best_valid_perplexity: Option<f64>,
    best_step: Option<u64>,
    /// The command that continues a run that `--max-minutes` has ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    continue_with: Option<String>,
    peak_memory_mb: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    profile: Option<Profiled>,
}

impl Summary {
    /// Prints it, for people or as JSON.
    pub fn print(&self, options: &LmOptions, inputs: &Inputs, out: &mut dyn Write) -> Result<()> {
        let failed = super::output_failed;
        if options.json {
            return print_json(self, inputs, out);
        }
        if let Some(profile) = &self.profile {
            write!(out, "{profile}").map_err(failed)?;
        }
        if options.quiet {
            return Ok(());
        }
        let dir = options.out.display();
        if let Some(best) = self.best_valid_perplexity {
            writeln!(out, "best validation perplexity {}", short(best)).map_err(failed)?;
        }
        writeln!(out, "model in {dir}; try: wordmill generate {dir}").map_err(failed)
    }
}

/// Trains, inside a pool of threads.
pub fn train_lm(options: &LmOptions, inputs: &Inputs) -> Result<Summary> {
    options.check()?;
    let style = Style::choose(options.quiet);
    let progress = Progress::new(style);
    let mut progress = if options.samples() { progress.without_perplexity() } else { progress };
    let signals = Signals::install()?.limited(options.max_minutes);
    let (writer, mut checkpoint) = if options.resume {
        check_there(&options.files())?;
        Writer::resume(&options.out).map(|(writer, checkpoint)| (Some(writer), Some(checkpoint)))?
    } else {
        // The directory is made, or made empty, when nothing but training itself can fail any more.
        Writer::check_free(&options.out, options.force)?;
        (None, None)
    };
    for warning in checkpoint.iter().flat_map(|c| &c.warnings) {
        inputs.warn(Notice::new(warning))?;
    }
    if let Some(checkpoint) = &mut checkpoint {
        check_same(checkpoint, &options.to_toml()?, &[&FIXED[..], &InputOptions::NAMES].concat())?;
    }

    let marks = Marks { strip: options.strip_marks, unk_token: options.unk_token.clone() };
    let (vocabulary, corpus) =
        Corpus::read_training(&options.train, options.min_count, options.max_vocab, &marks, inputs)?;
    if let Some(token) = &options.unk_token
        && corpus.unknown == 0
    {
        let found = format!("no word {token}, which --unk-token names");
        inputs.warn(Notice::of_file(&options.train, 0, found).done("there are no unknown words"))?;
    }
    if options.samples() && options.samples >= vocabulary.len() {
        let (samples, words) = (options.samples, vocabulary.len());
        inputs.warn(Notice::new(format!("--samples {samples} of {words} words: --loss full costs no more")))?;
    }
    let mut valid = None;
    if let Some(path) = options.valid.as_deref() {
        let corpus = Corpus::read_with(path, &vocabulary, inputs)?;
        corpus.warn_of_unknown(path, inputs)?;
        valid = Some(corpus.ids);
    }
    if let (Some(ids), Some(tokens)) = (&mut valid, options.eval_tokens) {
        let subset = Subset::choose(ids, vocabulary.eos(), tokens as usize);
        progress.say(&format!("validating on {subset}"));
        *ids = subset.ids;
    }
    let mut options = options.tuned(vocabulary.len())?;
    // With the batch as given: a run that is continued makes it smaller again.
    let toml = options.to_toml()?;
    options.fit_batch(corpus.ids.len(), inputs)?;
    let options = &options;
    let lanes = Lanes::new(&options.train, &corpus.ids, options.batch, options.tau)?;
    let stride = options.stride.unwrap_or(options.tau);
    let windows = Windows::new(lanes.length(), options.tau, stride)?;
    // The tails of a run that goes on are its own, however they would be chosen now.
    let loss = match checkpoint.as_mut().map(Saved::read).transpose()? {
        Some(Saved::LanguageModel(Config { loss: Loss::Adaptive { tails }, .. }))
            if Tail::fit(&tails, vocabulary.len()) =>
        {
            Loss::Adaptive { tails }
        }
        _ => options.loss(vocabulary.counts())?,
    };
    let model = LanguageModel::new(options.model(vocabulary.len(), vocabulary.eos(), loss));

    let mut words = Vec::new();
    vocabulary.write_to(&mut words).map_err(|e| Error::io(&options.out, "listing the vocabulary", e))?;
    let config = Saved::LanguageModel(model.config().clone()).to_json();
    let files = vec![(CONFIG, config), (VOCABULARY, words), (OPTIONS, toml.into_bytes())];
    let unknown = 100.0 * corpus.unknown as f64 / corpus.ids.len() as f64;
    progress.say(&format!(
        "{} words of text, {} in the vocabulary, {unknown:.2} % unknown",
        corpus.ids.len(),
        vocabulary.len()
    ));
    if let Loss::Adaptive { tails } = &model.config().loss {
        progress.say(&shown(tails, vocabulary.counts()));
    }
    let valid_words = valid.as_ref().map(Vec::len);
    let predicted = memory::predicted_peak(lm_bytes(&model, options, valid_words));
    progress.say(&format!(
        "{} parameters; predicted peak memory {:.0} MB",
        model.layout().parameters(),
        predicted as f64 / 1e6
    ));
    let room = |room: usize| what_fits(options, &vocabulary, valid_words, room);
    memory::check("training", predicted, room, inputs)?;
    let writer = writer.map_or_else(|| Writer::create(&options.out, options.force), Ok)?;
    writer.warnings.iter().try_for_each(|warning| inputs.warn(Notice::new(warning)))?;

    let steps = (windows.count() as u64).saturating_mul(options.epochs).min(options.max_steps.unwrap_or(u64::MAX));
    let mut task = LmTask::new(LmData {
        model: &model,
        lanes,
        windows,
        tau: options.tau,
        valid: valid.as_deref(),
        counts: vocabulary.counts(),
        special: [vocabulary.unk(), vocabulary.eos()],
        keep: options.keep(),
        forget: options.forget,
        seed: options.seed,
        files,
    });
    let mut optimizer = Optimizer::new(options.optimizer, options.clip, options.l2, model.layout());
    let schedule = Schedule::new(options.schedule, options.rate(), steps);
    let (w, state, metrics) = match &mut checkpoint {
        Some(checkpoint) => {
            let (w, state) = resume(checkpoint, &mut task, &mut optimizer, &vocabulary, options, schedule)?;
            let metrics = Metrics::resume(&options.out, state.step)?;
            metrics.warnings.iter().try_for_each(|warning| inputs.warn(Notice::new(warning)))?;
            progress.say(&format!("continuing after step {}", state.step));
            (w, state, metrics)
        }
        None => {
            let w = model.begin(options.init(), options.seed, vocabulary.counts());
            let state = first_state(schedule, options.patience, &options.files())?;
            (w, state, Metrics::create(&options.out)?)
        }
    };
    let plan = Plan {
        epochs: options.epochs,
        max_steps: options.max_steps,
        save_every: Duration::from_secs_f64((options.save_every * 60.0).min(1e9)),
        resume: format!("wordmill train lm --out {} --resume", quoted(&options.out)),
    };
    let saver = Saver::new(writer);
    let g = Gradients::zeros(task.layout(), task.rows());
    let stepper = Stepper::new(w, g, optimizer, state.step);
    let mut fit = Fit { task: &mut task, stepper, state, plan, saver, metrics, progress, signals };
    // The threads that a tuning says are known now only.
    let mut run =
        || profile::during(options.profile.as_ref(), options.precision, || fit.run()).map(|((), profiled)| profiled);
    let profiled = if options.tuning.is_some() { pool(options.threads)?.install(run)? } else { run()? };
    let an_epoch = windows.count() as f64;
    Ok(Summary {
        parameters: model.layout().parameters(),
        words: vocabulary.len(),
        epochs: fit.state.step as f64 / an_epoch,
        steps: fit.state.step,
        tokens: fit.state.targets,
        seconds: fit.state.seconds,
        words_per_second: fit.state.targets as f64 / fit.state.seconds.max(1e-9),
        best_valid_perplexity: fit.state.stopping.best().map(|score| score.value),
        best_step: fit.state.stopping.best_step(),
        continue_with: fit.rest().map(str::to_owned),
        peak_memory_mb: memory::peak() as f64 / 1e6,
        profile: profiled,
    })
}

/// The tails of an adaptive softmax, with the share of the text that each has.
fn shown(tails: &[Tail], counts: &[u64]) -> String {
    let share = |words: &[u64]| 100.0 * words.iter().sum::<u64>() as f64 / counts.iter().sum::<u64>().max(1) as f64;
    let Some(head) = tails.first().map(|tail| tail.first) else {
        return "adaptive softmax: no tails, as they would not make a step shorter".into();
    };
    let mut text = format!("adaptive softmax: {head} words in the head ({:.1} % of the text)", share(&counts[..head]));
    for (words, tail) in Tail::ranges(tails, counts.len()).zip(tails) {
        text += &format!("; {} on {} units ({:.1} %)", words.len(), tail.width, share(&counts[words]));
    }
    text
}

/// Weights and state of the run to be continued, under the options of this one.
fn resume(
    checkpoint: &mut Checkpoint,
    task: &mut LmTask,
    optimizer: &mut Optimizer<f32>,
    vocabulary: &Vocabulary,
    options: &LmOptions,
    schedule: Schedule,
) -> Result<(Arena<f32>, State)> {
    let before = Trained::read(checkpoint)?;
    if !before.vocabulary.words().eq(vocabulary.words()) || before.vocabulary.counts() != vocabulary.counts() {
        return Err(Error::input(
            &options.train,
            0,
            "another text",
            "the one that the run to be continued learns from",
        ));
    }
    let state = resumed_state(checkpoint, schedule, options.patience, &options.files())?;
    read_optimizer(checkpoint, optimizer, task.carried())?;
    Ok((before.w, state))
}

/// Bytes that training allocates: weights, gradients and optimizer states, the working memory of steps and evaluation, and that of
/// saving.
fn lm_bytes(model: &LanguageModel, options: &LmOptions, valid: Option<usize>) -> usize {
    let touched = options.tau * options.batch + model.samples(options.batch);
    memory::learning_bytes(model.layout(), model.layout(), options.optimizer, touched, 0)
        + model.space_bytes::<f32>(options.tau, options.batch, true)
        + LmTask::evaluation_bytes(model, valid)
}

/// Options with which the run would fit in `room` bytes, each alone.
fn what_fits(options: &LmOptions, vocabulary: &Vocabulary, valid: Option<usize>, room: usize) -> Vec<String> {
    let fits = |options: &LmOptions, words: usize| {
        // Cutoffs may lie beyond fewer words.
        let Ok(loss) = options.loss(&vocabulary.counts()[..words]) else { return false };
        let model = LanguageModel::new(options.model(words, vocabulary.eos().min(words as u32 - 1), loss));
        memory::predicted_peak(lm_bytes(&model, options, valid)) <= room
    };
    let words = vocabulary.len();
    let with = |change: &dyn Fn(&mut LmOptions)| {
        let mut options = options.clone();
        change(&mut options);
        options
    };
    let hidden = memory::largest(options.hidden, |hidden| {
        // With --tie, words are as wide.
        let change = |options: &mut LmOptions| {
            options.hidden = hidden;
            options.embed = options.embed.map(|embed| if options.tie { hidden } else { embed });
        };
        fits(&with(&change), words)
    });
    let embed =
        memory::largest(options.embed(), |embed| !options.tie && fits(&with(&|o| o.embed = Some(embed)), words));
    let cheaper = |rule: Rule| options.optimizer != rule && fits(&with(&|options| options.optimizer = rule), words);
    let most = memory::largest(words, |most| fits(options, most)).filter(|&most| most >= 3);
    let rowwise = cheaper(Rule::AdagradRowwise).then(|| "--optimizer adagrad-rowwise".to_owned());
    let sgd = cheaper(Rule::Sgd).then(|| "--optimizer sgd".to_owned());
    let named = [("--hidden", hidden), ("--embed", embed), ("--max-vocab", most)];
    let numbers = named.into_iter().filter_map(|(name, most)| Some(format!("{name} {}", most?)));
    numbers.chain(rowwise).chain(sgd).collect()
}
