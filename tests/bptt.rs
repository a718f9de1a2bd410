//! Back-propagation through time: truncation after τ steps, the stride, the carried state, sentences kept apart, and what
//! dropout masks depend on. Checked against the equations written out one target and one step at a time.

#[path = "common/cases.rs"]
mod cases;
mod common;

use cases::{cells, together};
use common::{assert_all_close, assert_close, fill_uniform};
use std::collections::BTreeMap;
use std::path::Path;
use wordmill::kernels::activation::Activation;
use wordmill::kernels::dropout::Keep;
use wordmill::layers::cells::Cell;
use wordmill::models::LanguageModel;
use wordmill::models::language_model::{Config, Noise, Space, Window, shard_lanes};
use wordmill::params::{Arena, Gradients};
use wordmill::text::batches::{Lanes, Windows};

const WORDS: usize = 13;
const EMBED: usize = 4;
const HIDDEN: usize = 6;
/// The word that ends a sentence.
const END: u32 = 3;

fn model(layers: usize, reset_at: Option<u32>) -> (LanguageModel, Arena<f64>) {
    model_of(Cell::Rnn(Activation::Tanh), layers, reset_at)
}

fn model_of(cell: Cell, layers: usize, reset_at: Option<u32>) -> (LanguageModel, Arena<f64>) {
    let sizes = Config { words: WORDS, embed: EMBED, hidden: HIDDEN, ..Config::default() };
    let model = LanguageModel::new(Config { cell, layers, reset_at, ..sizes });
    let mut w = Arena::zeros(model.layout());
    fill_uniform(&mut w, 0.7, 5);
    (model, w)
}

fn no_noise() -> Noise {
    Noise { keep: Keep::inverted(1.0), seed: 1, step: 1 }
}

/// A text without pattern.
fn text(n: usize) -> Vec<u32> {
    (0..n as u64).map(|i| ((i * i * 31 + i * 17 + i * i * i % 7) % WORDS as u64) as u32).collect()
}

type Tensors = BTreeMap<String, Vec<f64>>;

fn tensors(arena: &Arena<f64>) -> Tensors {
    arena.layout().tensors().map(|(p, t)| (t.name.clone(), arena.slice(p).to_vec())).collect()
}

/// The states of a one-layer net over `words` from a zero state; `h[0]` is that state.
fn states(words: &[u32], w: &Tensors) -> Vec<Vec<f64>> {
    let mut h = vec![vec![0.0; HIDDEN]];
    for &word in words {
        let before = h.last().expect("there is a first state");
        let now = (0..HIDDEN).map(|j| {
            let mut z = w["layer0.bias"][j];
            for i in 0..EMBED {
                z += w["embedding"][word as usize * EMBED + i] * w["layer0.input"][i * HIDDEN + j];
            }
            for (i, x) in before.iter().enumerate() {
                z += x * w["layer0.recurrent"][i * HIDDEN + j];
            }
            z.tanh()
        });
        let now = now.collect();
        h.push(now);
    }
    h
}

/// Adds loss and gradient of the prediction of `words[t + 1]`, back-propagated to step `first` and no further, each times `share`.
fn one_target(g: &mut Tensors, words: &[u32], h: &[Vec<f64>], t: usize, first: usize, share: f64, w: &Tensors) -> f64 {
    let mut add = |name: &str, at: usize, x: f64| g.get_mut(name).expect("the tensor exists")[at] += x;
    let (target, top) = (words[t + 1] as usize, &h[t + 1]);
    let theta: Vec<f64> = (0..WORDS)
        .map(|v| w["output.bias"][v] + (0..HIDDEN).map(|j| top[j] * w["output"][v * HIDDEN + j]).sum::<f64>())
        .collect();
    let normaliser = theta.iter().map(|x| x.exp()).sum::<f64>().ln();
    let mut back = vec![0.0; HIDDEN];
    for v in 0..WORDS {
        let error = ((theta[v] - normaliser).exp() - f64::from(v == target)) * share;
        add("output.bias", v, error);
        for j in 0..HIDDEN {
            add("output", v * HIDDEN + j, error * top[j]);
            back[j] += error * w["output"][v * HIDDEN + j];
        }
    }
    for k in (first..=t).rev() {
        let (word, before, now) = (words[k] as usize, &h[k], &h[k + 1]);
        let delta: Vec<f64> = (0..HIDDEN).map(|j| back[j] * (1.0 - now[j] * now[j])).collect();
        for j in 0..HIDDEN {
            add("layer0.bias", j, delta[j]);
            for i in 0..EMBED {
                add("layer0.input", i * HIDDEN + j, w["embedding"][word * EMBED + i] * delta[j]);
                add("embedding", word * EMBED + i, w["layer0.input"][i * HIDDEN + j] * delta[j]);
            }
            for (i, x) in before.iter().enumerate() {
                add("layer0.recurrent", i * HIDDEN + j, x * delta[j]);
            }
        }
        back =
            (0..HIDDEN).map(|i| (0..HIDDEN).map(|j| w["layer0.recurrent"][i * HIDDEN + j] * delta[j]).sum()).collect();
    }
    (normaliser - theta[target]) * share
}

