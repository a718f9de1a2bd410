//! How fast a training step would be on more cores: a simulation, from the parallel parts of steps that were run here.
//!
//! A step is run on one thread, while every other core of this machine runs the same, so that tasks take as long as they do beside
//! others. What can run at once is then given, in its order, to the first of P cores that is free; a part ends with its last task,
//! and begins with handing tasks to them, whose cost is measured too.

use super::memory::{check, predicted_peak};
use super::tune::{Training, Tuned};
use crate::error::Result;
use crate::pool::{self, Region, pool};
use crate::text::Inputs;
use serde::Serialize;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Steps that are recorded, of which the median is taken.
const STEPS: usize = 15;

/// What a step would take on a number of cores.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Simulated {
    /// The cores.
    pub cores: usize,
    /// Seconds of a step.
    pub seconds: f64,
    /// Words per second.
    pub words_per_second: f64,
    /// Relative to one core that works alone.
    pub speedup: f64,
    /// The share of the step in which only one core works.
    pub serial: f64,
    /// The share in which cores wait for the last task of a part.
    pub waiting: f64,
    /// The share in which tasks are handed out.
    pub handing: f64,
}

/// What was measured on this machine, and what follows from it.
#[derive(Debug, Serialize)]
pub struct Scaling {
    /// Words/s of one thread alone.
    pub one: f64,
    /// How much longer tasks take while all cores of this machine work.
    pub contention: f64,
    /// Seconds it takes to hand a task to one more thread, which waits for it.
    pub handing: f64,
    /// Threads that were measured, all cores of this machine, and their words/s.
    pub measured: (usize, f64),
    /// The same as simulated.
    pub predicted: f64,
    /// For 1, 2, 4 … cores, and as many as asked for.
    pub simulated: Vec<Simulated>,
}

/// Simulates a step of `model` on up to `most` cores.
pub fn scaling(model: &Tuned, most: usize) -> Result<Scaling> {
    let words = (model.tau * model.batch) as f64;
    let here = std::thread::available_parallelism().map_or(1, |n| n.get());
    let smaller = |_| vec!["smaller sizes, or fewer cores by taskset".to_owned()];
    check("a model for each core", predicted_peak(here * model.bytes()), smaller, &Inputs::default())?;
    let alone = recorded(model, 1)?;
    let one = words / total(&alone).as_secs_f64();
    let step = if here > 1 { recorded(model, here)? } else { alone.clone() };
    let contention = total(&step).as_secs_f64() / total(&alone).as_secs_f64();
    let handing = if here > 1 { handing()? } else { 0.0 };
    let simulate = |cores: usize| {
        let (seconds, parts) =
            if cores == 1 { (total(&alone).as_secs_f64(), [0.0; 3]) } else { spread(&step, cores, handing) };
        let [serial, waiting, handing] = parts.map(|part| part / seconds);
        let words_per_second = words / seconds;
        Simulated { cores, seconds, words_per_second, speedup: words_per_second / one, serial, waiting, handing }
    };
    let cores = std::iter::successors(Some(1), |n| Some(n * 2)).take_while(|&n| n < most).chain([most]);
    Ok(Scaling {
        one,
        contention,
        handing,
        measured: (here, model.speed(here)?),
        predicted: simulate(here).words_per_second,
        simulated: cores.map(simulate).collect(),
    })
}

/// The median of some steps on one thread, while `copies` in all are made at once.
fn recorded(model: &Tuned, copies: usize) -> Result<Vec<Region>> {
    let mut all = (0..copies).map(|_| model.training_on(1)).collect::<Result<Vec<Training>>>()?;
    let mut own = all.pop().expect("there is a copy");
    let done = AtomicBool::new(false);
    Ok(std::thread::scope(|scope| {
        // Also where a step panics: the others would go on for ever.
        let _end = OnDrop(|| done.store(true, Relaxed));
        for mut other in all {
            let done = &done;
            scope.spawn(move || {
                while !done.load(Relaxed) {
                    other.recorded_step();
                }
            });
        }
        let mut steps: Vec<Vec<Region>> = (0..STEPS).map(|_| own.recorded_step()).collect();
        steps.sort_by_key(|step| total(step));
        steps.swap_remove(STEPS / 2)
    }))
}

