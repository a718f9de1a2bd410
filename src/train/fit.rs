//! The training loop for every kind of model: step, clip, update; report, evaluate, save, stop.

use super::checkpoint::{MODEL, OPTIMIZER, STATE};
use super::metrics::{Metrics, Report};
use super::optimizer::Optimizer;
use super::progress::{Progress, short};
use super::saver::{Item, Saver};
use super::schedule::{EarlyStopping, Measure, Schedule, Score};
use super::stepper::Stepper;
use super::tensor_file::{Tensor, TensorMut};
use super::writer::{Snapshot, Writer};
use crate::kernels::update::sum_of_squares;
use crate::math::{exp, ln};
use crate::params::{Arena, Gradients, Layout, TensorId};
use crate::profile::{Part, span};
use crate::sys::signals::{Signals, Stop};
use crate::train::checkpoint::Checkpoint;
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What a training step returns.
#[derive(Clone, Copy, Debug)]
pub struct Outcome {
    /// Mean loss per target, in nats.
    pub loss: f64,
    /// Targets counted in it.
    pub targets: u64,
}

/// A small file of a checkpoint: its name and its contents.
pub type SmallFile = (&'static str, Vec<u8>);

/// A model with its data, as seen by the training loop.
pub trait Task {
    /// The model's tensors.
    fn layout(&self) -> &Arc<Layout>;

    /// Maximum number of rows of a table that one step touches.
    fn rows(&self) -> usize;

    /// Optimizer steps per epoch.
    fn steps_per_epoch(&self) -> u64;

    /// Targets in the first `steps` steps of an epoch.
    fn targets_before(&self, steps: u64) -> u64;

    /// What [`Task::touch`] leaves for [`Task::step`].
    type Touched;

    /// Lists in `g` the rows of tables that step `step` (from 0, over all epochs) will touch, so that an optimizer with lazy updates
    /// can catch them up.
    fn touch(&mut self, g: &mut Gradients<f32>, step: u64) -> Self::Touched;

    /// Computes the loss of step `step` and its gradient.
    fn step(&mut self, g: &mut Gradients<f32>, step: u64, touched: Self::Touched, w: &Arena<f32>) -> Outcome;

    /// Called once, before the first step, so that an evaluation can end early when a signal is raised; its result is then not used.
    fn heed(&mut self, _signals: &Signals) {}

    /// The result on the validation data, if there is any.
    fn validate(&mut self, w: &Arena<f32>) -> Option<Score>;

    /// What [`Task::validate`] measures.
    fn measure(&self) -> Measure;

    /// The mean loss per target, in nats, on the data of step `step`, the last one made, with the weights after it. `g` may be
    /// overwritten; nothing else changes.
    fn loss_after(&mut self, g: &mut Gradients<f32>, step: u64, w: &Arena<f32>) -> f64 {
        let touched = self.touch(g, step);
        self.step(g, step, touched, w).loss
    }

    /// The number of classes, if [`Task::loss_after`] is a cross-entropy over them; the loss of a uniform guess is its logarithm.
    fn classes(&self) -> Option<usize>;

    /// Whether the loss of a step is a cross-entropy over all classes, whose exponential is a perplexity.
    fn is_cross_entropy(&self) -> bool {
        true
    }

    /// The unit of targets, in progress and reports.
    fn unit(&self) -> &'static str {
        "words"
    }

    /// Tensors whose gradient norms are reported individually.
    fn watched(&self) -> &[TensorId] {
        &[]
    }

    /// The small files of a checkpoint, such as `config.json`.
    fn files(&self) -> &[SmallFile];

    /// The tensors carried from step to step besides the weights.
    fn carried(&mut self) -> Vec<&mut [f32]> {
        Vec::new()
    }
}

