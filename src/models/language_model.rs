//! The recurrent language model (equations, section 4).
//!
//! e⁽ᵗ⁾ = L_{x(t)}    h⁽ᵗ⁾ = net(h⁽ᵗ⁻¹⁾, e⁽ᵗ⁾)    ŷ⁽ᵗ⁾ = softmax(h⁽ᵗ⁾Uₒᵀ + b₂)    J = −Σ log ŷ_{x(t+1)} / N
//!
//! The net is a stack of cells or a gated-feedback net ([`crate::layers::net`]); dropout is on e and on every layer's output. With
//! tied weights L is Uₒ (Press and Wolf 2017). The lanes of a batch are divided into shards, which the recurrent part is parallel
//! over; the output layer is parallel over the vocabulary. Tokens lie shard by shard, in a shard step by step.

use crate::blas::Precision;
use crate::kernels::{Buffer, Room};
use crate::kernels::activation::Activation;
use crate::kernels::dropout::Keep;
use crate::kernels::softmax::dot_rows;
use crate::kernels::update::add;
use crate::layers::embedding::{Order, lookup};
use crate::layers::losses::{
    AdaptiveSoftmax, AdaptiveTables, Draws, FullSoftmax, Gradient, Negatives, Objective, Recipe, Sampled, Sampler,
    Tail, Tile,
};
use crate::layers::matrix::{Matrix, view, view_mut};
use crate::layers::net::{Gates, Kind, Masks, Memory, Net, Prepared, Shape, Unit};
use crate::layers::norms::Norms;
use crate::layers::shards;
use crate::layers::recurrent::Weights;
use crate::models::initial::{Init, adaptive_shares, shares};
use crate::params::{Arena, Gradients, Layout, P, Role};
use crate::profile::{Part, span, task};
use crate::real::Real;
use crate::rng::{Purpose, Stream};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// What a language model is: saved with it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// V: words in the vocabulary.
    pub words: usize,
    /// D: width of a word vector.
    pub embed: usize,
    /// H: units of a layer.
    pub hidden: usize,
    /// Recurrent layers.
    pub layers: usize,
    /// The cell.
    pub cell: Kind,
    /// The non-linearity of [`Kind::Rnn`].
    pub activation: Activation,
    /// The units of [`Kind::GatedFeedback`].
    pub unit: Unit,
    /// Whether word vectors and output weights are one table; D is H then.
    pub tie: bool,
    /// Where set, the state begins at zero whenever this word comes in: sentences do not see each other.
    pub reset_at: Option<u32>,
    /// Whether all steps of a window have the same dropout mask.
    pub variational: bool,
    /// What it is trained with.
    pub loss: Loss,
    /// What values that dropout applies to are multiplied by when nothing is dropped: 1, or the kept share for a model trained
    /// with [`Keep::unscaled`].
    pub at_test: f64,
    /// What a step is divided into, where that is not the default.
    #[serde(default, skip_serializing_if = "Sizes::are_default")]
    pub sizes: Sizes,
    /// What the operands of products are rounded to in training; it is evaluated in f32 in any case.
    #[serde(default, skip_serializing_if = "Precision::is_f32")]
    pub precision: Precision,
}

/// Sizes of the parts that a step is divided into; none: the default. They change how fast a step is and the order of its sums, and so
/// the last bits of a result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sizes {
    /// Lanes of a shard, which the recurrent part works on together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shard: Option<usize>,
    /// Most tokens of a chunk of the output layer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chunk: Option<usize>,
    /// Most words of a block of the output layer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub block: Option<usize>,
}

impl Sizes {
    /// Whether all are the default.
    pub fn are_default(&self) -> bool {
        *self == Sizes::default()
    }

    /// Lanes of a shard in a batch of `lanes`.
    fn shard(&self, lanes: usize) -> usize {
        self.shard.map_or(shard_lanes(lanes), |shard| shard.clamp(1, lanes))
    }

