//! The exact softmax on a tile of logits (equations, section 2). A tile has vocabulary words in rows and tokens in columns, so that
//! values per token (maximum, sum, scale) are spread over the lanes, and values per word (bias) are constant along a row.

use super::kernel;
use crate::real::{LANES, Real, Simd};
use crate::tree;

/// Vectors of columns processed together.
const STRIP: usize = 4;

kernel! {
    /// Turns logits without bias into exponentials: x\[v, t\] ← exp(x\[v, t\] + bias\[v\] − max\[t\]), where max\[t\] is the
    /// largest biased logit of column t, returned with the column's sum of exponentials.
    /// `x`: \[rows, columns\], rows `stride` apart, columns a multiple of 16.
    pub fn exp_columns<'a>(x: &'a mut [R], stride: usize, bias: &'a [R], max: &'a mut [R], sum: &'a mut [R]) {
        |s| {
            let columns = max.len();
            assert!(columns.is_multiple_of(LANES) && columns <= stride && x.len() == bias.len() * stride && sum.len() == columns);
            let mut column = 0;
            while column < columns {
                let width = (columns - column).min(STRIP * LANES);
                match width / LANES {
                    4 => exp_strip::<S, 4>(s, x, stride, bias, column, max, sum),
                    3 => exp_strip::<S, 3>(s, x, stride, bias, column, max, sum),
                    2 => exp_strip::<S, 2>(s, x, stride, bias, column, max, sum),
                    _ => exp_strip::<S, 1>(s, x, stride, bias, column, max, sum),
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
    stride: usize,
    bias: &[S::R],
    column: usize,
    max: &mut [S::R],
    sum: &mut [S::R],
) {
    let strip = column..column + N * LANES;
    let mut largest = [s.splat(S::R::of(f64::NEG_INFINITY)); N];
    for (row, &b) in x.chunks_exact(stride).zip(bias) {
        let (row, b) = (&row[strip.clone()], s.splat(b));
        for i in 0..N {
            largest[i] = s.max(s.add(s.load(&row[i * LANES..]), b), largest[i]);
        }
    }
    let mut total = [s.splat(S::R::of(0.0)); N];
    for (row, &b) in x.chunks_exact_mut(stride).zip(bias) {
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
    /// Noise-contrastive estimation (equations, section 10): turns logits without bias into σ, the gradient of the loss −ln(1 − σ) of a
    /// noise word: x\[v, t\] ← σ(x\[v, t\] + bias\[v\]); `sum` receives each column's loss. Shapes as for [`exp_columns`].
    pub fn logistic_columns<'a>(x: &'a mut [R], stride: usize, bias: &'a [R], sum: &'a mut [R]) {
        |s| {
            assert!(sum.len().is_multiple_of(LANES) && sum.len() <= stride && x.len() == bias.len() * stride);
            sum.fill(R::zero());
            let (zero, one) = (s.splat(R::zero()), s.splat(R::one()));
            for (row, &b) in x.chunks_exact_mut(stride).zip(bias) {
                let b = s.splat(b);
                for (x, sum) in row.chunks_exact_mut(LANES).zip(sum.chunks_exact_mut(LANES)) {
                    let z = s.add(s.load(x), b);
                    let e = s.exp(s.sub(zero, s.abs(z)));
                    let low = s.div(e, s.add(one, e));
                    s.store(s.if_greater(z, zero, s.sub(one, low), low), x);
                    let loss = s.add(s.if_greater(z, zero, z, zero), log_one_plus(s, e));
                    s.store(s.add(s.load(sum), loss), sum);
                }
            }
        }
    }
}

/// ln(1 + e) for e in [0, 1], as 2 artanh(e / (2 + e)).
#[inline(always)]
fn log_one_plus<S: Simd>(s: S, e: S::V) -> S::V {
    // (e / (2 + e))² ≤ 1/9: this number of terms reaches the precision of f32 or f64.
    let terms = if size_of::<S::R>() == 4 { 8 } else { 17 };
    let t = s.div(e, s.add(s.splat(S::R::of(2.0)), e));
    let square = s.mul(t, t);
    let mut sum = s.splat(S::R::of(0.0));
    for k in (0..terms).rev() {
        sum = s.fma(sum, square, s.splat(S::R::of(2.0 / f64::from(2 * k + 1))));
    }
    s.mul(t, sum)
}

kernel! {
    /// out\[t\] = ⟨a\[t\], b\[t\]⟩ for rows of `width`.
    pub fn dot_rows<'a>(out: &'a mut [R], a: &'a [R], b: &'a [R], width: usize) {
        |s| for ((out, a), b) in out.iter_mut().zip(a.chunks_exact(width)).zip(b.chunks_exact(width)) {
            let (left, right) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
            let mut sum = s.mul(s.load_part(left.remainder()), s.load_part(right.remainder()));
            for (a, b) in left.zip(right) {
                sum = s.fma(s.load(a), s.load(b), sum);
            }
            *out = s.sum(sum);
        }
    }
}

kernel! {
    /// y\[t\] ← y\[t\] + factor\[t\] · x\[t\] for rows of `width`.
    pub fn add_scaled_rows<'a>(y: &'a mut [R], factor: &'a [R], x: &'a [R], width: usize) {
        |s| for ((y, &factor), x) in y.chunks_exact_mut(width).zip(factor).zip(x.chunks_exact(width)) {
            let factor = s.splat(factor);
            super::zip(s, y, x, #[inline(always)] |y, x| s.fma(factor, x, y));
        }
    }
}

kernel! {
    /// y\[t\] = factor\[t\] · x\[t\] for rows of `width`.
    pub fn scaled_rows<'a>(y: &'a mut [R], factor: &'a [R], x: &'a [R], width: usize) {
        |s| for ((y, &factor), x) in y.chunks_exact_mut(width).zip(factor).zip(x.chunks_exact(width)) {
            let factor = s.splat(factor);
            super::zip(s, y, x, #[inline(always)] |_, x| s.mul(factor, x));
        }
    }
}

kernel! {
    /// Turns exponentials into the gradient of the loss, except for the targets: x\[v, t\] ← x\[v, t\] · scale\[t\], and adds each
    /// row's sum to `row_sums`, the gradient of the bias.
    pub fn scale_columns<'a>(x: &'a mut [R], stride: usize, scale: &'a [R], row_sums: &'a mut [R]) {
        |s| {
            let columns = scale.len();
            assert!(columns.is_multiple_of(LANES) && columns <= stride && x.len() == row_sums.len() * stride);
            for (row, total) in x.chunks_exact_mut(stride).zip(row_sums) {
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
    /// Combines the blocks of a chunk: `largest` and `sums` hold one row of columns per block, as left by [`exp_columns`]. Afterwards
    /// each entry of `sums` is the factor exp(largest − m) / Z that turns a block's exponentials into probabilities, the first row of
    /// `largest` holds m, and that of `total` Z: a column's log-sum-exp is m + ln Z.
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

kernel! {
    /// Adds up shares of a transposed matrix and turns it: out\[t, k\] = Σ shares\[·, k, column + t\], by the [`tree`] of the
    /// shares. `out`: \[up to 16, units\]; a share is \[units, stride\].
    pub fn gather_columns<'a>(out: &'a mut [R], shares: &'a [R], stride: usize, units: usize, column: usize) {
        |s| {
            assert!(column + LANES <= stride && shares.len().is_multiple_of(units * stride));
            let mut sum = tree::Sum::new(s.splat(R::zero()));
            for k in 0..units {
                for share in shares.chunks_exact(units * stride) {
                    sum.add(s.load(&share[k * stride + column..]), #[inline(always)] |a, b| s.add(a, b));
                }
                let total = sum.total(#[inline(always)] |a, b| s.add(a, b)).expect("there is a share");
                for (row, x) in out.chunks_exact_mut(units).zip(s.array(total)) {
                    row[k] = x;
                }
            }
        }
    }
}
