//! The gates of a GRU, of an LSTM and of a gated-feedback layer, each fused into one pass over memory (equations, sections 7 and 8).

use super::kernel;
use super::{load, store};
use crate::real::{LANES, Real, Simd};

/// Splits a row into parts of `units` elements.
#[inline(always)]
fn parts<R, const N: usize>(row: &mut [R], units: usize) -> [&mut [R]; N] {
    let mut parts = row.chunks_exact_mut(units);
    std::array::from_fn(|_| parts.next().expect("the row has its parts"))
}

/// A gated recurrent unit: computes from the pre-activations of r, z and n these gates, the candidate and the state.
///
/// r = σ(r)    z = σ(z)    n = tanh(n + r ∘ q)    h = (1 − z) ∘ h₋ + z ∘ n
#[inline(always)]
fn unit<S: Simd>(s: S, [r, z, n]: [S::V; 3], q: S::V, past: S::V) -> ([S::V; 3], S::V) {
    let (reset, update) = (s.sigmoid(r), s.sigmoid(z));
    let candidate = s.tanh(s.fma(reset, q, n));
    ([reset, update, candidate], s.fma(update, s.sub(candidate, past), past))
}

/// Its backward: from r, z, n and ∂h, ∂r, ∂z, ∂n, ∂q, and the part of ∂h₋ that bypasses the products.
///
/// ∂n = ∂h ∘ z ∘ (1 − n²)    ∂r = ∂n ∘ q ∘ r(1 − r)    ∂z = ∂h ∘ (n − h₋) ∘ z(1 − z)    ∂q = ∂n ∘ r    ∂h₋ = ∂h ∘ (1 − z)
#[inline(always)]
fn unit_backward<S: Simd>(s: S, [r, z, n]: [S::V; 3], q: S::V, past: S::V, dh: S::V) -> ([S::V; 3], S::V, S::V) {
    let one = s.splat(S::R::of(1.0));
    let through = s.mul(dh, z);
    let kept = s.sub(dh, through);
    let dn = s.mul(through, s.sub(one, s.mul(n, n)));
    let dq = s.mul(dn, r);
    let dr = s.mul(s.mul(dq, q), s.sub(one, r));
    let dz = s.mul(s.mul(kept, z), s.sub(n, past));
    ([dr, dz, dn], dq, kept)
}

/// Reads the `k`th sixteen elements of each of three rows.
#[inline(always)]
fn load3<S: Simd>(s: S, [a, b, c]: &[&mut [S::R]; 3], k: usize) -> [S::V; 3] {
    [load(s, a, k), load(s, b, k), load(s, c, k)]
}

/// Writes the `k`th sixteen elements of each of three rows.
#[inline(always)]
fn store3<S: Simd>(s: S, v: [S::V; 3], rows: &mut [&mut [S::R]; 3], k: usize) {
    rows.iter_mut().zip(v).for_each(|(row, v)| store(s, v, row, k));
}

kernel! {
    /// r = σ(r)    z = σ(z)    n = tanh(n + r ∘ q)    h = (1 − z) ∘ h₋ + z ∘ n
    ///
    /// A row of `a` \[b, 4·H\] is \[q | r | z | n\]; r, z and n are stored in it. `h`, `before` = h₋: \[b, H\].
    pub fn gru<'a>(h: &'a mut [R], a: &'a mut [R], before: &'a [R], units: usize) {
        |s| {
            assert!(h.len() == before.len() && a.len() == 4 * h.len());
            let rows = h.chunks_exact_mut(units).zip(a.chunks_exact_mut(4 * units)).zip(before.chunks_exact(units));
            for ((h, a), before) in rows {
                let [q, mut gates @ ..]: [_; 4] = parts(a, units);
                for k in (0..units).step_by(LANES) {
                    let (kept, state) = unit(s, load3(s, &gates, k), load(s, q, k), load(s, before, k));
                    store3(s, kept, &mut gates, k);
                    store(s, state, h, k);
                }
            }
        }
    }
}

