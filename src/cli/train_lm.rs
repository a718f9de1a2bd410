//! `wordmill train lm`

use super::config::Preset;
use super::inputs::InputOptions;
use super::run::{LearningFlags, ProfileFlags, RateFlags, RunFlags, TrainFlags};
use super::values::{Cutoffs, count, keep_probability, not_negative, positive, probability, size};
use crate::blas::Precision;
use crate::error::{Result, quoted, reject};
use crate::kernels::activation::Activation;
use crate::kernels::dropout::Keep;
use crate::layers::cells::{Cell, Kind, Unit};
use crate::layers::output::{Draws, Loss, Negatives, Objective};
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

/// Help texts that differ from those of the other models.
const BATCH: &str = "Batch size: parallel streams of the text";
const PATIENCE: &str = "Early stopping: stop after this many epochs without a better validation perplexity";
const OPTIMIZER: &str =
    "Update rule; adagrad-rowwise keeps one accumulator per word vector where adagrad keeps one per weight";
const RATE: &str = "Learning rate [default: adam 0.004, adagrad and adagrad-rowwise 0.1, sgd 1]";
const EPOCHS: &str = "Passes over the text; texts of fewer than a million words need more";

/// Train a recurrent language model on text: one sentence per line, words separated by spaces
///
/// The defaults suit a text of a million words. eval, generate and score use the model with the best validation perplexity.
#[derive(Clone, Debug, clap::Args, Serialize)]
#[serde(rename_all = "kebab-case")]
#[command(mut_arg("batch", |arg| arg.value_name("LANES").help(BATCH)))]
#[command(mut_arg("optimizer", |arg| arg.help(OPTIMIZER)))]
#[command(mut_arg("lr", |arg| arg.help(RATE)))]
#[command(mut_arg("epochs", |arg| arg.default_value("5").help(EPOCHS)))]
#[command(mut_arg("patience", |arg| arg.help(PATIENCE)))]
#[command(after_help = "\
Examples:
  wordmill train lm --train train.txt --valid valid.txt --out model
  wordmill train lm --train train.txt --valid valid.txt --out model --hidden 200 --embed 100 --epochs 20 --patience 3
  wordmill train lm --preset fast --train train.txt --valid valid.txt --out model --epochs 3
  wordmill train lm --out model --resume                 resume after Ctrl-C, with bit-identical results
  wordmill train lm --out model --resume --epochs 30     train longer
  wordmill train lm --config options.toml                options from a file, with lines such as: hidden = 200")]
