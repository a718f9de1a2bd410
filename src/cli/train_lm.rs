//! `wordmill train lm`

use super::config::Preset;
use super::inputs::InputOptions;
use super::run::{LearningFlags, ProfileFlags, RateFlags, RunFlags, TrainFlags};
use super::values::{Cutoffs, count, keep_probability, not_negative, positive, probability, size};
use crate::blas::Precision;
use crate::error::{Error, Result};
use crate::kernels::activation::Activation;
use crate::kernels::dropout::Keep;
use crate::layers::output::{Draws, Loss, Negatives, Objective};
use crate::layers::recurrence::{Cell, Kind, Unit};
use crate::models::Init;
use crate::models::language_model::{Config, Sizes};
use crate::tasks::language_model::{Plan, train};
use crate::tasks::run::{self, Summary};
use crate::text::Inputs;
use crate::text::marks::Marks;
use crate::train::progress::Progress;
use serde::Serialize;
use std::path::PathBuf;
use toml::Value;

/// Help where it is not what other models have.
const BATCH: &str = "Places of the text that are read side by side";
const OPTIMIZER: &str = "Update rule; --optimizer adagrad-rowwise keeps one number for a word's vector where adagrad keeps one for each weight";
const RATE: &str = "Learning rate [default: adam 0.004, adagrad and adagrad-rowwise 0.1, sgd 1]";
const EPOCHS: &str = "Passes over the text; a text of fewer than a million words takes more";

/// Train a recurrent language model on text: one sentence per line, words separated by spaces
///
/// The defaults suit a text of a million words. The best model on the validation text is what eval, generate and score use.
#[derive(Clone, Debug, clap::Args, Serialize)]
#[serde(rename_all = "kebab-case")]
#[command(mut_arg("batch", |arg| arg.value_name("LANES").help(BATCH)))]
#[command(mut_arg("optimizer", |arg| arg.help(OPTIMIZER)))]
#[command(mut_arg("lr", |arg| arg.help(RATE)))]
#[command(mut_arg("epochs", |arg| arg.default_value("5").help(EPOCHS)))]
#[command(mut_arg("patience", |arg| arg.help("Stop after so many epochs without a better validation perplexity")))]
#[command(after_help = "\
Examples:
  wordmill train lm --train train.txt --valid valid.txt --out model
  wordmill train lm --train train.txt --valid valid.txt --out model --hidden 200 --embed 100 --epochs 20 --patience 3
  wordmill train lm --preset fast --train train.txt --valid valid.txt --out model --epochs 3
  wordmill train lm --out model --resume                 continue after Ctrl-C, to the same bits
  wordmill train lm --out model --resume --epochs 30     go on longer
  wordmill train lm --config options.toml                all options from a file, as: hidden = 200")]