kernel! {
    /// From `dh` = ∂J/∂h, replaces what [`gru`] stores in `a` by its gradient, and `carry` by the part of ∂J/∂h₋ that bypasses the
    /// products:
    ///
    /// ∂n = ∂h ∘ z ∘ (1 − n²)    ∂r = ∂n ∘ q ∘ r(1 − r)    ∂z = ∂h ∘ (n − h₋) ∘ z(1 − z)    ∂q = ∂n ∘ r    ∂h₋ = ∂h ∘ (1 − z)
    pub fn gru_backward<'a>(a: &'a mut [R], carry: &'a mut [R], dh: &'a [R], before: &'a [R], units: usize) {
        |s| {
            assert!(dh.len() == before.len() && dh.len() == carry.len() && a.len() == 4 * dh.len());
            let rows = a.chunks_exact_mut(4 * units).zip(carry.chunks_exact_mut(units));
            for (((a, carry), dh), before) in rows.zip(dh.chunks_exact(units)).zip(before.chunks_exact(units)) {
                let [q, mut gates @ ..]: [_; 4] = parts(a, units);
                for k in (0..units).step_by(LANES) {
                    let (dh, past) = (load(s, dh, k), load(s, before, k));
                    let (back, dq, kept) = unit_backward(s, load3(s, &gates, k), load(s, q, k), past, dh);
                    store(s, dq, q, k);
                    store3(s, back, &mut gates, k);
                    store(s, kept, carry, k);
                }
            }
        }
    }
}

kernel! {
    /// i, f, o = σ(i, f, o)    g = tanh(g)    c = f ∘ c₋ + i ∘ g    h = o ∘ tanh(c)
    ///
    /// A row of `a` \[b, 5·H\] is \[i | f | g | o | c\]; all are stored in it. A row of `before` \[b, 2·H\] is \[h₋ | c₋\]. `h`: \[b, H\].
    pub fn lstm<'a>(h: &'a mut [R], a: &'a mut [R], before: &'a [R], units: usize) {
        |s| {
            assert!(before.len() == 2 * h.len() && a.len() == 5 * h.len());
            let rows = h.chunks_exact_mut(units).zip(a.chunks_exact_mut(5 * units)).zip(before.chunks_exact(2 * units));
            for ((h, a), before) in rows {
                let ([i, f, g, o, c], past): ([_; 5], _) = (parts(a, units), &before[units..]);
                for k in (0..units).step_by(LANES) {
                    let (input, forget) = (s.sigmoid(load(s, i, k)), s.sigmoid(load(s, f, k)));
                    let (candidate, output) = (s.tanh(load(s, g, k)), s.sigmoid(load(s, o, k)));
                    let cell = s.fma(forget, load(s, past, k), s.mul(input, candidate));
                    store(s, input, i, k);
                    store(s, forget, f, k);
                    store(s, candidate, g, k);
                    store(s, output, o, k);
                    store(s, cell, c, k);
                    store(s, s.mul(output, s.tanh(cell)), h, k);
                }
            }
        }
    }
}

kernel! {
    /// From `dh` = ∂J/∂h and the part of ∂J/∂c in the second half of the rows of `carry` \[b, 2·H\], replaces what [`lstm`] stores in
    /// `a`, except c, by its gradient, and `carry` by the part of ∂J/∂h₋ and ∂J/∂c₋ that bypasses the products, \[0 | ∂c ∘ f\]:
    ///
    /// ∂o = ∂h ∘ tanh(c) ∘ o(1 − o)    ∂c += ∂h ∘ o ∘ (1 − tanh²(c))
    /// ∂i = ∂c ∘ g ∘ i(1 − i)    ∂f = ∂c ∘ c₋ ∘ f(1 − f)    ∂g = ∂c ∘ i ∘ (1 − g²)
    pub fn lstm_backward<'a>(a: &'a mut [R], carry: &'a mut [R], dh: &'a [R], before: &'a [R], units: usize) {
        |s| {
            assert!(before.len() == 2 * dh.len() && before.len() == carry.len() && a.len() == 5 * dh.len());
            let one = s.splat(R::one());
            let slope = |gate| s.mul(gate, s.sub(one, gate));
            let rows = a.chunks_exact_mut(5 * units).zip(carry.chunks_exact_mut(2 * units));
            for (((a, carry), dh), before) in rows.zip(dh.chunks_exact(units)).zip(before.chunks_exact(2 * units)) {
                let ([i, f, g, o, c], past): ([_; 5], _) = (parts(a, units), &before[units..]);
                let (by_h, by_c) = carry.split_at_mut(units);
                by_h.fill(R::zero());
                for k in (0..units).step_by(LANES) {
                    let (input, forget, candidate) = (load(s, i, k), load(s, f, k), load(s, g, k));
                    let (output, dh, shown) = (load(s, o, k), load(s, dh, k), s.tanh(load(s, c, k)));
                    let through = s.mul(dh, output);
                    let dc = s.fma(through, s.sub(one, s.mul(shown, shown)), load(s, by_c, k));
                    store(s, s.mul(s.mul(dc, candidate), slope(input)), i, k);
                    store(s, s.mul(s.mul(dc, load(s, past, k)), slope(forget)), f, k);
                    store(s, s.mul(s.mul(dc, input), s.sub(one, s.mul(candidate, candidate))), g, k);
                    store(s, s.mul(s.mul(dh, shown), slope(output)), o, k);
                    store(s, s.mul(dc, forget), by_c, k);
                }
            }
        }
    }
}

