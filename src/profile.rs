//! Profiling of a training run: spans of its parts, in totals and as a trace.
//!
//! A [`span`] is recorded by the thread of the training loop, and spans do not overlap: together with the time between them, they add
//! up to the run. A [`task`] is one thread's share of a parallel part. Products are counted where they are computed ([`Products`]).
//! Until [`start`], all of this is off and costs one load; one run of a process is profiled at a time.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A part of a training run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Windows or batches are filled.
    Data,
    /// Recurrent weights are packed for the products of a step.
    Pack,
    /// The forward pass of the recurrent layers.
    Forward,
    /// The backward pass of the recurrent layers.
    Backward,
    /// Gradients of shards are added.
    Sum,
    /// A tagger's network, forward and backward.
    Net,
    /// Words are drawn and their rows gathered.
    Sample,
    /// Logits and their exponentials.
    Logits,
    /// Normalisers and losses.
    Normalise,
    /// Gradients of the logits, and from these the gradients of weights and states.
    Gradients,
    /// Gradients of the states, from the blocks of vocabulary rows.
    States,
    /// Touched rows of tables are listed, and their gradients summed.
    Rows,
    /// Table rows that a step will read are brought up to date.
    CatchUp,
    /// The norm of the gradient.
    Norm,
    /// Weights are updated.
    Update,
    /// Evaluation on the validation data; its parts are not counted separately.
    Validation,
    /// Checkpoints.
    Checkpoint,
}

impl Part {
    /// All parts, in groups.
    pub const ALL: [Part; 17] = [
        Part::Data,
        Part::Pack,
        Part::Forward,
        Part::Backward,
        Part::Sum,
        Part::Net,
        Part::Sample,
        Part::Logits,
        Part::Normalise,
        Part::Gradients,
        Part::States,
        Part::Rows,
        Part::CatchUp,
        Part::Norm,
        Part::Update,
        Part::Validation,
        Part::Checkpoint,
    ];

    /// The group of the part, and its own name.
    pub fn names(self) -> (&'static str, &'static str) {
        match self {
            Part::Data => ("data", "fill"),
            Part::Pack => ("recurrent", "pack weights"),
            Part::Forward => ("recurrent", "forward"),
            Part::Backward => ("recurrent", "backward"),
            Part::Sum => ("recurrent", "add gradients"),
            Part::Net => ("net", "forward, backward"),
            Part::Sample => ("output", "draw and gather"),
            Part::Logits => ("output", "logits"),
            Part::Normalise => ("output", "normalise"),
            Part::Gradients => ("output", "gradients"),
            Part::States => ("output", "gather states"),
            Part::Rows => ("tables", "sort and add rows"),
            Part::CatchUp => ("optimizer", "catch up"),
            Part::Norm => ("optimizer", "norm"),
            Part::Update => ("optimizer", "update"),
            Part::Validation => ("validation", "evaluate"),
            Part::Checkpoint => ("checkpoint", "save"),
        }
    }
}

static ON: AtomicBool = AtomicBool::new(false);
static FLOP: AtomicU64 = AtomicU64::new(0);
static MULTIPLYING: AtomicU64 = AtomicU64::new(0);
static RECORDER: Mutex<Option<Recorder>> = Mutex::new(None);

/// Maximum number of events in a trace; later ones count only in the totals.
const EVENTS: usize = 1 << 17;

/// The totals of a part.
#[derive(Clone, Copy, Debug, Default)]
pub struct Total {
    /// Number of spans.
    pub count: u64,
    /// Their total time.
    pub time: Duration,
    /// Floating-point operations of their products.
    pub flop: u64,
    /// The time in products, summed over threads.
    pub multiplying: Duration,
    /// The time of the part's tasks, summed over threads; zero for a part without tasks.
    pub tasks: Duration,
}

/// One span or task of a trace.
#[derive(Clone, Copy, Debug)]
pub struct Event {
    /// The part.
    pub part: Part,
    /// Number of the thread; none outside a pool.
    pub thread: Option<usize>,
    /// Time since the start of the profile.
    pub begin: Duration,
    /// Its duration.
    pub time: Duration,
    /// Whether it is a task within a span.
    pub task: bool,
}

/// What was recorded from [`start`] to [`finish`].
pub struct Profile {
    /// Time from start to finish.
    pub time: Duration,
    /// A total for each of [`Part::ALL`].
    pub totals: [Total; Part::ALL.len()],
    /// The first events.
    pub events: Vec<Event>,
    /// Number of events that did not fit.
    pub dropped: u64,
}

struct Recorder {
    start: Instant,
    profile: Profile,
}

fn recorder() -> MutexGuard<'static, Option<Recorder>> {
    RECORDER.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Starts recording; earlier records are discarded.
pub fn start() {
    let profile =
        Profile { time: Duration::ZERO, totals: Default::default(), events: Vec::with_capacity(EVENTS), dropped: 0 };
    *recorder() = Some(Recorder { start: Instant::now(), profile });
    ON.store(true, Relaxed);
}

/// Stops recording; `None` if it was not started.
pub fn finish() -> Option<Profile> {
    ON.store(false, Relaxed);
    let Recorder { start, mut profile } = recorder().take()?;
    profile.time = start.elapsed();
    Some(profile)
}

/// A span or task that ends when it is dropped.
#[must_use = "it ends where it is dropped"]
pub struct Span {
    part: Part,
    task: bool,
    begin: Instant,
    flop: u64,
    multiplying: u64,
}

/// Begins a part of the run, on the thread of the training loop.
#[inline]
pub fn span(part: Part) -> Option<Span> {
    begin(part, false)
}

/// Begins a thread's share of a parallel part.
#[inline]
pub fn task(part: Part) -> Option<Span> {
    begin(part, true)
}

#[inline]
fn begin(part: Part, task: bool) -> Option<Span> {
    if !ON.load(Relaxed) {
        return None;
    }
    let span =
        Span { part, task, begin: Instant::now(), flop: FLOP.load(Relaxed), multiplying: MULTIPLYING.load(Relaxed) };
    if part == Part::Validation {
        ON.store(false, Relaxed);
    }
    Some(span)
}

impl Drop for Span {
    fn drop(&mut self) {
        let time = self.begin.elapsed();
        if let Some(Recorder { start, profile }) = &mut *recorder() {
            let total = &mut profile.totals[self.part as usize];
            if self.task {
                total.tasks += time;
            } else {
                total.count += 1;
                total.time += time;
                total.flop += FLOP.load(Relaxed) - self.flop;
                total.multiplying += Duration::from_nanos(MULTIPLYING.load(Relaxed) - self.multiplying);
            }
            if profile.events.len() < EVENTS {
                let begin = self.begin.saturating_duration_since(*start);
                let thread = rayon::current_thread_index();
                profile.events.push(Event { part: self.part, thread, begin, time, task: self.task });
            } else {
                profile.dropped += 1;
            }
            if self.part == Part::Validation {
                ON.store(true, Relaxed);
            }
        }
    }
}

/// A product that ends when it is dropped.
#[must_use = "it ends where it is dropped"]
pub struct Products {
    begin: Instant,
    flop: u64,
}

/// Begins a product of an m × k and a k × n matrix.
#[inline]
pub fn products(m: usize, n: usize, k: usize) -> Option<Products> {
    ON.load(Relaxed).then(|| Products { begin: Instant::now(), flop: 2 * (m * n * k) as u64 })
}

impl Drop for Products {
    fn drop(&mut self) {
        FLOP.fetch_add(self.flop, Relaxed);
        MULTIPLYING.fetch_add(self.begin.elapsed().as_nanos() as u64, Relaxed);
    }
}
