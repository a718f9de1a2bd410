//! Dropout (equations, section 5). A mask is a function of its [`Place`], so that backward regenerates it and nothing is stored.

use super::kernel;
use crate::real::{LANES, Real};
use crate::rng::{Place, philox};

/// Keeps each unit with probability `probability`, multiplied by `scale` (inverted: 1/`probability`; in the source's form: 1).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Keep {
    threshold: u32,
    scale: f64,
}

impl Keep {
    /// Inverted dropout: kept units are scaled by 1/`probability`, and nothing is done at test time. `probability` is in (0, 1], and is
    /// rounded to a multiple of 2⁻³², also in the scale.
    pub fn inverted(probability: f64) -> Keep {
        assert!(probability > 0.0 && probability <= 1.0, "keep probability {probability} is outside (0, 1]");
        let threshold = (probability * 4_294_967_296.0).round().clamp(1.0, 4_294_967_295.0) as u32;
        let kept = if probability == 1.0 { 1.0 } else { f64::from(threshold) / 4_294_967_296.0 };
        Keep { threshold: if probability == 1.0 { u32::MAX } else { threshold }, scale: 1.0 / kept }
    }

    /// The source's form: kept units are not scaled; at test time all units are multiplied by [`Keep::share`].
    pub fn unscaled(probability: f64) -> Keep {
        Keep { scale: 1.0, ..Keep::inverted(probability) }
    }

    /// The fraction kept, as rounded.
    pub fn share(self) -> f64 {
        if self.everything() { 1.0 } else { f64::from(self.threshold) / 4_294_967_296.0 }
    }

    /// Whether nothing is dropped.
    pub fn everything(self) -> bool {
        self.threshold == u32::MAX
    }
}

/// y = m ∘ x · scale, with the mask of `place`; elements are numbered from 0.
pub fn dropout<R: Real>(keep: Keep, place: Place, x: &[R], y: &mut [R]) {
    assert_eq!(x.len(), y.len());
    if keep.everything() {
        y.copy_from_slice(x);
    } else {
        masked(keep, place, x, y);
    }
}

/// g ← g ∘ m · scale: the same mask again, in place.
pub fn dropout_backward<R: Real>(keep: Keep, place: Place, g: &mut [R]) {
    if !keep.everything() {
        masked_in_place(keep, place, g);
    }
}

/// m = the factors of `place`'s mask, 0 or 1/share, for repeated use: in a small network drawing a mask twice costs more than keeping
/// it for the backward pass. Two elements share a word, so that the fraction kept is a multiple of 2⁻¹⁶.
pub fn factors<R: Real>(keep: Keep, place: Place, m: &mut [R]) {
    if keep.everything() {
        m.fill(R::one());
    } else {
        let threshold = (keep.threshold >> 16).max(1);
        factors_below(threshold, R::of(65_536.0 / f64::from(threshold)), place, m);
    }
}

kernel! {
    fn factors_below<'a>(threshold: u32, scale: R, place: Place, m: &'a mut [R]) {
        |_s| for (round, m) in m.chunks_mut(2 * ROUND).enumerate() {
            let words = drawn(place, round as u32);
            for (half, m) in m.chunks_mut(ROUND).enumerate() {
                for (m, words) in m.chunks_mut(LANES).zip(&words) {
                    for (m, word) in m.iter_mut().zip(words) {
                        *m = if word >> (16 * half) & 0xFFFF < threshold { scale } else { R::zero() };
                    }
                }
            }
        }
    }
}

/// x ← x · factor
pub fn scale<R: Real>(factor: R, x: &mut [R]) {
    if factor != R::one() {
        x.iter_mut().for_each(|x| *x *= factor);
    }
}

kernel! {
    /// x ← x ∘ m
    pub fn multiply<'a>(x: &'a mut [R], m: &'a [R]) {
        |s| super::zip(s, x, m, #[inline(always)] |x, m| s.mul(x, m))
    }
}

/// Elements per round of sixteen Philox counters.
const ROUND: usize = 4 * LANES;

kernel! {
    fn masked<'a>(keep: Keep, place: Place, x: &'a [R], y: &'a mut [R]) {
        |_s| for (i, (x, y)) in x.chunks(ROUND).zip(y.chunks_mut(ROUND)).enumerate() {
            let mask = mask::<R>(keep, place, i as u32);
            for ((y, &x), m) in y.iter_mut().zip(x).zip(mask) {
                *y = x * m;
            }
        }
    }
}

kernel! {
    fn masked_in_place<'a>(keep: Keep, place: Place, g: &'a mut [R]) {
        |_s| for (i, g) in g.chunks_mut(ROUND).enumerate() {
            let mask = mask::<R>(keep, place, i as u32);
            for (g, m) in g.iter_mut().zip(mask) {
                *g *= m;
            }
        }
    }
}

/// Factors of elements `64 · round ..`: word j of counter 16 · round + l belongs to element 16j + l.
#[inline(always)]
fn mask<R: Real>(keep: Keep, place: Place, round: u32) -> [R; ROUND] {
    let words = drawn(place, round);
    let scale = R::of(keep.scale);
    std::array::from_fn(|i| if words[i / LANES][i % LANES] < keep.threshold { scale } else { R::zero() })
}

/// Word j of the counters 16 · round + l, for each l.
#[expect(clippy::needless_range_loop, reason = "lane is the counter as well as the place")]
#[inline(always)]
fn drawn(place: Place, round: u32) -> [[u32; LANES]; 4] {
    let mut words = [[0u32; LANES]; 4];
    for lane in 0..LANES {
        let [a, b, c] = place.counter;
        let drawn = philox([round * LANES as u32 + lane as u32, a, b, c], place.key);
        for j in 0..4 {
            words[j][lane] = drawn[j];
        }
    }
    words
}
