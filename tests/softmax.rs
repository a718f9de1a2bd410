//! The exact softmax layer against the equations written out in f64: every size at which groups, blocks and chunks end.

mod common;

use common::{assert_all_close, assert_close, uniform, widened};
use wordmill::Real;
use wordmill::layers::output::{FullSoftmax, Gradient};

/// What a layer returns and leaves behind.
struct Outcome {
    loss: f64,
    log_probabilities: Vec<f64>,
    h: Vec<f64>,
    output: Vec<f64>,
    bias: Vec<f64>,
}

/// One set of states, targets and weights.
struct Case<R> {
    units: usize,
    words: usize,
    targets: Vec<u32>,
    h: Vec<R>,
    u: Vec<R>,
    b: Vec<R>,
}

impl<R: Real> Case<R> {
    /// The same numbers for f32 and f64. Targets stand at the first and last words of groups and blocks, and between.
    fn new(words: usize, tokens: usize, units: usize) -> Self {
        let group = words.div_ceil(16).next_multiple_of(8);
        let block = group.div_ceil(group.div_ceil(160)).next_multiple_of(8);
        let borders = [0, 1, 7, 8, block - 1, block, group - 1, group, group + block, words - 1, words / 2];
        let targets = (0..tokens).map(|t| match t % 3 {
            0 => (borders[t / 3 % borders.len()] + t / 33 % 16 * group) % words,
            _ => (t * 7919 + 13) % words,
        });
        Case {
            units,
            words,
            targets: targets.map(|word| word as u32).collect(),
            h: uniform(tokens * units, 1.0, 1),
            u: uniform(words * units, 1.0, 2),
            b: uniform(words, 1.0, 3),
        }
    }

    fn layer(&self) -> FullSoftmax<R> {
        FullSoftmax::new(self.targets.len(), self.units, self.words)
    }

    fn run(&self, layer: &mut FullSoftmax<R>) -> Outcome {
        // What the gradient's buffers hold before must not matter.
        let nan = |n| vec![R::of(f64::NAN); n];
        let (mut h, mut output, mut bias) = (nan(self.h.len()), nan(self.u.len()), nan(self.b.len()));
        let mut log_probabilities = vec![f64::NAN; self.targets.len()];
        layer.log_probabilities(&mut log_probabilities, &self.h, &self.targets, &self.u, &self.b);
        let gradient = Gradient { h: &mut h, output: &mut output, bias: &mut bias };
        let loss = layer.loss(gradient, &self.h, &self.targets, &self.u, &self.b);
        Outcome { loss, log_probabilities, h: widened(&h), output: widened(&output), bias: widened(&bias) }
    }

    /// θ = hUᵀ + b, J = log Σ e^θ − θₖ and its gradient, a token at a time.
    fn naive(&self) -> Outcome {
        let (h, u, b) = (widened(&self.h), widened(&self.u), widened(&self.b));
        let (n, units) = (self.targets.len() as f64, self.units);
        let mut found = Outcome {
            loss: 0.0,
            log_probabilities: Vec::new(),
            h: vec![0.0; h.len()],
            output: vec![0.0; u.len()],
            bias: vec![0.0; b.len()],
        };
        for (t, &target) in self.targets.iter().enumerate() {
            let h = &h[t * units..][..units];
            let mut theta: Vec<f64> = (0..self.words)
                .map(|v| b[v] + u[v * units..][..units].iter().zip(h).map(|(u, h)| u * h).sum::<f64>())
                .collect();
            let largest = theta.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let normaliser = largest + theta.iter().map(|x| (x - largest).exp()).sum::<f64>().ln();
            found.log_probabilities.push(theta[target as usize] - normaliser);
            found.loss -= (theta[target as usize] - normaliser) / n;
            for (v, x) in theta.iter_mut().enumerate() {
                *x = ((*x - normaliser).exp() - f64::from(v == target as usize)) / n;
                found.bias[v] += *x;
                for k in 0..units {
                    found.h[t * units + k] += *x * u[v * units + k];
                    found.output[v * units + k] += *x * h[k];
                }
            }
        }
        found
    }
}

fn compare(what: &str, got: &Outcome, want: &Outcome, tolerance: f64) {
    assert_close(format_args!("{what}: loss"), got.loss, want.loss, tolerance, 1.0);
    for (t, (&got, &want)) in got.log_probabilities.iter().zip(&want.log_probabilities).enumerate() {
        assert_close(format_args!("{what}: ln ŷ of token {t}"), got, want, tolerance, 1.0);
    }
    assert_all_close(&format!("{what}: ∂h"), &got.h, &want.h, tolerance);
    assert_all_close(&format!("{what}: ∂U"), &got.output, &want.output, tolerance);
    assert_all_close(&format!("{what}: ∂b"), &got.bias, &want.bias, tolerance);
}

fn check(words: usize, tokens: usize, units: usize) {
    let what = format!("{words} words, {tokens} tokens, {units} units");
    let (double, single) = (Case::<f64>::new(words, tokens, units), Case::<f32>::new(words, tokens, units));
    let (want, got) = (double.naive(), double.run(&mut double.layer()));
    compare(&format!("f64, {what}"), &got, &want, 1e-12);
    compare(&format!("f32, {what}"), &single.run(&mut single.layer()), &want, 1e-5);
}

