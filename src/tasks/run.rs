//! A training run of any kind of model: where it is saved, how it learns and how long it trains.

use super::memory::Needs;
use super::model::Model;
use super::options::{self, OPTIONS};
use super::profiled::{self, Profiled};
use super::saved::{CONFIG, Saved};
use super::speed::slow_library;
use crate::blas::Precision;
use crate::error::{Error, Result, quoted};
use crate::notices::Notice;
use crate::params::{Arena, Gradients, Layout};
use crate::pool::pool;
use crate::sys::signals::Signals;
use crate::sys::usage;
use crate::text::Inputs;
use crate::text::inputs::is_standard_input;
use crate::text::spans::Report;
use crate::train::checkpoint::{Checkpoint, STATE, sha256};
use crate::train::fit::{self, Fit, SmallFile, State, Task, read_optimizer};
use crate::train::metrics::Metrics;
use crate::train::optimizer::{Optimizer, Rule};
use crate::train::progress::Progress;
use crate::train::saver::Saver;
use crate::train::schedule::{EarlyStopping, Measure, Schedule, ScheduleKind, Score};
use crate::train::stepper::Stepper;
use crate::train::writer::Writer;
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// How a run begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// In a directory without a model.
    New,
    /// Replacing an existing model.
    Replace,
    /// From the last checkpoint of the run in its directory; data and sizes must be the same.
    Resume,
}

/// The plan of a run, for any kind of model.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Directory of the model; created if it does not exist.
    pub out: PathBuf,
    /// How it begins.
    pub start: Start,
    /// Update rule.
    pub optimizer: Rule,
    /// Learning rate.
    pub rate: f64,
    /// Learning rate schedule.
    pub schedule: ScheduleKind,
    /// Gradient clipping: the largest norm of a gradient.
    pub clip: f64,
    /// L2 penalty in the gradient.
    pub l2: f64,
    /// L1 and L2 penalties, applied as proximal steps.
    pub proximal: [f64; 2],
    /// Batch size: examples per optimizer step; of a language model, parallel streams of the text.
    pub batch: usize,
    /// Passes over the data.
    pub epochs: u64,
    /// Early stopping: stop after this many epochs without a better result on the validation data.
    pub patience: Option<u64>,
    /// Stop after this many optimizer steps.
    pub max_steps: Option<u64>,
    /// Random seed.
    pub seed: u64,
    /// Time between checkpoints within an epoch.
    pub save_every: Duration,
    /// Save and stop after this many minutes.
    pub max_minutes: Option<f64>,
    /// Whether to profile the run, and the file for a trace.
    pub profile: Option<Option<PathBuf>>,
    /// Options that are saved with the model, with which the program can resume the run; none if empty.
    pub options: toml::Table,
}

impl Plan {
    /// A new run in the directory `out`, trained with Adam.
    pub fn new(out: impl Into<PathBuf>) -> Self {
        Plan {
            out: out.into(),
            start: Start::New,
            optimizer: Rule::Adam,
            rate: 0.001,
            schedule: ScheduleKind::Linear,
            clip: f64::INFINITY,
            l2: 0.0,
            proximal: [0.0; 2],
            batch: 64,
            epochs: 30,
            patience: None,
            max_steps: None,
            seed: 1,
            save_every: Duration::from_secs(15 * 60),
            max_minutes: None,
            profile: None,
            options: toml::Table::new(),
        }
    }

    /// The optimizer, for the tensors of `layout`.
    pub fn optimizer(&self, layout: &Arc<Layout>) -> Optimizer<f32> {
        let [l1, l2] = self.proximal;
        Optimizer::new(self.optimizer, self.clip, self.l2, layout).proximal(l1, l2)
    }
}

/// A data file: the option that names it, and its path.
pub type DataFile<'a> = (&'static str, Option<&'a Path>);

/// A run in progress.
pub struct Run<'a> {
    plan: Plan,
    /// The kind of model, as named by `train`.
    verb: &'static str,
    /// The data files: a resumed run must find the same contents.
    data: [DataFile<'a>; 2],
    inputs: &'a Inputs,
    /// The progress display.
    pub progress: Progress,
    signals: Signals,
    writer: Option<Writer>,
    /// The checkpoint of a resumed run.
    pub checkpoint: Option<Checkpoint>,
    /// Number of threads for training, if it differs from that of the current pool.
    pub threads: Option<usize>,
}

