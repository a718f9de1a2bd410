//! The expected penalty of dropout on a softmax, to second order (equations, section 5; Wager, Wang and Liang 2013).
//!
//! θ = xUᵀ + b, ŷ = softmax(θ). If each element of x is dropped with probability p and the others are scaled by 1/(1 − p), the
//! loss grows on average by half the curvature of log Σ e^θ times the variance of θ:
//!
//! R = ½ q Σⱼ xⱼ² Varⱼ    q = p/(1 − p)    Varⱼ = Σₖ ŷₖ Uₖⱼ² − mⱼ²    mⱼ = Σₖ ŷₖ Uₖⱼ
//!
//! It is added to the loss instead of drawing masks. With two labels this is the penalty ŷ(1 − ŷ) xⱼ² βⱼ² of a logistic regression.

use crate::blas::{add_product, product};
use crate::kernels::update::add;
use crate::layers::matrix::{sum_rows, transpose, view, view_mut};
use crate::real::Real;
use crate::sys::memory::{Buffer, Room};
use ndarray::{ArrayView2, ArrayViewMut2};

/// Working memory for a maximum number of rows.
pub struct DropoutPenalty<R: Real> {
    labels: usize,
    width: usize,
    /// q
    gain: f64,
    /// ŷ: [n, K].
    y: Buffer<R>,
    /// ∂R/∂ŷ, then ∂R/∂θ: [n, K].
    r: Buffer<R>,
    /// x², then x² ∘ m: [n, H].
    squares: Buffer<R>,
    crossed: Buffer<R>,
    /// m, then Var: [n, H].
    mean: Buffer<R>,
    variance: Buffer<R>,
    /// U ∘ U, and a sum over rows: [K, H].
    output_squares: Buffer<R>,
    sum: Buffer<R>,
    /// U and U ∘ U transposed: [H, K].
    output: Buffer<R>,
    output_squares_back: Buffer<R>,
}

impl<R: Real> DropoutPenalty<R> {
    /// Allocates memory for `rows` rows of `width` inputs and `labels` scores, for dropout probability `drop`; none if that is 0.
    pub fn new(room: &mut Room, rows: usize, width: usize, labels: usize, drop: f64) -> Self {
        assert!((0.0..1.0).contains(&drop));
        let (rows, table) = if drop > 0.0 { (rows, width * labels) } else { (0, 0) };
        DropoutPenalty {
            labels,
            width,
            gain: drop / (1.0 - drop),
            y: room.zeros(rows * labels),
            r: room.zeros(rows * labels),
            squares: room.zeros(rows * width),
            crossed: room.zeros(rows * width),
            mean: room.zeros(rows * width),
            variance: room.zeros(rows * width),
            output_squares: room.zeros(table),
            sum: room.zeros(table),
            output: room.zeros(table),
            output_squares_back: room.zeros(table),
        }
    }

    /// Adds `scale` · ∂R/∂θ to `delta` = `scale` · (ŷ − y) \[N, K\], and the column sums of what is added to `dbias`.
    /// `x`: \[N, H\], `u`: \[K, H\]. Returns the sum of R over the rows, unscaled.
    pub fn loss(
        &mut self,
        delta: &mut [R],
        dbias: &mut [R],
        x: &[R],
        targets: &[u32],
        scale: f64,
        u: ArrayView2<R>,
    ) -> f64 {
        if self.gain == 0.0 {
            return 0.0;
        }
        let (n, k, h) = (targets.len(), self.labels, self.width);
        assert!(delta.len() == n * k && x.len() == n * h && u.dim() == (k, h));
        let y = &mut self.y[..n * k];
        let once = R::of(1.0 / scale);
        for ((y, delta), &target) in y.chunks_exact_mut(k).zip(delta.chunks_exact(k)).zip(targets) {
            y.iter_mut().zip(delta).for_each(|(y, &delta)| *y = delta * once);
            y[target as usize] += R::one();
        }
        self.output_squares.iter_mut().zip(u).for_each(|(square, &u)| *square = u * u);
        transpose(&mut self.output, u);
        transpose(&mut self.output_squares_back, view(&self.output_squares, k, h));
        let (mean, variance) = (&mut self.mean[..n * h], &mut self.variance[..n * h]);
        product(view_mut(mean, n, h), view(y, n, k), u);
        product(view_mut(variance, n, h), view(y, n, k), view(&self.output_squares, k, h));
        let (squares, crossed) = (&mut self.squares[..n * h], &mut self.crossed[..n * h]);
        let mut total = 0.0;
        for i in 0..n * h {
            variance[i] -= mean[i] * mean[i];
            squares[i] = x[i] * x[i];
            crossed[i] = squares[i] * mean[i];
            total += (squares[i] * variance[i]).f64();
        }
        // ∂R/∂ŷₖ = ½ q Σⱼ xⱼ² (Uₖⱼ² − 2 mⱼ Uₖⱼ), and back through the softmax.
        let r = &mut self.r[..n * k];
        product(view_mut(r, n, k), view(crossed, n, h), view(&self.output, h, k));
        r.iter_mut().for_each(|r| *r *= R::of(-2.0));
        add_product(view_mut(r, n, k), view(squares, n, h), view(&self.output_squares_back, h, k));
        let gain = R::of(0.5 * self.gain * scale);
        for (r, y) in r.chunks_exact_mut(k).zip(y.chunks_exact(k)) {
            let mean: R = r.iter().zip(y).map(|(&r, &y)| r * y).sum();
            r.iter_mut().zip(y).for_each(|(r, &y)| *r = gain * y * (*r - mean));
        }
        add(delta, r);
        let sums = &mut self.sum[..k];
        sum_rows(sums, r);
        add(dbias, sums);
        0.5 * self.gain * total
    }

    /// Adds `scale` times the direct gradients of R: q xⱼ Varⱼ to `dx`, q Σ ŷₖ xⱼ² (Uₖⱼ − mⱼ) over the rows to `du`.
    pub fn backward(&mut self, dx: &mut [R], mut du: ArrayViewMut2<R>, x: &[R], scale: f64, u: ArrayView2<R>) {
        if self.gain == 0.0 {
            return;
        }
        let (k, h) = (self.labels, self.width);
        let n = x.len() / h;
        let gain = R::of(self.gain * scale);
        for ((dx, &x), &variance) in dx.iter_mut().zip(x).zip(&self.variance[..n * h]) {
            *dx += gain * x * variance;
        }
        let y = view(&self.y[..n * k], n, k);
        product(view_mut(&mut self.sum, k, h), y.t(), view(&self.squares[..n * h], n, h));
        ndarray::Zip::from(&mut du).and(view(&self.sum, k, h)).and(u).for_each(|du, &sum, &u| *du += gain * sum * u);
        product(view_mut(&mut self.sum, k, h), y.t(), view(&self.crossed[..n * h], n, h));
        ndarray::Zip::from(&mut du).and(view(&self.sum, k, h)).for_each(|du, &sum| *du -= gain * sum);
    }
}