const TOKENS: [usize; 8] = [1, 15, 16, 17, 300, 319, 321, 335];

#[test]
fn small_vocabularies() {
    for (i, words) in [2, 7, 8, 9, 127, 128, 129, 130, 1000].into_iter().enumerate() {
        for (j, tokens) in TOKENS.into_iter().enumerate() {
            check(words, tokens, [1, 3, 16, 37][(i + j) % 4]);
        }
    }
}

/// Several blocks a group, the last group and block not full.
#[test]
fn several_blocks() {
    for (words, tokens, units) in [(8192, 129, 5), (8193, 300, 3), (8200, 17, 19), (9001, 128, 2), (17_003, 33, 7)] {
        check(words, tokens, units);
    }
}

/// So many words that a chunk holds fewer than 128 tokens.
#[test]
fn small_chunks() {
    check(200_001, 83, 2);
}

/// With one word there is nothing to predict.
#[test]
fn one_word() {
    for tokens in TOKENS {
        let case = Case::<f64>::new(1, tokens, 3);
        let found = case.run(&mut case.layer());
        assert!(found.loss.abs() < 1e-14, "{}", found.loss);
        let zero = |x: &f64| x.abs() < 1e-14;
        assert!(found.h.iter().chain(&found.output).chain(&found.bias).all(zero));
    }
}

/// Working memory is used again for fewer tokens, also after states that were not finite.
#[test]
fn used_again() {
    let large = Case::<f32>::new(1000, 300, 5);
    let mut layer = large.layer();
    let mut spoilt = Case::<f32>::new(1000, 300, 5);
    spoilt.h.fill(f32::NAN);
    assert!(spoilt.run(&mut layer).loss.is_nan());
    for tokens in [17, 300, 129, 1, 128] {
        let case = Case::<f32>::new(1000, tokens, 5);
        compare(&format!("{tokens} tokens"), &case.run(&mut layer), &case.naive(), 1e-5);
    }
}

/// One logit that is not a number makes the loss of its token not a number: nothing hides it.
#[test]
fn nan_reaches_the_loss() {
    for word in [0, 63, 64, 500, 999] {
        let mut case = Case::<f32>::new(1000, 40, 5);
        case.b[word] = f32::NAN;
        assert!(case.run(&mut case.layer()).loss.is_nan(), "word {word}");
    }
    let mut case = Case::<f32>::new(1000, 40, 5);
    case.h[3 * 5] = f32::NAN;
    let found = case.run(&mut case.layer());
    let nan: Vec<_> = (0..40).filter(|&t| found.log_probabilities[t].is_nan()).collect();
    assert_eq!(nan, [3]);
}

#[test]
#[should_panic(expected = "beyond the vocabulary")]
fn target_beyond_the_vocabulary() {
    let mut case = Case::<f32>::new(10, 4, 5);
    case.targets[2] = 10;
    case.run(&mut case.layer());
}

/// log Σ e^θ for logits of ±10⁴, from biases and from products.
#[test]
fn logits_of_ten_thousand() {
    fn check<R: Real>() {
        const WORDS: usize = 9001;
        let with = |bias: &dyn Fn(usize) -> f64, weight: &dyn Fn(usize) -> f64| Case {
            units: 1,
            words: WORDS,
            targets: vec![3, 4, 8999, 70],
            h: vec![R::of(100.0); 4],
            u: (0..WORDS).map(|v| R::of(weight(v))).collect(),
            b: (0..WORDS).map(|v| R::of(bias(v))).collect(),
        };
        let one = |v: usize| if v == 3 { 1.0 } else { -1.0 };
        let zero = |_: usize| 0.0;
        // One word has everything: 2·10⁴ nats above the others.
        for case in [with(&|v| one(v) * 1e4, &zero), with(&zero, &|v| one(v) * 100.0)] {
            let found = case.run(&mut case.layer());
            assert_eq!(found.log_probabilities, [0.0, -2e4, -2e4, -2e4], "{}", R::NAME);
            assert_eq!(found.loss, 1.5e4);
            assert!(found.h.iter().chain(&found.output).chain(&found.bias).all(|x| x.is_finite()));
            assert_close("∂b of the word that has everything", found.bias[3], 0.75, 1e-6, 0.0);
            assert_close("∂b of a target", found.bias[4], -0.25, 1e-6, 0.0);
        }
        // All alike: the uniform distribution, whatever the level.
        for level in [1e4, -1e4] {
            for case in [with(&|_| level, &zero), with(&zero, &|_| level / 100.0), with(&|_| -level, &|_| level / 50.0)]
            {
                let found = case.run(&mut case.layer());
                for &x in &found.log_probabilities {
                    assert_close("ln 1/V", x, -(WORDS as f64).ln(), 1e-6, 0.0);
                }
            }
        }
        // A group of words, and a block in another group, far below all others: their sums must come to nothing, not to NaN.
        let case = with(&|v| if (600..=8990).contains(&v) { 1e4 } else { -1e4 }, &zero);
        let found = case.run(&mut case.layer());
        let want = -2e4 - ((8990 - 600 + 1) as f64).ln();
        for &got in &found.log_probabilities {
            assert_close("ln of a word far below", got, want, 1e-6, 0.0);
        }
    }
    check::<f32>();
    check::<f64>();
}
