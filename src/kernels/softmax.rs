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
    pub fn exp_columns<'a>(x: &'a mut [R], bias: &'a [R], max: &'a mut [R], sum: &'a mut [R]) {
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
    pub fn scale_columns<'a>(x: &'a mut [R], scale: &'a [R], row_sums: &'a mut [R]) {
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

kernel! {
    /// Joins the blocks of a chunk: `largest` and `sums` hold a row of columns a block, as [`exp_columns`] left them. Afterwards
    /// each of `sums` is the factor exp(largest − m) / Z that makes a block's exponentials probabilities, and the first row of
    /// `largest` holds m, that of `total` Z: the column's log-sum-exp is m + ln Z.
    pub fn join_blocks<'a>(largest: &'a mut [R], sums: &'a mut [R], total: &'a mut [R]) {
        |s| {
            let columns = total.len();
            assert!(columns.is_multiple_of(LANES) && largest.len() == sums.len() && sums.len().is_multiple_of(columns));
            for column in (0..columns).step_by(LANES) {
                let rows = || (column..sums.len()).step_by(columns);
                let mut m = s.splat(R::neg_infinity());
                for i in rows() {
                    m = s.max(s.load(&largest[i..]), m);
                }
                let mut z = s.splat(R::zero());
                for i in rows() {
                    z = s.fma(s.load(&sums[i..]), s.exp(s.sub(s.load(&largest[i..]), m)), z);
                }
                for i in (column..sums.len()).step_by(columns) {
                    s.store(s.div(s.exp(s.sub(s.load(&largest[i..]), m)), z), &mut sums[i..]);
                }
                s.store(m, &mut largest[column..]);
                s.store(z, &mut total[column..]);
            }
        }
    }
}