/// The layout of a row in a gated-feedback step: for layer j of L, with H units.
#[derive(Clone, Copy, Debug)]
pub struct Feedback {
    /// H
    pub units: usize,
    /// L
    pub layers: usize,
    /// j, from 0
    pub layer: usize,
    /// Whether the units are GRUs, with their own gates r and z; otherwise tanh units.
    pub gru: bool,
}

impl Feedback {
    /// Number of columns that one layer sends: to each layer, and with GRUs also to its own r and z.
    pub fn sent(self) -> usize {
        (self.layers + if self.gru { 2 } else { 0 }) * self.units
    }

    /// Number of pre-activations of a layer: \[n\], or \[r | z | n\].
    pub fn width(self) -> usize {
        if self.gru { 3 * self.units } else { self.units }
    }
}

kernel! {
    /// v = Σᵢ gⁱ qⁱ    h = tanh(a + v), or with GRUs r = σ(r + qʳ)    z = σ(z + qᶻ)    n = tanh(n + r ∘ v)    h = (1 − z) ∘ h₋ + z ∘ n
    ///
    /// `a`: \[b, width\], stores r, z and n. `q`: \[b, L·sent\]. `g`: \[b, L·L\], gates of layer j at j·L. `before`: \[b, L·H\].
    pub fn feedback<'a>(at: Feedback, h: &'a mut [R], a: &'a mut [R], q: &'a [R], g: &'a [R], before: &'a [R]) {
        |s| {
            let Feedback { units, layers, layer, gru } = at;
            let (sent, width) = (at.sent(), at.width());
            let b = h.len() / units;
            assert!(a.len() == b * width && q.len() == b * layers * sent && g.len() == b * layers * layers);
            assert!(h.len() == b * units && before.len() == b * layers * units);
            let rows = h.chunks_exact_mut(units).zip(a.chunks_exact_mut(width)).zip(q.chunks_exact(layers * sent));
            let rows = rows.zip(g.chunks_exact(layers * layers)).zip(before.chunks_exact(layers * units));
            for ((((h, a), q), g), before) in rows {
                let (g, before) = (&g[layer * layers..][..layers], &before[layer * units..][..units]);
                let from = |i: usize| &q[i * sent + layer * units..][..units];
                let own = &q[layer * sent + layers * units..(layer + 1) * sent];
                for k in (0..units).step_by(LANES) {
                    let mut v = s.splat(R::zero());
                    for (i, &g) in g.iter().enumerate() {
                        v = s.fma(s.splat(g), load(s, from(i), k), v);
                    }
                    if gru {
                        let mut gates: [_; 3] = parts(a, units);
                        let [mut r, mut z, n] = load3(s, &gates, k);
                        (r, z) = (s.add(r, load(s, &own[..units], k)), s.add(z, load(s, &own[units..], k)));
                        let (kept, state) = unit(s, [r, z, n], v, load(s, before, k));
                        store3(s, kept, &mut gates, k);
                        store(s, state, h, k);
                    } else {
                        store(s, s.tanh(s.add(load(s, a, k), v)), h, k);
                    }
                }
            }
        }
    }
}

