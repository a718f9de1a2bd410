//! What training commands share: the options of a run, and the run itself.

use super::inputs::{InputOptions, print_json};
use super::memory::Needs;
use super::output_failed;
use super::saved::{OPTIONS, check_same};
use super::values::{count, not_negative, positive, seed, size, threads};
use crate::error::{Error, Result};
use crate::notices::Notice;
use crate::params::{Arena, Gradients, Layout};
use crate::rng::{Purpose, Stream};
use crate::sys::signals::Signals;
use crate::text::Inputs;
use crate::text::inputs::is_standard_input;
use crate::train::checkpoint::{Checkpoint, STATE, sha256};
use crate::train::fit::{Fit, Plan, State, Task, read_optimizer};
use crate::train::metrics::Metrics;
use crate::train::optimizer::{Optimizer, Rule};
use crate::train::progress::Progress;
use crate::train::saver::Saver;
use crate::train::schedule::{EarlyStopping, Schedule, ScheduleKind, Score};
use crate::train::stepper::Stepper;
use crate::train::writer::Writer;
use rand::RngExt;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Options of a run, whatever is trained.
#[derive(Clone, Debug, clap::Args, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct RunOptions {
    /// Directory of the model; made if it is not there
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Update rule
    #[arg(long, default_value = "adam", value_enum)]
    optimizer: Rule,
    /// Learning rate [default: adam 0.001, adagrad 0.05, sgd 0.1]
    #[arg(long, value_parser = positive, value_name = "RATE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    lr: Option<f64>,
    /// L1 penalty lambda |W| in its proximal form, which leaves exact zeros: with sgd, and with adagrad in its metric
    #[arg(long, default_value = "0", value_parser = not_negative, value_name = "LAMBDA")]
    prox_l1: f64,
    /// L2 penalty lambda/2 |W|^2 in its proximal form: weights shrink by a factor after each step
    #[arg(long, default_value = "0", value_parser = not_negative, value_name = "LAMBDA")]
    prox_l2: f64,
    /// How the learning rate changes
    #[arg(long, default_value = "linear", value_enum)]
    schedule: ScheduleKind,
    /// Examples of a step
    #[arg(long, default_value = "64", value_parser = size, value_name = "N")]
    pub batch: usize,
    /// Passes over the examples
    #[arg(long, default_value = "30", value_parser = count)]
    epochs: u64,
    /// Stop after so many epochs without a better result on the validation data
    #[arg(long, value_name = "EPOCHS", value_parser = count)]
    #[serde(skip_serializing_if = "Option::is_none")]
    patience: Option<u64>,
    /// Stop after so many optimizer steps
    #[arg(long, value_name = "STEPS", value_parser = count)]
    #[serde(skip_serializing_if = "Option::is_none")]
    max_steps: Option<u64>,
    /// Seed of all random numbers
    #[arg(long, default_value = "1", value_parser = seed)]
    pub seed: u64,
    /// Worker threads, 0: one per core; the result does not depend on them
    #[arg(long, default_value = "0", value_parser = threads)]
    pub threads: usize,
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
    pub resume: bool,
    /// Replace the model in --out
    #[arg(long)]
    #[serde(skip)]
    force: bool,
    /// Show nothing but errors
    #[arg(long, short)]
    #[serde(skip)]
    pub quiet: bool,
    /// Print a summary as JSON
    #[arg(long)]
    #[serde(skip)]
    pub json: bool,
}

/// Options of a run that a resumed one must share with the one it continues.
const FIXED: [&str; 7] = ["optimizer", "lr", "prox-l1", "prox-l2", "schedule", "batch", "seed"];

/// A directory that a run may write to, and the checkpoint that it goes on from.
pub struct Opened {
    writer: Writer,
    /// Of a run that is continued.
    pub checkpoint: Option<Checkpoint>,
}

