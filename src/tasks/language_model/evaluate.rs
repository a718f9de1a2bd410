//! Evaluation of a language model on a text.

use super::TrainedLm;
use crate::error::{Result, counted, reject};
use crate::math::exp;
use crate::models::LanguageModel;
use crate::models::language_model::{Space, Window};
use crate::params::Arena;
use crate::sys::signals::Signals;
use crate::tasks::measure::Measuring;
use crate::tasks::memory;
use crate::text::{Corpus, Inputs, Lines, Subset};
use serde::Serialize;
use std::path::Path;
use std::time::Instant;

/// Lanes and steps of an evaluation, and the number of steps that a lane reads before its own part: the states of a GRU remember
/// hundreds of words.
const LANES: usize = 64;
const STEPS: usize = 32;
const BURN_IN: usize = 512;
/// Minimum number of words per lane, if the text has more.
const LEAST: usize = 512;

/// Evaluates a text in parallel lanes: every word is a target once, and every lane first reads the words before its
/// part, so that the result agrees with a single pass to about four digits for any number of lanes.
pub struct Evaluator {
    space: Space<f32>,
    lanes: usize,
    inputs: Vec<u32>,
    targets: Vec<u32>,
    out: Vec<f64>,
    /// Stops an evaluation when a signal is raised.
    pub(super) signals: Option<Signals>,
    /// The targets' logits, for a model trained to be self-normalised.
    logits: Vec<f64>,
    /// The log-probability of every word of the last text, if requested.
    each: Option<Vec<f64>>,
}

/// The result of an evaluation.
#[derive(Clone, Copy, Debug)]
pub struct Evaluated {
    /// The mean loss in nats.
    pub loss: f64,
    /// The mean and the standard deviation of ln Z, the logarithm of the sum of e^o over the words, for a model trained
    /// to keep it at [`LanguageModel::ln_z`].
    pub ln_z: Option<(f64, f64)>,
    /// The mean loss of known words only, without the ends of lines; `None` if there are none.
    pub known: Option<f64>,
    /// The mean loss without unknown words.
    pub without_unknown: Option<f64>,
    /// The mean loss without the ends of lines.
    pub without_ends: Option<f64>,
}

impl Evaluator {
    /// Number of lanes for a text of `words` words.
    fn lanes(words: usize) -> usize {
        (words / LEAST).clamp(1, LANES)
    }

    /// Allocates the working memory to evaluate texts of `words` words.
    pub fn new(model: &LanguageModel, words: usize) -> Self {
        let lanes = Self::lanes(words);
        let n = STEPS * lanes;
        Evaluator {
            space: model.evaluation_space(STEPS, lanes),
            lanes,
            inputs: vec![0; n],
            targets: vec![0; n],
            out: vec![0.0; n],
            signals: None,
            logits: vec![0.0; if model.ln_z().is_some() { n } else { 0 }],
            each: None,
        }
    }

    /// The same, which keeps the log-probability of every word if `keeps`.
    pub fn keeping_each(self, keeps: bool) -> Self {
        Evaluator { each: keeps.then(Vec::new), ..self }
    }

    /// The log-probability of every word of the last text; empty unless they are kept.
    pub fn each(&self) -> &[f64] {
        self.each.as_deref().unwrap_or_default()
    }

    fn is_stopped(&self) -> bool {
        self.signals.as_ref().is_some_and(|signals| signals.stop().is_some())
    }

    /// Bytes of [`Evaluator::new`].
    pub fn bytes(model: &LanguageModel, words: usize) -> usize {
        model.space_bytes::<f32>(STEPS, Self::lanes(words), false)
    }