/// The operands of [`feedback_backward`].
pub struct FeedbackGradient<'a, R> {
    /// What [`feedback`] stores; becomes ∂J/∂(pre-activations). \[b, width\]
    pub a: &'a mut [R],
    /// Becomes ∂J/∂q in the columns of layer j. \[b, L·sent\]
    pub q: &'a mut [R],
    /// Gates; those of layer j become ∂J/∂s. \[b, L·L\]
    pub g: &'a mut [R],
    /// Receives the part of ∂J/∂h₋ that bypasses the products, in the columns of layer j. \[b, L·H\]
    pub carry: &'a mut [R],
    /// A buffer for one row. \[H\]
    pub dv: &'a mut [R],
    /// ∂J/∂h \[b, H\]
    pub dh: &'a [R],
    /// \[b, H\]
    pub h: &'a [R],
    /// \[b, L·H\]
    pub before: &'a [R],
}

kernel! {
    /// ∂v = ∂n (tanh units) or ∂n ∘ r    ∂gⁱ = ⟨∂v, qⁱ⟩    ∂sⁱ = gⁱ(1 − gⁱ) ∂gⁱ    ∂qⁱ = gⁱ ∂v; the rest as in [`gru_backward`].
    pub fn feedback_backward<'a>(at: Feedback, x: FeedbackGradient<'a, R>) {
        |s| {
            let Feedback { units, layers, layer, gru } = at;
            let (sent, width) = (at.sent(), at.width());
            let one = s.splat(R::one());
            let FeedbackGradient { a, q, g, carry, dv, dh, h, before } = x;
            let b = h.len() / units;
            assert!(a.len() == b * width && q.len() == b * layers * sent && g.len() == b * layers * layers);
            assert!(dh.len() == h.len() && before.len() == b * layers * units && carry.len() == before.len());
            let rows = a.chunks_exact_mut(width).zip(q.chunks_exact_mut(layers * sent));
            let rows = rows.zip(g.chunks_exact_mut(layers * layers)).zip(carry.chunks_exact_mut(layers * units));
            let rows = rows.zip(dh.chunks_exact(units)).zip(h.chunks_exact(units)).zip(before.chunks_exact(layers * units));
            for ((((((a, q), g), carry), dh), h), before) in rows {
                let (carry, before) = (&mut carry[layer * units..][..units], &before[layer * units..][..units]);
                let g = &mut g[layer * layers..][..layers];
                let from = |i: usize| i * sent + layer * units..i * sent + (layer + 1) * units;
                let own = layer * sent + layers * units;
                for k in (0..units).step_by(LANES) {
                    let out = load(s, dh, k);
                    if gru {
                        let mut v = s.splat(R::zero());
                        for (i, &g) in g.iter().enumerate() {
                            v = s.fma(s.splat(g), load(s, &q[from(i)], k), v);
                        }
                        let mut gates: [_; 3] = parts(a, units);
                        let (back, dq, kept) = unit_backward(s, load3(s, &gates, k), v, load(s, before, k), out);
                        store3(s, back, &mut gates, k);
                        let [dr, dz, _] = back;
                        store(s, dr, &mut q[own..own + units], k);
                        store(s, dz, &mut q[own + units..own + 2 * units], k);
                        store(s, dq, dv, k);
                        store(s, kept, carry, k);
                    } else {
                        let h = load(s, h, k);
                        let back = s.mul(out, s.sub(one, s.mul(h, h)));
                        store(s, back, a, k);
                        store(s, back, dv, k);
                        store(s, s.splat(R::zero()), carry, k);
                    }
                }
                for (i, g) in g.iter_mut().enumerate() {
                    let (q, gate) = (&mut q[from(i)], s.splat(*g));
                    let mut sum = s.splat(R::zero());
                    for k in (0..units).step_by(LANES) {
                        let dv = load(s, dv, k);
                        sum = s.fma(dv, load(s, q, k), sum);
                        store(s, s.mul(gate, dv), q, k);
                    }
                    *g = *g * (R::one() - *g) * s.sum(sum);
                }
            }
        }
    }
}
