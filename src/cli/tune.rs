//! `wordmill tune`

use super::output_failed;
use super::tuning::{Entry, Subject, Tuning, place};
use super::values::{check_precision, positive, size};
use crate::blas::Precision;
use crate::error::Result;
use crate::kernels::dropout::Keep;
use crate::layers::output::{Draws, Negatives, Objective, Sampler};
use crate::layers::recurrence::Kind;
use crate::models::language_model::{Config, Loss, Noise, Sizes, Space, Window, shard_lanes};
use crate::models::{Init, LanguageModel};
use crate::params::{Arena, Gradients};
use crate::pool::{Pool, pool};
use crate::rng::{Purpose, Stream};
use crate::train::optimizer::{Optimizer, Rule};
use crate::train::stepper::Stepper;
use serde::Serialize;
use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Find out how training is fastest on this machine for a model of given sizes
///
/// Measures whole training steps with other numbers of threads and other sizes of the parts that a step is divided into, each beside
/// the best so far, in turns, and keeps what is clearly better. The result goes to a file, for train lm --tuning. Threads change no
/// bit of a model; the other sizes change the last bits, and are saved with the model's options. WORDMILL_ISA=avx2 tunes for AVX2.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  wordmill tune --words 10000 --hidden 100                      then: wordmill train lm --tuning auto …
  wordmill tune --cell gru --words 50000 --embed 256 --hidden 256 --tau 20 --out tuning.toml
  wordmill tune --hidden 32 --words 1000 --json")]
pub struct Tune {
    /// The tuning file, to which the result is added: auto is the one of train lm --tuning auto
    #[arg(long, default_value = "auto", value_name = "FILE")]
    out: PathBuf,
    /// Words in the vocabulary
    #[arg(long, default_value = "10000", value_parser = size, value_name = "V")]
    words: usize,
    /// Recurrent cell
    #[arg(long, default_value = "rnn", value_enum)]
    cell: Kind,
    /// Width of a word vector
    #[arg(long, default_value = "50", value_parser = size, value_name = "D")]
    embed: usize,
    /// Units of a recurrent layer
    #[arg(long, default_value = "100", value_parser = size, value_name = "H")]
    hidden: usize,
    /// Recurrent layers
    #[arg(long, default_value = "1", value_parser = clap::value_parser!(u8).range(1..=64))]
    layers: u8,
    /// Steps that a gradient goes back in time
    #[arg(long, default_value = "10", value_parser = size, value_name = "STEPS")]
    tau: usize,
    /// Places of the text that are read side by side
    #[arg(long, default_value = "64", value_parser = size, value_name = "LANES")]
    batch: usize,
    /// For --loss sampled with so many samples, rather than the full softmax
    #[arg(long, value_parser = size, value_name = "S")]
    samples: Option<usize>,
    /// For train lm --precision bf16
    #[arg(long, default_value = "f32", value_enum)]
    precision: Precision,
    /// Seconds for each choice
    #[arg(long, default_value = "2", value_parser = positive, value_name = "SECONDS")]
    seconds: f64,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// A choice must be faster by so much to be taken.
const GAIN: f64 = 1.015;

/// Turns in which two choices are compared.
const TURNS: usize = 7;

/// A way to train: threads and sizes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
struct Choice {
    threads: usize,
    sizes: Sizes,
}

/// A choice that was compared with the best before it.
#[derive(Serialize)]
struct Tried {
    choice: Choice,
    /// Its speed over that of the best before.
    gain: f64,
    taken: bool,
}

#[derive(Serialize)]
struct Report {
    entry: Entry,
    tried: Vec<Tried>,
}

impl Tune {
    /// Does it.
    pub fn run(self, out: &mut dyn Write) -> Result<()> {
        check_precision(self.precision)?;
        let path = place(&self.out)?;
        // What cannot be written into is told before measuring.
        let mut tuning = Tuning::read_or_new(&path)?;
        let report = self.search()?;
        tuning.put(report.entry.clone());
        tuning.write(&path)?;
        let written = if self.json {
            serde_json::to_writer(&mut *out, &report).map_err(Into::into).and_then(|()| writeln!(out))
        } else {
            report.print(out).and_then(|()| writeln!(out, "written to {}; train lm --tuning takes it", path.display()))
        };
        written.map_err(output_failed)
    }

    fn config(&self, sizes: Sizes) -> Config {
        let loss = match self.samples {
            None => Loss::Full,
            Some(samples) => {
                let (objective, draws) = (Objective::Softmax, Draws::WithReplacement);
                Loss::Sampled { objective, draws, negatives: Negatives::Shared, samples, power: None }
            }
        };
        let Tune { words, embed, hidden, cell, precision, .. } = *self;
        Config {
            words,
            embed,
            hidden,
            layers: self.layers.into(),
            cell: cell.into(),
            loss,
            sizes,
            precision,
            ..Config::default()
        }
    }

    /// One size after the other: threads first, as the rest depends on them.
    fn search(&self) -> Result<Report> {
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
        // The end of it, once more beside the beginning.
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
            layers: self.layers.into(),
            tau: self.tau,
            batch: self.batch,
        };
        let Choice { threads, sizes } = best;
        let default_words_per_second = if best == default { speed } else { speed / gain };
        let entry = Entry { subject, threads, sizes, words_per_second: speed, default_words_per_second };
        Ok(Report { entry, tried })
    }

    /// The speed of `choice` over that of `before`, the median of turns, and the speed itself in words a second.
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
        let mut training = Training {
            stepper: Stepper::new(w, g, optimizer, 0),
            space: model.training_space(self.tau, self.batch, &vec![1; self.words]),
            ids: (0..tokens + self.batch).map(|_| sampler.draw(&mut stream)).collect(),
            tau: self.tau,
            lanes: self.batch,
            pool,
            model,
        };
        training.speed(Duration::ZERO);
        Ok(training)
    }
}

/// A model in training, on words that fall as Zipf's law says.
struct Training {
    pool: Pool,
    model: LanguageModel,
    stepper: Stepper<f32>,
    space: Space<f32>,
    ids: Vec<u32>,
    tau: usize,
    lanes: usize,
}

impl Training {
    /// Words a second over a time, two steps at least.
    fn speed(&mut self, time: Duration) -> f64 {
        let Training { pool, model, stepper, space, ids, tau, lanes } = self;
        let tokens = *tau * *lanes;
        pool.install(|| {
            let (start, mut steps) = (Instant::now(), 0);
            while steps < 2 || start.elapsed() < time {
                let window = Window { inputs: &ids[..tokens], targets: &ids[*lanes..], loss_from: 0 };
                let noise = |step| Noise { keep: Keep::inverted(0.9), seed: 1, step };
                let touched = stepper.touch(|g, step| model.touch(g, space, window, noise(step)));
                touched.step(|g, loaded, w| model.step(g, space, loaded, w)).update(1e-4);
                model.carry(space, *tau);
                steps += 1;
            }
            (tokens * steps) as f64 / start.elapsed().as_secs_f64()
        })
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

impl Report {
    fn print(&self, out: &mut dyn Write) -> std::io::Result<()> {
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