    /// The tile of the output layer.
    fn tile(&self) -> Tile {
        let Tile { tokens, words } = Tile::default();
        Tile { tokens: self.chunk.unwrap_or(tokens), words: self.block.unwrap_or(words) }
    }
}

/// The loss that a model is trained with; it is evaluated over all words in any case.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Loss {
    /// The cross-entropy over the whole vocabulary.
    Full,
    /// One over a sample of it: steps touch few rows of the output weights.
    Sampled {
        /// What is learned from a sample.
        objective: Objective,
        /// How it is drawn.
        draws: Draws,
        /// Whose it is.
        #[serde(default)]
        negatives: Negatives,
        /// Words drawn in a step.
        samples: usize,
        /// The exponent of the words' counts in their probability to be drawn; log-uniform by rank if there is none.
        power: Option<f64>,
    },
    /// The cross-entropy over the whole vocabulary, of which rare words have an output layer with fewer units.
    Adaptive {
        /// The rare words.
        tails: Vec<Tail>,
    },
}

impl Default for Config {
    fn default() -> Self {
        Config {
            words: 1,
            embed: 50,
            hidden: 100,
            layers: 1,
            cell: Kind::Rnn,
            activation: Activation::Tanh,
            unit: Unit::Gru,
            tie: false,
            reset_at: None,
            variational: false,
            loss: Loss::Full,
            at_test: 1.0,
            sizes: Sizes::default(),
            precision: Precision::F32,
        }
    }
}