/// For every stride: each window's loss and gradient are those of its targets, each walked back to the window's first step,
/// through states that all the text before has made.
#[test]
fn truncation_and_stride() {
    const LANES: usize = 2;
    const TAU: usize = 5;
    let (model, w) = model(1, None);
    let (ids, named) = (text(2 * 17 + 1), tensors(&w));
    let lanes = Lanes::new(Path::new("a text"), &ids, LANES, TAU).expect("long enough");
    let n = lanes.length();
    assert_eq!(n, 17);
    let texts: Vec<&[u32]> = (0..LANES).map(|lane| &ids[lane * n..][..n + 1]).collect();
    let all_states: Vec<_> = texts.iter().map(|text| states(&text[..n], &named)).collect();
    for stride in 1..=TAU {
        let windows = Windows::new(n, TAU, stride).expect("the stride fits");
        let mut space = model.space::<f64>(TAU, LANES);
        let mut g = Gradients::zeros(model.layout(), TAU * LANES);
        let (mut total, mut deepest) = (0.0, 0);
        for i in 0..windows.count() {
            let at = windows.get(i);
            model.carry(&mut space, at.carry_from);
            let (mut inputs, mut targets) = (vec![0; at.len() * LANES], vec![0; at.len() * LANES]);
            lanes.fill(at.positions(), &mut inputs, &mut targets);
            let window = Window { inputs: &inputs, targets: &targets, loss_from: at.loss_from };
            let loss = model.loss_and_gradient(&mut g, &mut space, window, no_noise(), &w);

            let counted = at.start + at.loss_from..at.end;
            let share = 1.0 / (counted.len() * LANES) as f64;
            let mut want: Tensors = named.iter().map(|(name, x)| (name.clone(), vec![0.0; x.len()])).collect();
            let mut want_loss = 0.0;
            for (text, h) in texts.iter().zip(&all_states) {
                for t in counted.clone() {
                    want_loss += one_target(&mut want, text, h, t, at.start, share, &named);
                    deepest = deepest.max(t + 1 - at.start);
                }
            }
            assert_close(format_args!("stride {stride}, window {i}: loss"), loss, want_loss, 1e-12, 0.0);
            for (name, got) in tensors(&g.dense(model.layout())) {
                if at.end == 1 && name == "layer0.recurrent" {
                    assert!(got.iter().all(|&x| x == 0.0), "the first word of all has no state before it");
                    continue;
                }
                assert_all_close(&format!("stride {stride}, window {i}: {name}"), &got, &want[&name], 1e-11);
            }
            g.clear_tables();
            total += loss * (counted.len() * LANES) as f64;
        }
        assert_eq!(deepest, TAU);
        // Every target was counted once, whatever the stride.
        let mut scratch: Tensors = named.iter().map(|(name, x)| (name.clone(), vec![0.0; x.len()])).collect();
        let mut sum = |text: &[u32], h: &[Vec<f64>]| -> f64 {
            (0..n).map(|t| one_target(&mut scratch, text, h, t, t, 1.0, &named)).sum()
        };
        let all: f64 = texts.iter().zip(&all_states).map(|(text, h)| sum(text, h)).sum();
        assert_close(format_args!("stride {stride}: all losses"), total, all, 1e-12, 0.0);
    }
}