pub struct LmFlags {
    #[command(flatten)]
    #[serde(flatten)]
    fixed: LmFixed,
    #[command(flatten)]
    #[serde(flatten)]
    rate: RateFlags,
    /// Other defaults for the options below: fast is a GRU with sampled softmax that learns most of what it will in few passes (--cell
    /// gru --embed 128 --hidden 128 --batch 32 --loss sampled --samples 512 --keep-prob 0.95 --epochs 3)
    #[arg(long, value_enum, value_name = "NAME")]
    #[serde(skip)]
    preset: Option<Preset>,
    /// Largest norm of a gradient; larger ones are scaled down
    #[arg(long, default_value = "5", value_parser = positive, value_name = "NORM")]
    clip: f64,
    /// L2 penalty lambda/2 |W|^2 on weight matrices
    #[arg(long, default_value = "0", value_parser = not_negative, value_name = "LAMBDA")]
    l2: f64,
    /// Threads and sizes that wordmill tune found to be fast for such a model: its file, or auto for the one in its usual place
    #[arg(long, value_name = "FILE|auto")]
    #[serde(skip)]
    tuning: Option<PathBuf>,
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
pub struct LmFixed {
    /// Text to learn from
    #[arg(long, value_name = "FILE")]
    train: PathBuf,
    /// Text to measure perplexity on after every epoch
    #[arg(long, value_name = "FILE")]
    valid: Option<PathBuf>,
    /// Recurrent cell
    #[arg(long, default_value = "rnn", value_enum)]
    cell: Kind,
    /// Units of a gated-feedback net [default: gru]
    #[arg(long, value_enum)]
    unit: Option<Unit>,
    /// Width of a word vector [default: 50, with --tie that of --hidden]
    #[arg(long, value_parser = size, value_name = "D")]
    embed: Option<usize>,
    /// Units of a recurrent layer
    #[arg(long, default_value = "100", value_parser = size, value_name = "H")]
    hidden: usize,
    /// Recurrent layers, one on the other
    #[arg(long, default_value = "1", value_parser = layers)]
    layers: usize,
    /// Non-linearity of the recurrent units of --cell rnn [default: tanh]
    #[arg(long, value_enum)]
    activation: Option<Activation>,
    /// One table for word vectors and output weights: fewer parameters, and as wide as --hidden
    #[arg(long)]
    tie: bool,
    /// Steps that a gradient goes back in time
    #[arg(long, default_value = "10", value_parser = size, value_name = "STEPS")]
    tau: usize,
    /// New targets in a window of tau steps: tau shares a walk among all its targets, 1 gives each its own [default: tau]
    #[arg(long, value_parser = size, value_name = "STEPS")]
    stride: Option<usize>,
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
    cutoffs: Option<Cutoffs>,
    /// What the units of each tail of --loss adaptive are divided by, to make those of the next [default: 4]
    #[arg(long, value_name = "N", value_parser = size)]
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
    /// Validate on so many words only, a fixed random subset of the lines
    #[arg(long, value_name = "N", value_parser = count)]
    eval_tokens: Option<u64>,
    /// Lanes that the recurrent part works on together; this and the next two change speed and last bits [default: 16 to 32]
    #[arg(long, value_parser = size, value_name = "LANES")]
    shard: Option<usize>,
    /// Most tokens that the output layer works on together [default: 320]
    #[arg(long, value_parser = size, value_name = "TOKENS")]
    chunk: Option<usize>,
    /// Most words that a thread of the output layer works on together [default: 160]
    #[arg(long, value_parser = size, value_name = "WORDS")]
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
    max_vocab: Option<usize>,
    /// Leave out other tools' marks around lines, as <s> and </s>, [CLS] and [SEP], <bos> and <eos>; eval, score and generate then do so
    /// too
    #[arg(long)]
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    strip_marks: bool,
    /// A word of the text that stands for unknown ones, as <UNK>: it is taken for <unk>
    #[arg(long, value_name = "TOKEN", value_parser = word)]
    unk_token: Option<String>,
    /// How weights begin [default: uniform, with gated cells orthogonal]
    ///
    /// In any case the words' output biases begin as the logarithms of their shares of the text.
    #[arg(long, value_enum)]
    init: Option<Init>,
    /// Probability that a lane begins a window with a state of zero, so that the net learns to begin as well as to go on
    #[arg(long, default_value = "0.01", value_parser = probability, value_name = "P")]
    forget: f64,
    /// Begin every sentence with a state of zero
    #[arg(long)]
    reset_at_eos: bool,
    #[command(flatten)]
    #[serde(flatten)]
    learning: LearningFlags,
    #[command(flatten)]
    #[serde(flatten)]
    inputs: InputOptions,
}

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
enum LossKind {
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
enum SamplerKind {
    /// By rank
    LogUniform,
    /// By count
    Unigram,
}

/// Whether dropout scales in training.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
enum Scaling {
    /// What is kept, by 1/P in training; nothing afterwards
    Inverted,
    /// Nothing in training; everything by P afterwards
    None,
}

impl LmFixed {
    /// The loss, of which the text chooses the tails.
    fn loss(&self) -> Loss {
        let objective = match self.loss {
            LossKind::Full => return Loss::Full,
            LossKind::Adaptive => return Loss::Adaptive { tails: Vec::new() },
            LossKind::Sampled => Objective::Softmax,
            LossKind::Nce => Objective::Nce(self.ln_z),
        };
        let power = (self.sampler == SamplerKind::Unigram).then_some(self.power);
        Loss::Sampled { objective, draws: self.recipe, negatives: self.negatives, samples: self.samples, power }
    }