/// How long to train, and how often to save.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Number of passes over the data.
    pub epochs: u64,
    /// Maximum number of steps, if reached sooner.
    pub max_steps: Option<u64>,
    /// Time between checkpoints within an epoch.
    pub save_every: Duration,
    /// The command that resumes an interrupted run.
    pub resume: String,
}

/// The state of a run, saved as `state.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// Number of optimizer steps made.
    pub step: u64,
    /// Number of targets trained on.
    pub targets: u64,
    /// Training time in seconds.
    pub seconds: f64,
    /// Whether the run is complete.
    pub finished: bool,
    /// The learning rate schedule.
    pub schedule: Schedule,
    /// Early stopping, with the best evaluation.
    pub stopping: EarlyStopping,
    /// The SHA-256 of each data file that can be read again, by the name of its option.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub data: BTreeMap<String, String>,
    /// Whether a signal interrupted the evaluation after this step: it is repeated before the next step.
    #[serde(default)]
    unevaluated: bool,
    recent: Recent,
}

/// Sums since the last report.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Recent {
    loss: f64,
    targets: u64,
    norm: f64,
    /// One per watched tensor.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    norms: Vec<f64>,
    steps: u64,
    seconds: f64,
}

impl State {
    /// The state before the first step.
    pub fn new(schedule: Schedule, stopping: EarlyStopping) -> Self {
        State {
            step: 0,
            targets: 0,
            seconds: 0.0,
            finished: false,
            schedule,
            stopping,
            data: BTreeMap::new(),
            unevaluated: false,
            recent: Recent::default(),
        }
    }
}

/// Reports per epoch.
const REPORTS: u64 = 20;

/// A run of the training loop.
pub struct Fit<'a, T> {
    /// Model and data.
    pub task: &'a mut T,
    /// Weights, gradient and optimizer, after the number of steps in `state`.
    pub stepper: Stepper<f32>,
    /// The state of the run.
    pub state: State,
    /// The plan of the run.
    pub plan: Plan,
    /// Saves checkpoints.
    pub saver: Saver,
    /// Collects reports.
    pub metrics: Metrics,
    /// Shows progress.
    pub progress: Progress,
    /// The signals that may stop it.
    pub signals: Signals,
}