/// The model: its configuration and where its tensors are.
pub struct LanguageModel {
    config: Config,
    layout: Arc<Layout>,
    net: Net,
    embedding: P,
    output: P,
    output_bias: P,
    adaptive: Option<AdaptiveTables>,
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

/// Lanes that the recurrent part works on together, in a batch of `lanes`: half of it, so that two threads have one each, but
/// no fewer than 16, below which products are slow, and no more than 32, so that more threads have work too.
pub fn shard_lanes(lanes: usize) -> usize {
    lanes.div_ceil(2).clamp(16, 32).min(lanes)
}

/// What one shard of lanes keeps of a window.
struct Shard<R: Real> {
    lanes: usize,
    /// The lane of the batch that it begins with.
    first: usize,
    inputs: Vec<u32>,
    net: Memory<R>,
    gradients: Arena<R>,
}

/// The output layer.
enum Output<R> {
    /// Only what [`LanguageModel::target_logits`] and [`LanguageModel::logits`] need.
    None,
    Full(FullSoftmax<R>),
    Sampled(Box<Sampled<R>>),
    Adaptive(AdaptiveSoftmax<R>),
}

/// Working memory for windows of up to T steps and B lanes.
pub struct Space<R: Real> {
    lanes: usize,
    shards: Vec<Shard<R>>,
    prepared: Prepared<R>,
    output: Output<R>,
    /// The output layer's side, tokens that count only: [N, H], [N].
    top: Matrix<R>,
    dtop: Matrix<R>,
    targets: Vec<u32>,
    /// The words read, and those drawn with the targets.
    order: Order,
    output_order: Order,
    /// The list of one of them.
    rows: Vec<u32>,
    /// Whether [`LanguageModel::touch`] was called for the next step.
    touched: bool,
}

impl LanguageModel {
    /// The model of a configuration.
    pub fn new(config: Config) -> Self {
        let Config { words, embed, hidden, layers, cell, activation, unit, tie, .. } = config;
        let mut adaptive = None;
        assert!(words > 0 && embed > 0 && hidden > 0 && layers > 0, "every size is at least 1");
        assert!(!tie || embed == hidden, "tied weights have one width");
        let mut layout = Layout::default();
        // The recurrent tensors come first: a shard's gradients are an arena of just those.
        let net = Net::add(&mut layout, Shape { kind: cell, activation, unit, inputs: embed, units: hidden, layers });
        let table = (!tie).then(|| layout.add("embedding", words, embed, Role::Table));
        let (output, output_bias) = match &config.loss {
            Loss::Full => {
                (layout.add("output", words, hidden, Role::Output), layout.add("output.bias", 1, words, Role::Bias))
            }
            Loss::Sampled { .. } => {
                assert!(!tie, "a sample's rows of the output weights are updated apart from word vectors");
                (
                    layout.add("output", words, hidden, Role::OutputTable),
                    layout.add("output.bias", words, 1, Role::BiasTable),
                )
            }
            Loss::Adaptive { tails } => {
                assert!(
                    !tie && Tail::fit(tails, words),
                    "tails are parts of the vocabulary, and nothing is tied to them"
                );
                let tables = adaptive.insert(AdaptiveTables::add(&mut layout, words, hidden, tails));
                (tables.output, tables.bias)
            }
        };
        let embedding = table.unwrap_or(output);
        LanguageModel { layout: Arc::new(layout), net, embedding, output, output_bias, adaptive, config }
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

    /// L \[V, D\], the output weights \[V, H\] and their bias \[V\]; with [`Loss::Adaptive`] the latter two are the head's.
    pub fn tables(&self) -> [P; 3] {
        [self.embedding, self.output, self.output_bias]
    }

    /// The tensors of each layer of a stack; none of a gated-feedback net.
    pub fn stack(&self) -> &[Weights] {
        self.net.stack()
    }

    /// Weights to begin training with: by `init`, for the words' counts.
    pub fn begin<R: Real>(&self, init: Init, seed: u64, counts: &[u64]) -> Arena<R> {
        let mut w = Arena::zeros(&self.layout);
        init.fill(&mut w, seed);
        match &self.adaptive {
            Some(tables) => adaptive_shares(&mut w, tables, counts),
            None => shares(w.slice_mut(self.output_bias), counts, self.ln_z().unwrap_or(0.0)),
        }
        w
    }

    /// Working memory for windows of up to `steps` × `lanes`, with the loss over all words; the states are zero.
    pub fn space<R: Real>(&self, steps: usize, lanes: usize) -> Space<R> {
        self.space_with(steps, lanes, self.all_words(steps * lanes, true), self.config.precision)
    }

    /// The same without room for gradients.
    pub fn evaluation_space<R: Real>(&self, steps: usize, lanes: usize) -> Space<R> {
        self.space_with(steps, lanes, self.all_words(steps * lanes, false), Precision::F32)
    }

    /// The same without an output layer over all words: for logits of the words that are asked for.
    pub fn state_space<R: Real>(&self, steps: usize, lanes: usize) -> Space<R> {
        self.space_with(steps, lanes, Output::None, Precision::F32)
    }

    /// The ln Z that the model was trained to have for every state, if it was: o − ln Z of a word is about ln ŷ then.
    pub fn ln_z(&self) -> Option<f64> {
        match self.config.loss {
            Loss::Sampled { objective: Objective::Nce(ln_z), .. } => Some(ln_z),
            _ => None,
        }
    }

    /// The output layer over all words.
    fn all_words<R: Real>(&self, tokens: usize, training: bool) -> Output<R> {
        let Config { words, hidden, precision, .. } = self.config;
        let tile = self.config.sizes.tile();
        match (&self.config.loss, training) {
            (Loss::Adaptive { tails }, _) => {
                let precision = if training { precision } else { Precision::F32 };
                Output::Adaptive(AdaptiveSoftmax::new(tokens, hidden, words, tails, training, precision))
            }
            (_, true) => Output::Full(FullSoftmax::with_tile(tokens, hidden, words, tile).precision(precision)),
            (_, false) => Output::Full(FullSoftmax::without_gradient(tokens, hidden, words, tile)),
        }
    }

    /// The same to train with the model's loss, for the words' counts.
    pub fn training_space<R: Real>(&self, steps: usize, lanes: usize, counts: &[u64]) -> Space<R> {
        let Loss::Sampled { power, .. } = self.config.loss else { return self.space(steps, lanes) };
        let sampler = match power {
            Some(power) => Sampler::unigram(counts, power),
            None => Sampler::log_uniform(self.config.words),
        };
        let a_shard = self.config.sizes.shard(lanes);
        let shards: Vec<usize> = (0..lanes).step_by(a_shard).map(|first| a_shard.min(lanes - first)).collect();
        let recipe = self.recipe().expect("the loss is over a sample");
        let Config { hidden, precision, .. } = self.config;
        let output = Sampled::new(recipe, Arc::new(sampler), steps * lanes, hidden, &shards, precision);
        self.space_with(steps, lanes, Output::Sampled(Box::new(output)), precision)
    }

    fn space_with<R: Real>(&self, steps: usize, lanes: usize, output: Output<R>, precision: Precision) -> Space<R> {
        assert!(steps > 0 && lanes > 0);
        precision.begin_threads::<R>();
        let hidden = self.config.hidden;
        let local = Arc::new(self.layout.before(self.embedding));
        let a_shard = self.config.sizes.shard(lanes);
        let shard = |first: usize| {
            let b = a_shard.min(lanes - first);
            Shard {
                lanes: b,
                first,
                inputs: Vec::with_capacity(steps * b),
                net: self.net.memory(steps, b),
                gradients: Arena::zeros(&local),
            }
        };
        let tokens = steps * lanes;
        Space {
            lanes,
            shards: (0..lanes).step_by(a_shard).map(shard).collect(),
            prepared: self.net.prepared(&self.layout, precision),
            order: Order::new(tokens),
            output_order: Order::new(if self.recipe().is_some() { tokens + self.samples(lanes) } else { 0 }),
            output,
            top: Room::make(|room| Matrix::new(room, tokens, hidden)),
            dtop: Room::make(|room| Matrix::new(room, tokens, hidden)),
            targets: Vec::with_capacity(tokens),
            rows: Vec::with_capacity(tokens + self.samples(lanes)),
            touched: false,
        }
    }

    /// What the next step with this window and noise will touch: draws its sample, and lists the rows of tables in `g`. So that
    /// they can be made ready ([`crate::train::optimizer::Optimizer::catch_up`]) before [`LanguageModel::step`] reads them.
    pub fn touch<R: Real>(&self, g: &mut Gradients<R>, space: &mut Space<R>, window: Window, noise: Noise) {
        self.read(space, window);
        space.touched = true;
        let Space { shards, order, output_order, output, targets, rows, .. } = space;
        let words = shards.iter().flat_map(|shard| &shard.inputs).copied();
        order.sort(words, if self.config.tie { rows } else { g.table_mut(self.embedding).list() });
        if let Output::Sampled(sampled) = output {
            sampled.draw(|sample| Stream::new(noise.seed, Purpose::Negatives, noise.step, sample));
            output_order.sort(sampled.ids().iter().chain(&*targets).copied(), rows);
            for p in [self.output, self.output_bias] {
                rows.clone_into(g.table_mut(p).list());
            }
        }
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

        let (hidden, embed) = (self.config.hidden, self.config.embed);
        let tokens = space.targets.len();
        let (top, dtop) = (space.top.first(tokens), space.dtop.rows(tokens).values);
        let (u, b) = (w.slice(self.output), w.slice(self.output_bias));
        let loss = match &mut space.output {
            Output::None => panic!("a step has a loss"),
            Output::Full(softmax) => {
                let [output, bias] = g.arena.slices_mut([self.output, self.output_bias]);
                softmax.loss(Gradient { h: dtop, output, bias }, top, &space.targets, u, b)
            }
            Output::Adaptive(softmax) => {
                let tables = self.adaptive.as_ref().expect("the model's loss is adaptive");
                softmax.loss(&mut g.arena, dtop, top, &space.targets, tables, w)
            }
            Output::Sampled(sampled) => {
                let loss = sampled.loss(dtop, top, &space.targets, u, b);
                let (drawn, (rows, biases)) = (sampled.ids().len(), sampled.gradients(tokens));
                for (p, width, [drawn_rows, own]) in [(self.output, hidden, rows), (self.output_bias, 1, biases)] {
                    let of = |i: usize| match i.checked_sub(drawn) {
                        None => &drawn_rows[i * width..][..width],
                        Some(token) => &own[token * width..][..width],
                    };
                    space.output_order.lookup_backward(g.table_mut(p).parts_mut().1, width, of);
                }
                loss
            }
        };

        let span_of_backward = span(Part::Backward);
        let steps = window.inputs.len() / space.lanes;
        let counted = steps - window.loss_from;
        let a_shard = self.config.sizes.shard(space.lanes);
        let prepared = &space.prepared;
        let dtop = space.dtop.rows(tokens);
        shards::each(&mut space.shards, dtop, |shard| counted * shard.lanes, |i, shard, dtop| {
            let _task = task(Part::Backward);
            let Shard { lanes, inputs, net, gradients, .. } = shard;
            let (rows, from) = (inputs.len(), window.loss_from * *lanes * hidden);
            let masks = self.masks(Some(noise), i);
            net.dh[..from].fill(R::zero());
            net.dh[from..rows * hidden].copy_from_slice(dtop.values);
            masks.apply(self.config.layers, *lanes * hidden, &mut net.dh[from..rows * hidden]);
            let reset = |row: usize| Some(inputs[row]) == self.config.reset_at;
            self.net.backward(net, rows, &reset, masks, prepared, gradients, None);
        });

        drop(span_of_backward);
        let adding = span(Part::Sum);
        let shards = &space.shards;
        shards::sum(g.arena.all_mut(), shards, |shard| shard.gradients.all());
        drop(adding);
        let a_shard = a_shard * steps;
        let de = |token: usize| &shards[token / a_shard].net.dx()[token % a_shard * embed..][..embed];
        if self.config.tie {
            space.order.add_to_table(g.arena.slice_mut(self.output), embed, de);
        } else {
            space.order.lookup_backward(g.table_mut(self.embedding).parts_mut().1, embed, de);
        }
        loss
    }

    /// ln ŷ of every counted target of a window, \[counted steps, B\], step by step.
    pub fn log_probabilities<R: Real>(&self, out: &mut [f64], space: &mut Space<R>, window: Window, w: &Arena<R>) {
        self.follow(space, window, w);
        let tokens = space.targets.len();
        assert_eq!(out.len(), tokens);
        let mut by_shard = vec![0.0; tokens];
        let (u, b) = (w.slice(self.output), w.slice(self.output_bias));
        let (top, targets) = (space.top.first(tokens), &space.targets);
        match (&mut space.output, &self.adaptive) {
            (Output::Full(softmax), _) => softmax.log_probabilities(&mut by_shard, top, targets, u, b),
            (Output::Adaptive(softmax), Some(p)) => softmax.log_probabilities(&mut by_shard, top, targets, p, w),
            _ => panic!("evaluation is over the whole vocabulary"),
        }
        space.by_lane(out, &by_shard);
    }

    /// The logit of every counted target of the last window, \[counted steps, B\], step by step: no sum over words.
    pub fn target_logits<R: Real>(&self, out: &mut [f64], space: &Space<R>, w: &Arena<R>) {
        assert!(self.adaptive.is_none(), "a word's logit is in one table");
        let (hidden, u, b) = (self.config.hidden, w.slice(self.output), w.slice(self.output_bias));
        let tokens = space.targets.iter().zip(space.top.first(space.targets.len()).chunks_exact(hidden));
        let logit = |(&word, h): (&u32, &[R])| {
            let mut dot = [R::zero()];
            dot_rows(&mut dot, h, &u[word as usize * hidden..][..hidden], hidden);
            (dot[0] + b[word as usize]).f64()
        };
        space.by_lane(out, &tokens.map(logit).collect::<Vec<f64>>());
    }

    /// How the loss of a window's counted targets depends on the states: the norm of ∂J/∂h at each step, for each layer, over the
    /// lanes of the first shard; and the means of the gates.
    pub fn watch<R: Real>(&self, space: &mut Space<R>, window: Window, w: &Arena<R>) -> (Norms, Gates) {
        self.follow(space, window, w);
        let (hidden, tokens) = (self.config.hidden, space.targets.len());
        let (top, dtop) = (space.top.first(tokens), space.dtop.rows(tokens).values);
        match (&mut space.output, &self.adaptive) {
            (Output::Full(softmax), _) => {
                let (u, b) = (w.slice(self.output), w.slice(self.output_bias));
                let (mut output, mut bias) = (Buffer::zeros(u.len()), Buffer::zeros(b.len()));
                let gradient = Gradient { h: dtop, output: &mut output, bias: &mut bias };
                softmax.loss(gradient, top, &space.targets, u, b)
            }
            (Output::Adaptive(softmax), Some(p)) => {
                let mut g = Gradients::zeros(&self.layout, 0);
                softmax.loss(&mut g.arena, dtop, top, &space.targets, p, w)
            }
            _ => panic!("a sample's loss has no place here"),
        };
        self.net.prepare(&mut space.prepared, w, true);
        let Shard { lanes, inputs, net, gradients, .. } = &mut space.shards[0];
        let (rows, from) = (inputs.len(), window.loss_from * *lanes * hidden);
        let gates = self.net.gates(net, rows);
        let masks = self.masks(None, 0);
        net.dh[..from].fill(R::zero());
        net.dh[from..rows * hidden].copy_from_slice(space.dtop.first(rows - window.loss_from * *lanes));
        masks.apply(self.config.layers, *lanes * hidden, &mut net.dh[from..rows * hidden]);
        let reset = |row: usize| Some(inputs[row]) == self.config.reset_at;
        let mut norms = vec![Vec::new(); self.config.layers];
        self.net.backward(net, rows, &reset, masks, &space.prepared, gradients, Some(&mut norms));
        (norms, gates)
    }

    /// Takes the words of a window, shard by shard.
    fn read<R: Real>(&self, space: &mut Space<R>, window: Window) {
        let Space { lanes, shards, targets, .. } = space;
        let steps = window.inputs.len() / *lanes;
        assert!(window.inputs.len() == steps * *lanes && window.targets.len() == window.inputs.len());
        assert!(window.loss_from < steps, "a window has a target that counts");
        targets.clear();
        for Shard { first, lanes: b, inputs, .. } in shards {
            let row = |t: usize| t * *lanes + *first..t * *lanes + *first + *b;
            inputs.clear();
            (0..steps).for_each(|t| inputs.extend_from_slice(&window.inputs[row(t)]));
            (window.loss_from..steps).for_each(|t| targets.extend_from_slice(&window.targets[row(t)]));
        }
    }

    /// Runs the recurrent part over a window without dropout, for [`LanguageModel::target_logits`].
    pub fn follow<R: Real>(&self, space: &mut Space<R>, window: Window, w: &Arena<R>) {
        self.read(space, window);
        self.forward(space, window, None, w);
    }

    /// Runs the recurrent part over a window that was read; the counted tokens of its top layer go to `space.top`.
    fn forward<R: Real>(&self, space: &mut Space<R>, window: Window, noise: Option<Noise>, w: &Arena<R>) {
        let (lanes, hidden) = (space.lanes, self.config.hidden);
        let counted = window.inputs.len() / lanes - window.loss_from;
        {
            let _span = span(Part::Pack);
            self.net.prepare(&mut space.prepared, w, noise.is_some());
        }
        let _span = span(Part::Forward);
        let prepared = &space.prepared;
        let top = space.top.rows(counted * lanes);
        shards::each(&mut space.shards, top, |shard| counted * shard.lanes, |i, shard, top| {
            let _task = task(Part::Forward);
            let Shard { lanes: b, inputs, net, .. } = shard;
            let (rows, embed) = (inputs.len(), self.config.embed);
            lookup(net.inputs(rows, embed), inputs, w.slice(self.embedding), embed);
            let masks = self.masks(noise, i);
            let reset = |row: usize| Some(inputs[row]) == self.config.reset_at;
            self.net.forward(net, rows, &reset, masks, w, prepared);
            top.values.copy_from_slice(&net.top()[window.loss_from * *b * hidden..rows * hidden]);
            masks.apply(self.config.layers, *b * hidden, top.values);
        });
    }

    /// The masks of one shard: in training with `noise`.
    fn masks(&self, noise: Option<Noise>, shard: usize) -> Masks {
        let training = noise.map(|noise| (noise.keep, noise.seed, noise.step));
        Masks { training, at_test: self.config.at_test, variational: self.config.variational, shard }
    }

    /// Lane 0 reads a word, for [`LanguageModel::logits`].
    pub fn read_word<R: Real>(&self, space: &mut Space<R>, word: u32, w: &Arena<R>) {
        assert_eq!(space.lanes, 1);
        let window = Window { inputs: &[word], targets: &[0], loss_from: 0 };
        self.follow(space, window, w);
        self.carry(space, 1);
    }

    /// Scores of the word after those read so far by lane 0, for all words \[V\]. Each is ln ŷ but for a number that is the same
    /// for all.
    pub fn next_logits<R: Real>(&self, out: &mut [R], space: &Space<R>, w: &Arena<R>) {
        match (&space.output, &self.adaptive) {
            (Output::Adaptive(softmax), Some(p)) => softmax.distribution(out, space.top.first(1), p, w),
            _ => self.logits(out, space, 0, w),
        }
    }

    /// The logits of some words, from `first` on, after those read so far by lane 0.
    pub fn logits<R: Real>(&self, out: &mut [R], space: &Space<R>, first: usize, w: &Arena<R>) {
        assert!(self.adaptive.is_none(), "a word's logit is in one table");
        let (words, hidden) = (out.len(), self.config.hidden);
        let u = view(&w.slice(self.output)[first * hidden..][..words * hidden], words, hidden);
        crate::blas::product(view_mut(out, 1, words), view(space.top.first(1), 1, hidden), u.t());
        add(out, &w.slice(self.output_bias)[first..][..words]);
    }

    /// Reads `inputs` \[T, B\] without predicting: the next window begins after them.
    pub fn advance<R: Real>(&self, space: &mut Space<R>, inputs: &[u32], w: &Arena<R>) {
        let steps = inputs.len() / space.lanes;
        assert!(steps > 0, "there is something to read");
        let window = Window { inputs, targets: inputs, loss_from: steps - 1 };
        self.follow(space, window, w);
        self.carry(space, steps);
    }

    /// Makes the state of one lane zero.
    pub fn forget_lane<R: Real>(&self, space: &mut Space<R>, lane: usize) {
        let a_shard = self.config.sizes.shard(space.lanes);
        let (shard, hidden) = (&mut space.shards[lane / a_shard], self.config.hidden);
        for state in &mut shard.net.state {
            state[lane % a_shard * hidden..][..hidden].fill(R::zero());
        }
    }

    /// Words drawn in a training step of so many lanes.
    pub fn samples(&self, lanes: usize) -> usize {
        self.recipe().map_or(0, |recipe| Sampled::<f32>::words(recipe, lanes))
    }

    /// What is learned from which sample, if it is from a sample.
    pub fn recipe(&self) -> Option<Recipe> {
        match self.config.loss {
            Loss::Sampled { objective, draws, negatives, samples, .. } => {
                Some(Recipe { objective, draws, negatives, samples })
            }
            _ => None,
        }
    }

    /// Bytes of [`LanguageModel::evaluation_space`], or with `training` of [`LanguageModel::training_space`].
    pub fn space_bytes<R: Real>(&self, steps: usize, lanes: usize, training: bool) -> usize {
        let Config { words, hidden, .. } = self.config;
        let (tokens, a_shard) = (steps * lanes, self.config.sizes.shard(lanes));
        let shards = lanes.div_ceil(a_shard);
        let recurrent = self.layout.before(self.embedding).len();
        let nets = self.net.memory_len::<R>(steps, a_shard) * lanes / a_shard;
        // Weights packed for both ways, in half the room where they are rounded, and the states that the output layer rounds.
        let (packed, rounded) = match self.config.precision {
            Precision::Bf16 if training => (recurrent, tokens.min(Tile::default().tokens) * hidden),
            _ => (2 * recurrent, 0),
        };
        let precision = if training { self.config.precision } else { Precision::F32 };
        // Beside them shards' gradients; top, ∂top.
        let floats = nets + shards * recurrent + packed + tokens * 2 * hidden + rounded;
        let output = match (&self.config.loss, self.recipe()) {
            (_, Some(recipe)) if training => Sampled::<R>::bytes(recipe, tokens, hidden, lanes) + words * 12,
            (Loss::Adaptive { tails }, _) => AdaptiveSoftmax::<R>::bytes(tokens, hidden, words, tails, training),
            _ => FullSoftmax::<R>::bytes(tokens, hidden, words, self.config.sizes.tile(), training),
        };
        floats * size_of::<R>() + tokens * 20 + output + precision.thread_bytes()
    }

    /// Makes the state after the first `steps` of the last window the one that the next window begins with.
    pub fn carry<R: Real>(&self, space: &mut Space<R>, steps: usize) {
        if steps == 0 {
            return;
        }
        space.shards.iter_mut().for_each(|shard| shard.net.carry(steps));
    }
}

impl<R: Real> Space<R> {
    /// Numbers of the counted tokens, which lie shard by shard, as \[counted steps, B\].
    fn by_lane(&self, out: &mut [f64], by_shard: &[f64]) {
        assert_eq!(out.len(), by_shard.len());
        let counted = by_shard.len() / self.lanes;
        let mut from = 0;
        for shard in &self.shards {
            for t in 0..counted {
                out[t * self.lanes + shard.first..][..shard.lanes].copy_from_slice(&by_shard[from..][..shard.lanes]);
                from += shard.lanes;
            }
        }
    }

