//! Optimizer updates (equations, section 6) in one pass over memory. g is the gradient, used as `scale`·g (clipping) plus `decay`·w
//! (L2); w are the weights. All are element-wise, so that the bits do not depend on how an arena is divided. Each returns 0, or NaN if
//! a number it has written is not finite.

use super::{kernel, load, store};
use crate::real::{LANES, Real, Simd};
use crate::tree;

/// The learning rate of an update, and how it first changes the gradient.
#[derive(Clone, Copy, Debug)]
pub struct Step<R> {
    /// The learning rate.
    pub rate: R,
    /// The clipping factor.
    pub scale: R,
    /// λ of λ/2 ‖w‖².
    pub decay: R,
}

/// Adam's constants at one step (Kingma and Ba 2015), bias corrections included.
#[derive(Clone, Copy, Debug)]
pub struct AdamStep<R> {
    /// Decay of the first moment since it was last written: β₁, or a power of it.
    pub decay1: R,
    /// The same for the second moment.
    pub decay2: R,
    /// 1 − β₁
    pub gain1: R,
    /// 1 − β₂
    pub gain2: R,
    /// rate / (1 − β₁ᵗ)
    pub rate: R,
    /// 1 / √(1 − β₂ᵗ)
    pub correction: R,
    /// Added to the square root.
    pub epsilon: R,
}

/// Calls `f` with w, g and `N` states, sixteen lanes at a time, and writes w and the states back. Returns 0, or NaN if a number written
/// is not finite: the sum of the products of weights and last states is not finite if any of them is not. If an earlier state is not
/// finite, `f` must return a weight that is not finite either.
#[inline(always)]
fn update<S: Simd, const N: usize>(
    s: S,
    w: &mut [S::R],
    g: &[S::R],
    state: [&mut [S::R]; N],
    step: Step<S::R>,
    f: impl Fn(S::V, S::V, [S::V; N]) -> (S::V, [S::V; N]),
) -> S::R {
    assert!(w.len() == g.len() && state.iter().all(|x| x.len() == w.len()));
    let (scale, decay) = (s.splat(step.scale), s.splat(step.decay));
    let (zero, mut sum) = (s.splat(S::R::of(0.0)), s.splat(S::R::of(0.0)));
    let whole = w.len() - w.len() % LANES;
    let mut i = 0;
    while i < whole {
        let weight = s.load(&w[i..]);
        let gradient = s.fma(decay, weight, s.mul(scale, s.load(&g[i..])));
        let (weight, new) = f(weight, gradient, std::array::from_fn(|k| s.load(&state[k][i..])));
        s.store(weight, &mut w[i..]);
        (0..N).for_each(|k| s.store(new[k], &mut state[k][i..]));
        sum = s.fma(weight, new.last().copied().unwrap_or(zero), sum);
        i += LANES;
    }
    if whole < w.len() {
        let weight = s.load_part(&w[whole..]);
        let gradient = s.fma(decay, weight, s.mul(scale, s.load_part(&g[whole..])));
        let (weight, new) = f(weight, gradient, std::array::from_fn(|k| s.load_part(&state[k][whole..])));
        s.store_part(weight, &mut w[whole..]);
        (0..N).for_each(|k| s.store_part(new[k], &mut state[k][whole..]));
        // Lanes beyond the end begin as zeros, which `f` preserves.
        sum = s.fma(weight, new.last().copied().unwrap_or(zero), sum);
    }
    s.sum(sum) * S::R::of(0.0)
}

kernel! {
    /// w ← w − rate · g
    pub fn sgd<'a>(w: &'a mut [R], g: &'a [R], step: Step<R>) -> R {
        |s| {
            let rate = s.splat(R::zero() - step.rate);
            update(s, w, g, [], step, #[inline(always)] |w, g, []| (s.fma(rate, g, w), []))
        }
    }
}

kernel! {
    /// a ← a + g²; w ← w − rate · g / (√a + ε) (Duchi et al. 2011)
    pub fn adagrad<'a>(w: &'a mut [R], g: &'a [R], a: &'a mut [R], step: Step<R>, epsilon: R) -> R {
        |s| {
            let (rate, epsilon) = (s.splat(R::zero() - step.rate), s.splat(epsilon));
            update(s, w, g, [a], step, #[inline(always)] |w, g, [a]| {
                let a = s.fma(g, g, a);
                (s.fma(rate, s.div(g, s.add(s.sqrt(a), epsilon)), w), [a])
            })
        }
    }
}

/// The penalties l1 |w| + l2/2 w² of a proximal step.
#[derive(Clone, Copy, Debug)]
pub struct Proximal<R> {
    /// Weight of |w|.
    pub l1: R,
    /// Weight of w²/2.
    pub l2: R,
}

/// The w that minimises ½(w − u)²/rate + l1 |w| + l2/2 w²: u is shrunk towards zero by rate · l1, then divided by 1 + rate · l2.
#[inline(always)]
fn shrunk<S: Simd>(s: S, u: S::V, rate: S::V, penalty: Proximal<S::V>) -> S::V {
    let (zero, one) = (s.splat(S::R::of(0.0)), s.splat(S::R::of(1.0)));
    let left = s.sub(s.abs(u), s.mul(rate, penalty.l1));
    // A NaN is not below zero and is kept.
    let left = s.if_greater(zero, left, zero, left);
    s.copysign(s.div(left, s.fma(rate, penalty.l2, one)), u)
}

