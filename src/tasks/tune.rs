//! Finds the fastest training settings on this machine for a model of given sizes.

use super::memory::learning_bytes;
use super::tuning::{Entry, Subject};
use crate::blas::Precision;
use crate::error::Result;
use crate::kernels::dropout::Keep;
use crate::layers::cells::Kind;
use crate::layers::output::{Draws, Negatives, Objective, Sampler};
use crate::models::language_model::{Config, Loss, Noise, Sizes, Space, Window, shard_lanes};
use crate::models::{Init, LanguageModel};
use crate::params::{Arena, Gradients};
use crate::pool::{Pool, Region, pool, recorded};
use crate::rng::{Purpose, Stream};
use crate::train::optimizer::{Optimizer, Rule};
use crate::train::stepper::Stepper;
use serde::Serialize;
use std::fmt;
use std::time::{Duration, Instant};

/// The model to tune for.
#[derive(Clone, Copy, Debug)]
pub struct Tuned {
    /// V
    pub words: usize,
    /// The recurrent cell.
    pub cell: Kind,
    /// D
    pub embed: usize,
    /// H
    pub hidden: usize,
    /// Recurrent layers.
    pub layers: usize,
    /// BPTT length.
    pub tau: usize,
    /// Lanes: parallel streams of the text.
    pub batch: usize,
    /// Number of samples of a sampled softmax.
    pub samples: Option<usize>,
    /// Precision of the operands of products.
    pub precision: Precision,
    /// Seconds per setting.
    pub seconds: f64,
}

/// A setting must be faster by this factor to be chosen.
const GAIN: f64 = 1.015;

/// Number of alternating measurements when two settings are compared.
const TURNS: usize = 7;

/// A setting: number of threads and block sizes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
struct Choice {
    threads: usize,
    sizes: Sizes,
}

/// A setting that was compared with the previous best.
#[derive(Serialize)]
struct Tried {
    choice: Choice,
    /// Its speed relative to the previous best.
    gain: f64,
    taken: bool,
}

/// The result of tuning, with all measurements.
#[derive(Serialize)]
pub struct Report {
    /// The best setting.
    pub entry: Entry,
    tried: Vec<Tried>,
}

impl Tuned {
    fn config(&self, sizes: Sizes) -> Config {
        let loss = match self.samples {
            None => Loss::Full,
            Some(samples) => {
                let (objective, draws) = (Objective::Softmax, Draws::WithReplacement);
                Loss::Sampled { objective, draws, negatives: Negatives::Shared, samples, power: None }
            }
        };
        let Tuned { words, embed, hidden, cell, precision, .. } = *self;
        Config {
            words,
            embed,
            hidden,
            layers: self.layers,
            cell: cell.into(),
            loss,
            sizes,
            precision,
            ..Config::default()
        }
    }

    /// Optimises one setting after another: threads first, since the others depend on them.
    pub fn search(&self) -> Result<Report> {
        let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
        let default = Choice { threads: cores, sizes: Sizes::default() };
        let (mut best, mut tried) = (default, Vec::new());
        let doubling = std::iter::successors(Some(1), |n| Some(n * 2)).take_while(|&n| n < cores);
        let mut alternatives: Vec<fn(Choice, usize) -> Choice> =
            vec![|choice, threads| Choice { threads, ..choice }, |choice, shard| Choice {
                sizes: Sizes { shard: Some(shard), ..choice.sizes },
                ..choice
            }];
        let shards = [8, 16, 32, 64, 128].into_iter().filter(|&n| n <= self.batch && n != shard_lanes(self.batch));
        let mut values: Vec<Vec<usize>> = vec![doubling.collect(), shards.collect()];
        if self.samples.is_none() {
            alternatives.push(|choice, chunk| Choice { sizes: Sizes { chunk: Some(chunk), ..choice.sizes }, ..choice });
            values.push(vec![160, 240, 480, 640]);
            alternatives.push(|choice, block| Choice { sizes: Sizes { block: Some(block), ..choice.sizes }, ..choice });
            values.push(vec![40, 80, 240, 320]);
        }
        for (with, values) in alternatives.into_iter().zip(values) {
            let before = best;
            let mut gain_so_far = GAIN;
            for value in values {
                let choice = with(before, value);
                let gain = self.gain(before, choice)?.0;
                let taken = gain > gain_so_far;
                if taken {
                    (best, gain_so_far) = (choice, gain);
                }
                tried.push(Tried { choice, gain, taken });
            }
        }
        // The final setting, compared with the initial one.
        let (gain, speed) = self.gain(default, best)?;
        let (best, speed) = if gain > GAIN { (best, speed) } else { (default, speed / gain) };
        let subject = Subject {
            isa: Subject::isa(),
            precision: self.precision,
            cell: self.cell,
            sampled: self.samples.is_some(),
            words: self.words,
            embed: self.embed,
            hidden: self.hidden,
            layers: self.layers,
            tau: self.tau,
            batch: self.batch,
        };
        let Choice { threads, sizes } = best;
        let default_words_per_second = if best == default { speed } else { speed / gain };
        let entry = Entry { subject, threads, sizes, words_per_second: speed, default_words_per_second };
        Ok(Report { entry, tried })
    }