/// Does something where it is dropped.
struct OnDrop<F: FnMut()>(F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

/// The time of all that one thread did.
fn total(step: &[Region]) -> Duration {
    step.iter().map(|region| region.before + region.tasks.iter().sum::<Duration>()).sum()
}

/// Seconds of a step on some cores, and those in which it is serial, waits for a last task, and hands out tasks.
fn spread(step: &[Region], cores: usize, handing: f64) -> (f64, [f64; 3]) {
    let mut parts = [0.0; 3];
    let mut seconds = 0.0;
    for Region { before, tasks } in step {
        parts[0] += before.as_secs_f64();
        seconds += before.as_secs_f64();
        let busy = tasks.len().min(cores);
        if busy == 0 {
            continue;
        }
        let mut free = vec![0.0f64; busy];
        for task in tasks {
            let first = free.iter_mut().min_by(|a, b| a.total_cmp(b)).expect("there is a core");
            *first += task.as_secs_f64();
        }
        let last = free.iter().copied().fold(0.0, f64::max);
        // Threads take tasks from each other, as a tree.
        let handed = handing * f64::from(busy.next_power_of_two().ilog2());
        parts[1] += last - free.iter().sum::<f64>() / cores as f64;
        parts[2] += handed;
        seconds += last + handed;
    }
    (seconds, parts)
}

/// How much longer a parallel part of two equal tasks takes on two threads than one of them, in seconds: the median.
fn handing() -> Result<f64> {
    const PARTS: usize = 2001;
    const TASK: Duration = Duration::from_micros(50);
    let wait = |_: usize, _: usize| {
        let start = Instant::now();
        while start.elapsed() < TASK {}
    };
    let mut times: Vec<Duration> = pool(2)?.install(|| {
        let part = |_| {
            let start = Instant::now();
            pool::each(0..2, wait);
            start.elapsed().saturating_sub(TASK)
        };
        (0..PARTS).map(part).collect()
    });
    times.sort();
    Ok(times[PARTS / 2].as_secs_f64())
}

impl fmt::Display for Scaling {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        let Scaling { one, contention, handing, measured: (threads, measured), predicted, simulated } = self;
        writeln!(
            out,
            "measured: one thread {one:.0} words/s, {threads} threads {measured:.0} ({:.2} x)",
            measured / one
        )?;
        writeln!(
            out,
            "simulated: {threads} threads {predicted:.0} words/s, {:+.1} % of what was measured; tasks take {contention:.2} x as long \
             beside others, and handing a task to a thread {:.1} us",
            100.0 * (predicted / measured - 1.0),
            1e6 * handing
        )?;
        let head = ["cores", "ms/step", "words/s", "speedup", "serial", "waiting", "handing"];
        writeln!(out, "\nsimulation, not a measurement:\n{}", head.map(|name| format!("{name:>10}")).concat())?;
        for Simulated { cores, seconds, words_per_second, speedup, serial, waiting, handing } in simulated {
            let share = |x: &f64| format!("{:.1} %", 100.0 * x);
            writeln!(
                out,
                "{cores:>10}{:>10.2}{words_per_second:>10.0}{:>10}{:>10}{:>10}{:>10}",
                1e3 * seconds,
                format!("{speedup:.2} x"),
                share(serial),
                share(waiting),
                share(handing)
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_go_to_the_first_free_core() {
        let ms = Duration::from_millis;
        let region =
            |before, tasks: &[u64]| Region { before: ms(before), tasks: tasks.iter().map(|&t| ms(t)).collect() };
        let step = [region(1, &[4, 2, 2, 4]), region(2, &[3]), region(1, &[])];
        // 4 | 2 2, then 4 on either; one task; 4 ms serial.
        let (seconds, [serial, waiting, handing]) = spread(&step, 2, 1e-3);
        assert!((seconds - (4e-3 + 8e-3 + 3e-3 + 1e-3)).abs() < 1e-12, "{seconds}");
        assert!(
            (serial - 4e-3).abs() < 1e-12 && (waiting - (8e-3 - 6e-3 + 1.5e-3)).abs() < 1e-12,
            "{serial} {waiting}"
        );
        assert!((handing - 1e-3).abs() < 1e-12);
        assert_eq!(total(&step), ms(19));
    }
}