/// The log-probabilities of one lane's targets, read in chunks of `tau` with the state carried.
fn in_chunks(model: &LanguageModel, w: &Arena<f64>, ids: &[u32], tau: usize) -> Vec<f64> {
    let mut space = model.space::<f64>(tau, 1);
    let mut out = Vec::new();
    for start in (0..ids.len() - 1).step_by(tau) {
        let end = (start + tau).min(ids.len() - 1);
        let mut part = vec![0.0; end - start];
        let window = Window { inputs: &ids[start..end], targets: &ids[start + 1..end + 1], loss_from: 0 };
        model.log_probabilities(&mut part, &mut space, window, w);
        model.carry(&mut space, end - start);
        out.extend(part);
    }
    out
}

#[test]
fn chunks_with_carry_are_one_long_window() {
    for (cell, layers) in together(&cells(), &[1, 3, 2]) {
        for reset_at in [None, Some(END)] {
            let (model, w) = model_of(cell, layers, reset_at);
            let ids = text(61);
            let whole = in_chunks(&model, &w, &ids, 60);
            for tau in [1, 2, 7, 20, 59] {
                let parts = in_chunks(&model, &w, &ids, tau);
                assert_all_close(&format!("{cell:?}, {layers} layers, chunks of {tau}"), &parts, &whole, 1e-13);
            }
            // Without the state they are not the same.
            let mut space = model.space::<f64>(20, 1);
            let mut forgetful = vec![0.0; 20];
            let window = Window { inputs: &ids[20..40], targets: &ids[21..41], loss_from: 0 };
            model.log_probabilities(&mut forgetful, &mut space, window, &w);
            assert_ne!(forgetful, whole[20..40]);
        }
    }
}

/// A lane of a batch is what it is alone, wherever it stands.
#[test]
fn lanes_do_not_see_each_other() {
    cells().into_iter().for_each(lanes_alone);
}

fn lanes_alone(cell: Cell) {
    const LANES: usize = 19;
    const TAU: usize = 8;
    let (model, w) = model_of(cell, 2, Some(END));
    let ids = text(LANES * TAU + 1);
    let lanes = Lanes::new(Path::new("a text"), &ids, LANES, TAU).expect("long enough");
    let (mut inputs, mut targets) = (vec![0; TAU * LANES], vec![0; TAU * LANES]);
    lanes.fill(0..TAU, &mut inputs, &mut targets);
    let mut space = model.space::<f64>(TAU, LANES);
    let mut out = vec![0.0; 5 * LANES];
    let window = Window { inputs: &inputs, targets: &targets, loss_from: TAU - 5 };
    model.log_probabilities(&mut out, &mut space, window, &w);
    for lane in 0..LANES {
        let alone = in_chunks(&model, &w, &ids[lane * TAU..][..TAU + 1], TAU);
        let got: Vec<f64> = (0..5).map(|t| out[t * LANES + lane]).collect();
        assert_all_close(&format!("lane {lane}"), &got, &alone[TAU - 5..], 1e-13);
    }
    // A lane that is forgotten begins anew, and the others go on.
    let next = |space: &mut Space<f64>| {
        let mut out = vec![0.0; TAU * LANES];
        model.log_probabilities(&mut out, space, Window { inputs: &inputs, targets: &targets, loss_from: 0 }, &w);
        (0..LANES).map(|lane| (0..TAU).map(|t| out[t * LANES + lane]).collect::<Vec<_>>()).collect::<Vec<_>>()
    };
    model.carry(&mut space, TAU);
    let (going_on, fresh) = (next(&mut space), next(&mut model.space(TAU, LANES)));
    model.forget_lane(&mut space, 17);
    let forgotten = next(&mut space);
    for (lane, got) in forgotten.iter().enumerate() {
        let want = if lane == 17 { &fresh[lane] } else { &going_on[lane] };
        assert_eq!(got, want, "lane {lane}");
    }
    assert_ne!(fresh[17], going_on[17]);
}

