//! The recurrent language model as a graph (equations, sections 4, 5, 7, 8 and 10), unrolled over the steps of a window.

use super::{ModelGraph, Variables, masked};
use crate::graph::{Builder, Error, Node, Side};
use crate::kernels::activation::Activation;
use crate::layers::cells::{Cell, Unit};
use crate::models::LanguageModel;
use crate::models::language_model::{Config, Loss};

/// How far a language model is unrolled, and what is fed to it.
///
/// Placeholders, with steps t and layers l counted from 0: `x{t}` and `y{t}`, the words \[B\]; `h{l}`, the states before the first
/// step \[B, S\], h and what a cell carries besides; with dropout `mask{l}.{t}`, the factors of the inputs of layer l and, with the
/// number of layers for l, of the highest layer's output \[B, D or H\]; with a sample, those of [`Output`].
#[derive(Clone, Copy, Debug)]
pub struct Unrolled {
    /// T
    pub steps: usize,
    /// B
    pub lanes: usize,
    /// The first step whose targets count.
    pub loss_from: usize,
    /// Whether there are masks.
    pub dropout: bool,
    /// The output layer's loss.
    pub output: Output,
}

/// The loss of the output layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// Cross-entropy over all words, in one softmax or an adaptive one.
    Full,
    /// Over a sample of S words: `sample` \[S\], `shift` \[1, S\] and `shift{t}` \[B, 1\], what is added to the logits of the
    /// sample and of the targets, and `hits{t}` \[B, S\], what is added to the logits of targets that were drawn. With one
    /// sample per lane, there is a `sample.{lane}` and a `shift.{lane}` for each.
    Sampled {
        /// S
        drawn: usize,
        /// Whether each word is classified by itself as target or noise (NCE).
        logistic: bool,
    },
}

/// The graph of `model`.
pub fn language_model(model: &LanguageModel, unrolled: Unrolled) -> Result<ModelGraph, Error> {
    let config = model.config();
    let Unrolled { steps, lanes, loss_from, dropout, output } = unrolled;
    let Config { words, hidden, layers, .. } = *config;
    ModelGraph::build(model.layout(), |b, v| {
        let table = v.get(if config.tie { "output" } else { "embedding" });
        let sample = match output {
            Output::Full => None,
            Output::Sampled { drawn, .. } => {
                Some(Sample::new(b, v, words, drawn, model.samples(lanes) / model.samples(1)))
            }
        };
        let width = config.cell.stacked().map_or(hidden, |cell| cell.columns().state_width(hidden));
        let mut states: Vec<Node> = (0..layers).map(|l| b.placeholder(format!("h{l}"), lanes, width)).collect();
        let mut losses = Vec::new();
        for t in 0..steps {
            let x = b.ids(format!("x{t}"), lanes, words);
            let e = table.gather(x).named(format!("e{t}"));
            if let Some(word) = config.reset_at {
                // 0 for lanes that read the word.
                let others = x.one_hot(words).columns(word as usize..word as usize + 1).affine(-1.0, 1.0);
                states.iter_mut().for_each(|state| *state = *state * others);
            }
            // The states that every layer of a gated-feedback network reads; other layers read their own.
            let star = match config.cell {
                Cell::GatedFeedback(_) => b.concat(Side::Columns, &states).named(format!("h*{t}")),
                _ => states[0],
            };
            let mut below = e;
            for (l, before) in std::mem::take(&mut states).into_iter().enumerate() {
                let x = masked(b, dropout, &format!("mask{l}.{t}"), below);
                let name = |what: &str| format!("{what}{t}.{l}");
                let (h, carried) = match config.cell {
                    Cell::Rnn(activation) => (simple(activation, v, x, before, l), None),
                    Cell::Gru => (gru(config, v, x, before, l, &name), None),
                    Cell::Lstm => lstm(config, v, x, before, l, &name),
                    Cell::GatedFeedback(unit) => (feedback((config, unit), v, x, before, star, l, &name), None),
                };
                below = h.named(name("h"));
                states.push(carried.map_or(below, |carried| b.concat(Side::Columns, &[below, carried])));
            }
            if t >= loss_from {
                let top = masked(b, dropout, &format!("mask{layers}.{t}"), below);
                let y = b.ids(format!("y{t}"), lanes, words);
                losses.push(match &sample {
                    None => match &config.loss {
                        Loss::Adaptive { tails } => {
                            (y.one_hot(words) * adaptive(b, v, top, tails.len())).sum_columns() * -1.0
                        }
                        _ => (top.dot_transposed(v.get("output")) + v.get("output.bias")).cross_entropy(y),
                    },
                    Some(sample) => sample.loss(b, v, top, y, t, output),
                });
            }
        }
        b.concat(Side::Rows, &losses).sum() * (1.0 / (losses.len() * lanes) as f64)
    })
}