impl<T: Task> Fit<'_, T> {
    /// Trains until the plan is completed or early stopping ends it. On a signal a checkpoint is saved and [`Error::Interrupted`]
    /// returned; at the time limit a checkpoint is saved, and [`Fit::rest`] returns the command to resume. No checkpoint is in progress
    /// when this returns.
    ///
    /// # Errors
    /// A non-finite loss, gradient or weight, before anything is updated with it; errors of saving; a signal.
    pub fn run(&mut self) -> Result<()> {
        let _held = self.signals.hold();
        let trained = self.train();
        // A checkpoint in progress is a complete snapshot, whatever has happened since it began.
        let saved = self.saver.finish(&live(&self.stepper));
        self.draw(true);
        match trained {
            // The interruption would claim that a checkpoint was saved.
            Err(Error::Interrupted { .. }) | Ok(()) if saved.is_err() => saved,
            trained => trained,
        }
    }

    /// The command that resumes a run whose time limit was reached before its plan was completed.
    pub fn rest(&self) -> Option<&str> {
        (self.state.unevaluated || !self.state.finished).then_some(self.plan.resume.as_str())
    }

    fn train(&mut self) -> Result<()> {
        let steps_per_epoch = self.task.steps_per_epoch();
        let last = self.plan.epochs.saturating_mul(steps_per_epoch).min(self.plan.max_steps.unwrap_or(u64::MAX));
        self.task.heed(&self.signals);
        if std::mem::take(&mut self.state.unevaluated) {
            self.report(true, steps_per_epoch)?;
            self.save()?;
            if let Some(stop) = self.signals.stop() {
                return self.stopped(stop);
            }
        } else if self.state.step >= last {
            let done = self.state.step;
            let what = match self.plan.max_steps {
                Some(most) if most <= done => {
                    format!(
                        "{done} steps have been made, the limit of --max-steps {most}; raise --max-steps to continue"
                    )
                }
                _ => format!("{done} steps have been made; raise --epochs to continue"),
            };
            return if self.state.step > 0 { Err(Error::Usage(what)) } else { Ok(()) };
        }
        let (mut clock, mut saved) = (Instant::now(), Instant::now());
        let mut epoch = u64::MAX;
        while self.state.step < last && !self.state.finished {
            let step = self.state.step;
            let within = step % steps_per_epoch;
            if step / steps_per_epoch != epoch {
                epoch = step / steps_per_epoch;
                let until = steps_per_epoch.min(last - epoch * steps_per_epoch);
                let (all, done) = (self.task.targets_before(until), self.task.targets_before(within));
                self.progress.epoch(epoch + 1, last.div_ceil(steps_per_epoch), all, done);
            }
            let outcome = self.one_step()?;
            let recent = &mut self.state.recent;
            recent.loss += outcome.loss * outcome.targets as f64;
            recent.targets += outcome.targets;
            recent.steps += 1;
            self.state.targets += outcome.targets;
            self.state.step = self.stepper.steps();
            let (done, mean) = (self.task.targets_before(within + 1), recent.loss / recent.targets as f64);
            self.progress.update(done, mean);

            let ended = within + 1 == steps_per_epoch || self.state.step == last;
            let seconds = clock.elapsed().as_secs_f64();
            let report = (within + 1) * REPORTS / steps_per_epoch > within * REPORTS / steps_per_epoch;
            if ended || report {
                self.state.seconds += seconds;
                self.state.recent.seconds += seconds;
                self.report(ended, steps_per_epoch)?;
                clock = Instant::now();
            }
            if self.state.finished || self.state.step == last {
                self.check_end()?;
            }
            self.state.finished |= self.state.step == last;
            let (stop, asked) = (self.signals.stop(), self.signals.take_save());
            if stop.is_some() {
                self.state.seconds += clock.elapsed().as_secs_f64();
                self.state.recent.seconds += clock.elapsed().as_secs_f64();
                self.saver.give_way();
            }
            if ended || asked || stop.is_some() || saved.elapsed() >= self.plan.save_every {
                self.save()?;
                saved = Instant::now();
            }
            if asked {
                // The sender may be about to kill the process.
                self.saver.finish(&live(&self.stepper))?;
                self.progress.say(&format!("saved after step {} on request of a signal", self.state.step));
            }
            if ended {
                self.draw(false);
            }
            if let Some(stop) = stop.filter(|_| self.rest().is_some()) {
                return self.stopped(stop);
            }
        }
        self.progress.finish();
        Ok(())
    }

    /// Ends the run, whose checkpoint has been or is being saved.
    fn stopped(&mut self, stop: Stop) -> Result<()> {
        let resume = &self.plan.resume;
        match stop {
            Stop::Signal(signal) => Err(Error::Interrupted { signal, resume: resume.clone() }),
            Stop::Time => {
                let step = self.state.step;
                self.progress
                    .say(&format!("stopped after step {step}, the limit of --max-minutes; continue with: {resume}"));
                Ok(())
            }
        }
    }

    /// Loss, gradient, clipping and update. Nothing is updated with a non-finite gradient, and no training or saving
    /// continues with non-finite weights or states; a loss whose perplexity is not finite has diverged as well.
    fn one_step(&mut self) -> Result<Outcome> {
        let Fit { task, stepper, state, saver, .. } = self;
        let (step, number) = (stepper.steps(), stepper.steps() + 1);
        let touched = stepper.touch(|g, step| task.touch(g, step));
        keep_rows(saver, touched.stepper());
        let computed = touched.step(|g, touched, w| task.step(g, step, touched, w)).norm();
        let (outcome, norm) = (computed.outcome, computed.norm);
        let perplexity = if task.is_cross_entropy() { exp(outcome.loss) } else { outcome.loss };
        if !(perplexity.is_finite() && norm.is_finite()) {
            return Err(not_finite(outcome.loss, norm, stepper, number));
        }
        let watched = task.watched();
        let norms = &mut state.recent.norms;
        norms.resize(watched.len(), 0.0);
        for (sum, &p) in norms.iter_mut().zip(watched) {
            let g = computed.stepper().g.arena.slice(p);
            *sum += sum_of_squares(g, g.len()).sqrt();
        }
        let rate = state.schedule.rate(number);
        keep_rows(saver, computed.stepper());
        if !computed.update(rate).finite {
            return Err(not_finite(outcome.loss, norm, stepper, number));
        }
        if saver.is_busy() {
            let _span = span(Part::Checkpoint);
            saver.advance(&live(stepper))?;
        }
        state.recent.norm += norm;
        Ok(outcome)
    }

    /// No later step reveals the effect of the last one: a run that diverged in it must not end successfully.
    fn check_end(&mut self) -> Result<()> {
        let _span = span(Part::Validation);
        let Fit { task, stepper, .. } = self;
        let step = stepper.steps();
        let loss = task.loss_after(&mut stepper.g, step - 1, &stepper.w);
        if !loss.is_finite() {
            return Err(not_finite(loss, 0.0, stepper, step));
        }
        stepper.g.clear_tables();
        let found = match task.classes() {
            Some(classes) if loss > worthless(classes) => {
                let guess = ln(classes as f64);
                format!(
                    "the loss is {} nats, compared with {guess:.1} for a uniform guess among {classes}",
                    short(loss)
                )
            }
            None if largest(&stepper.w) > LARGEST_WEIGHT => {
                format!("the largest weight is {}", short(largest(&stepper.w).into()))
            }
            _ => return Ok(()),
        };
        Err(Error::Diverged { step, found })
    }

    /// Writes one line of the metrics, with an evaluation at the end of an epoch. A signal or the time limit postpones both to the next
    /// run.
    fn report(&mut self, evaluate: bool, steps_per_epoch: u64) -> Result<()> {
        if evaluate {
            self.catch_up_all()?;
        }
        let score = if evaluate {
            let _span = span(Part::Validation);
            self.task.validate(&self.stepper.w)
        } else {
            None
        };
        if score.is_some() && self.signals.stop().is_some() {
            self.state.unevaluated = true;
            return Ok(());
        }
        if let (Some(loss), Some(classes)) =
            (score.and_then(|s| s.of(Measure::Perplexity)).map(ln), self.task.classes())
            && loss > worthless(classes)
        {
            let found = format!("the perplexity of the validation text is {}", short(exp(loss)));
            return Err(Error::Diverged { step: self.state.step, found });
        }
        let state = &mut self.state;
        let recent = std::mem::take(&mut state.recent);
        let rate = state.schedule.rate(state.step);
        match score {
            Some(score) if state.step.is_multiple_of(steps_per_epoch) => {
                state.schedule.evaluated(score);
                state.finished |= state.stopping.evaluated(state.step, score).stop;
            }
            Some(score) => _ = state.stopping.observe_without_patience(state.step, score),
            None => {}
        }
        let report = Report {
            epoch: state.step as f64 / steps_per_epoch as f64,
            step: state.step,
            tokens: state.targets,
            seconds: state.seconds,
            words_per_second: recent.targets as f64 / recent.seconds.max(1e-9),
            train_loss: recent.loss / recent.targets.max(1) as f64,
            valid_perplexity: score.and_then(|score| score.of(Measure::Perplexity)),
            valid_f1: score.and_then(|score| score.of(Measure::F1)),
            valid: score.filter(|score| !matches!(score.measure, Measure::Perplexity | Measure::F1)),
            learning_rate: rate,
            grad_norm: recent.norm / recent.steps.max(1) as f64,
            grad_norms: self.watched(&recent),
        };
        self.metrics.append(report)?;
        if evaluate {
            self.progress.say(&self.summary(steps_per_epoch, score));
        }
        Ok(())
    }

    /// The mean gradient norms of the watched tensors.
    fn watched(&self, recent: &Recent) -> BTreeMap<String, f64> {
        let name = |&p: &TensorId| self.task.layout().tensor(p).name.clone();
        let norms = recent.norms.iter().map(|norm| norm / recent.steps.max(1) as f64);
        self.task.watched().iter().map(name).zip(norms).collect()
    }

    /// A line about the finished epoch.
    fn summary(&self, steps_per_epoch: u64, score: Option<Score>) -> String {
        let end = self.state.step;
        let from = (end - 1) / steps_per_epoch * steps_per_epoch;
        let reports = self.metrics.reports();
        let before = reports.iter().rfind(|r| r.step <= from).map_or((0, 0.0), |r| (r.tokens, r.seconds));
        let (words, seconds) = (self.state.targets - before.0, self.state.seconds - before.1);
        let mut weighed = (0.0, 0u64);
        let mut earlier = before.0;
        for report in reports.iter().filter(|r| r.step > from) {
            weighed.0 += report.train_loss * (report.tokens - earlier) as f64;
            weighed.1 += report.tokens - earlier;
            earlier = report.tokens;
        }
        let loss = weighed.0 / weighed.1.max(1) as f64;
        let train = match self.task.measure() {
            Measure::Perplexity if self.task.is_cross_entropy() => format!("perplexity {}", short(exp(loss))),
            _ => format!("loss {loss:.4}"),
        };
        let speed = words as f64 / seconds.max(1e-9);
        let valid = score.map_or(String::new(), |score| format!("  valid {score}"));
        let (epoch, unit) = (Trim(end as f64 / steps_per_epoch as f64), self.task.unit());
        format!("epoch {epoch}  {speed:.0} {unit}/s  train {train}{valid}")
    }

    /// Draws the curves; training continues if that fails.
    fn draw(&mut self, last: bool) {
        if let Err(error) = self.metrics.draw(self.task.unit(), last) {
            self.progress.say(&format!("warning: {error}"));
        }
    }

    /// Catches up all rows; a checkpoint in progress needs their old values, and is finished first.
    fn catch_up_all(&mut self) -> Result<()> {
        self.saver.finish(&live(&self.stepper))?;
        self.stepper.catch_up_all();
        Ok(())
    }

    /// Starts saving a checkpoint of the current state.
    fn save(&mut self) -> Result<()> {
        let _span = span(Part::Checkpoint);
        self.catch_up_all()?;
        let state = serde_json::to_vec_pretty(&self.state).expect("the state is JSON");
        let carried: Vec<Vec<f32>> = self.task.carried().iter().map(|x| x.to_vec()).collect();
        let mut parts = parts(&self.stepper);
        for (i, data) in carried.iter().enumerate() {
            let (file, name, shape) = (OPTIMIZER, format!("carried{i}"), vec![data.len()]);
            parts.push(Item { file, name, shape, data, table: None });
        }
        let mut files: Vec<(&str, &[u8])> =
            self.task.files().iter().map(|(name, bytes)| (*name, bytes.as_slice())).collect();
        files.push((STATE, &state));
        let live: Vec<&[f32]> = parts.iter().map(|part| part.data).collect();
        self.saver.begin(self.state.step, self.state.stopping.best_step(), &files, &parts, &live)
    }
}

