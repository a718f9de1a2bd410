//! The recurrent language model, as its equations say.
//!
//! e⁽ᵗ⁾ = L_{x(t)}    h⁽ᵗ⁾ = net(h⁽ᵗ⁻¹⁾, m ∘ e⁽ᵗ⁾)    θ⁽ᵗ⁾ = (m ∘ h⁽ᵗ⁾)Uₒᵀ + b₂    J = −Σ log softmax(θ⁽ᵗ⁾)_{x(t+1)} / N
//!
//! and back: ∂h from the output layer, ∂e from the net, ∂L_w = Σ ∂e⁽ᵗ⁾ over the t with x⁽ᵗ⁾ = w.

use super::config::Config;
use crate::blas::Precision;
use crate::kernels::Room;
use crate::kernels::dropout::Keep;
use crate::layers::embedding::{Order, lookup};
use crate::layers::matrix::Matrix;
use crate::layers::norms::Norms;
use crate::layers::output::{OutputLayer, Sizes, Tables};
use crate::layers::recurrence::{Masks, Memory, Net, Prepared, Shape, Weights};
use crate::layers::shards::{self, Division};
use crate::models::initial::{Init, shares};
use crate::params::{Arena, Gradients, Layout, P, Role};
use crate::profile::{Part, span, task};
use crate::real::Real;
use crate::rng::{Purpose, Stream};
use std::sync::Arc;

/// The model: its configuration and where its tensors are.
pub struct LanguageModel {
    pub(super) config: Config,
    layout: Arc<Layout>,
    pub(super) net: Net,
    embedding: P,
    pub(super) output: Tables,
}

/// One window of text for B lanes: inputs and targets are \[T, B\], step by step.
#[derive(Clone, Copy, Debug)]
pub struct Window<'a> {
    /// x⁽ᵗ⁾
    pub inputs: &'a [u32],
    /// x⁽ᵗ⁺¹⁾
    pub targets: &'a [u32],
    /// The first step whose targets count.
    pub loss_from: usize,
}

/// What dropout needs to know of a step.
#[derive(Clone, Copy, Debug)]
pub struct Noise {
    /// The kept share.
    pub keep: Keep,
    /// The run's seed.
    pub seed: u64,
    /// The optimizer step.
    pub step: u64,
}

/// What one shard of lanes keeps of a window.
pub(super) struct Shard<R: Real> {
    /// The lane of the batch that it begins with.
    pub first: usize,
    pub inputs: Vec<u32>,
    pub net: Memory<R>,
    pub gradients: Arena<R>,
}

/// Working memory for windows of up to T steps and B lanes.
pub struct Space<R: Real> {
    pub(super) lanes: Division,
    pub(super) shards: Vec<Shard<R>>,
    pub(super) prepared: Prepared<R>,
    /// Where there is none, it is for [`LanguageModel::target_logits`] and [`LanguageModel::logits`].
    pub(super) output: Option<Box<dyn OutputLayer<R>>>,
    /// The output layer's side, tokens that count only: m ∘ h and its gradient \[N, H\], and the targets \[N\].
    pub(super) top: Matrix<R>,
    pub(super) dtop: Matrix<R>,
    pub(super) targets: Vec<u32>,
    /// The tokens by their words, and the list of those words where no gradient has it.
    order: Order,
    rows: Vec<u32>,
    /// Whether [`LanguageModel::touch`] was called for the next step.
    touched: bool,
}

/// The output layer that working memory is made with.
#[derive(Clone, Copy)]
enum Output<'a> {
    /// None.
    None,
    /// Over all words, to evaluate.
    Reads,
    /// Over all words, with gradients.
    Learns,
    /// The model's own, for the words' counts.
    InTraining(&'a [u64]),
}

impl LanguageModel {
    /// The model of a configuration.
    pub fn new(config: Config) -> Self {
        let Config { words, embed, hidden, layers, cell, tie, .. } = config;
        assert!(words > 0 && embed > 0 && hidden > 0 && layers > 0, "every size is at least 1");
        assert!(!tie || embed == hidden, "tied weights have one width");
        let mut layout = Layout::default();
        // The recurrent tensors come first: a shard's gradients are an arena of just those.
        let net = Net::add(&mut layout, Shape { cell, inputs: embed, units: hidden, layers });
        let table = (!tie).then(|| layout.add("embedding", words, embed, Role::Table));
        let output = config.loss.add(&mut layout, words, hidden, tie);
        let embedding = table.unwrap_or(output.output);
        LanguageModel { layout: Arc::new(layout), net, embedding, output, config }
    }

    /// The tensors.
    pub fn layout(&self) -> &Arc<Layout> {
        &self.layout
    }

    /// The configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The words' table.
    pub fn words(&self) -> P {
        self.embedding
    }