kernel! {
    /// After [`sgd`]: the proximal step of the penalties, at the same rate for all weights.
    pub fn sgd_proximal<'a>(w: &'a mut [R], rate: R, penalty: Proximal<R>) {
        |s| {
            let (rate, penalty) = (s.splat(rate), Proximal { l1: s.splat(penalty.l1), l2: s.splat(penalty.l2) });
            super::map(s, w, #[inline(always)] |u| shrunk(s, u, rate, penalty));
        }
    }
}

kernel! {
    /// After [`adagrad`]: the same in its metric √a + ε, with a rate for each weight.
    pub fn adagrad_proximal<'a>(w: &'a mut [R], a: &'a [R], rate: R, epsilon: R, penalty: Proximal<R>) {
        |s| {
            let (rate, epsilon) = (s.splat(rate), s.splat(epsilon));
            let penalty = Proximal { l1: s.splat(penalty.l1), l2: s.splat(penalty.l2) };
            super::zip(s, w, a, #[inline(always)] |u, a| {
                shrunk(s, u, s.div(rate, s.add(s.sqrt(a), epsilon)), penalty)
            });
        }
    }
}

kernel! {
    /// a ← a + Σg²/n; w ← w − rate · g / (√a + ε): Adagrad with one accumulator for a row of n weights.
    pub fn adagrad_row<'a>(w: &'a mut [R], g: &'a [R], a: &'a mut R, step: Step<R>, epsilon: R) -> R {
        |s| {
            let mean = sum_squares(s, g) * step.scale * step.scale / R::of(g.len() as f64);
            *a += mean;
            let rate = s.splat(R::zero() - step.rate / (a.sqrt() + epsilon));
            *a * R::zero() + update(s, w, g, [], step, #[inline(always)] |w, g, []| (s.fma(rate, g, w), []))
        }
    }
}

kernel! {
    /// Adam's updates in steps whose gradient is zero: each of `steps` is a factor and a correction that include the decay of the
    /// moments since they were written: w ← w − factor · m / (√v · correction + ε)
    pub fn adam_idle<'a>(w: &'a mut [R], m: &'a [R], v: &'a [R], steps: &'a [[R; 2]], epsilon: R) {
        |s| {
            assert!(w.len() == m.len() && w.len() == v.len());
            let epsilon = s.splat(epsilon);
            for at in (0..w.len()).step_by(LANES) {
                let (m, root) = (load(s, m, at), s.sqrt(load(s, v, at)));
                let mut sum = load(s, w, at);
                for &[factor, correction] in steps {
                    let step = s.div(m, s.fma(root, s.splat(correction), epsilon));
                    sum = s.fma(s.splat(factor), step, sum);
                }
                store(s, sum, w, at);
            }
        }
    }
}

kernel! {
    /// m ← β₁m + (1 − β₁)g; v ← β₂v + (1 − β₂)g²; w ← w − rate · m / (√v · correction + ε)
    pub fn adam<'a>(w: &'a mut [R], g: &'a [R], m: &'a mut [R], v: &'a mut [R], step: Step<R>, adam: AdamStep<R>) -> R {
        |s| {
            let (beta1, beta2) = (s.splat(adam.decay1), s.splat(adam.decay2));
            let (gain1, gain2) = (s.splat(adam.gain1), s.splat(adam.gain2));
            let (rate, correction, epsilon) = (s.splat(R::zero() - adam.rate), s.splat(adam.correction), s.splat(adam.epsilon));
            update(s, w, g, [m, v], step, #[inline(always)] |w, g, [m, v]| {
                let m = s.fma(gain1, g, s.mul(beta1, m));
                let v = s.fma(s.mul(gain2, g), g, s.mul(beta2, v));
                let root = s.fma(s.sqrt(v), correction, epsilon);
                (s.fma(rate, s.div(m, root), w), [m, v])
            })
        }
    }
}

kernel! {
    /// Σ x², in sixteen lanes for each unit of so many elements, and by the [`tree`] of the units.
    pub fn sum_of_squares<'a>(x: &'a [R], unit: usize) -> f64 {
        |s| {
            let mut sum = tree::Sum::new(0.0);
            for x in x.chunks(unit) {
                sum.add(sum_squares(s, x).f64(), |a, b| a + b);
            }
            sum.total(|a, b| a + b).unwrap_or(0.0)
        }
    }
}

#[inline(always)]
fn sum_squares<S: Simd>(s: S, x: &[S::R]) -> S::R {
    let chunks = x.chunks_exact(LANES);
    let rest = s.load_part(chunks.remainder());
    let mut sum = s.mul(rest, rest);
    for x in chunks {
        let x = s.load(x);
        sum = s.fma(x, x, sum);
    }
    s.sum(sum)
}

kernel! {
    /// y ← y + x
    pub fn add<'a>(y: &'a mut [R], x: &'a [R]) {
        |s| super::zip(s, y, x, #[inline(always)] |y, x| s.add(y, x))
    }
}
