//! A run of training, whatever is trained: where it is saved, how it learns and how long it goes on.

use super::memory::{self, Needs};
use super::model::Model;
use super::profiled::{self, Profiled};
use super::saved::{CONFIG, OPTIONS, Saved};
use crate::blas::Precision;
use crate::error::{Error, Result};
use crate::notices::Notice;
use crate::params::{Arena, Gradients, Layout};
use crate::pool::pool;
use crate::sys::signals::Signals;
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
    /// In the place of a model.
    Replace,
    /// Where the run in its directory was saved; its data and sizes have to be those of that run.
    Resume,
}

/// How a run goes, whatever is trained.
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
    /// How that changes.
    pub schedule: ScheduleKind,
    /// Largest norm of a gradient.
    pub clip: f64,
    /// L2 penalty in the gradient.
    pub l2: f64,
    /// L1 and L2 penalties in their proximal form.
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
    /// Save and end after so many minutes.
    pub max_minutes: Option<f64>,
    /// Whether it is told where the time went, and the file for a trace.
    pub profile: Option<Option<PathBuf>>,
    /// Options that are saved with the model, for the program to continue the run with; none if empty.
    pub options: toml::Table,
}

impl Plan {
    /// A new run in the directory `out`, with Adam.
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

    /// The rule, for the tensors of `layout`.
    pub fn optimizer(&self, layout: &Arc<Layout>) -> Optimizer<f32> {
        let [l1, l2] = self.proximal;
        Optimizer::new(self.optimizer, self.clip, self.l2, layout).proximal(l1, l2)
    }
}

/// A file of data: the option that names it, and where it is.
pub type DataFile<'a> = (&'static str, Option<&'a Path>);

/// A run that has begun.
pub struct Run<'a> {
    plan: Plan,
    /// The model's kind, as `train` calls it.
    verb: &'static str,
    /// What is learned from: a run that is continued must find the same in it.
    data: [DataFile<'a>; 2],
    inputs: &'a Inputs,
    /// What is shown.
    pub progress: Progress,
    signals: Signals,
    writer: Option<Writer>,
    /// Of a run that is continued.
    pub checkpoint: Option<Checkpoint>,
    /// Threads to learn with, where they are not those that it has begun with.
    pub threads: Option<usize>,
}

impl<'a> Run<'a> {
    /// Begins a run on `data` and `other` files. The directory of a new run is made in [`Run::open`]: whatever else can
    /// fail comes before a model is replaced.
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
            return Err(Error::Usage("--patience waits for better results on the data that --valid names".into()));
        }
        if plan.optimizer == Rule::Adam && plan.proximal != [0.0; 2] {
            return Err(Error::Usage("--prox-l1 and --prox-l2 go with --optimizer sgd or adagrad".into()));
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

    /// Says what memory the run needs, `bytes` with such options, and refuses it if there is not so much. `--hidden`
    /// and `--embed` are given where they could be less.
    pub fn check_memory(&mut self, [hidden, embed]: [Option<usize>; 2], bytes: impl Fn(Needs) -> usize) -> Result<()> {
        let Plan { batch, optimizer: rule, .. } = self.plan;
        Needs { hidden, embed, batch, rule }.check(bytes, &mut self.progress, self.inputs)
    }

    /// Saves a size that the run has come to with its options, if these are saved.
    pub fn note(&mut self, option: &str, value: usize) {
        if !self.plan.options.is_empty() {
            self.plan.options.insert(option.into(), toml::Value::Integer(value as i64));
        }
    }

    /// Makes the directory of a new run, or empties it.
    pub fn open(&mut self) -> Result<()> {
        if self.writer.is_none() {
            let writer = Writer::create(&self.plan.out, self.plan.start == Start::Replace)?;
            writer.warnings.iter().try_for_each(|warning| self.inputs.warn(Notice::new(warning)))?;
            self.writer = Some(writer);
        }
        Ok(())
    }

    /// The model of the run that is continued; none of a new one.
    pub fn before<M: Model>(&mut self) -> Result<Option<M>> {
        self.checkpoint.as_mut().map(M::read).transpose()
    }

    /// The small files of a checkpoint: what the model is, the run's options, and `others`.
    pub fn files(&self, config: &Saved, others: Vec<SmallFile>) -> Result<Vec<SmallFile>> {
        let mut files = vec![(CONFIG, config.to_json())];
        if !self.plan.options.is_empty() {
            let options = toml::to_string(&self.plan.options);
            let options = options.map_err(|e| Error::Usage(format!("an option cannot be saved: {e}")))?;
            files.push((OPTIONS, options.into_bytes()));
        }
        files.extend(others);
        Ok(files)
    }

    /// Trains the weights `w`, those of the checkpoint if a run is continued, of a model whose products have operands
    /// of `precision`.
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
                progress.say(&format!("continuing after step {}", state.step));
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
            peak_memory_mb: memory::peak() as f64 / 1e6,
            profile,
        })
    }
}

/// An error that names the option if data of a run to be continued are no longer where they were. Says if they come
/// from a pipe, which whoever gave them at first may have forgotten.
fn check_there(&(option, path): &DataFile, progress: &mut Progress) -> Result<()> {
    let Some(path) = path.filter(|path| !is_standard_input(path)) else { return Ok(()) };
    match std::fs::metadata(path) {
        Err(e) if e.kind() == ErrorKind::NotFound => {
            let expected = format!("the data of the run to be continued; if they have moved, give --{option} FILE");
            return Err(Error::input(path, 0, "no such file", expected));
        }
        Ok(kind) if !kind.is_file() && !kind.is_dir() => progress.say(&format!(
            "{}: a pipe; waiting for the data that the run began with to be written to it (--{option} FILE reads a file)",
            path.display()
        )),
        _ => {}
    }
    Ok(())
}

/// The SHA-256 of each; none of a pipe, which can be read only once.
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

/// The state that a run on such data begins with.
fn first_state(schedule: Schedule, patience: Option<u64>, data: &[DataFile]) -> Result<State> {
    let mut state = State::new(schedule, EarlyStopping::new(patience));
    state.data = fingerprints(data)?;
    Ok(state)
}

/// The state of the run that is continued, under the plan of this one, on the data that it began with.
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

/// What a run came to.
#[derive(Serialize)]
pub struct Summary {
    /// The model's parameters.
    pub parameters: usize,
    /// Words that it knows, of a model that learns its vocabulary from the text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub words: Option<usize>,
    /// Passes over the data.
    pub epochs: f64,
    /// Optimizer steps.
    pub steps: u64,
    /// Examples learned from.
    pub examples: u64,
    /// What examples are.
    pub unit: &'static str,
    /// Time taken.
    pub seconds: f64,
    /// Speed.
    pub examples_per_second: f64,
    /// What is measured on the validation data …
    #[serde(skip)]
    pub measure: Measure,
    /// … and the best result.
    pub best_valid: Option<Score>,
    /// When that was.
    pub best_step: Option<u64>,
    /// The command that continues a run whose time was over.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub continue_with: Option<String>,
    /// The best model on the test data of a tagger.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub test: Option<Report>,
    /// The most memory that the process had.
    pub peak_memory_mb: f64,
    /// Where the time went, if that was to be told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile: Option<Profiled>,
}
