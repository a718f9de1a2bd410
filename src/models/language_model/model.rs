//! The equations of the recurrent language model.
//!
//! e⁽ᵗ⁾ = L_{x(t)}    h⁽ᵗ⁾ = net(h⁽ᵗ⁻¹⁾, m ∘ e⁽ᵗ⁾)    θ⁽ᵗ⁾ = (m ∘ h⁽ᵗ⁾)Uₒᵀ + b₂    J = −Σ log softmax(θ⁽ᵗ⁾)_{x(t+1)} / N
//!
//! and back: ∂h from the output layer, ∂e from the net, ∂L_w = Σ ∂e⁽ᵗ⁾ over the t with x⁽ᵗ⁾ = w.

use super::config::Config;
use super::space::{Shard, Space, Window};
use super::tensors::LanguageModel;
use crate::kernels::dropout::Keep;
use crate::layers::embedding::lookup;
use crate::layers::norms::Norms;
use crate::layers::recurrence::{Masks, Prepared, Steps};
use crate::layers::shards;
use crate::params::{Arena, Gradients};
use crate::profile::{Part, span, task};
use crate::real::Real;
use crate::rng::{Purpose, Stream};

/// What dropout depends on in a step.
#[derive(Clone, Copy, Debug)]
pub struct Noise {
    /// The kept share.
    pub keep: Keep,
    /// The run's seed.
    pub seed: u64,
    /// The optimizer step.
    pub step: u64,
}

/// A window that [`LanguageModel::touch`] has read into the working memory, for [`LanguageModel::step`] to continue with.
#[derive(Debug)]
pub struct Loaded {
    noise: Noise,
}

impl LanguageModel {
    /// Prepares a step with this window and noise: reads the window, draws the sample, and lists in `g` the rows of tables that
    /// the step will touch, so that they can be caught up before [`LanguageModel::step`] reads them.
    pub fn touch<R: Real>(&self, g: &mut Gradients<R>, space: &mut Space<R>, window: Window, noise: Noise) -> Loaded {
        self.read(space, window);
        let Space { shards, order, output, targets, rows, .. } = space;
        let words = shards.iter().flat_map(|shard| &shard.inputs).copied();
        order.sort(words, if self.config.tie { rows } else { g.table_mut(self.embedding).list() });
        let stream = |sample| Stream::new(noise.seed, Purpose::Negatives, noise.step, sample);
        output.touch(g, targets, &stream);
        Loaded { noise }
    }

    /// The mean loss of the counted targets of the window that was read, in nats, and its gradient.
    pub fn step<R: Real>(&self, g: &mut Gradients<R>, space: &mut Space<R>, loaded: Loaded, w: &Arena<R>) -> f64 {
        let Loaded { noise } = loaded;
        self.forward(space, Some(noise), w);
        let Space { output, top, dtop, targets, .. } = space;
        let (tokens, output) = (targets.len(), output);
        let loss = output.loss(g, dtop.rows(tokens).values, top.first(tokens), targets, w);
        self.backward(g, space, noise);
        loss
    }

    /// The mean loss of a window's counted targets, in nats, and its gradient: both parts of a step at once, for weights that are
    /// caught up.
    pub fn loss_and_gradient<R: Real>(
        &self,
        g: &mut Gradients<R>,
        space: &mut Space<R>,
        window: Window,
        noise: Noise,
        w: &Arena<R>,
    ) -> f64 {
        let loaded = self.touch(g, space, window, noise);
        self.step(g, space, loaded, w)
    }

    /// Runs the net over the window that was read; the outputs of its highest layer for counted tokens go to `space.top`.
    pub(super) fn forward<R: Real>(&self, space: &mut Space<R>, noise: Option<Noise>, w: &Arena<R>) {
        let counted = space.targets.len() / space.lanes.all;
        {
            let _span = span(Part::Pack);
            self.net.prepare(&mut space.prepared, w, noise.is_some());
        }
        let _span = span(Part::Forward);
        let (prepared, top) = (&space.prepared, space.top.rows(counted * space.lanes.all));
        shards::each(
            &mut space.shards,
            top,
            |shard| counted * shard.lanes(),
            |i, shard, top| {
                let _task = task(Part::Forward);
                self.forward_shard(shard, top.values, self.masks(noise, i), prepared, w);
            },
        );
    }