    /// Evaluates all words of `ids`, each given those before it; the first follows `eos`. Words other than `unk` and
    /// `eos` are also evaluated separately. The loss is NaN if a signal passed to [`crate::train::fit::Task::heed`] has
    /// interrupted it.
    pub fn evaluate(&mut self, model: &LanguageModel, w: &Arena<f32>, ids: &[u32], [unk, eos]: [u32; 2]) -> Evaluated {
        let (lanes, length) = (self.lanes, ids.len().div_ceil(self.lanes));
        // The word before target i, for all i that a lane may reach.
        let before = |i: isize| if i < 1 { eos } else { *ids.get(i as usize - 1).unwrap_or(&eos) };
        self.space.reset();
        let fill = |inputs: &mut [u32], targets: &mut [u32], from: isize| {
            for (i, (input, target)) in inputs.iter_mut().zip(targets).enumerate() {
                let at = (i % lanes * length) as isize + from + (i / lanes) as isize;
                (*input, *target) = (before(at), before(at + 1));
            }
        };
        let burn_in = BURN_IN.min(length) as isize;
        let mut at = -burn_in;
        while at < 0 && !self.is_stopped() {
            let n = STEPS.min(-at as usize) * lanes;
            fill(&mut self.inputs[..n], &mut self.targets[..n], at);
            model.advance(&mut self.space, &self.inputs[..n], w);
            at += (n / lanes) as isize;
            if at == 0 {
                // Nothing precedes the first lane.
                model.forget_lane(&mut self.space, 0);
            }
        }
        let (mut total, mut sum, mut squares) = (0.0, 0.0, 0.0);
        let (mut of_known, mut known) = (0.0, 0_u64);
        let (mut of_ends, mut ends) = (0.0, 0_u64);
        if let Some(each) = &mut self.each {
            each.clear();
            each.resize(ids.len(), 0.0);
        }
        for at in (0..length).step_by(STEPS) {
            if self.is_stopped() {
                return Evaluated {
                    loss: f64::NAN,
                    ln_z: None,
                    known: None,
                    without_unknown: None,
                    without_ends: None,
                };
            }
            let steps = STEPS.min(length - at);
            let n = steps * lanes;
            fill(&mut self.inputs[..n], &mut self.targets[..n], at as isize);
            let window = Window { inputs: &self.inputs[..n], targets: &self.targets[..n], loss_from: 0 };
            model.log_probabilities(&mut self.out[..n], &mut self.space, window, w);
            let place = |i: usize| (i % lanes) * length + at + i / lanes;
            let counted = |i: &usize| place(*i) < ids.len();
            total -= (0..n).filter(counted).map(|i| self.out[i]).sum::<f64>();
            for i in (0..n).filter(counted).filter(|&i| ![unk, eos].contains(&self.targets[i])) {
                of_known -= self.out[i];
                known += 1;
            }
            for i in (0..n).filter(counted).filter(|&i| self.targets[i] == eos) {
                of_ends -= self.out[i];
                ends += 1;
            }
            if let Some(each) = &mut self.each {
                (0..n).filter(counted).for_each(|i| each[place(i)] = self.out[i]);
            }
            if !self.logits.is_empty() {
                model.target_logits(&mut self.logits[..n], &self.space, w);
                for ln_z in (0..n).filter(counted).map(|i| self.logits[i] - self.out[i]) {
                    sum += ln_z;
                    squares += ln_z * ln_z;
                }
            }
            model.carry(&mut self.space, steps);
        }
        let n = ids.len() as f64;
        let ln_z = (!self.logits.is_empty()).then(|| (sum / n, (squares / n - (sum / n) * (sum / n)).max(0.0).sqrt()));
        let mean = |sum: f64, count: u64| (count > 0).then(|| sum / count as f64);
        Evaluated {
            loss: total / n,
            ln_z,
            known: mean(of_known, known),
            without_unknown: mean(of_known + of_ends, known + ends),
            without_ends: mean(total - of_ends, ids.len() as u64 - ends),
        }
    }
}

/// The evaluation of a language model on a text.
#[derive(Clone, Debug, Serialize)]
pub struct Evaluation {
    /// The exponential of the mean loss.
    pub perplexity: f64,
    /// The mean loss in nats.
    pub loss: f64,
    /// The mean loss in bits.
    pub bits_per_word: f64,
    /// Perplexity of known words only, without the ends of lines.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub perplexity_of_known_words: Option<f64>,
    /// Perplexity without unknown words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub perplexity_without_unknown_words: Option<f64>,
    /// Perplexity without the ends of lines.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub perplexity_without_line_ends: Option<f64>,
    /// For a model trained with --loss nce: the mean of ln Z over the text, its standard deviation, and the value it
    /// was trained towards.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ln_z: Option<[f64; 3]>,
    /// Number of words, including ends of lines.
    pub tokens: usize,
    /// Number of lines.
    pub lines: u64,
    /// Number of lines of the whole text, if a subset of them was evaluated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub of_lines: Option<u64>,
    /// Number of words that the model does not know.
    pub unknown: u64,
    /// Their fraction.
    pub unknown_rate: f64,
    /// Speed of the evaluation.
    pub words_per_second: f64,
    /// Its lines one by one, if requested.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by_line: Option<Vec<LineEvaluation>>,
}

/// One line of a text, evaluated after those before it.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct LineEvaluation {
    /// Number of words, including the line's end.
    pub words: usize,
    /// Their natural log-probability.
    pub log_probability: f64,
    /// The exponential of the mean loss.
    pub perplexity: f64,
    /// Number of words that the model does not know.
    pub unknown: usize,
}