pub struct LmFlags {
    #[command(flatten)]
    #[serde(flatten)]
    fixed: LmFixed,
    #[command(flatten)]
    #[serde(flatten)]
    rate: RateFlags,
    /// Other defaults for the options below: fast is a GRU with a sampled softmax that learns most within a few epochs
    /// (--cell gru --embed 128 --hidden 128 --batch 32 --loss sampled --samples 512 --keep-prob 0.95 --epochs 3)
    #[arg(long, value_enum, value_name = "NAME")]
    #[serde(skip)]
    preset: Option<Preset>,
    /// Gradient clipping: gradients of a larger norm are scaled down to this norm
    #[arg(long, default_value = "5", value_parser = positive, value_name = "NORM")]
    clip: f64,
    /// L2 penalty lambda/2 |W|^2 on weight matrices
    #[arg(long, default_value = "0", value_parser = not_negative, value_name = "LAMBDA")]
    l2: f64,
    /// Use the number of threads and block sizes that wordmill tune found fastest for such a model: its file, or auto
    /// for the default location
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

/// Options that a resumed run must share with the run it continues.
#[derive(Clone, Debug, clap::Args, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct LmFixed {
    /// Training text
    #[arg(long, value_name = "FILE")]
    train: PathBuf,
    /// Validation text; its perplexity is computed after every epoch
    #[arg(long, value_name = "FILE")]
    valid: Option<PathBuf>,
    /// Recurrent cell
    #[arg(long, default_value = "rnn", value_enum)]
    cell: Kind,
    /// Recurrent unit of --cell gated-feedback [default: gru]
    #[arg(long, value_enum)]
    unit: Option<Unit>,
    /// Embedding size: width of a word vector [default: 50, with --tie that of --hidden]
    #[arg(long, value_parser = size, value_name = "D")]
    embed: Option<usize>,
    /// Units per recurrent layer
    #[arg(long, default_value = "100", value_parser = size, value_name = "H")]
    hidden: usize,
    /// Number of recurrent layers
    #[arg(long, default_value = "1", value_parser = layers)]
    layers: usize,
    /// Nonlinearity of the recurrent units of --cell rnn [default: tanh]
    #[arg(long, value_enum)]
    activation: Option<Activation>,
    /// Weight tying: one table for word vectors and output weights, of width --hidden
    #[arg(long)]
    tie: bool,
    /// BPTT length: time steps that gradients are propagated back
    #[arg(long, default_value = "10", value_parser = size, value_name = "STEPS")]
    tau: usize,
    /// Steps the window of tau steps advances: with tau all its targets share one backward pass, with 1 each target has
    /// its own [default: tau]
    #[arg(long, value_parser = size, value_name = "STEPS")]
    stride: Option<usize>,
    /// Loss: the full softmax; a sampled softmax; noise-contrastive estimation (Mnih and Teh 2012); or the adaptive
    /// softmax, with fewer units for rare words (Grave et al. 2017)
    ///
    /// Like the full softmax, the adaptive softmax is normalised exactly; its rare words are in tail clusters, which
    /// are evaluated only for tokens that belong to them.
    ///
    /// With samples (sampled, nce) the cost of a step does not depend on the size of the vocabulary; the training loss
    /// shown is that over the samples, and only validation uses all words. --l2 then does not apply to the output
    /// weights.
    #[arg(long, default_value = "full", value_enum)]
    loss: LossKind,
    /// Words drawn per step for --loss sampled or nce
    #[arg(long, default_value = "1024", value_parser = size, value_name = "S")]
    samples: usize,
    /// Distribution of the samples: by rank (approximately Zipf's law), or by word counts
    #[arg(long, default_value = "log-uniform", value_enum)]
    sampler: SamplerKind,
    /// Exponent of the counts for --sampler unigram
    #[arg(long, default_value = "0.75", value_parser = not_negative, value_name = "P")]
    power: f64,
    /// Keep repeated draws and accidental hits, or only distinct non-target words
    #[arg(long, default_value = "with-replacement", value_enum)]
    recipe: Draws,
    /// Whether the sample is shared or drawn per lane: less noise, at the cost of gathering and updating a sample for
    /// each lane
    #[arg(long, default_value = "shared", value_enum)]
    negatives: Negatives,
    /// The constant ln Z that --loss nce trains the model to be normalised with
    #[arg(long, default_value = "9", value_parser = not_negative, value_name = "X")]
    ln_z: f64,
    /// Ranks of the first word of each tail of --loss adaptive [default: those that minimise the time of a step]
    #[arg(long, value_name = "N,N,…")]
    cutoffs: Option<Cutoffs>,
    /// Factor by which the units of each tail of --loss adaptive are reduced from those of the tail before it [default: 4]
    #[arg(long, value_name = "N", value_parser = size)]
    tail_divisor: Option<usize>,
    /// Dropout: probability of keeping an element of the word vectors and of the layers' outputs
    #[arg(long, default_value = "0.9", value_parser = keep_probability, value_name = "P")]
    keep_prob: f64,
    /// How dropout scales: kept elements by 1/P in training (inverted), or all elements by P at evaluation (none)
    #[arg(long, default_value = "inverted", value_enum)]
    dropout_scaling: Scaling,
    /// Use the same dropout mask for all time steps of a window (Gal and Ghahramani 2016)
    #[arg(long)]
    variational: bool,
    /// Validate on about this many words only, a fixed random subset of the lines
    #[arg(long, value_name = "N", value_parser = count)]
    eval_tokens: Option<u64>,
    /// Lanes per block of the recurrent layers: affects speed, rounding and what dropout draws [default: 16 to 32]
    #[arg(long, value_parser = size, value_name = "LANES")]
    shard: Option<usize>,
    /// Most tokens per block of the output layer: affects speed and rounding only, as --block [default: 320]
    #[arg(long, value_parser = size, value_name = "TOKENS")]
    chunk: Option<usize>,
    /// Most words per block of a thread of the output layer [default: 160]
    #[arg(long, value_parser = size, value_name = "WORDS")]
    block: Option<usize>,
    /// Precision of the operands of matrix products in training: on processors with AVX-512 BF16, bf16 trains up to 1.6
    /// times as fast, without loss of quality
    ///
    /// Weights, accumulations and optimizer states stay in f32, and so does validation.
    #[arg(long, default_value = "f32", value_enum)]
    #[serde(skip_serializing_if = "Precision::is_f32")]
    precision: Precision,
    /// Words that occur less often are replaced by <unk>
    #[arg(long, default_value = "1", value_name = "N")]
    min_count: u64,
    /// Largest size of the vocabulary, including <unk> and <eos>: only the most frequent words are kept
    #[arg(long, value_name = "N", value_parser = vocabulary_size)]
    max_vocab: Option<usize>,
    /// Remove sentence markers of other tools, such as <s> and </s>, [CLS] and [SEP], <bos> and <eos>; eval, score and
    /// generate then do so too
    #[arg(long)]
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    strip_marks: bool,
    /// The word that stands for unknown words in the text, such as <UNK>: it is read as <unk>
    #[arg(long, value_name = "TOKEN", value_parser = word)]
    unk_token: Option<String>,
    /// Initialisation of the weights [default: uniform, with gated cells orthogonal]
    ///
    /// The output biases are always initialised with the log-probabilities of the words in the training text.
    #[arg(long, value_enum)]
    init: Option<Init>,
    /// Probability that the state of a lane is reset to zero before a window, so that the model also learns to start
    /// from scratch
    #[arg(long, default_value = "0.01", value_parser = probability, value_name = "P")]
    forget: f64,
    /// Reset the state to zero at the beginning of every sentence
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
    let n: usize = text.parse().map_err(|_| "expected an integer".to_owned())?;
    if n >= 3 { Ok(n) } else { Err("expected 3 or more: <unk>, <eos> and a word".into()) }
}