/// Copies the touched rows that the checkpoint in progress still needs.
fn keep_rows(saver: &mut Saver, stepper: &Stepper<f32>) {
    if saver.is_busy() {
        let touched = stepper.g.tables().iter().map(|rows| (rows.p(), rows.ids()));
        saver.keep(&live(stepper), touched);
    }
}

/// The cross-entropy over `classes` classes above which a model is not worth saving: far above that of a uniform guess.
fn worthless(classes: usize) -> f64 {
    4.0 * ln(classes as f64) + 10.0
}

/// Larger than the weights of any useful model, for models whose loss has no such bound; weights of very small inputs may be large.
const LARGEST_WEIGHT: f32 = 1e4;

/// The largest absolute value of a weight.
fn largest(w: &Arena<f32>) -> f32 {
    w.all().iter().fold(0.0, |most, x| x.abs().max(most))
}

/// The weights and the optimizer states, as saved.
fn parts(Stepper { w, optimizer, .. }: &Stepper<f32>) -> Vec<Item<'_>> {
    let states = optimizer.rule().states().iter().map(|name| (OPTIMIZER, *name)).zip(optimizer.states());
    let mut parts = Vec::new();
    for ((file, state), arena) in std::iter::once(((MODEL, ""), w)).chain(states) {
        for (p, tensor) in arena.layout().tensors() {
            if tensor.range().is_empty() {
                continue;
            }
            let table = tensor.role.by_rows().then_some((p, tensor.rows));
            let name = file_name(&tensor.name, state);
            parts.push(Item { file, name, shape: shape(tensor), data: arena.slice(p), table });
        }
    }
    parts
}