/// h = f(xW + h₋U + b)
fn simple<'b>(activation: Activation, v: &Variables<'b>, x: Node<'b>, before: Node<'b>, l: usize) -> Node<'b> {
    let [w, u, bias] = ["input", "recurrent", "bias"].map(|name| v.get(&format!("layer{l}.{name}")));
    (x.dot(w) + before.dot(u) + bias).apply(activation)
}

/// Part `i` of the columns, in parts of `units`.
fn part(x: Node, i: usize, units: usize) -> Node {
    x.columns(i * units..(i + 1) * units)
}

/// h = (1 − z) ∘ h₋ + z ∘ n
fn mix<'b>(z: Node<'b>, before: Node<'b>, n: Node<'b>) -> Node<'b> {
    z.affine(-1.0, 1.0) * before + z * n
}

/// q = h₋U_q + b_q    r = σ(xW_r + h₋U_r + b_r)    z = σ(xW_z + h₋U_z + b_z)    n = tanh(xW_n + b_n + r ∘ q)
fn gru<'b>(
    config: &Config,
    v: &Variables<'b>,
    x: Node<'b>,
    before: Node<'b>,
    l: usize,
    name: &dyn Fn(&str) -> String,
) -> Node<'b> {
    let [w, u, bias] = ["input", "recurrent", "bias"].map(|name| v.get(&format!("layer{l}.{name}")));
    let of = |x: Node<'b>, i: usize| part(x, i, config.hidden);
    let (xw, hu) = (x.dot(w), before.dot(u));
    let q = of(hu, 0) + of(bias, 0);
    let r = (of(xw, 0) + of(hu, 1) + of(bias, 1)).sigmoid().named(name("r"));
    let z = (of(xw, 1) + of(hu, 2) + of(bias, 2)).sigmoid().named(name("z"));
    let n = (of(xw, 2) + of(bias, 3) + r * q).tanh().named(name("n"));
    mix(z, before, n)
}

/// i, f, o = σ(xW + h₋U + b)    g = tanh(xW_g + h₋U_g + b_g)    c = f ∘ c₋ + i ∘ g    h = o ∘ tanh(c)
///
/// Returns h and c.
fn lstm<'b>(
    config: &Config,
    v: &Variables<'b>,
    x: Node<'b>,
    before: Node<'b>,
    l: usize,
    name: &dyn Fn(&str) -> String,
) -> (Node<'b>, Option<Node<'b>>) {
    let [w, u, bias] = ["input", "recurrent", "bias"].map(|name| v.get(&format!("layer{l}.{name}")));
    let of = |x: Node<'b>, i: usize| part(x, i, config.hidden);
    let a = x.dot(w) + of(before, 0).dot(u) + bias;
    let gate = |i: usize, what: &str| of(a, i).sigmoid().named(name(what));
    let (i, f, o) = (gate(0, "i"), gate(1, "f"), gate(3, "o"));
    let g = of(a, 2).tanh().named(name("g"));
    let c = (f * of(before, 1) + i * g).named(name("c"));
    (o * c.tanh(), Some(c))
}

