//! The exact softmax on a tile of logits (equations, section 2). A tile holds vocabulary words in rows and tokens in columns, so
//! that everything per token (maximum, sum, scale) runs down the lanes, and everything per word (bias) along a row.

use super::kernel;
use crate::real::{LANES, Real, Simd};

/// Columns worked on together, as vectors.
const STRIP: usize = 4;

kernel! {
    /// Turns logits without bias into exponentials: x\[v, t\] ← exp(x\[v, t\] + bias\[v\] − max\[t\]), where max\[t\] is the
    /// largest biased logit of column t, returned with the column's sum of exponentials.
    /// `x`: \[rows, columns\], columns a multiple of 16.
    fn exp_columns<'a>(x: &'a mut [R], bias: &'a [R], max: &'a mut [R], sum: &'a mut [R]) {
        |s| {
            let columns = max.len();
            assert!(columns.is_multiple_of(LANES) && x.len() == bias.len() * columns && sum.len() == columns);
            let mut column = 0;
            while column < columns {
                let width = (columns - column).min(STRIP * LANES);
                match width / LANES {
                    4 => exp_strip::<S, 4>(s, x, bias, column, max, sum),
                    3 => exp_strip::<S, 3>(s, x, bias, column, max, sum),
                    2 => exp_strip::<S, 2>(s, x, bias, column, max, sum),
                    _ => exp_strip::<S, 1>(s, x, bias, column, max, sum),
                }
                column += width;
            }
        }
    }
}

#[inline(always)]
fn exp_strip<S: Simd, const N: usize>(
    s: S,
    x: &mut [S::R],
    bias: &[S::R],
    column: usize,
    max: &mut [S::R],
    sum: &mut [S::R],
) {
    let columns = max.len();
    let strip = column..column + N * LANES;
    let mut largest = [s.splat(S::R::of(f64::NEG_INFINITY)); N];
    for (row, &b) in x.chunks_exact(columns).zip(bias) {
        let (row, b) = (&row[strip.clone()], s.splat(b));
        for i in 0..N {
            largest[i] = s.max(s.add(s.load(&row[i * LANES..]), b), largest[i]);
        }
    }
    let mut total = [s.splat(S::R::of(0.0)); N];
    for (row, &b) in x.chunks_exact_mut(columns).zip(bias) {
        let (row, b) = (&mut row[strip.clone()], s.splat(b));
        for i in 0..N {
            let x = &mut row[i * LANES..(i + 1) * LANES];
            let e = s.exp(s.sub(s.add(s.load(x), b), largest[i]));
            total[i] = s.add(total[i], e);
            s.store(e, x);
        }
    }
    for i in 0..N {
        s.store(largest[i], &mut max[column + i * LANES..]);
        s.store(total[i], &mut sum[column + i * LANES..]);
    }
}

kernel! {
    /// Turns exponentials into what the loss sends back, up to the targets: x\[v, t\] ← x\[v, t\] · scale\[t\], and adds each
    /// row's sum to `row_sums`, the gradient of the bias.
    fn scale_columns<'a>(x: &'a mut [R], scale: &'a [R], row_sums: &'a mut [R]) {
        |s| {
            let columns = scale.len();
            assert!(columns.is_multiple_of(LANES) && x.len() == row_sums.len() * columns);
            for (row, total) in x.chunks_exact_mut(columns).zip(row_sums) {
                let mut sum = s.splat(R::zero());
                for (x, scale) in row.chunks_exact_mut(LANES).zip(scale.chunks_exact(LANES)) {
                    let y = s.mul(s.load(x), s.load(scale));
                    sum = s.add(sum, y);
                    s.store(y, x);
                }
                *total += s.sum(sum);
            }
        }
    }
}

/// Joins the sums of one token's blocks: the largest of their maxima, and Σ sum · exp(max − largest), in their order.
pub fn join<R: Real>(blocks: impl Iterator<Item = (R, R)> + Clone) -> (R, f64) {
    let largest = blocks.clone().fold(
        R::neg_infinity(),
        |a, (max, _)| if max > a { max } else { a },
    );
    let total = blocks
        .map(|(max, sum)| sum.f64() * (max - largest).f64().exp())
        .sum();
    (largest, total)
}
