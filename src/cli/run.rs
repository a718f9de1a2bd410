//! What the training commands share: options, declared once, and the path from them to a summary.

use super::bar::progress;
use super::inputs::InputOptions;
use super::values::{count, not_negative, positive, seed, size, threads};
use crate::error::{Error, Result};
use crate::pool::pool;
use crate::tasks::options;
use crate::tasks::run::{Plan, Start, Summary};
use crate::text::Inputs;
use crate::train::optimizer::Rule;
use crate::train::progress::Progress;
use crate::train::schedule::ScheduleKind;
use serde::Serialize;
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;
use toml::Value;

/// Optimizer, batch size and seed.
#[derive(Clone, Debug, clap::Args, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct LearningFlags {
    /// Update rule
    #[arg(long, default_value = "adam", value_enum)]
    optimizer: Rule,
    /// Batch size: examples per optimizer step
    #[arg(long, default_value = "64", value_parser = size, value_name = "N")]
    batch: usize,
    /// Random seed
    #[arg(long, default_value = "1", value_parser = seed)]
    seed: u64,
}

/// The learning rate.
#[derive(Clone, Debug, clap::Args, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct RateFlags {
    /// Learning rate [default: adam 0.001, adagrad 0.05, sgd 0.1]
    #[arg(long, value_parser = positive, value_name = "RATE")]
    lr: Option<f64>,
    /// Learning rate schedule
    #[arg(long, default_value = "linear", value_enum)]
    schedule: ScheduleKind,
}

/// Options for training on examples, as opposed to running text.
#[derive(Clone, Debug, clap::Args, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct ExampleFlags {
    #[command(flatten)]
    #[serde(flatten)]
    learning: LearningFlags,
    #[command(flatten)]
    #[serde(flatten)]
    rate: RateFlags,
    /// L1 penalty lambda |W|, applied as a proximal step, which produces exact zeros: for sgd, and for adagrad in its
    /// own metric
    #[arg(long, default_value = "0", value_parser = not_negative, value_name = "LAMBDA")]
    prox_l1: f64,
    /// L2 penalty lambda/2 |W|^2, applied as a proximal step: weights are scaled down after each step
    #[arg(long, default_value = "0", value_parser = not_negative, value_name = "LAMBDA")]
    prox_l2: f64,
    #[command(flatten)]
    #[serde(flatten)]
    pub inputs: InputOptions,
}

/// Where a run is saved, how long it trains and what it prints: everything that may change on `--resume`.
#[derive(Clone, Debug, clap::Args, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct RunFlags {
    /// Directory of the model; created if it does not exist
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Passes over the examples
    #[arg(long, default_value = "30", value_parser = count)]
    epochs: u64,
    /// Early stopping: stop after this many epochs without a better result on the validation data
    #[arg(long, value_name = "EPOCHS", value_parser = count)]
    patience: Option<u64>,
    /// Stop after this many optimizer steps
    #[arg(long, value_name = "STEPS", value_parser = count)]
    max_steps: Option<u64>,
    /// Number of threads, 0: one per core; results do not depend on it
    #[arg(long, default_value = "0", value_parser = threads)]
    pub threads: usize,
    /// Minutes between checkpoints within an epoch
    #[arg(long, default_value = "15", value_parser = positive, value_name = "MINUTES")]
    save_every: f64,
    /// Save and stop after this many minutes, for job schedulers with a time limit; --resume continues as if the run
    /// had never stopped
    #[arg(long, value_name = "MINUTES", value_parser = positive)]
    #[serde(skip)]
    max_minutes: Option<f64>,
    /// Resume the run in --out, with its options
    #[arg(long)]
    #[serde(skip)]
    pub resume: bool,
    /// Replace the model in --out
    #[arg(long)]
    #[serde(skip)]
    force: bool,
    /// Print nothing but errors
    #[arg(long, short)]
    #[serde(skip)]
    quiet: bool,
    /// Print a summary as JSON
    #[arg(long)]
    #[serde(skip)]
    json: bool,
}

/// Profiling.
#[derive(Clone, Debug, clap::Args, Serialize)]
pub struct ProfileFlags {
    /// Print a profile of the run at the end, and write a trace for chrome://tracing or ui.perfetto.dev to FILE if it
    /// is given
    #[arg(long, value_name = "FILE", num_args = 0..=1)]
    #[serde(skip)]
    pub profile: Option<Option<PathBuf>>,
}

impl LearningFlags {
    /// The plan of the run, which saves `all` flags. The learning rate is that of `rate` or else the optimizer's
    /// default in `rates`: for Adam, Adagrad and SGD.
    pub fn plan(&self, rate: &RateFlags, rates: [f64; 3], run: &RunFlags, all: &impl Serialize) -> Result<Plan> {
        let [adam, adagrad, sgd] = rates;
        let rate_of_rule = match self.optimizer {
            Rule::Adam => adam,
            Rule::Adagrad | Rule::AdagradRowwise => adagrad,
            Rule::Sgd => sgd,
        };
        let mut options = options::to_save(all)?;
        options.insert("lr".into(), Value::Float(rate.lr.unwrap_or(rate_of_rule)));
        Ok(Plan {
            start: match (run.resume, run.force) {
                (true, true) => {
                    let what = "--resume continues the model, --force replaces it: give only one of them";
                    return Err(Error::Usage(what.into()));
                }
                (true, false) => Start::Resume,
                (false, true) => Start::Replace,
                (false, false) => Start::New,
            },
            optimizer: self.optimizer,
            rate: rate.lr.unwrap_or(rate_of_rule),
            schedule: rate.schedule,
            batch: self.batch,
            epochs: run.epochs,
            patience: run.patience,
            max_steps: run.max_steps,
            seed: self.seed,
            save_every: Duration::from_secs_f64((run.save_every * 60.0).min(1e9)),
            max_minutes: run.max_minutes,
            options,
            ..Plan::new(&run.out)
        })
    }
}