    /// Forgets all states: the next window begins at zero.
    pub fn reset(&mut self) {
        self.states_mut().for_each(|state| state.fill(R::zero()));
    }

    /// Begins where the first `lanes` lanes of another memory of the same model are; the state of the other lanes is left as it is.
    pub fn take_lanes(&mut self, from: &Space<R>, lanes: usize) {
        let (own, others) = (self.shards[0].lanes, from.shards[0].lanes);
        for lane in 0..lanes {
            let to = self.shards[lane / own].net.state.iter_mut();
            let shard = &from.shards[lane / others];
            for (to, from) in to.zip(&shard.net.state) {
                let width = from.len() / shard.lanes;
                to[lane % own * width..][..width].copy_from_slice(&from[lane % others * width..][..width]);
            }
        }
    }

    /// The states that the next window begins with, a slice for each shard and layer.
    pub fn states(&self) -> impl Iterator<Item = &[R]> {
        self.shards.iter().flat_map(|shard| shard.net.state.iter().map(|state| &state[..]))
    }

    /// The same, to be restored.
    pub fn states_mut(&mut self) -> impl Iterator<Item = &mut [R]> {
        self.shards.iter_mut().flat_map(|shard| shard.net.state.iter_mut().map(|state| &mut state[..]))
    }
}