    /// The speed of `choice` relative to `before`, the median over turns, and its speed in words/s.
    fn gain(&self, before: Choice, choice: Choice) -> Result<(f64, f64)> {
        if before == choice {
            let speed = self.training(choice)?.speed(Duration::from_secs_f64(self.seconds));
            return Ok((1.0, speed));
        }
        let (mut a, mut b) = (self.training(before)?, self.training(choice)?);
        let time = Duration::from_secs_f64(self.seconds / (2 * TURNS) as f64);
        let turns = (0..TURNS).map(|_| (a.speed(time), b.speed(time)));
        let (mut gains, mut speeds): (Vec<f64>, Vec<f64>) = turns.map(|(a, b)| (b / a, b)).unzip();
        gains.sort_by(f64::total_cmp);
        speeds.sort_by(f64::total_cmp);
        Ok((gains[TURNS / 2], speeds[TURNS / 2]))
    }

    /// Bytes of such a model in training.
    pub(super) fn bytes(&self) -> usize {
        let model = LanguageModel::new(self.config(Sizes::default()));
        let rule = if self.samples.is_some() { Rule::Adagrad } else { Rule::Adam };
        let rows = self.tau * self.batch + model.samples(self.batch);
        model.space_bytes::<f32>(self.tau, self.batch, true)
            + learning_bytes(model.layout(), model.layout(), rule, rows, 0)
    }

    /// Words/s of the defaults on some threads.
    pub(super) fn speed(&self, threads: usize) -> Result<f64> {
        Ok(self.training_on(threads)?.speed(Duration::from_secs_f64(self.seconds)))
    }

    /// A model in training with the defaults on some threads.
    pub(super) fn training_on(&self, threads: usize) -> Result<Training> {
        self.training(Choice { threads, sizes: Sizes::default() })
    }

    fn training(&self, choice: Choice) -> Result<Training> {
        let pool = pool(choice.threads)?;
        let model = LanguageModel::new(self.config(choice.sizes));
        let tokens = self.tau * self.batch;
        let mut w = Arena::zeros(model.layout());
        Init::Xavier.fill(&mut w, 1);
        let sampled = self.samples.is_some();
        let rule = if sampled { Rule::Adagrad } else { Rule::Adam };
        let optimizer = Optimizer::new(rule, 5.0, 0.0, model.layout());
        let sampler = Sampler::log_uniform(self.words);
        let mut stream = Stream::new(1, Purpose::Synth, 0, 0);
        let optimizer = if sampled { optimizer.lazy() } else { optimizer };
        let g = Gradients::zeros(model.layout(), tokens + model.samples(self.batch));
        let steps = Steps {
            stepper: Stepper::new(w, g, optimizer, 0),
            space: model.training_space(self.tau, self.batch, &vec![1; self.words]),
            ids: (0..tokens + self.batch).map(|_| sampler.draw(&mut stream)).collect(),
            tau: self.tau,
            lanes: self.batch,
            model,
        };
        let mut training = Training { pool, steps };
        training.speed(Duration::ZERO);
        Ok(training)
    }
}

/// A model in training, on words distributed by Zipf's law.
pub(super) struct Training {
    pool: Pool,
    steps: Steps,
}

struct Steps {
    model: LanguageModel,
    stepper: Stepper<f32>,
    space: Space<f32>,
    ids: Vec<u32>,
    tau: usize,
    lanes: usize,
}

impl Steps {
    fn step(&mut self) {
        let Steps { model, stepper, space, ids, tau, lanes } = self;
        let window = Window { inputs: &ids[..*tau * *lanes], targets: &ids[*lanes..], loss_from: 0 };
        let noise = |step| Noise { keep: Keep::inverted(0.9), seed: 1, step };
        let touched = stepper.touch(|g, step| model.touch(g, space, window, noise(step)));
        touched.step(|g, loaded, w| model.step(g, space, loaded, w)).update(1e-4);
        model.carry(space, *tau);
    }
}

impl Training {
    /// Words/s over `time`, of at least two steps.
    fn speed(&mut self, time: Duration) -> f64 {
        let Training { pool, steps } = self;
        pool.install(|| {
            let (start, mut done) = (Instant::now(), 0);
            while done < 2 || start.elapsed() < time {
                steps.step();
                done += 1;
            }
            (steps.tau * steps.lanes * done) as f64 / start.elapsed().as_secs_f64()
        })
    }

    /// The parallel parts of a step on one thread.
    pub(super) fn recorded_step(&mut self) -> Vec<Region> {
        let Training { pool, steps } = self;
        pool.install(|| recorded(|| steps.step()))
    }
}

impl Choice {
    fn text(self) -> String {
        let Choice { threads, sizes: Sizes { shard, chunk, block } } = self;
        let sizes = [("shard", shard), ("chunk", chunk), ("block", block)];
        let given = sizes.into_iter().filter_map(|(name, value)| Some(format!(", {name} {}", value?)));
        format!("threads {threads}{}", given.collect::<String>())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        for Tried { choice, gain, taken } in &self.tried {
            let taken = if *taken { "  taken" } else { "" };
            writeln!(out, "{:44}{:>+7.1} %{taken}", choice.text(), 100.0 * (gain - 1.0))?;
        }
        let Entry { threads, sizes, words_per_second, default_words_per_second, .. } = self.entry;
        let gain = 100.0 * (words_per_second / default_words_per_second - 1.0);
        let text = Choice { threads, sizes }.text();
        writeln!(out, "best: {text}: {words_per_second:.0} words/s, {gain:+.1} % over the defaults")
    }
}