    /// L \[V, D\], the output weights \[V, H\] and their bias \[V\]; with [`super::Loss::Adaptive`] the latter two are the head's.
    pub fn tables(&self) -> [P; 3] {
        [self.embedding, self.output.output, self.output.bias]
    }

    /// The tensors of each layer of a stack; none of a gated-feedback net.
    pub fn stack(&self) -> &[Weights] {
        self.net.stack()
    }

    /// Words drawn in a training step of so many lanes.
    pub fn samples(&self, lanes: usize) -> usize {
        self.config.loss.recipe().map_or(0, |recipe| recipe.words(lanes))
    }

    /// Weights to begin training with: by `init`, for the words' counts.
    pub fn begin<R: Real>(&self, init: Init, seed: u64, counts: &[u64]) -> Arena<R> {
        let mut w = Arena::zeros(&self.layout);
        init.fill(&mut w, seed);
        shares(&mut w, &self.output, counts, self.ln_z().unwrap_or(0.0));
        w
    }

    /// Working memory for windows of up to `steps` × `lanes`, with the loss over all words; the states are zero.
    pub fn space<R: Real>(&self, steps: usize, lanes: usize) -> Space<R> {
        Room::make(|room| self.space_in(room, steps, lanes, Output::Learns))
    }

    /// The same without room for gradients of the output layer.
    pub fn evaluation_space<R: Real>(&self, steps: usize, lanes: usize) -> Space<R> {
        Room::make(|room| self.space_in(room, steps, lanes, Output::Reads))
    }

    /// The same without an output layer over all words: for logits of the words that are asked for.
    pub fn state_space<R: Real>(&self, steps: usize, lanes: usize) -> Space<R> {
        Room::make(|room| self.space_in(room, steps, lanes, Output::None))
    }

    /// The same to train with the model's loss, for the words' counts.
    pub fn training_space<R: Real>(&self, steps: usize, lanes: usize, counts: &[u64]) -> Space<R> {
        Room::make(|room| self.space_in(room, steps, lanes, Output::InTraining(counts)))
    }

    /// Bytes of [`LanguageModel::evaluation_space`], or with `training` of [`LanguageModel::training_space`], but for a little.
    pub fn space_bytes<R: Real>(&self, steps: usize, lanes: usize, training: bool) -> usize {
        let output = if training { Output::InTraining(&[]) } else { Output::Reads };
        let Config { words, precision, ref loss, .. } = self.config;
        let beside = if training { precision.thread_bytes() + loss.sampler_bytes(words) } else { 0 };
        beside + Room::count(|room| self.space_in::<R>(room, steps, lanes, output))
    }

    fn space_in<R: Real>(&self, room: &mut Room, steps: usize, all: usize, output: Output) -> Space<R> {
        assert!(steps > 0 && all > 0);
        let Config { words, hidden: units, ref loss, sizes, .. } = self.config;
        let (lanes, tokens, tables) = (sizes.division(all), steps * all, &self.output);
        let learns = matches!(output, Output::Learns | Output::InTraining(_));
        let precision = if learns { self.config.precision } else { Precision::F32 };
        if !room.counts() {
            precision.begin_threads::<R>();
        }
        let local = Arc::new(self.layout.before(self.embedding));
        let shard = |room: &mut Room, lanes: usize| Shard {
            first: 0,
            inputs: room.vec(steps * lanes),
            net: self.net.memory(room, steps, lanes),
            gradients: Arena::within(room, &local),
        };
        let mut shards = room.many(all / lanes.each, |room| shard(room, lanes.each));
        if !all.is_multiple_of(lanes.each) {
            shards.push(shard(room, all % lanes.each));
        }
        shards.iter_mut().zip(lanes.shards()).for_each(|(shard, lanes)| shard.first = lanes.start);
        let sizes = Sizes { words, units, steps, lanes, tile: sizes.tile() };
        Space {
            lanes,
            shards,
            prepared: self.net.prepared(room, &self.layout, precision),
            output: match output {
                Output::None => None,
                Output::Reads => Some(loss.over_all_words(room, tables, sizes, false, precision)),
                Output::Learns => Some(loss.over_all_words(room, tables, sizes, true, precision)),
                Output::InTraining(counts) => Some(loss.in_training(room, tables, sizes, counts, precision)),
            },
            top: Matrix::new(room, tokens, units),
            dtop: Matrix::new(room, tokens, units),
            targets: room.vec(tokens),
            order: Order::new(room, tokens),
            rows: room.vec(tokens),
            touched: false,
        }
    }