impl TrainedLm {
    /// Evaluates the model on the text in `file`.
    pub fn evaluate_text(&self, file: &Path, how: &Measuring, inputs: &Inputs) -> Result<Evaluation> {
        let strips = how.strip_marks || self.vocabulary.strips_marks();
        let vocabulary = &self.vocabulary.clone().stripping_marks(strips);
        let Lines { ids, starts, unknown } = Lines::read_with(file, vocabulary, inputs)?;
        let mut corpus = Corpus { ids, unknown, lines: starts.len() as u64 - 1 };
        corpus.warn_of_unknown(file, inputs)?;
        let (unk, eos) = (vocabulary.unk(), vocabulary.eos());
        let mut of_lines = None;
        reject(&[(how.tokens.is_some() && how.by_line, "--lines lists all lines: it excludes --eval-tokens")])?;
        if let Some(tokens) = how.tokens {
            let Subset { ids, lines, of_lines: all, .. } = Subset::choose(&corpus.ids, eos, tokens);
            let unknown = ids.iter().filter(|&&id| id == unk).count() as u64;
            corpus = Corpus { ids, unknown, lines };
            of_lines = Some(all);
        }
        let bytes = Evaluator::bytes(&self.model, corpus.ids.len());
        memory::check_threads("evaluation", |_| bytes, inputs)?;
        let start = Instant::now();
        let mut evaluator = Evaluator::new(&self.model, corpus.ids.len()).keeping_each(how.by_line);
        let Evaluated { loss, ln_z, known, without_unknown, without_ends } =
            evaluator.evaluate(&self.model, &self.w, &corpus.ids, [unk, eos]);
        Ok(Evaluation {
            perplexity: exp(loss),
            loss,
            bits_per_word: loss / std::f64::consts::LN_2,
            perplexity_of_known_words: known.map(exp),
            perplexity_without_unknown_words: without_unknown.map(exp),
            perplexity_without_line_ends: without_ends.map(exp),
            ln_z: ln_z.zip(self.model.ln_z()).map(|((mean, deviation), taken)| [mean, deviation, taken]),
            tokens: corpus.ids.len(),
            lines: corpus.lines,
            of_lines,
            unknown: corpus.unknown,
            unknown_rate: corpus.unknown_rate(),
            words_per_second: corpus.ids.len() as f64 / start.elapsed().as_secs_f64(),
            by_line: how.by_line.then(|| {
                let line = |ends: &[usize]| {
                    let words = ends[1] - ends[0];
                    let log_probability: f64 = evaluator.each()[ends[0]..ends[1]].iter().sum();
                    let unknown = corpus.ids[ends[0]..ends[1]].iter().filter(|&&id| id == unk).count();
                    LineEvaluation { words, log_probability, perplexity: exp(-log_probability / words as f64), unknown }
                };
                starts.windows(2).map(line).collect()
            }),
        })
    }
}

impl Evaluation {
    /// As readable text.
    pub fn text(&self) -> String {
        let Evaluation { perplexity, loss, bits_per_word, tokens, lines, unknown, .. } = self;
        let ln_z = self.ln_z.map_or(String::new(), |[mean, deviation, taken]| {
            format!("\nln Z {mean:.4} ± {deviation:.4}, trained towards {taken}")
        });
        let without = |what: &str, perplexity: Option<f64>| {
            perplexity.map_or(String::new(), |perplexity| format!("\nperplexity {perplexity:.3} without {what}"))
        };
        let known = without("unknown words", self.perplexity_without_unknown_words)
            + &without("ends of lines", self.perplexity_without_line_ends)
            + &without("unknown words and ends of lines", self.perplexity_of_known_words);
        let by_line = self.by_line.as_ref().map_or(String::new(), |lines| {
            let row = |line: &LineEvaluation| {
                let LineEvaluation { words, log_probability, perplexity, unknown } = line;
                format!("{words}\t{log_probability:.6}\t{perplexity:.3}\t{unknown}\n")
            };
            format!("words\tlog-probability\tperplexity\tunknown\n{}\n", lines.iter().map(row).collect::<String>())
        });
        let part = self.of_lines.map_or(String::new(), |all| format!(", a fixed random subset of {all}"));
        format!(
            "{by_line}perplexity {perplexity:.3}{known}\nloss {loss:.5} nats per word, {bits_per_word:.4} bits per word{ln_z}\n\
             {} in {}{part} (including line ends), {unknown} unknown ({:.2} %)",
            counted(tokens, "word"),
            counted(lines, "line"),
            100.0 * self.unknown_rate
        )
    }
}