/// The values of [`parts`].
fn live<'a>(Stepper { w, optimizer, .. }: &'a Stepper<f32>) -> Vec<&'a [f32]> {
    let values = |arena: &'a Arena<f32>| arena.layout().tensors().map(|(p, _)| arena.slice(p));
    let all = std::iter::once(w).chain(optimizer.states()).flat_map(values);
    all.filter(|values| !values.is_empty()).collect()
}

/// A number of epochs without trailing zeros.
struct Trim(f64);

impl std::fmt::Display for Trim {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        // Two significant digits of a small fraction of an epoch: 0.0032.
        let decimals = if self.0 < 0.1 { 4 } else { 2 };
        let text = format!("{:.decimals$}", self.0);
        f.write_str(text.trim_end_matches('0').trim_end_matches('.'))
    }
}

/// A tensor of an arena with its name in a file.
struct NamedTensor<'a> {
    name: String,
    shape: Vec<usize>,
    data: &'a [f32],
}

impl NamedTensor<'_> {
    fn view(&self) -> Tensor<'_> {
        Tensor { name: &self.name, shape: &self.shape, data: self.data.into() }
    }
}

/// The name of a tensor in a file: its own, or `state/name` for an optimizer state.
fn file_name(tensor: &str, state: &str) -> String {
    if state.is_empty() { tensor.to_owned() } else { format!("{state}/{tensor}") }
}

