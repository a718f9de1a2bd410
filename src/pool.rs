//! Threads and parallel loops. Work is divided by the configuration and the data, never by the number of threads, and partial results
//! are added in a fixed order, so that threads affect only the duration of a run.
//!
//! The loops take slices, [`chunks`] of them, and tuples of these, which are iterated together.

use crate::sys::cpu::flush_denormals;
use crate::{Error, Result, blas};
use rayon::prelude::*;
use rayon::{ThreadPool, ThreadPoolBuilder};
use std::cell::RefCell;
use std::cmp::Ordering;
use std::time::{Duration, Instant};

/// A pool of worker threads.
pub struct Pool(ThreadPool);

impl Pool {
    /// Runs `work` in the pool, including its parallel parts.
    pub fn install<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        self.0.install(work)
    }
}

/// A pool of `threads` workers (0: one per core) that treat denormals as zero. Run everything within [`Pool::install`].
pub fn pool(threads: usize) -> Result<Pool> {
    blas::initialise();
    ThreadPoolBuilder::new()
        .num_threads(threads)
        .thread_name(|i| format!("wordmill-{i}"))
        .start_handler(|_| flush_denormals())
        .build()
        .map(Pool)
        .map_err(|error| Error::Usage(format!("--threads {threads}: {error}")))
}

/// Number of threads of the current pool.
pub fn threads() -> usize {
    rayon::current_num_threads()
}

/// Runs both, possibly in parallel.
#[inline]
pub fn join<A: Send, B: Send>(a: impl FnOnce() -> A + Send, b: impl FnOnce() -> B + Send) -> (A, B) {
    parallel(|| rayon::join(|| task(a), || task(b)))
}

/// Runs `work` for every item, with its index, each as a separate task.
#[inline]
pub fn each<I>(items: I, work: impl Fn(usize, I::Item) + Send + Sync)
where
    I: IntoParallelIterator<Iter: IndexedParallelIterator>,
{
    let items = items.into_par_iter().enumerate().with_max_len(1);
    parallel(|| items.for_each(|(i, item)| task(|| work(i, item))));
}

/// The results of `work` for every item, in the order of the items, each computed as a separate task.
pub fn map<I, T: Send>(items: I, work: impl Fn(I::Item) -> T + Send + Sync) -> Vec<T>
where
    I: IntoParallelIterator<Iter: IndexedParallelIterator>,
{
    parallel(|| items.into_par_iter().with_max_len(1).map(|item| task(|| work(item))).collect())
}

/// Chunks of `size` elements; the last may be smaller.
#[inline]
pub fn chunks<T: Sync>(x: &[T], size: usize) -> impl IndexedParallelIterator<Item = &[T]> {
    x.par_chunks(size)
}

/// The same, mutable.
#[inline]
pub fn chunks_mut<T: Send>(x: &mut [T], size: usize) -> impl IndexedParallelIterator<Item = &mut [T]> {
    x.par_chunks_mut(size)
}

/// Sorts by `compare`, under which no two elements are equal.
pub fn sort_by<T: Send>(x: &mut [T], compare: impl Fn(&T, &T) -> Ordering + Sync) {
    x.par_sort_unstable_by(compare);
}

/// A parallel part as one thread ran it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Region {
    /// The time since the part before, in which only one thread can work.
    pub before: Duration,
    /// The times of its tasks, which could run at once. Pieces of a task before, in and after a parallel part within it are tasks of
    /// their own here, as if they too could run at once.
    pub tasks: Vec<Duration>,
}

/// What a thread records while [`recorded`] runs on it.
#[derive(Default)]
struct Trace {
    regions: Vec<Region>,
    depth: usize,
    since: Option<Instant>,
}

thread_local! {
    static TRACE: RefCell<Option<Trace>> = const { RefCell::new(None) };
}

/// Runs `work` in the present pool, which has one thread, and returns its parallel parts; the last is what came after them all.
pub fn recorded(work: impl FnOnce()) -> Vec<Region> {
    assert_eq!(threads(), 1, "the tasks of a part are timed one after the other");
    TRACE.set(Some(Trace { since: Some(Instant::now()), ..Trace::default() }));
    work();
    let Trace { mut regions, since, .. } = TRACE.take().expect("it was set above");
    regions.push(Region { before: since.expect("set").elapsed(), tasks: Vec::new() });
    regions
}

/// Tells the recorder of this thread, if there is one, how long it is since it was told anything.
#[inline]
fn record(tell: impl FnOnce(&mut Trace, Duration)) {
    TRACE.with_borrow_mut(|trace| {
        if let Some(trace) = trace {
            let now = Instant::now();
            let before = trace.since.replace(now).expect("set");
            tell(trace, now - before);
        }
    });
}

/// A parallel part, of tasks.
#[inline]
fn parallel<T>(work: impl FnOnce() -> T) -> T {
    record(|trace, time| {
        match trace.regions.last_mut().filter(|_| trace.depth > 0) {
            Some(outer) => outer.tasks.push(time),
            None => trace.regions.push(Region { before: time, tasks: Vec::new() }),
        }
        trace.depth += 1;
    });
    let done = work();
    record(|trace, _| trace.depth -= 1);
    done
}

/// A task of a parallel part.
#[inline]
fn task<T>(work: impl FnOnce() -> T) -> T {
    let done = work();
    record(|trace, time| trace.regions.last_mut().expect("a task is part of a region").tasks.push(time));
    done
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parallel_parts_are_recorded_with_their_tasks() {
        let wait = |_: usize, _: usize| std::thread::sleep(Duration::from_millis(2));
        let regions = pool(1).unwrap().install(|| {
            recorded(|| {
                std::thread::sleep(Duration::from_millis(3));
                each(0..3, wait);
                join(|| each(0..2, wait), || ());
            })
        });
        let tasks: Vec<usize> = regions.iter().map(|region| region.tasks.len()).collect();
        // Of the join: what comes before the inner part, its two tasks, what comes after it, and the other one.
        assert_eq!(tasks, [3, 5, 0]);
        assert!(regions[0].before >= Duration::from_millis(3) && regions[0].tasks.iter().all(|t| t.as_millis() >= 2));
        assert!(regions[1].tasks[1..3].iter().all(|t| t.as_millis() >= 2));
        recorded_nothing_else();
    }

    /// What is not recorded costs nothing and changes nothing.
    fn recorded_nothing_else() {
        assert!(TRACE.with_borrow(Option::is_none));
    }

    #[test]
    fn loops_meet_every_item_once_in_its_place() {
        for threads in [1, 3] {
            pool(threads).unwrap().install(|| {
                assert_eq!(super::threads(), threads);
                let (mut x, y) = ([0; 10], [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
                each((chunks_mut(&mut x, 3), chunks(&y, 3)), |i, (x, y)| {
                    x.iter_mut().zip(y).for_each(|(x, y)| *x += 100 * i + y);
                });
                assert_eq!(x, [1, 2, 3, 104, 105, 106, 207, 208, 209, 310]);
                assert_eq!(map((&y, 0..10), |(y, i)| y * i), (0..10).map(|i| i * (i + 1)).collect::<Vec<_>>());
                sort_by(&mut x, |a, b| b.cmp(a));
                assert_eq!(x, [310, 209, 208, 207, 106, 105, 104, 3, 2, 1]);
                assert_eq!(join(|| 1, || "two"), (1, "two"));
            });
        }
    }
}