impl RunOptions {
    /// Options that contradict each other are refused; `valid` is whether there are validation data.
    pub fn check(&self, valid: bool) -> Result<()> {
        check_patience(self.patience, valid || self.resume)?;
        if self.resume && self.force {
            let what = "--resume continues the model, --force replaces it: give one of them";
            return Err(Error::Usage(what.into()));
        }
        if self.optimizer == Rule::Adam && (self.prox_l1 > 0.0 || self.prox_l2 > 0.0) {
            return Err(Error::Usage("--prox-l1 and --prox-l2 go with --optimizer sgd or adagrad".into()));
        }
        Ok(())
    }

    /// Says what memory the run needs, `bytes` with such options, and refuses it if there is not so much. `--hidden` and `--embed` are
    /// given where they could be less.
    pub fn check_memory(
        &self,
        [hidden, embed]: [Option<usize>; 2],
        bytes: impl Fn(Needs) -> usize,
        progress: &mut Progress,
        inputs: &Inputs,
    ) -> Result<()> {
        Needs { hidden, embed, batch: self.batch, rule: self.optimizer }.check(bytes, progress, inputs)
    }

    /// The rule, with the penalties of its own and an L2 penalty in the gradient, for the tensors of `layout`.
    pub fn optimizer(&self, l2: f64, layout: &Arc<Layout>) -> Optimizer<f32> {
        Optimizer::new(self.optimizer, f64::INFINITY, l2, layout).lazy().proximal(self.prox_l1, self.prox_l2)
    }

    fn rate(&self) -> f64 {
        self.lr.unwrap_or(match self.optimizer {
            Rule::Adam => 0.001,
            Rule::Adagrad | Rule::AdagradRowwise => 0.05,
            Rule::Sgd => 0.1,
        })
    }

    /// As they are saved: nothing depends on where the command is given.
    pub fn saved(&self) -> Result<RunOptions> {
        Ok(RunOptions { out: absolute(&self.out)?, lr: Some(self.rate()), ..self.clone() })
    }

    /// Opens the directory of the run. `toml` are all options, of which those named in `fixed` must be the ones of the run that is
    /// continued.
    pub fn open(&self, toml: &str, fixed: &[&str], inputs: &Inputs) -> Result<Opened> {
        if !self.resume {
            let writer = Writer::create(&self.out, self.force)?;
            writer.warnings.iter().try_for_each(|warning| inputs.warn(Notice::new(warning)))?;
            return Ok(Opened { writer, checkpoint: None });
        }
        let (writer, mut checkpoint) = Writer::resume(&self.out)?;
        writer.warnings.iter().try_for_each(|warning| inputs.warn(Notice::new(warning)))?;
        checkpoint.warnings.iter().try_for_each(|warning| inputs.warn(Notice::new(warning)))?;
        check_same(&mut checkpoint, toml, &[fixed, &FIXED, &InputOptions::NAMES].concat())?;
        Ok(Opened { writer, checkpoint: Some(checkpoint) })
    }

    /// Trains the weights `w`, those of the checkpoint if a run is continued, on what is in the files `inputs`. `verb` is the
    /// command, as `siamese`.
    #[expect(clippy::too_many_arguments, reason = "what a run is made of, each under its name")]
    pub fn fit<T: Task>(
        &self,
        verb: &str,
        files: &DataFiles,
        inputs: &Inputs,
        task: &mut T,
        w: Arena<f32>,
        mut optimizer: Optimizer<f32>,
        opened: Opened,
        (mut progress, signals): (Progress, Signals),
    ) -> Result<Summary> {
        let an_epoch = task.steps_per_epoch();
        let steps = an_epoch.saturating_mul(self.epochs).min(self.max_steps.unwrap_or(u64::MAX));
        let schedule = Schedule::new(self.schedule, self.rate(), steps);
        let Opened { writer, checkpoint } = opened;
        let (state, metrics) = match checkpoint {
            None => (first_state(schedule, self.patience, files)?, Metrics::create(&self.out)?),
            Some(mut checkpoint) => {
                let state = resumed_state(&mut checkpoint, schedule, self.patience, files)?;
                read_optimizer(&mut checkpoint, &mut optimizer, Vec::new())?;
                progress.say(&format!("continuing after step {}", state.step));
                let metrics = Metrics::resume(&self.out, state.step)?;
                metrics.warnings.iter().try_for_each(|warning| inputs.warn(Notice::new(warning)))?;
                (state, metrics)
            }
        };
        let plan = Plan {
            epochs: self.epochs,
            max_steps: self.max_steps,
            save_every: Duration::from_secs_f64((self.save_every * 60.0).min(1e9)),
            resume: format!("wordmill train {verb} --out {} --resume", quoted(&self.out)),
        };
        let (parameters, unit) = (w.layout().parameters(), task.unit());
        let saver = Saver::new(writer);
        let signals = signals.limited(self.max_minutes);
        let g = Gradients::zeros(task.layout(), task.rows());
        let stepper = Stepper::new(w, g, optimizer, state.step);
        let mut fit = Fit { task, stepper, state, plan, saver, metrics, progress, signals };
        fit.run()?;
        let state = &fit.state;
        Ok(Summary {
            parameters,
            epochs: state.step as f64 / an_epoch as f64,
            steps: state.step,
            examples: state.targets,
            unit,
            seconds: state.seconds,
            examples_per_second: state.targets as f64 / state.seconds.max(1e-9),
            best_valid: state.stopping.best(),
            best_step: state.stopping.best_step(),
            continue_with: fit.rest().map(str::to_owned),
            peak_memory_mb: super::memory::peak() as f64 / 1e6,
        })
    }
}