fn shape(tensor: &crate::params::Tensor) -> Vec<usize> {
    if tensor.rows == 1 { vec![tensor.columns] } else { vec![tensor.rows, tensor.columns] }
}

fn tensors<'a>(arena: &'a Arena<f32>, state: &'a str) -> impl Iterator<Item = NamedTensor<'a>> {
    let tensors = arena.layout().tensors().filter(|(_, tensor)| !tensor.range().is_empty());
    tensors.map(move |(p, tensor)| NamedTensor {
        name: file_name(&tensor.name, state),
        shape: shape(tensor),
        data: arena.slice(p),
    })
}

/// Saves weights that were not trained here, as a checkpoint of step 0 with the small files `files`.
pub fn save_model(writer: &Writer, w: &Arena<f32>, files: &[(&str, &[u8])]) -> Result<()> {
    let weights: Vec<_> = tensors(w, "").collect();
    let weights: Vec<Tensor> = weights.iter().map(NamedTensor::view).collect();
    writer.save(&Snapshot { step: 0, best: None, files, tensors: &[(MODEL, weights.as_slice())] })
}

/// Reads the weights of a checkpoint.
pub fn read_weights(checkpoint: &mut Checkpoint, w: &mut Arena<f32>) -> Result<()> {
    read_arenas(checkpoint, MODEL, vec![(String::new(), w)], Vec::new())
}