/// With `reset_at`, what a sentence costs does not depend on the sentence before; without it, it does.
#[test]
fn sentences_are_kept_apart() {
    // The end of a sentence is the first input of the next one.
    let second = [END, 7, 1, 8, 2, 8, END];
    let firsts: [&[u32]; 3] = [&[4, 5, 6, 9], &[10, 11, 12, 0], &[1, 1, 1, 1]];
    for layers in [1, 2] {
        for (reset_at, alike) in [(Some(END), true), (None, false)] {
            let (model, w) = model(layers, reset_at);
            for tau in [3, 5, 20] {
                let losses = firsts.map(|first| {
                    let ids = [first, &second].concat();
                    in_chunks(&model, &w, &ids, tau)[first.len()..].to_vec()
                });
                assert_eq!(losses[0] == losses[1] && losses[0] == losses[2], alike, "{reset_at:?}, chunks of {tau}");
                if alike {
                    assert_all_close("as if it were alone", &losses[0], &in_chunks(&model, &w, &second, 20), 1e-13);
                }
            }
        }
    }
}

/// Nor does its gradient reach back: the words of the first sentence get none from the second's targets.
#[test]
fn gradients_stop_at_the_end_of_a_sentence() {
    let ids = [4, 5, 6, 9, END, 7, 1, 8, 2];
    for (reset_at, reaches) in [(Some(END), false), (None, true)] {
        let (model, w) = model(2, reset_at);
        let mut space = model.space::<f64>(8, 1);
        let mut g = Gradients::zeros(model.layout(), 8);
        let window = Window { inputs: &ids[..8], targets: &ids[1..], loss_from: 4 };
        model.loss_and_gradient(&mut g, &mut space, window, no_noise(), &w);
        let table = &tensors(&g.dense(model.layout()))["embedding"];
        let touched = |word: usize| table[word * EMBED..][..EMBED].iter().any(|&x| x != 0.0);
        assert!(touched(END as usize) && touched(7) && touched(8));
        for word in [4, 5, 6, 9] {
            assert_eq!(touched(word), reaches, "word {word}, {reset_at:?}");
        }
    }
}

const WIDTH: usize = 64;
const KEPT: f64 = 0.5;

/// A net of equal widths, whose gradients show where its masks are zero.
struct Masks {
    model: LanguageModel,
    w: Arena<f64>,
}

impl Masks {
    fn new(variational: bool) -> Self {
        let words = 400;
        let config = Config { words, embed: WIDTH, hidden: WIDTH, layers: 2, variational, ..Config::default() };
        let model = LanguageModel::new(config);
        let mut w = Arena::zeros(model.layout());
        fill_uniform(&mut w, 0.2, 5);
        Masks { model, w }
    }

    /// The gradient of a window of `steps` on words that are all different.
    fn gradient(&self, steps: usize, lanes: usize, seed: u64, step: u64) -> Tensors {
        let ids: Vec<u32> = (0..(steps * lanes) as u32).collect();
        let mut space = self.model.space::<f64>(steps, lanes);
        let mut g = Gradients::zeros(self.model.layout(), ids.len());
        let window = Window { inputs: &ids, targets: &ids, loss_from: 0 };
        let noise = Noise { keep: Keep::inverted(KEPT), seed, step };
        self.model.loss_and_gradient(&mut g, &mut space, window, noise, &self.w);
        tensors(&g.dense(self.model.layout()))
    }

    /// Which inputs of a layer the mask keeps: the rows of its input weights that have a gradient (at one step of one lane).
    fn kept_rows(g: &Tensors, layer: usize) -> Vec<bool> {
        g[&format!("layer{layer}.input")].chunks(WIDTH).map(|row| row.iter().any(|&x| x != 0.0)).collect()
    }

    /// The same of the output layer: the columns of its weights.
    fn kept_at_the_top(g: &Tensors) -> Vec<bool> {
        (0..WIDTH).map(|j| g["output"].iter().skip(j).step_by(WIDTH).any(|&x| x != 0.0)).collect()
    }

    /// The same of a word vector, for any step and lane.
    fn kept_of_word(g: &Tensors, word: usize) -> Vec<bool> {
        g["embedding"][word * WIDTH..][..WIDTH].iter().map(|&x| x != 0.0).collect()
    }
}