/// An error if a run without validation data is to stop by them.
pub fn check_patience(patience: Option<u64>, valid: bool) -> Result<()> {
    match patience {
        Some(_) if !valid => {
            Err(Error::Usage("--patience waits for better results on the data that --valid names".into()))
        }
        _ => Ok(()),
    }
}

/// The files of data that options name.
pub type DataFiles<'a> = [(&'static str, Option<&'a PathBuf>)];

impl RunOptions {
    /// As [`check_there`] if a run is to be continued.
    pub fn check_there(&self, files: &DataFiles) -> Result<()> {
        if self.resume { check_there(files) } else { Ok(()) }
    }
}

/// An error that names the option if data of a run to be continued are no longer where they were.
pub fn check_there(files: &DataFiles) -> Result<()> {
    for &(option, path) in files {
        if let Some(path) = path
            && !is_standard_input(path)
            && std::fs::metadata(path).is_err_and(|e| e.kind() == ErrorKind::NotFound)
        {
            let expected = format!("the data of the run to be continued; if they have moved, give --{option} FILE");
            return Err(Error::input(path, 0, "no such file", expected));
        }
    }
    Ok(())
}

/// The SHA-256 of each; none of a pipe, which can be read only once.
fn fingerprints(inputs: &DataFiles) -> Result<BTreeMap<String, String>> {
    let files = inputs.iter().filter_map(|&(option, path)| Some((option, path?)));
    let files =
        files.filter(|(_, path)| !is_standard_input(path) && std::fs::metadata(path).is_ok_and(|kind| kind.is_file()));
    let hash = |(option, path): (&str, &PathBuf)| {
        let mut file = File::open(path).map_err(|e| Error::io(path, "reading", e))?;
        Ok((option.to_owned(), sha256(&mut file, path)?))
    };
    files.map(hash).collect()
}

/// The state that a run on such data begins with.
pub fn first_state(schedule: Schedule, patience: Option<u64>, inputs: &DataFiles) -> Result<State> {
    let mut state = State::new(schedule, EarlyStopping::new(patience));
    state.data = fingerprints(inputs)?;
    Ok(state)
}

/// The state of the run that is continued, under the options of this one, on the data that it began with.
pub fn resumed_state(
    checkpoint: &mut Checkpoint,
    schedule: Schedule,
    patience: Option<u64>,
    inputs: &DataFiles,
) -> Result<State> {
    let path = checkpoint.path().join(STATE);
    let state = checkpoint.read(STATE)?;
    let mut state: State = serde_json::from_slice(&state).map_err(|e| Error::model(&path, e.to_string()))?;
    if state.step != checkpoint.step() {
        let what = format!("is of step {}, its directory of step {}", state.step, checkpoint.step());
        return Err(Error::model(&path, what));
    }
    for (option, now) in fingerprints(inputs)? {
        let path = inputs.iter().find(|input| input.0 == option).and_then(|input| input.1);
        match state.data.get(&option) {
            Some(before) if *before != now => {
                let expected = "those that the run to be continued began with";
                return Err(Error::input(path.expect("it was hashed"), 0, "other contents", expected));
            }
            _ => _ = state.data.insert(option, now),
        }
    }
    state.schedule.revise(schedule);
    state.stopping.revise(patience);
    state.finished = false;
    Ok(state)
}