/// Reads the optimizer states and the tensors that the task carries.
pub fn read_optimizer(
    checkpoint: &mut Checkpoint,
    optimizer: &mut Optimizer<f32>,
    carried: Vec<&mut [f32]>,
) -> Result<()> {
    let arenas = optimizer.rule().states().iter().zip(optimizer.states());
    let expected: BTreeSet<&str> = arenas.filter(|(_, arena)| !arena.all().is_empty()).map(|(name, _)| *name).collect();
    let held = checkpoint.shapes(OPTIMIZER)?;
    let held: BTreeSet<&str> = held.iter().filter_map(|(name, _)| Some(name.split_once('/')?.0)).collect();
    if held != expected {
        let list = |names: Vec<&str>| if names.is_empty() { "no states".to_owned() } else { names.join(", ") };
        let (held, expected) = (list(held.into_iter().collect()), list(expected.into_iter().collect()));
        let what = format!("contains {held}; the optimizer in the checkpoint's options has {expected}");
        return Err(Error::model(checkpoint.path().join(OPTIMIZER), what));
    }
    let names = optimizer.rule().states().iter().map(|name| name.to_string());
    let arenas = names.zip(optimizer.states_mut(checkpoint.step())).collect();
    read_arenas(checkpoint, OPTIMIZER, arenas, carried)
}

fn read_arenas(
    checkpoint: &mut Checkpoint,
    file: &str,
    arenas: Vec<(String, &mut Arena<f32>)>,
    carried: Vec<&mut [f32]>,
) -> Result<()> {
    let mut targets: Vec<(String, Vec<usize>, &mut [f32])> = Vec::new();
    for (state, arena) in arenas {
        let layout = arena.layout().clone();
        for ((_, tensor), (_, data)) in layout.tensors().zip(arena.tensors_mut()).filter(|(_, (_, x))| !x.is_empty()) {
            targets.push((file_name(&tensor.name, &state), shape(tensor), data));
        }
    }
    for (i, data) in carried.into_iter().enumerate() {
        targets.push((format!("carried{i}"), vec![data.len()], data));
    }
    let mut views: Vec<TensorMut> = Vec::new();
    for (name, shape, data) in &mut targets {
        views.push(TensorMut { name, shape, data: (&mut **data).into() });
    }
    checkpoint.read_tensors(file, &mut views)
}

/// The error of the first non-finite tensor: a weight, otherwise an optimizer state, a gradient, or the loss itself.
fn not_finite(loss: f64, norm: f64, stepper: &Stepper<f32>, step: u64) -> Error {
    let Stepper { w, g, optimizer, .. } = stepper;
    let weights = w.layout().tensors().map(|(p, tensor)| ("weight", tensor, w.slice(p)));
    let states =
        optimizer.rule().states().iter().zip(optimizer.states()).flat_map(|(&state, arena)| {
            arena.layout().tensors().map(move |(p, tensor)| (state, tensor, arena.slice(p)))
        });
    let gradients = g.arena.layout().tensors().map(|(p, tensor)| {
        ("gradient of", tensor, if tensor.role.by_rows() { g.table(p).values() } else { g.arena.slice(p) })
    });
    for (what, tensor, values) in weights.chain(states).chain(gradients) {
        if let Some(&value) = values.iter().find(|x| !x.is_finite()) {
            return Error::NotFinite { tensor: format!("{what} {}", tensor.name), step, value: value.into() };
        }
    }
    let (tensor, value) = match (loss.is_finite(), norm.is_finite()) {
        (false, _) => ("loss", loss),
        (true, false) => ("norm of the gradient", norm),
        (true, true) => ("perplexity", exp(loss)),
    };
    Error::NotFinite { tensor: tensor.into(), step, value }
}