impl<'a> Run<'a> {
    /// Begins a run on `data` and `other` files. The directory of a new run is created in [`Run::open`]: everything
    /// else that can fail comes before a model is replaced.
    pub fn begin(
        plan: &Plan,
        verb: &'static str,
        data: [DataFile<'a>; 2],
        other: &[DataFile],
        inputs: &'a Inputs,
        mut progress: Progress,
    ) -> Result<Self> {
        let resumes = plan.start == Start::Resume;
        if plan.patience.is_some() && data[1].1.is_none() && !resumes {
            return Err(Error::Usage("--patience needs --valid, the data it measures progress on".into()));
        }
        if plan.optimizer == Rule::Adam && plan.proximal != [0.0; 2] {
            return Err(Error::Usage("--prox-l1 and --prox-l2 need --optimizer sgd or adagrad".into()));
        }
        if let Some(warning) = slow_library()? {
            inputs.warn(warning)?;
        }
        let signals = Signals::install()?.limited(plan.max_minutes);
        let (mut writer, mut checkpoint) = (None, None);
        if resumes {
            data.iter().chain(other).try_for_each(|file| check_there(file, &mut progress))?;
            let (opened, found) = Writer::resume(&plan.out)?;
            opened.warnings.iter().chain(&found.warnings).try_for_each(|text| inputs.warn(Notice::new(text)))?;
            (writer, checkpoint) = (Some(opened), Some(found));
        } else {
            Writer::check_free(&plan.out, plan.start == Start::Replace)?;
        }
        let plan = plan.clone();
        Ok(Run { plan, verb, data, inputs, progress, signals, writer, checkpoint, threads: None })
    }

    /// Reports the memory that the run needs, `bytes` with these options, and rejects the run if it is not available.
    /// `--hidden` and `--embed` are given if they could be reduced.
    pub fn check_memory(&mut self, [hidden, embed]: [Option<usize>; 2], bytes: impl Fn(Needs) -> usize) -> Result<()> {
        let Plan { batch, optimizer: rule, .. } = self.plan;
        Needs { hidden, embed, batch, rule }.check(bytes, &mut self.progress, self.inputs)
    }

    /// Records a size determined by the run in its saved options, if there are any.
    pub fn note(&mut self, option: &str, value: usize) {
        if !self.plan.options.is_empty() {
            self.plan.options.insert(option.into(), toml::Value::Integer(value as i64));
        }
    }

    /// Creates the directory of a new run, or empties it.
    pub fn open(&mut self) -> Result<()> {
        if self.writer.is_none() {
            let writer = Writer::create(&self.plan.out, self.plan.start == Start::Replace)?;
            writer.warnings.iter().try_for_each(|warning| self.inputs.warn(Notice::new(warning)))?;
            self.writer = Some(writer);
        }
        Ok(())
    }

    /// The model of the run to resume; `None` for a new run.
    pub fn before<M: Model>(&mut self) -> Result<Option<M>> {
        self.checkpoint.as_mut().map(M::read).transpose()
    }

    /// The small files of a checkpoint: the configuration, the options of the run, and `others`.
    pub fn files(&self, config: &Saved, others: Vec<SmallFile>) -> Result<Vec<SmallFile>> {
        let mut files = vec![(CONFIG, config.to_json())];
        if !self.plan.options.is_empty() {
            files.push((OPTIONS, options::to_toml(&self.plan.options)?));
        }
        files.extend(others);
        Ok(files)
    }

    /// Trains the weights `w`, or those of the checkpoint if a run is resumed, of a model whose products use `precision`.
    pub fn fit<T: Task + Send>(
        mut self,
        task: &mut T,
        w: Arena<f32>,
        mut optimizer: Optimizer<f32>,
        precision: Precision,
    ) -> Result<Summary> {
        self.open()?;
        let Run { plan, verb, data, inputs, mut progress, signals, writer, checkpoint, threads, .. } = self;
        let writer = writer.expect("it was opened");
        let an_epoch = task.steps_per_epoch();
        let steps = an_epoch.saturating_mul(plan.epochs).min(plan.max_steps.unwrap_or(u64::MAX));
        let schedule = Schedule::new(plan.schedule, plan.rate, steps);
        let (state, metrics) = match checkpoint {
            None => (first_state(schedule, plan.patience, &data)?, Metrics::create(&plan.out)?),
            Some(mut checkpoint) => {
                let state = resumed_state(&mut checkpoint, schedule, plan.patience, &data)?;
                read_optimizer(&mut checkpoint, &mut optimizer, task.carried())?;
                let metrics = Metrics::resume(&plan.out, state.step)?;
                metrics.warnings.iter().try_for_each(|warning| inputs.warn(Notice::new(warning)))?;
                progress.say(&format!("resuming after step {}", state.step));
                (state, metrics)
            }
        };
        let limits = fit::Plan {
            epochs: plan.epochs,
            max_steps: plan.max_steps,
            save_every: plan.save_every,
            resume: format!("wordmill train {verb} --out {} --resume", quoted(&plan.out)),
        };
        let (parameters, unit, measure) = (w.layout().parameters(), task.unit(), task.measure());
        let saver = Saver::new(writer);
        let g = Gradients::zeros(task.layout(), task.rows());
        let stepper = Stepper::new(w, g, optimizer, state.step);
        let mut fit = Fit { task, stepper, state, plan: limits, saver, metrics, progress, signals };
        let mut run = || profiled::during(plan.profile.as_ref(), precision, || fit.run());
        let ((), profile) = match threads {
            Some(threads) => pool(threads)?.install(run)?,
            None => run()?,
        };
        let state = &fit.state;
        Ok(Summary {
            parameters,
            words: None,
            epochs: state.step as f64 / an_epoch as f64,
            steps: state.step,
            examples: state.targets,
            unit,
            seconds: state.seconds,
            examples_per_second: state.targets as f64 / state.seconds.max(1e-9),
            measure,
            best_valid: state.stopping.best(),
            best_step: state.stopping.best_step(),
            continue_with: fit.rest().map(str::to_owned),
            test: None,
            peak_memory_mb: usage::peak() as f64 / 1e6,
            profile,
        })
    }
}

/// Returns an error that names the option if data of the run to resume is no longer where it was. Reports if it comes from a pipe,
/// which is easily forgotten.
fn check_there(&(option, path): &DataFile, progress: &mut Progress) -> Result<()> {
    let Some(path) = path.filter(|path| !is_standard_input(path)) else { return Ok(()) };
    match std::fs::metadata(path) {
        Err(e) if e.kind() == ErrorKind::NotFound => {
            let expected = format!("the data of the run to resume; if it has moved, give --{option} FILE");
            return Err(Error::input(path, 0, "no such file", expected));
        }
        Ok(kind) if !kind.is_file() && !kind.is_dir() => progress.say(&format!(
            "{}: a pipe; waiting for the original data of the run to be written to it \
             (--{option} FILE reads a file instead)",
            path.display()
        )),
        _ => {}
    }
    Ok(())
}

/// The SHA-256 of each file, except of pipes, which can be read only once.
fn fingerprints(data: &[DataFile]) -> Result<BTreeMap<String, String>> {
    let files = data.iter().filter_map(|&(option, path)| Some((option, path?)));
    let files =
        files.filter(|(_, path)| !is_standard_input(path) && std::fs::metadata(path).is_ok_and(|kind| kind.is_file()));
    let hash = |(option, path): (&str, &Path)| {
        let mut file = File::open(path).map_err(|e| Error::io(path, "reading", e))?;
        Ok((option.to_owned(), sha256(&mut file, path)?))
    };
    files.map(hash).collect()
}

/// The initial state of a run on this data.
fn first_state(schedule: Schedule, patience: Option<u64>, data: &[DataFile]) -> Result<State> {
    let mut state = State::new(schedule, EarlyStopping::new(patience));
    state.data = fingerprints(data)?;
    Ok(state)
}

/// The state of the run to resume, under the plan of this run; its data must be unchanged.
fn resumed_state(
    checkpoint: &mut Checkpoint,
    schedule: Schedule,
    patience: Option<u64>,
    data: &[DataFile],
) -> Result<State> {
    let path = checkpoint.path().join(STATE);
    let state = checkpoint.read(STATE)?;
    let mut state: State = serde_json::from_slice(&state).map_err(|e| Error::model(&path, e.to_string()))?;
    if state.step != checkpoint.step() {
        let what = format!("is of step {}, its directory of step {}", state.step, checkpoint.step());
        return Err(Error::model(&path, what));
    }
    for (option, now) in fingerprints(data)? {
        let path = data.iter().find(|file| file.0 == option).and_then(|file| file.1);
        match state.data.get(&option) {
            Some(before) if *before != now => {
                let expected = "those that the run to resume was started with";
                return Err(Error::input(path.expect("it was hashed"), 0, "different contents", expected));
            }
            _ => _ = state.data.insert(option, now),
        }
    }
    state.schedule.revise(schedule);
    state.stopping.revise(patience);
    state.finished = false;
    Ok(state)
}

/// The summary of a run.
#[derive(Serialize)]
pub struct Summary {
    /// Number of parameters.
    pub parameters: usize,
    /// Size of the vocabulary, for a model that builds it from the training text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub words: Option<usize>,
    /// Number of passes over the data.
    pub epochs: f64,
    /// Number of optimizer steps.
    pub steps: u64,
    /// Number of examples trained on.
    pub examples: u64,
    /// The unit that examples are counted in.
    pub unit: &'static str,
    /// Time taken in seconds.
    pub seconds: f64,
    /// Examples/s.
    pub examples_per_second: f64,
    /// The measure on the validation data.
    #[serde(skip)]
    pub measure: Measure,
    /// The best result on the validation data.
    pub best_valid: Option<Score>,
    /// The step of the best result.
    pub best_step: Option<u64>,
    /// The command that resumes a run whose time limit was reached.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub continue_with: Option<String>,
    /// The results of the best tagger on the test data.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub test: Option<Report>,
    /// Peak memory of the process in MB.
    pub peak_memory_mb: f64,
    /// The profile, if requested.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile: Option<Profiled>,
}

impl Summary {
    /// All figures. Those of a model of text also have their older names, from before all kinds of models shared one form.
    pub fn json(&self) -> Value {
        let mut object = json!(self);
        if self.words.is_some() {
            object["tokens"] = json!(self.examples);
            object["words_per_second"] = json!(self.examples_per_second);
            let name = if self.measure == Measure::F1 { "best_valid_f1" } else { "best_valid_perplexity" };
            object[name] = json!(self.best_valid.map(|best| best.value));
        }
        object
    }
}