    /// Runs the net over the words of a shard; the outputs of its highest layer for the last tokens, those of `top`, go there.
    pub(super) fn forward_shard<R: Real>(
        &self,
        shard: &mut Shard<R>,
        top: &mut [R],
        masks: Masks,
        prepared: &Prepared<R>,
        w: &Arena<R>,
    ) {
        let Config { embed, hidden, layers, reset_at, .. } = self.config;
        let (rows, lanes) = (shard.inputs.len(), shard.lanes());
        let Shard { inputs, net, .. } = shard;
        lookup(net.inputs(rows, embed), inputs, w.slice(self.embedding), embed);
        let reset = &|row: usize| Some(inputs[row]) == reset_at;
        self.net.forward(net, Steps { rows, reset, masks, prepared }, w);
        top.copy_from_slice(&net.top()[rows * hidden - top.len()..rows * hidden]);
        masks.apply(layers, lanes * hidden, top);
    }

    /// From ∂J/∂(m ∘ h) of the counted tokens to the gradients of the net and of L.
    fn backward<R: Real>(&self, g: &mut Gradients<R>, space: &mut Space<R>, noise: Noise) {
        let Space { lanes, shards, prepared, dtop, targets, order, .. } = space;
        let (counted, embed) = (targets.len() / lanes.all, self.config.embed);
        {
            let _span = span(Part::Backward);
            let dtop = dtop.rows(targets.len());
            shards::each(
                shards,
                dtop,
                |shard| counted * shard.lanes(),
                |i, shard, dtop| {
                    let _task = task(Part::Backward);
                    self.net_backward(shard, dtop.values, self.masks(Some(noise), i), prepared, None);
                },
            );
        }
        {
            let _span = span(Part::Sum);
            shards::sum(g.arena.all_mut(), shards, |shard| shard.gradients.all());
        }
        let (shards, shard_len) = (&*shards, shards[0].inputs.len());
        let de = |token: usize| &shards[token / shard_len].net.dx()[token % shard_len * embed..][..embed];
        if self.config.tie {
            order.add_to_table(g.arena.slice_mut(self.output.output), embed, de);
        } else {
            order.lookup_backward(g.table_mut(self.embedding).parts_mut().1, embed, de);
        }
    }

    /// The net's backward pass in one shard, of which the last tokens count.
    pub(super) fn net_backward<R: Real>(
        &self,
        shard: &mut Shard<R>,
        dtop: &[R],
        masks: Masks,
        prepared: &Prepared<R>,
        norms: Option<&mut Norms>,
    ) {
        let Config { hidden, layers, reset_at, .. } = self.config;
        let lanes = shard.lanes();
        let Shard { inputs, net, gradients, .. } = shard;
        let dh = &mut net.tape.dh[..inputs.len() * hidden];
        let (before, counted) = dh.split_at_mut(inputs.len() * hidden - dtop.len());
        before.fill(R::zero());
        counted.copy_from_slice(dtop);
        masks.apply(layers, lanes * hidden, counted);
        let reset = &|row: usize| Some(inputs[row]) == reset_at;
        self.net.backward(net, Steps { rows: inputs.len(), reset, masks, prepared }, gradients, norms);
    }

    /// The masks of one shard; in training, those of `noise`.
    pub(super) fn masks(&self, noise: Option<Noise>, shard: usize) -> Masks {
        let training = noise.map(|noise| (noise.keep, noise.seed, noise.step));
        Masks { training, at_test: self.config.at_test, variational: self.config.variational, shard }
    }
}