/// The loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
enum LossKind {
    /// Softmax over all words
    Full,
    /// Softmax over a sample of the words
    Sampled,
    /// Noise-contrastive estimation
    Nce,
    /// Adaptive softmax, with fewer units for rare words
    Adaptive,
}

/// Distribution of the samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
enum SamplerKind {
    /// By rank, approximately Zipf's law
    LogUniform,
    /// By word counts
    Unigram,
}

/// How dropout scales.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
enum Scaling {
    /// Kept elements by 1/P in training; nothing at evaluation
    Inverted,
    /// Nothing in training; all elements by P at evaluation
    None,
}

impl LmFixed {
    /// The loss; its tails are chosen when the text is known.
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

impl TrainFlags for LmFlags {
    type Fixed = LmFixed;
    type Plan = Plan;
    const TRAIN: fn(&Plan, &Inputs, Progress) -> Result<Summary> = train;

    fn parts(&self) -> (&LmFixed, &RunFlags, &InputOptions) {
        (&self.fixed, &self.run, &self.fixed.inputs)
    }

    fn plan(&self) -> Result<Plan> {
        let fixed = &self.fixed;
        let samples = matches!(fixed.loss, LossKind::Sampled | LossKind::Nce);
        let of_tails = fixed.cutoffs.is_some() || fixed.tail_divisor.is_some();
        reject(&[
            (
                fixed.activation.is_some() && fixed.cell != Kind::Rnn,
                "--activation is only for --cell rnn; gated cells use σ and tanh",
            ),
            (fixed.unit.is_some() && fixed.cell != Kind::GatedFeedback, "--unit is only for --cell gated-feedback"),
            (
                self.run.resume && self.preset.is_some(),
                "--preset is only for a new run; --resume uses the options of the run it continues",
            ),
            (of_tails && fixed.loss != LossKind::Adaptive, "--cutoffs and --tail-divisor are only for --loss adaptive"),
            (
                fixed.negatives == Negatives::PerLane && !samples,
                "--negatives per-lane is only for --loss sampled and nce, which draw samples",
            ),
        ])?;
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

    fn next(&self) -> String {
        format!("wordmill generate {}", quoted(&self.run.out))
    }
}
