//! Profiling of a training run: spans of its parts, in totals and as a trace.
//!
//! A [`span`] belongs to the thread that runs the training loop, and spans do not overlap: their sum and the rest are
//! the run. A [`task`] is what one thread does of a parallel part. Products are counted where they are made
//! ([`Products`]). All of it is off, and costs a load, until [`start`]; one run of a process is profiled at a time.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A part of a training run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Windows or batches are filled.
    Data,
    /// Recurrent weights are packed for a step's products.
    Pack,
    /// The recurrent net's forward pass.
    Forward,
    /// The recurrent net's backward pass.
    Backward,
    /// Gradients of shards are added.
    Sum,
    /// A tagger's net, forward and backward.
    Net,
    /// Words are drawn and their rows gathered.
    Sample,
    /// Logits and their exponentials.
    Logits,
    /// Normalisers and losses.
    Normalise,
    /// Gradients of the logits, and from them of weights and states.
    Gradients,
    /// Gradients of the states from the groups of vocabulary rows.
    States,
    /// Touched rows of tables are listed, and their gradients added.
    Rows,
    /// Rows of tables that a step is going to read are caught up.
    CatchUp,
    /// The norm of the gradient.
    Norm,
    /// Weights are moved.
    Update,
    /// Evaluation on the validation data; nothing within it is counted apart.
    Validation,
    /// Checkpoints.
    Checkpoint,
}

impl Part {
    /// All parts, group by group.
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

    /// The group that the part belongs to, and its own name.
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

/// Events that a trace holds; later ones count in the totals only.
const EVENTS: usize = 1 << 17;

/// The totals of a part.
#[derive(Clone, Copy, Debug, Default)]
pub struct Total {
    /// Spans.
    pub count: u64,
    /// Their time.
    pub time: Duration,
    /// Floating-point operations of products in them.
    pub flop: u64,
    /// The time that threads spent in products, added.
    pub multiplying: Duration,
    /// The time of the part's tasks, added over threads; zero for a part without tasks.
    pub tasks: Duration,
}

/// One span or task of a trace.
#[derive(Clone, Copy, Debug)]
pub struct Event {
    /// The part.
    pub part: Part,
    /// Number of the thread, none outside a pool.
    pub thread: Option<usize>,
    /// From the start of the profile.
    pub begin: Duration,
    /// How long it took.
    pub time: Duration,
    /// Whether it is a task, within a span.
    pub task: bool,
}

/// What was recorded from [`start`] to [`finish`].
pub struct Profile {
    /// From start to finish.
    pub time: Duration,
    /// A total for each of [`Part::ALL`].
    pub totals: [Total; Part::ALL.len()],
    /// The first events.
    pub events: Vec<Event>,
    /// Events that did not fit.
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

/// A span or task that ends where it is dropped.
#[must_use = "it ends where it is dropped"]
pub struct Span {
    part: Part,
    task: bool,
    begin: Instant,
    flop: u64,
    multiplying: u64,
}

/// A part of the run begins, on the thread of the training loop.
#[inline]
pub fn span(part: Part) -> Option<Span> {
    begin(part, false)
}

/// A thread's share of a parallel part begins.
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

/// A product that ends where it is dropped.
#[must_use = "it ends where it is dropped"]
pub struct Products {
    begin: Instant,
    flop: u64,
}

/// A product of an m × k and a k × n matrix begins.
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