impl ExampleFlags {
    /// The plan of the run, with an L2 penalty in the gradient.
    pub fn plan(&self, l2: f64, run: &RunFlags, all: &impl Serialize) -> Result<Plan> {
        let plan = self.learning.plan(&self.rate, [0.001, 0.05, 0.1], run, all)?;
        Ok(Plan { l2, proximal: [self.prox_l1, self.prox_l2], ..plan })
    }
}

/// The options of `train` for one kind of model.
pub trait TrainFlags: Serialize + Sync {
    /// Options that a resumed run must share with the run it continues.
    type Fixed: Serialize + Sync;
    /// What is trained, and how.
    type Plan;

    /// These options, those of every run, and how input files are read.
    fn parts(&self) -> (&Self::Fixed, &RunFlags, &InputOptions);

    /// The plan that the flags describe; an error if they contradict each other.
    fn plan(&self) -> Result<Self::Plan>;

    /// Trains, inside a thread pool.
    const TRAIN: fn(&Self::Plan, &Inputs, Progress) -> Result<Summary>;

    /// A command to try with the trained model.
    fn next(&self) -> String;

    /// Printed before it: the results of the best model on the test data.
    fn tested(&self, _: &Summary) -> String {
        String::new()
    }
}

/// Trains as `flags` specify, resuming a run whose flags were `before`, and prints a summary.
pub fn train<F: TrainFlags>(flags: &F, before: Option<&F>, out: &mut dyn Write) -> Result<()> {
    let (fixed, run, inputs) = flags.parts();
    let inputs = inputs.inputs(run.quiet);
    let summary = pool(run.threads)?.install(|| {
        let plan = flags.plan()?;
        before.map_or(Ok(()), |before| options::check_same(before.parts().0, fixed))?;
        F::TRAIN(&plan, &inputs, progress(run.quiet))
    })?;
    let failed = Error::output;
    if run.json {
        return writeln!(out, "{}", super::inputs::json(&summary.json(), &inputs)).map_err(failed);
    }
    if let Some(profile) = &summary.profile {
        write!(out, "{profile}").map_err(failed)?;
    }
    if run.quiet {
        return Ok(());
    }
    let best = summary.best_valid.map_or(String::new(), |best| format!("best validation {best}\n"));
    let (tested, dir) = (flags.tested(&summary), run.out.display());
    writeln!(out, "{best}{tested}model in {dir}; try: {}", flags.next()).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::train_lm::LmFlags;
    use crate::cli::train_ner::NerFlags;
    use crate::cli::train_pseudo_siamese::PseudoSiameseFlags;
    use crate::cli::train_siamese::SiameseFlags;
    use crate::cli::train_softmax::SoftmaxFlags;
    use crate::tasks::options::PATHS;
    use crate::tasks::{language_model, pseudo_siamese, siamese, softmax, tagger};
    use clap::Parser;

    /// A new option that names a file is saved with its absolute path, or not at all.
    #[test]
    fn paths_are_saved_whole() {
        let definition = crate::cli::definition();
        let verbs = definition.find_subcommand("train").unwrap().get_subcommands();
        let options = verbs.flat_map(|verb| verb.get_arguments());
        let paths = options.filter(|arg| arg.get_value_parser().type_id() == std::any::TypeId::of::<PathBuf>());
        let names: Vec<&str> = paths.filter_map(|arg| arg.get_long()).collect();
        assert!(PATHS.iter().all(|name| names.contains(name)), "{names:?}");
        let unsaved = ["config", "profile", "tuning"];
        let forgotten = names.iter().find(|name| !PATHS.contains(name) && !unsaved.contains(name));
        assert_eq!(forgotten, None);
    }

    /// The program and the library have the same defaults.
    #[test]
    fn defaults_are_those_of_the_library() {
        #[derive(Parser)]
        struct Line<F: clap::Args> {
            #[command(flatten)]
            flags: F,
        }
        fn flags<F: clap::Args>(line: &str) -> F {
            Line::parse_from(line.split(' ')).flags
        }
        macro_rules! same {
            ($flags:ty, $line:literal, $plan:expr) => {{
                let mut plan = flags::<$flags>($line).plan().unwrap();
                assert!(!std::mem::take(&mut plan.run.options).is_empty());
                assert_eq!(format!("{plan:?}"), format!("{:?}", $plan));
            }};
        }
        same!(LmFlags, "train --train a --out b", language_model::Plan::new("a", "b"));
        same!(NerFlags, "train --train a --out b", tagger::Plan::new("a", "b"));
        same!(SiameseFlags, "train --pairs a --vectors v --out b", siamese::Plan::new("a", "v", "b"));
        same!(PseudoSiameseFlags, "train --train a --out b", pseudo_siamese::Plan::new("a", "b"));
        same!(SoftmaxFlags, "train --train a --out b", softmax::Plan::new("a", "b"));
    }
}
