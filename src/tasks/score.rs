//! Log-probabilities of lines: for rescoring n-best lists.

use super::language_model::TrainedLm;
use super::language_model::evaluate::{LANES, STEPS};
use crate::error::Result;
use crate::models::language_model::{Space, Window};
use crate::text::{Inputs, Lines, Vocabulary};
use serde::Serialize;
use std::path::Path;

/// Lines of a text, to be scored.
pub struct Hypotheses {
    /// The ids before the lines, if they have any.
    ids: Option<Vec<String>>,
    lines: Lines,
    unk: u32,
}

/// A scored line.
#[derive(Serialize)]
pub struct Scored<'a> {
    /// Its log-probability.
    pub log_probability: f64,
    /// Its words, including its end if that is scored.
    pub words: usize,
    /// Words that the model does not know.
    pub unknown: usize,
    /// Its id, if it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<&'a str>,
}

impl Hypotheses {
    /// Reads a text whose lines begin with ids if `ids`, and end in a scored `<eos>` if `ends`. Warns of unknown words,
    /// and of words that look like ids.
    pub fn read(text: &Path, vocabulary: &Vocabulary, ids: bool, ends: bool, inputs: &Inputs) -> Result<Self> {
        let (ids, lines) = if ids {
            Lines::read_with_ids(text, vocabulary, inputs).map(|(ids, lines)| (Some(ids), lines))?
        } else {
            let lines = Lines::read_with(text, vocabulary, inputs)?;
            lines.warn_of_ids(text, vocabulary, inputs)?;
            (None, lines)
        };
        lines.warn_of_unknown(text, inputs)?;
        let lines = if ends { lines } else { lines.without_ends() };
        Ok(Hypotheses { ids, lines, unk: vocabulary.unk() })
    }

    /// The lines in order, with their natural log-probabilities: see [`score`].
    pub fn scored(&self, trained: &TrainedLm, ln_z: Option<f64>) -> impl Iterator<Item = Scored<'_>> {
        let scores = score(trained, &self.lines, ln_z);
        scores.into_iter().zip(self.lines.iter()).enumerate().map(|(i, (log_probability, line))| Scored {
            log_probability,
            words: line.len(),
            unknown: line.iter().filter(|&&id| id == self.unk).count(),
            id: self.ids.as_ref().map(|ids| ids[i].as_str()),
        })
    }
}

/// The natural log-probability of every line, including its end, each scored independently after an `<eos>`. With
/// `ln_z` scores are treated as normalised by it, and not summed over the vocabulary.
pub fn score(trained: &TrainedLm, lines: &Lines, ln_z: Option<f64>) -> Vec<f64> {
    let all: Vec<&[u32]> = lines.iter().collect();
    let mut order: Vec<usize> = (0..all.len()).collect();
    order.sort_by_key(|&i| std::cmp::Reverse(all[i].len()));
    let mut scores = vec![0.0; all.len()];
    let n = STEPS * LANES;
    let (inputs, targets, out) = (vec![0; n], vec![0; n], vec![0.0; n]);
    let mut scorer = Scorer { trained, ln_z, spaces: Default::default(), inputs, targets, out };
    for batch in order.chunks(LANES) {
        let lines: Vec<&[u32]> = batch.iter().map(|&i| all[i]).collect();
        for (&i, score) in batch.iter().zip(scorer.score(&lines)) {
            scores[i] = score;
        }
    }
    scores
}

/// Reads lines in parallel, one per lane.
struct Scorer<'a> {
    trained: &'a TrainedLm,
    ln_z: Option<f64>,
    /// Memory for 1, 2, 4 … lanes, allocated when first needed.
    spaces: [Option<Space<f32>>; 1 + LANES.ilog2() as usize],
    inputs: Vec<u32>,
    targets: Vec<u32>,
    out: Vec<f64>,
}

impl Scorer<'_> {
    /// The scores of `lines`, sorted by descending length. When half of the lanes have reached the end of their lines,
    /// the others move to memory for half as many lanes, so that a single long line costs no more than it would alone.
    fn score(&mut self, lines: &[&[u32]]) -> Vec<f64> {
        let mut scores = vec![0.0; lines.len()];
        // The size that has this many lanes, or the next larger one.
        let size_for = |lanes: usize| lanes.next_power_of_two().ilog2() as usize;
        let mut size = size_for(lines.len());
        self.space(size).reset();
        let mut at = 0;
        while at < lines[0].len() {
            let reading = lines.partition_point(|line| line.len() > at);
            let smaller = size_for(reading);
            if smaller < size {
                let before = self.spaces[size].take().expect("it was read with");
                self.space(smaller).take_lanes(&before, reading);
                self.spaces[size] = Some(before);
                size = smaller;
            }
            let (lanes, steps) = (1 << size, STEPS.min(lines[0].len() - at));
            self.read(&lines[..reading], at, steps, size);
            for (i, out) in self.out[..steps * lanes].iter().enumerate() {
                let (lane, t) = (i % lanes, at + i / lanes);
                if lane < reading && t < lines[lane].len() {
                    scores[lane] += out;
                }
            }
            at += steps;
        }
        scores
    }

    /// Memory for 2^size lanes.
    fn space(&mut self, size: usize) -> &mut Space<f32> {
        let (model, lanes) = (&self.trained.model, 1 << size);
        self.spaces[size].get_or_insert_with(|| match self.ln_z {
            Some(_) => model.state_space(STEPS, lanes),
            None => model.evaluation_space(STEPS, lanes),
        })
    }

    /// Reads `steps` words of `lines` from position `at`, and writes their log-probabilities to `out`, step by step.
    fn read(&mut self, lines: &[&[u32]], at: usize, steps: usize, size: usize) {
        let TrainedLm { model, w, vocabulary } = self.trained;
        let (lanes, eos) = (1 << size, vocabulary.eos());
        let n = steps * lanes;
        for i in 0..n {
            let (line, t) = (lines.get(i % lanes).copied().unwrap_or_default(), at + i / lanes);
            self.inputs[i] = if t == 0 { eos } else { *line.get(t - 1).unwrap_or(&eos) };
            self.targets[i] = *line.get(t).unwrap_or(&eos);
        }
        let ln_z = self.ln_z;
        let window = Window { inputs: &self.inputs[..n], targets: &self.targets[..n], loss_from: 0 };
        let (space, out) = (self.spaces[size].as_mut().expect("it was made"), &mut self.out[..n]);
        match ln_z {
            Some(ln_z) => {
                model.follow(space, window, w);
                model.target_logits(out, space, w);
                out.iter_mut().for_each(|score| *score -= ln_z);
            }
            None => model.log_probabilities(out, space, window, w),
        }
        model.carry(space, steps);
    }
}
