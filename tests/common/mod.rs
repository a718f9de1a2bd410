//! Shared by the tests: one comparator, random numbers, and a numerical check of gradients.

#![allow(dead_code, reason = "each test binary uses its part of what is shared")]

use std::fmt::Display;
use wordmill::Real;
use wordmill::params::Arena;
use wordmill::rng::{Purpose, Stream};

/// Fails unless |got − want| ≤ tolerance · max(|got|, |want|, floor); NaN fails, as it compares as false.
pub fn assert_close(what: impl Display, got: f64, want: f64, tolerance: f64, floor: f64) {
    let error = (got - want).abs() / got.abs().max(want.abs()).max(floor);
    let close = error <= tolerance;
    if !close {
        panic!("{what}: got {got:e}, want {want:e}, relative error {error:e} above {tolerance:e}");
    }
}

/// [`assert_close`] for all elements, relative to the largest of `want`; also fails where all of `want` is zero.
pub fn assert_all_close(what: &str, got: &[f64], want: &[f64], tolerance: f64) {
    assert_eq!(got.len(), want.len(), "{what}: lengths");
    let largest = want.iter().fold(0.0f64, |a, &x| if x.is_nan() { f64::NAN } else { a.max(x.abs()) });
    assert!(largest > 0.0, "{what}: everything expected is zero (or NaN)");
    for (i, (&got, &want)) in got.iter().zip(want).enumerate() {
        assert_close(format_args!("{what}[{i}]"), got, want, tolerance, largest);
    }
}

/// A hash of the values of `x`: equal for equal bits, with all NaNs equal (their bits are not determined by the arithmetic).
pub fn hash<R: Real>(x: &[R]) -> u64 {
    x.iter().fold(0xCBF2_9CE4_8422_2325, |hash: u64, x| {
        let bits = if x.is_nan() { f64::NAN.to_bits() } else { x.f64().to_bits() };
        (hash ^ bits).wrapping_mul(0x0000_0100_0000_01B3).rotate_left(29)
    })
}

/// `n` uniform numbers in ±`width`, the same for f32 and f64 (they are f32 values).
pub fn uniform<R: Real>(n: usize, width: f64, seed: u64) -> Vec<R> {
    use rand::RngExt;
    let mut stream = Stream::new(seed, Purpose::Init, 1, 0);
    (0..n).map(|_| R::of(f64::from(((stream.random::<f64>() * 2.0 - 1.0) * width) as f32))).collect()
}

/// The same numbers in f64.
pub fn widened<R: Real>(x: &[R]) -> Vec<f64> {
    x.iter().map(|x| x.f64()).collect()
}

/// Fills an arena with uniform numbers in ±`width`, tensor by tensor; the padding stays zero.
pub fn fill_uniform<R: Real>(w: &mut Arena<R>, width: f64, seed: u64) {
    use rand::RngExt;
    let layout = w.layout().clone();
    for (i, (p, _)) in layout.tensors().enumerate() {
        let mut stream = Stream::new(seed, Purpose::Init, 0, i as u32);
        w.slice_mut(p).iter_mut().for_each(|x| *x = R::of((stream.random::<f64>() * 2.0 - 1.0) * width));
    }
}

/// Checks `gradient` against central differences of `loss` at every element of `w`, and that no tensor's gradient is all zero.
pub fn check_gradient(gradient: &Arena<f64>, w: &Arena<f64>, tolerance: f64, mut loss: impl FnMut(&Arena<f64>) -> f64) {
    let mut w = w.clone();
    let layout = w.layout().clone();
    for (p, tensor) in layout.tensors() {
        // Fourth-order central differences: truncation ~h⁴, rounding ~1e-16/h.
        let h = 2e-3;
        let numeric: Vec<f64> = (0..tensor.range().len())
            .map(|i| {
                let x = w.slice(p)[i];
                let mut at = |offset: f64| {
                    w.slice_mut(p)[i] = x + offset * h;
                    let loss = loss(&w);
                    w.slice_mut(p)[i] = x;
                    loss
                };
                (8.0 * (at(1.0) - at(-1.0)) - (at(2.0) - at(-2.0))) / (12.0 * h)
            })
            .collect();
        assert_all_close(&tensor.name, gradient.slice(p), &numeric, tolerance);
    }
}
