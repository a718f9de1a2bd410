//! Reading of single words in any number of lanes, each from a state of its own: texts that begin alike share what they have in
//! common, and a text is continued word by word.

use super::memory::over_all_words;
use super::space::Shard;
use super::tensors::LanguageModel;
use crate::blas::Precision;
use crate::kernels::softmax::dot_rows;
use crate::layers::matrix::Rows;
use crate::layers::output::OutputLayer;
use crate::layers::recurrence::Prepared;
use crate::layers::shards;
use crate::params::{Arena, Layout};
use crate::real::Real;
use crate::sys::memory::Room;
use std::sync::Arc;

/// Lanes that are read together; what remains is read in memory for 1, 2, 4 … lanes.
const LANES: usize = 32;

/// Memory to read words with the weights of a model, which are packed once.
pub struct Reading<'a> {
    model: &'a LanguageModel,
    w: &'a Arena<f32>,
    prepared: Prepared<f32>,
    /// For [`LANES`] lanes each, allocated when first needed.
    full: Vec<Shard<f32>>,
    /// For 1, 2, 4 … lanes.
    others: [Option<Shard<f32>>; 1 + LANES.ilog2() as usize],
    output: Option<Box<dyn OutputLayer<f32>>>,
    state_len: usize,
}

/// Consecutive lanes and their memory, whose last lanes they take.
struct Piece<'s> {
    words: &'s [u32],
    shard: &'s mut Shard<f32>,
}

impl LanguageModel {
    /// Memory to read words, and to compute up to `tokens` log-probabilities at a time.
    pub fn reading<'a>(&'a self, w: &'a Arena<f32>, tokens: usize) -> Reading<'a> {
        let precision = Precision::F32;
        let mut prepared = Room::make(|room| self.net.prepared(room, &self.layout, precision));
        self.net.prepare(&mut prepared, w, false);
        let output = (tokens > 0).then(|| Room::make(|room| over_all_words(self, room, tokens)));
        let one = self.lanes(1);
        let state_len = one.net.tape.state.iter().map(|state| state.len()).sum();
        let mut others = [const { None }; _];
        others[0] = Some(one);
        Reading { model: self, w, prepared, full: Vec::new(), others, output, state_len }
    }

    /// Memory to read one word in each of some lanes.
    fn lanes(&self, lanes: usize) -> Shard<f32> {
        Room::make(|room| self.shard(room, &Arc::new(Layout::default()), 1, lanes))
    }

    /// The logits of `targets` \[N\] given the outputs `tops` \[N, H\], without a sum over all words.
    pub(super) fn logits_of<R: Real>(&self, out: &mut [f64], tops: &[R], targets: &[u32], w: &Arena<R>) {
        assert!(self.output.are_whole(), "a word's logit is in one table");
        let (hidden, u, b) = (self.config.hidden, w.slice(self.output.output), w.slice(self.output.bias));
        assert!(out.len() == targets.len() && tops.len() == targets.len() * hidden);
        for ((out, &word), h) in out.iter_mut().zip(targets).zip(tops.chunks_exact(hidden)) {
            let mut dot = [R::zero()];
            dot_rows(&mut dot, h, &u[word as usize * hidden..][..hidden], hidden);
            *out = (dot[0] + b[word as usize]).f64();
        }
    }
}

impl Reading<'_> {
    /// The length of a lane's state; the first is all zeros.
    pub fn state_len(&self) -> usize {
        self.state_len
    }

    /// The length H of a lane's output.
    pub fn top_len(&self) -> usize {
        self.model.config.hidden
    }

    /// Reads one word in each lane: its row of `states` becomes the state after it, and that of `tops` \[lanes, H\] what the next word
    /// is predicted from.
    pub fn read(&mut self, words: &[u32], states: &mut [f32], tops: &mut [f32]) {
        let (state_len, hidden, model) = (self.state_len, self.model.config.hidden, self.model);
        assert!(states.len() == words.len() * state_len && tops.len() == words.len() * hidden);
        let (full, rest) = (words.len() / LANES, words.len() % LANES);
        while self.full.len() < full {
            self.full.push(model.lanes(LANES));
        }
        let mut pieces: Vec<Piece> = self
            .full
            .iter_mut()
            .zip(words.chunks(LANES))
            .take(full)
            .map(|(shard, words)| Piece { words, shard })
            .collect();
        if rest > 0 {
            let lanes = rest.next_power_of_two();
            let shard = self.others[lanes.ilog2() as usize].get_or_insert_with(|| model.lanes(lanes));
            pieces.push(Piece { words: &words[full * LANES..], shard });
        }
        let (prepared, w) = (&self.prepared, self.w);
        let rows = (Rows::new(states, state_len), Rows::new(tops, hidden));
        shards::each(
            &mut pieces,
            rows,
            |piece| piece.words.len(),
            |_, Piece { words, shard }, (states, tops)| {
                let before = shard.lanes() - words.len();
                shard.inputs.clear();
                shard.inputs.resize(before, words[0]);
                shard.inputs.extend_from_slice(words);
                shard.copy_states(before, states.values, |own, other| own.copy_from_slice(other));
                model.forward_shard(shard, tops.values, model.masks(None, 0), prepared, w);
                shard.net.carry(1);
                shard.copy_states(before, states.values, |own, other| other.copy_from_slice(own));
            },
        );
    }

    /// ln ŷ of each of `targets` \[N\], given the outputs `tops` \[N, H\]; N is at most the number of tokens that there is memory for.
    pub fn log_probabilities(&mut self, out: &mut [f64], tops: &[f32], targets: &[u32]) {
        self.output.as_mut().expect("there is memory for tokens").log_probabilities(out, tops, targets, self.w);
    }

    /// The logits of `targets` \[N\] given the outputs `tops` \[N, H\], without a sum over all words.
    pub fn logits(&self, out: &mut [f64], tops: &[f32], targets: &[u32]) {
        self.model.logits_of(out, tops, targets, self.w);
    }
}

impl Shard<f32> {
    /// Calls `copy` for the parts of the states of all lanes from `first` on: with its own, and with that of the lane's row of `states`,
    /// in which the layers follow each other.
    fn copy_states(&mut self, first: usize, states: &mut [f32], copy: impl Fn(&mut [f32], &mut [f32])) {
        let lanes = self.lanes();
        let row_len = states.len() / (lanes - first);
        for (lane, row) in (first..).zip(states.chunks_exact_mut(row_len)) {
            let mut rest = row;
            for state in &mut self.net.tape.state {
                let width = state.len() / lanes;
                let other = rest.split_off_mut(..width).expect("a row has the states of all layers");
                copy(&mut state[lane * width..][..width], other);
            }
        }
    }
}