    fn embed(&self) -> usize {
        self.embed.unwrap_or(if self.tie { self.hidden } else { 50 })
    }
}

impl LmFlags {
    /// What they ask for.
    pub fn plan(&self) -> Result<Plan> {
        let fixed = &self.fixed;
        let keep = match fixed.dropout_scaling {
            Scaling::Inverted => Keep::inverted(fixed.keep_prob),
            Scaling::None => Keep::unscaled(fixed.keep_prob),
        };
        let mut run = fixed.learning.plan(&self.rate, [0.004, 0.1, 1.0], &self.run, self)?;
        let stride = fixed.stride.unwrap_or(fixed.tau);
        let init = fixed.init.unwrap_or(if fixed.cell == Kind::Rnn { Init::Uniform } else { Init::Orthogonal });
        for (name, size) in [("stride", stride), ("embed", fixed.embed())] {
            run.options.insert(name.into(), Value::Integer(size as i64));
        }
        run.options.insert("init".into(), Value::try_from(init).expect("a name"));
        Ok(Plan {
            valid: fixed.valid.clone(),
            eval_tokens: fixed.eval_tokens.map(|tokens| tokens as usize),
            min_count: fixed.min_count,
            max_vocab: fixed.max_vocab,
            marks: Marks { strip: fixed.strip_marks, unk_token: fixed.unk_token.clone() },
            model: Config {
                embed: fixed.embed(),
                hidden: fixed.hidden,
                layers: fixed.layers,
                cell: Cell::new(
                    fixed.cell,
                    fixed.activation.unwrap_or(Activation::Tanh),
                    fixed.unit.unwrap_or(Unit::Gru),
                ),
                tie: fixed.tie,
                variational: fixed.variational,
                loss: fixed.loss(),
                at_test: match fixed.dropout_scaling {
                    Scaling::Inverted => 1.0,
                    Scaling::None => keep.share(),
                },
                sizes: Sizes { shard: fixed.shard, chunk: fixed.chunk, block: fixed.block },
                precision: fixed.precision,
                ..Config::default()
            },
            cutoffs: fixed.cutoffs.clone().map(|Cutoffs(cutoffs)| cutoffs),
            tail_divisor: fixed.tail_divisor.unwrap_or(4),
            reset_at_eos: fixed.reset_at_eos,
            tau: fixed.tau,
            stride,
            keep,
            forget: fixed.forget,
            init,
            tuning: self.tuning.clone(),
            threads: self.run.threads,
            run: run::Plan { clip: self.clip, l2: self.l2, profile: self.profile.profile.clone(), ..run },
            ..Plan::new(&fixed.train, &self.run.out)
        })
    }
}

impl TrainFlags for LmFlags {
    type Fixed = LmFixed;

    fn parts(&self) -> (&LmFixed, &RunFlags, &InputOptions) {
        (&self.fixed, &self.run, &self.fixed.inputs)
    }

    fn check(&self) -> Result<()> {
        let (fixed, embed, usage) = (&self.fixed, self.fixed.embed(), |what: &str| Err(Error::Usage(what.into())));
        let (stride, samples) =
            (fixed.stride.unwrap_or(fixed.tau), matches!(fixed.loss, LossKind::Sampled | LossKind::Nce));
        if stride > fixed.tau {
            return Err(Error::Usage(format!("--stride {stride}: expected at most --tau {}", fixed.tau)));
        }
        if fixed.tie && fixed.loss != LossKind::Full {
            return usage(
                "--tie needs --loss full: a sample's rows are updated apart from word vectors, and tails have other widths",
            );
        }
        if fixed.tie && embed != fixed.hidden {
            let what =
                format!("--tie makes word vectors as wide as --hidden {}, found --embed {}", fixed.hidden, embed);
            return Err(Error::Usage(what));
        }
        if fixed.activation.is_some() && fixed.cell != Kind::Rnn {
            return usage("--activation is for --cell rnn; gated cells have σ and tanh");
        }
        if fixed.unit.is_some() && fixed.cell != Kind::GatedFeedback {
            return usage("--unit is for --cell gated-feedback");
        }
        if fixed.loss == LossKind::Nce && fixed.recipe == Draws::Unique {
            return usage("--recipe unique is for --loss sampled; nce draws with replacement");
        }
        if self.run.resume && self.preset.is_some() {
            return usage("--preset is for a new run; --resume takes the options of the run it continues");
        }
        if self.tuning.is_some() && self.run.resume {
            return usage("--tuning is for a new run: one that is continued keeps its sizes");
        }
        if fixed.loss != LossKind::Full && (fixed.chunk.is_some() || fixed.block.is_some()) {
            return usage("--chunk and --block are for --loss full");
        }
        if fixed.loss != LossKind::Adaptive && (fixed.cutoffs.is_some() || fixed.tail_divisor.is_some()) {
            return usage("--cutoffs and --tail-divisor are for --loss adaptive");
        }
        if fixed.negatives == Negatives::PerLane && !samples {
            return usage("--negatives per-lane is for --loss sampled and nce, which draw them");
        }
        if fixed.eval_tokens.is_some() && fixed.valid.is_none() {
            return usage("--eval-tokens is of the text that --valid names");
        }
        Ok(())
    }

    fn train(&self, inputs: &Inputs, progress: Progress) -> Result<Summary> {
        train(&self.plan()?, inputs, progress)
    }

    fn next(&self) -> String {
        format!("wordmill generate {}", self.run.out.display())
    }
}