/// Masks drawn apart agree about half of their places, as KEPT is one half.
fn assert_apart(what: &str, a: &[bool], b: &[bool]) {
    let differ = a.iter().zip(b).filter(|(a, b)| a != b).count();
    assert!((WIDTH / 4..=3 * WIDTH / 4).contains(&differ), "{what}: {differ} of {WIDTH} places differ");
}

#[test]
fn masks_differ_between_layers_and_steps() {
    let masks = Masks::new(false);
    let of = |seed, step| {
        let g = masks.gradient(1, 1, seed, step);
        [Masks::kept_rows(&g, 0), Masks::kept_rows(&g, 1), Masks::kept_at_the_top(&g)]
    };
    let one = of(1, 1);
    assert_eq!(one, of(1, 1), "the same masks again");
    for mask in &one {
        assert_apart("kept and dropped", mask, &[true; WIDTH]);
    }
    for (a, b) in [(0, 1), (0, 2), (1, 2)] {
        assert_apart("two layers", &one[a], &one[b]);
    }
    for other in [of(1, 2), of(2, 1), of(1, 1 << 33 | 1)] {
        for (layer, (a, b)) in one.iter().zip(&other).enumerate() {
            assert_apart(&format!("layer {layer}, another step or seed"), a, b);
        }
    }
}

/// Variational dropout: a lane has one mask for all times, and other lanes have others.
#[test]
fn variational_masks_are_those_of_all_times() {
    let (masks, lanes) = (Masks::new(true), 3);
    let g = masks.gradient(4, lanes, 1, 1);
    let of = |step: usize, lane: usize| Masks::kept_of_word(&g, step * lanes + lane);
    for lane in 0..lanes {
        (1..4).for_each(|step| assert_eq!(of(step, lane), of(0, lane), "step {step}, lane {lane}"));
    }
    assert_apart("another lane", &of(0, 0), &of(0, 1));
}

#[test]
fn masks_differ_between_times_and_lanes() {
    let masks = Masks::new(false);
    let lanes = 19;
    assert!(shard_lanes(lanes) < lanes, "there are two shards");
    let g = masks.gradient(4, lanes, 1, 1);
    // Word i is read at step i / lanes by lane i mod lanes.
    let first = Masks::kept_of_word(&g, 0);
    assert_apart("kept and dropped", &first, &[true; WIDTH]);
    for word in 1..4 * lanes {
        let what = format!("step {}, lane {}", word / lanes, word % lanes);
        assert_apart(&what, &first, &Masks::kept_of_word(&g, word));
    }
    // Inside of the net the masks of several steps cannot be told apart, but one mask for all of them would leave half of the
    // rows without a gradient, four masks leave a sixteenth.
    let g = masks.gradient(4, 1, 1, 1);
    for kept in [Masks::kept_rows(&g, 1), Masks::kept_at_the_top(&g)] {
        let dropped = kept.iter().filter(|kept| !**kept).count();
        assert!(dropped <= WIDTH / 4, "{dropped} of {WIDTH} dropped at all of four steps");
    }
}

/// The kept share is what was asked for, what is kept is scaled by its inverse, and nothing is dropped in evaluation.
#[test]
fn kept_share_and_scale() {
    use wordmill::kernels::dropout::dropout;
    use wordmill::rng::{Place, Purpose};
    const N: usize = 100_000;
    for probability in [0.9, 0.5, 0.1] {
        let (x, mut y) = (vec![1.0f64; N], vec![0.0; N]);
        dropout(Keep::inverted(probability), Place::new(5, Purpose::Dropout, 1, 2), &x, &mut y);
        let kept = y.iter().filter(|&&y| y != 0.0).count() as f64;
        // Five standard deviations.
        let spread = 5.0 * (N as f64 * probability * (1.0 - probability)).sqrt();
        assert!((kept - N as f64 * probability).abs() < spread, "{kept} of {N} kept, for {probability}");
        for &y in y.iter().filter(|&&y| y != 0.0) {
            assert_close("what is kept", y, 1.0 / probability, 1e-8, 0.0);
        }
    }
}
