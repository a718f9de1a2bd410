//! The gates of a GRU and of a gated-feedback layer, each fused into one pass over memory (equations, sections 7 and 8).

use super::kernel;
use crate::real::{LANES, Simd};

/// Up to sixteen elements from `at`.
#[inline(always)]
fn load<S: Simd>(s: S, x: &[S::R], at: usize) -> S::V {
    match x[at..].first_chunk::<LANES>() {
        Some(whole) => s.load(whole),
        None => s.load_part(&x[at..]),
    }
}

/// Up to sixteen elements to `at`.
#[inline(always)]
fn store<S: Simd>(s: S, v: S::V, x: &mut [S::R], at: usize) {
    match x[at..].first_chunk_mut::<LANES>() {
        Some(whole) => s.store(v, whole),
        None => s.store_part(v, &mut x[at..]),
    }
}

/// A row in parts of `units` elements.
#[inline(always)]
fn parts<R, const N: usize>(row: &mut [R], units: usize) -> [&mut [R]; N] {
    let mut parts = row.chunks_exact_mut(units);
    std::array::from_fn(|_| parts.next().expect("the row has its parts"))
}

kernel! {
    /// r = σ(r)    z = σ(z)    n = tanh(n + r ∘ q)    h = (1 − z) ∘ h₋ + z ∘ n
    ///
    /// A row of `a` \[b, 4·H\] is \[q | r | z | n\]; r, z and n are kept in it. `h`, `before` = h₋: \[b, H\].
    pub fn gru<'a>(h: &'a mut [R], a: &'a mut [R], before: &'a [R], units: usize) {
        |s| {
            assert!(h.len() == before.len() && a.len() == 4 * h.len());
            let rows = h.chunks_exact_mut(units).zip(a.chunks_exact_mut(4 * units)).zip(before.chunks_exact(units));
            for ((h, a), before) in rows {
                let [q, r, z, n] = parts(a, units);
                for k in (0..units).step_by(LANES) {
                    let reset = s.sigmoid(load(s, r, k));
                    let update = s.sigmoid(load(s, z, k));
                    let candidate = s.tanh(s.fma(reset, load(s, q, k), load(s, n, k)));
                    let past = load(s, before, k);
                    store(s, reset, r, k);
                    store(s, update, z, k);
                    store(s, candidate, n, k);
                    store(s, s.fma(update, s.sub(candidate, past), past), h, k);
                }
            }
        }
    }
}

kernel! {
    /// From `dh` = ∂J/∂h, what [`gru`] keeps in `a` becomes its gradient, and `carry` the part of ∂J/∂h₋ that passes by the products:
    ///
    /// ∂n = ∂h ∘ z ∘ (1 − n²)    ∂r = ∂n ∘ q ∘ r(1 − r)    ∂z = ∂h ∘ (n − h₋) ∘ z(1 − z)    ∂q = ∂n ∘ r    ∂h₋ = ∂h ∘ (1 − z)
    pub fn gru_backward<'a>(a: &'a mut [R], carry: &'a mut [R], dh: &'a [R], before: &'a [R], units: usize) {
        |s| {
            assert!(dh.len() == before.len() && dh.len() == carry.len() && a.len() == 4 * dh.len());
            let one = s.splat(R::one());
            let rows = a.chunks_exact_mut(4 * units).zip(carry.chunks_exact_mut(units));
            for (((a, carry), dh), before) in rows.zip(dh.chunks_exact(units)).zip(before.chunks_exact(units)) {
                let [q, r, z, n] = parts(a, units);
                for k in (0..units).step_by(LANES) {
                    let (reset, update, candidate) = (load(s, r, k), load(s, z, k), load(s, n, k));
                    let (dh, past) = (load(s, dh, k), load(s, before, k));
                    let through = s.mul(dh, update);
                    let kept = s.sub(dh, through);
                    let dn = s.mul(through, s.sub(one, s.mul(candidate, candidate)));
                    let dq = s.mul(dn, reset);
                    let dr = s.mul(s.mul(dq, load(s, q, k)), s.sub(one, reset));
                    let dz = s.mul(s.mul(kept, update), s.sub(candidate, past));
                    store(s, dq, q, k);
                    store(s, dr, r, k);
                    store(s, dz, z, k);
                    store(s, dn, n, k);
                    store(s, kept, carry, k);
                }
            }
        }
    }
}