    /// What the next step with this window and noise will touch: draws its sample, and lists the rows of tables in `g`. So that
    /// they can be made ready ([`crate::train::optimizer::Optimizer::catch_up`]) before [`LanguageModel::step`] reads them.
    pub fn touch<R: Real>(&self, g: &mut Gradients<R>, space: &mut Space<R>, window: Window, noise: Noise) {
        self.read(space, window);
        space.touched = true;
        let Space { shards, order, output, targets, rows, .. } = space;
        let words = shards.iter().flat_map(|shard| &shard.inputs).copied();
        order.sort(words, if self.config.tie { rows } else { g.table_mut(self.embedding).list() });
        let stream = |sample| Stream::new(noise.seed, Purpose::Negatives, noise.step, sample);
        output.as_mut().expect("a step has a loss").touch(g, targets, &stream);
    }

    /// The mean loss of a window's counted targets, in nats, and its gradient. The same window and noise as the
    /// [`LanguageModel::touch`] before it, if there was one.
    pub fn step<R: Real>(
        &self,
        g: &mut Gradients<R>,
        space: &mut Space<R>,
        window: Window,
        noise: Noise,
        w: &Arena<R>,
    ) -> f64 {
        if !std::mem::take(&mut space.touched) {
            self.touch(g, space, window, noise);
            space.touched = false;
        }
        self.forward(space, window, Some(noise), w);
        let Space { output, top, dtop, targets, .. } = space;
        let (tokens, output) = (targets.len(), output.as_mut().expect("a step has a loss"));
        let loss = output.loss(g, dtop.rows(tokens).values, top.first(tokens), targets, w);
        self.backward(g, space, window, noise);
        loss
    }

    /// Runs the net over a window that was read; the counted tokens of its highest layer go to `space.top`.
    pub(super) fn forward<R: Real>(&self, space: &mut Space<R>, window: Window, noise: Option<Noise>, w: &Arena<R>) {
        let Config { embed, hidden, layers, .. } = self.config;
        let counted = window.inputs.len() / space.lanes.all - window.loss_from;
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
                let (rows, lanes, masks) = (shard.inputs.len(), shard.lanes(), self.masks(noise, i));
                let Shard { inputs, net, .. } = shard;
                lookup(net.inputs(rows, embed), inputs, w.slice(self.embedding), embed);
                self.net.forward(net, rows, &|row| Some(inputs[row]) == self.config.reset_at, masks, w, prepared);
                top.values.copy_from_slice(&net.top()[window.loss_from * lanes * hidden..rows * hidden]);
                masks.apply(layers, lanes * hidden, top.values);
            },
        );
    }

    /// From ∂J/∂(m ∘ h) of the counted tokens to the gradients of the net and of L.
    fn backward<R: Real>(&self, g: &mut Gradients<R>, space: &mut Space<R>, window: Window, noise: Noise) {
        let Space { lanes, shards, prepared, dtop, targets, order, .. } = space;
        let (steps, embed) = (window.inputs.len() / lanes.all, self.config.embed);
        let counted = steps - window.loss_from;
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
        let (shards, shard_len) = (&*shards, lanes.each * steps);
        let de = |token: usize| &shards[token / shard_len].net.dx()[token % shard_len * embed..][..embed];
        if self.config.tie {
            order.add_to_table(g.arena.slice_mut(self.output.output), embed, de);
        } else {
            order.lookup_backward(g.table_mut(self.embedding).parts_mut().1, embed, de);
        }
    }

    /// The net's way back in one shard, whose last tokens count.
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
        let reset = |row: usize| Some(inputs[row]) == reset_at;
        self.net.backward(net, inputs.len(), &reset, masks, prepared, gradients, norms);
    }

    /// Takes the words of a window, shard by shard.
    pub(super) fn read<R: Real>(&self, space: &mut Space<R>, window: Window) {
        let Space { lanes, shards, targets, .. } = space;
        let steps = window.inputs.len() / lanes.all;
        assert!(window.inputs.len() == steps * lanes.all && window.targets.len() == window.inputs.len());
        assert!(window.loss_from < steps, "a window has a target that counts");
        targets.clear();
        for shard in shards {
            let (first, own) = (shard.first, shard.lanes());
            let row = |t: usize| t * lanes.all + first..t * lanes.all + first + own;
            shard.inputs.clear();
            (0..steps).for_each(|t| shard.inputs.extend_from_slice(&window.inputs[row(t)]));
            (window.loss_from..steps).for_each(|t| targets.extend_from_slice(&window.targets[row(t)]));
        }
    }

    /// The masks of one shard: in training with `noise`.
    pub(super) fn masks(&self, noise: Option<Noise>, shard: usize) -> Masks {
        let training = noise.map(|noise| (noise.keep, noise.seed, noise.step));
        Masks { training, at_test: self.config.at_test, variational: self.config.variational, shard }
    }
}

impl<R: Real> Shard<R> {
    pub fn lanes(&self) -> usize {
        self.net.tape.lanes
    }
}