/// gⁱ = σ(x w_gⁱ + h* u_gⁱ)    v = Σᵢ gⁱ hⁱ₋ Uⁱ    h = tanh(xW + b + v), or a GRU whose candidate is tanh(xW + b + r ∘ v)
fn feedback<'b>(
    (config, unit): (&Config, Unit),
    v: &Variables<'b>,
    x: Node<'b>,
    before: Node<'b>,
    star: Node<'b>,
    l: usize,
    name: &dyn Fn(&str) -> String,
) -> Node<'b> {
    let Config { hidden, layers, .. } = *config;
    let [w, w_g, bias] = ["input", "gates", "bias"].map(|name| v.get(&format!("layer{l}.{name}")));
    let of = |x: Node<'b>, i: usize| part(x, i, hidden);
    let recurrent = |i: usize| v.get(&format!("layer{i}.recurrent"));
    let g = (x.dot(w_g) + star.dot(part(v.get("gates"), l, layers))).sigmoid().named(name("g"));
    let sent = |i: usize| part(g, i, 1) * of(star, i).dot(of(recurrent(i), l));
    let fed = (1..layers).fold(sent(0), |sum, i| sum + sent(i)).named(name("v"));
    let a = x.dot(w) + bias;
    match unit {
        Unit::Tanh => (a + fed).tanh(),
        Unit::Gru => {
            let own = |i: usize| before.dot(of(recurrent(l), layers + i));
            let r = (of(a, 0) + own(0)).sigmoid().named(name("r"));
            let z = (of(a, 1) + own(1)).sigmoid().named(name("z"));
            mix(z, before, (of(a, 2) + r * fed).tanh().named(name("n")))
        }
    }
}

/// ln ŷ of all words \[B, V\]: that of a word in the head, or that of its tail there plus its own in the tail.
fn adaptive<'b>(b: &'b Builder, v: &Variables<'b>, top: Node<'b>, tails: usize) -> Node<'b> {
    let ln_softmax = |theta: Node<'b>| theta - theta.log_sum_exp();
    let head = ln_softmax(top.dot_transposed(v.get("output")) + v.get("output.bias"));
    let words = head.shape().1 - tails;
    let tail = |i: usize| {
        let [p, u, bias] = ["projection", "output", "bias"].map(|name| v.get(&format!("tail{i}.{name}")));
        part(head, words + i, 1) + ln_softmax(top.dot(p).dot_transposed(u) + bias)
    };
    let parts: Vec<Node> = [head.columns(0..words)].into_iter().chain((0..tails).map(tail)).collect();
    b.concat(Side::Columns, &parts)
}

/// What a sampled output layer has for all steps.
struct Sample<'b> {
    /// One for all lanes or one per lane: the sample's rows of U, and its biases with their shifts.
    samples: Vec<(Node<'b>, Node<'b>)>,
}

impl<'b> Sample<'b> {
    fn new(b: &'b Builder, v: &Variables<'b>, words: usize, drawn: usize, samples: usize) -> Self {
        let sample = |i: usize| {
            let name = |what: &str| if samples == 1 { what.to_owned() } else { format!("{what}.{i}") };
            let ids = b.ids(name("sample"), drawn, words);
            let bias = v.get("output.bias").gather(ids).transpose() + b.placeholder(name("shift"), 1, drawn);
            (v.get("output").gather(ids), bias)
        };
        Sample { samples: (0..samples).map(sample).collect() }
    }

    /// The logits of the words drawn: \[B, S\].
    fn logits(&self, b: &'b Builder, top: Node<'b>) -> Node<'b> {
        let logits = |top: Node<'b>, (rows, bias): (Node<'b>, Node<'b>)| top.dot_transposed(rows) + bias;
        if let [shared] = self.samples[..] {
            return logits(top, shared);
        }
        let lanes: Vec<Node> =
            (self.samples.iter().enumerate()).map(|(i, own)| logits(top.rows(i..i + 1), *own)).collect();
        b.concat(Side::Rows, &lanes)
    }

    fn loss(
        &self,
        b: &'b Builder,
        v: &Variables<'b>,
        top: Node<'b>,
        y: Node<'b>,
        t: usize,
        output: Output,
    ) -> Node<'b> {
        let Output::Sampled { drawn, logistic } = output else { unreachable!("a sample is there to be used") };
        let lanes = top.shape().0;
        let own = (top * v.get("output").gather(y)).sum_columns() + v.get("output.bias").gather(y);
        let own = own + b.placeholder(format!("shift{t}"), lanes, 1);
        let hits = b.placeholder(format!("hits{t}"), lanes, drawn);
        let others = self.logits(b, top) + hits;
        if logistic {
            // −ln σ(Δₖ) − Σ ln(1 − σ(Δᵢ))
            (own * -1.0).softplus() + others.softplus().sum_columns()
        } else {
            b.concat(Side::Columns, &[own, others]).log_sum_exp() - own
        }
    }
}