/// A path as a shell takes it for one word.
pub fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+,:=@%".contains(c) || !c.is_ascii();
    if text.chars().all(plain) && !text.is_empty() { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

/// The file of options in a checkpoint.
pub fn options_file(toml: &str) -> (&'static str, Vec<u8>) {
    (OPTIONS, toml.as_bytes().to_vec())
}

/// Options as TOML.
pub fn to_toml<O: Serialize>(options: &O) -> Result<String> {
    toml::to_string(options).map_err(|e| Error::Usage(format!("an option cannot be saved: {e}")))
}

/// The path from the root; standard input stays what it is.
pub fn absolute(path: &Path) -> Result<PathBuf> {
    if is_standard_input(path) {
        return Ok(path.to_owned());
    }
    std::path::absolute(path).map_err(|e| Error::io(path, "resolving", e))
}

/// What a run came to.
#[derive(Serialize)]
pub struct Summary {
    pub parameters: usize,
    pub epochs: f64,
    pub steps: u64,
    pub examples: u64,
    /// What examples are.
    pub unit: &'static str,
    pub seconds: f64,
    pub examples_per_second: f64,
    pub best_valid: Option<Score>,
    pub best_step: Option<u64>,
    /// The command that continues a run that `--max-minutes` has ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub continue_with: Option<String>,
    pub peak_memory_mb: f64,
}

impl Summary {
    /// As text that ends in what to try `next`, or as `--json`.
    pub fn print(&self, run: &RunOptions, next: &str, inputs: &Inputs, out: &mut dyn Write) -> Result<()> {
        if run.json {
            return print_json(self, inputs, out);
        }
        if run.quiet {
            return Ok(());
        }
        let best = self.best_valid.map_or(String::new(), |best| format!("best validation {best}\n"));
        writeln!(out, "{best}model in {}; try: {next}", run.out.display()).map_err(output_failed)
    }
}

/// The batches of each pass over some examples, in an order that is a function of the seed and the number of the pass.
pub struct Batches {
    order: Vec<u32>,
    epoch: Option<u64>,
    size: usize,
    seed: u64,
}

impl Batches {
    /// Of so many examples, up to `size` at a time.
    pub fn new(examples: usize, size: usize, seed: u64) -> Self {
        Batches { order: (0..examples as u32).collect(), epoch: None, size: size.min(examples), seed }
    }

    /// Examples of a batch, of which the last of a pass may have fewer.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Examples of a pass.
    pub fn examples(&self) -> u64 {
        self.order.len() as u64
    }

    /// Batches of a pass.
    pub fn count(&self) -> u64 {
        self.order.len().div_ceil(self.size) as u64
    }

    /// Examples in the first `steps` batches of a pass.
    pub fn examples_before(&self, steps: u64) -> u64 {
        (steps as usize * self.size).min(self.order.len()) as u64
    }

    /// The examples of a step, all passes counted.
    pub fn of_step(&mut self, step: u64) -> &[u32] {
        let (epoch, index) = (step / self.count(), (step % self.count()) as usize);
        if self.epoch != Some(epoch) {
            self.order.iter_mut().zip(0..).for_each(|(place, i)| *place = i);
            let mut stream = Stream::new(self.seed, Purpose::Shuffle, epoch, 0);
            for i in (1..self.order.len()).rev() {
                self.order.swap(i, stream.random_range(0..=i));
            }
            self.epoch = Some(epoch);
        }
        let from = index * self.size;
        &self.order[from..(from + self.size).min(self.order.len())]
    }
}
