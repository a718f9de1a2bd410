//! Inference with a language model: probabilities, logits, states, norms of gradients, and gates.

use super::space::{Space, Window};
use super::tensors::LanguageModel;
use crate::blas::product;
use crate::kernels::update::add;
use crate::layers::matrix::{view, view_mut};
use crate::layers::norms::Norms;
use crate::layers::output::Loss;
use crate::layers::recurrence::Gates;
use crate::params::Arena;
use crate::real::Real;

impl LanguageModel {
    /// ln ŷ of every counted target of a window, \[counted steps, B\], step by step.
    pub fn log_probabilities<R: Real>(&self, out: &mut [f64], space: &mut Space<R>, window: Window, w: &Arena<R>) {
        self.follow(space, window, w);
        let tokens = space.targets.len();
        assert_eq!(out.len(), tokens);
        let mut by_shard = vec![0.0; tokens];
        let output = &mut space.output;
        output.log_probabilities(&mut by_shard, space.top.first(tokens), &space.targets, w);
        space.by_lane(out, &by_shard);
    }

    /// The logit of every counted target of the last window, \[counted steps, B\], step by step, without a sum over all words.
    pub fn target_logits<R: Real>(&self, out: &mut [f64], space: &Space<R>, w: &Arena<R>) {
        let mut by_shard = vec![0.0; space.targets.len()];
        self.logits_of(&mut by_shard, space.top.first(space.targets.len()), &space.targets, w);
        space.by_lane(out, &by_shard);
    }

    /// How the loss of a window's counted targets depends on the states: the norm of ∂J/∂h at each step, for each layer, over the
    /// lanes of the first shard; and the means of the gates. The working memory is that of [`LanguageModel::space`].
    pub fn watch<R: Real>(&self, space: &mut Space<R>, window: Window, w: &Arena<R>) -> (Norms, Gates) {
        self.follow(space, window, w);
        self.net.prepare(&mut space.prepared, w, true);
        let Space { shards, prepared, output, top, dtop, targets, .. } = space;
        let (tokens, output) = (targets.len(), output);
        output.states_gradient(dtop.rows(tokens).values, top.first(tokens), targets, w);
        let shard = &mut shards[0];
        let rows = shard.inputs.len();
        let gates = shard.net.gates(rows);
        let mut norms = vec![Vec::new(); self.config.layers];
        let counted = rows - window.loss_from * shard.lanes();
        self.net_backward(shard, dtop.first(counted), self.masks(None, 0), prepared, Some(&mut norms));
        (norms, gates)
    }

    /// Runs the recurrent part over a window without dropout.
    fn follow<R: Real>(&self, space: &mut Space<R>, window: Window, w: &Arena<R>) {
        self.read(space, window);
        self.forward(space, None, w);
    }

    /// Scores of all words \[V\] given an output `top` \[H\] of [`super::Reading::read`]: ln ŷ plus a constant.
    pub fn next_logits<R: Real>(&self, out: &mut [R], top: &[R], w: &Arena<R>) {
        match self.config.loss {
            Loss::Adaptive { .. } => self.output.distribution(out, top, w),
            Loss::Full | Loss::Sampled { .. } => self.logits(out, top, 0, w),
        }
    }

    /// The logits of some words, from `first` on, given an output `top` \[H\].
    pub fn logits<R: Real>(&self, out: &mut [R], top: &[R], first: usize, w: &Arena<R>) {
        assert!(self.output.are_whole(), "a word's logit is in one table");
        let (words, hidden) = (out.len(), self.config.hidden);
        let u = view(&w.slice(self.output.output)[first * hidden..][..words * hidden], words, hidden);
        product(view_mut(out, 1, words), view(top, 1, hidden), u.t());
        add(out, &w.slice(self.output.bias)[first..][..words]);
    }

    /// Reads `inputs` \[T, B\] without predictions: the next window begins after them.
    pub fn advance<R: Real>(&self, space: &mut Space<R>, inputs: &[u32], w: &Arena<R>) {
        let steps = inputs.len() / space.lanes.all;
        assert!(steps > 0, "there is something to read");
        let window = Window { inputs, targets: inputs, loss_from: steps - 1 };
        self.follow(space, window, w);
        self.carry(space, steps);
    }

    /// Sets the state of one lane to zero.
    pub fn forget_lane<R: Real>(&self, space: &mut Space<R>, lane: usize) {
        let (shard, place) = space.lanes.place(lane);
        space.shards[shard].net.forget(place);
    }

    /// Carries over the state after the first `steps` steps of the last window: the next window begins with it.
    pub fn carry<R: Real>(&self, space: &mut Space<R>, steps: usize) {
        if steps == 0 {
            return;
        }
        space.shards.iter_mut().for_each(|shard| shard.net.carry(steps));
    }
}