/// Where a row of a gated-feedback step has what: for layer j of L, with H units.
#[derive(Clone, Copy, Debug)]
pub struct Feedback {
    /// H
    pub units: usize,
    /// L
    pub layers: usize,
    /// j, from 0
    pub layer: usize,
    /// Whether the units are GRUs, with gates r and z of their own; else tanh units.
    pub gru: bool,
}

impl Feedback {
    /// Columns of what one layer sends: to each layer, and with GRUs to its own r and z.
    pub fn sent(self) -> usize {
        (self.layers + if self.gru { 2 } else { 0 }) * self.units
    }

    /// Pre-activations of a layer: \[n\], or \[r | z | n\].
    pub fn width(self) -> usize {
        if self.gru { 3 * self.units } else { self.units }
    }
}

kernel! {
    /// v = Σᵢ gⁱ qⁱ    h = tanh(a + v), or with GRUs r = σ(r + qʳ)    z = σ(z + qᶻ)    n = tanh(n + r ∘ v)    h = (1 − z) ∘ h₋ + z ∘ n
    ///
    /// `a`: \[b, width\], keeps r, z and n. `q`: \[b, L·sent\]. `g`: \[b, L·L\], gates of layer j at j·L. `before`: \[b, L·H\].
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
                        let [r, z, n] = parts(a, units);
                        let reset = s.sigmoid(s.add(load(s, r, k), load(s, &own[..units], k)));
                        let update = s.sigmoid(s.add(load(s, z, k), load(s, &own[units..], k)));
                        let candidate = s.tanh(s.fma(reset, v, load(s, n, k)));
                        let past = load(s, before, k);
                        store(s, reset, r, k);
                        store(s, update, z, k);
                        store(s, candidate, n, k);
                        store(s, s.fma(update, s.sub(candidate, past), past), h, k);
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
    /// What [`feedback`] keeps; becomes ∂J/∂(pre-activations). \[b, width\]
    pub a: &'a mut [R],
    /// Becomes ∂J/∂q in the columns of layer j. \[b, L·sent\]
    pub q: &'a mut [R],
    /// Gates; those of layer j become ∂J/∂s. \[b, L·L\]
    pub g: &'a mut [R],
    /// Gets the part of ∂J/∂h₋ that passes by the products, in the columns of layer j. \[b, L·H\]
    pub carry: &'a mut [R],
    /// Room for a row. \[H\]
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
                        let [r, z, n] = parts(a, units);
                        let mut v = s.splat(R::zero());
                        for (i, &g) in g.iter().enumerate() {
                            v = s.fma(s.splat(g), load(s, &q[from(i)], k), v);
                        }
                        let (reset, update, candidate) = (load(s, r, k), load(s, z, k), load(s, n, k));
                        let through = s.mul(out, update);
                        let kept = s.sub(out, through);
                        let dn = s.mul(through, s.sub(one, s.mul(candidate, candidate)));
                        let back = s.mul(dn, reset);
                        let dr = s.mul(s.mul(back, v), s.sub(one, reset));
                        let dz = s.mul(s.mul(kept, update), s.sub(candidate, load(s, before, k)));
                        store(s, dr, r, k);
                        store(s, dz, z, k);
                        store(s, dn, n, k);
                        store(s, dr, &mut q[own..own + units], k);
                        store(s, dz, &mut q[own + units..own + 2 * units], k);
                        store(s, back, dv, k);
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
