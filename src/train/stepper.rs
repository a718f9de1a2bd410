//! The protocol of an optimizer step, followed by everything that trains:
//!
//! touch → catch up → step → exchange → norm → update
//!
//! A model first lists the rows of tables that its step will read, and the optimizer catches these up; then the model computes loss and
//! gradient, which machines that train together would exchange here; then the gradient is clipped by its norm and the weights are
//! updated. Each stage is a value consumed by the next one, so that another order does not compile, and the optimizer's operations
//! cannot be called from elsewhere.

use super::optimizer::Optimizer;
use crate::params::{Arena, Gradients};
use crate::real::Real;

/// Weights in training, with their gradient, the optimizer, and the number of steps made.
pub struct Stepper<R: Real> {
    /// The weights.
    pub w: Arena<R>,
    /// The gradient of the current step.
    pub g: Gradients<R>,
    /// The rule and its states.
    pub optimizer: Optimizer<R>,
    steps: u64,
}

/// A step whose rows of tables are listed.
#[must_use = "the step is yet to be made"]
pub struct Touched<'a, R: Real, T> {
    stepper: &'a mut Stepper<R>,
    token: T,
}

/// A step whose gradient is computed, on this machine's share of the batch.
#[must_use = "the weights are yet to be updated"]
pub struct Computed<'a, R: Real, O> {
    stepper: &'a mut Stepper<R>,
    /// What the model returned.
    pub outcome: O,
}

/// A step whose gradient is final.
#[must_use = "the weights are yet to be updated"]
pub struct Measured<'a, R: Real, O> {
    stepper: &'a mut Stepper<R>,
    /// What the model returned.
    pub outcome: O,
    /// The norm of the gradient; NaN or infinite if any element is.
    pub norm: f64,
}

/// A step that is done.
#[derive(Clone, Copy, Debug)]
pub struct Done<O> {
    /// What the model returned.
    pub outcome: O,
    /// The norm of the gradient, before it was clipped.
    pub norm: f64,
    /// Whether all weights and states that were written are finite.
    pub finite: bool,
}

impl<R: Real> Stepper<R> {
    /// The state after `steps` steps, with the weights and optimizer states they led to. `g` has capacity for what a step touches.
    pub fn new(w: Arena<R>, g: Gradients<R>, optimizer: Optimizer<R>, steps: u64) -> Self {
        Stepper { w, g, optimizer, steps }
    }

    /// Number of steps made.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// Begins a step: `list` receives the gradient, in which to list the rows of tables that the step will touch, and the step's
    /// number, from 0. Its result is passed to the model's step. A model whose optimizer never catches up rows may list them when it
    /// computes.
    pub fn touch<T>(&mut self, list: impl FnOnce(&mut Gradients<R>, u64) -> T) -> Touched<'_, R, T> {
        let token = list(&mut self.g, self.steps);
        Touched { stepper: self, token }
    }

    /// Catches up all rows of tables, for evaluation or saving.
    pub fn catch_up_all(&mut self) {
        self.optimizer.catch_up_all(&mut self.w, self.steps);
    }
}

impl<'a, R: Real, T> Touched<'a, R, T> {
    /// The state before anything is written.
    pub fn stepper(&self) -> &Stepper<R> {
        self.stepper
    }

    /// Catches up the listed rows, and lets the model compute: `compute` receives the gradient to be written, the result of `touch`,
    /// and the weights.
    pub fn step<O>(self, compute: impl FnOnce(&mut Gradients<R>, T, &Arena<R>) -> O) -> Computed<'a, R, O> {
        let Touched { stepper, token } = self;
        let Stepper { w, g, optimizer, steps } = &mut *stepper;
        optimizer.catch_up(w, g, *steps + 1);
        let outcome = compute(g, token, w);
        Computed { stepper, outcome }
    }
}

impl<'a, R: Real, O> Computed<'a, R, O> {
    /// The gradient, to be replaced by that of the whole batch if each machine has a share of it.
    pub fn gradient(&mut self) -> &mut Gradients<R> {
        &mut self.stepper.g
    }

    /// Computes the norm.
    pub fn norm(self) -> Measured<'a, R, O> {
        let Computed { stepper, outcome } = self;
        let norm = stepper.optimizer.norm(&stepper.g);
        Measured { stepper, outcome, norm }
    }

    /// Computes the norm, clips, and updates the weights.
    pub fn update(self, rate: f64) -> Done<O> {
        self.norm().update(rate)
    }
}

impl<R: Real, O> Measured<'_, R, O> {
    /// The state before weights are written.
    pub fn stepper(&self) -> &Stepper<R> {
        self.stepper
    }

    /// Clips the gradient and updates the weights, which completes the step.
    pub fn update(self, rate: f64) -> Done<O> {
        let Measured { stepper: Stepper { w, g, optimizer, steps }, outcome, norm } = self;
        *steps += 1;
        let finite = optimizer.update(w, g, norm, rate, *steps);
        Done { outcome, norm, finite }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::params::{Layout, Role, TensorId};
    use crate::train::optimizer::Rule;
    use std::sync::Arc;

    const ROWS: u32 = 7;

    fn stepper(layout: &Arc<Layout>) -> Stepper<f64> {
        let mut w = Arena::zeros(layout);
        w.all_mut().iter_mut().zip(1..).for_each(|(x, i)| *x = f64::from(i * 31 % 17) / 17.0);
        let optimizer = Optimizer::new(Rule::Adam, 0.5, 1e-3, layout);
        Stepper::new(w, Gradients::zeros(layout, ROWS as usize), optimizer, 0)
    }

    /// A step whose loss is Σw²/2 over some rows: writes the gradient, and returns the weights it has read.
    fn half_squares(g: &mut Gradients<f64>, p: TensorId, w: &Arena<f64>) -> Vec<f64> {
        let (ids, values) = g.table_mut(p).parts_mut();
        let read: Vec<f64> = ids.iter().flat_map(|&id| &w.slice(p)[id as usize * 2..][..2]).copied().collect();
        values.copy_from_slice(&read);
        read
    }

    /// Rows that Adam has moved in steps that did not touch them are caught up before the model reads them, and steps are counted.
    #[test]
    fn a_step_reads_rows_that_are_caught_up() {
        let mut layout = Layout::default();
        let p = layout.add("table", ROWS as usize, 2, Role::Table);
        let layout = Arc::new(layout);
        let (mut late, mut early) = (stepper(&layout), stepper(&layout));
        for step in 0..20 {
            let rows = [step % ROWS, ROWS - 1];
            let one = |stepper: &mut Stepper<f64>| {
                let touched = stepper.touch(|g, number| {
                    assert_eq!(number, u64::from(step));
                    g.table_mut(p).list().extend(&rows[..if rows[0] == rows[1] { 1 } else { 2 }]);
                });
                let done = touched.step(|g, (), w| half_squares(g, p, w)).update(0.1);
                assert!(done.finite && done.norm > 0.0);
                done.outcome
            };
            early.catch_up_all();
            assert_eq!(one(&mut late), one(&mut early), "step {step}");
        }
        assert_eq!(late.steps(), 20);
        assert_ne!(late.w.all(), early.w.all(), "some rows of one are yet to be caught up");
        late.catch_up_all();
        early.catch_up_all();
        assert_eq!(late.w.all(), early.w.all());
    }

    /// Two machines with half of the batch each, which exchange gradients, do the same as one with the whole batch.
    #[test]
    fn gradients_are_exchanged_before_they_are_clipped() {
        let mut layout = Layout::default();
        layout.add("weight", 3, 5, Role::Weight);
        let layout = Arc::new(layout);
        let examples: Vec<f64> = (0..8).map(|i| f64::from(i * i % 5)).collect();
        // Σ (w − x)² / 2 over all weights, averaged over the examples.
        let mean = |g: &mut Gradients<f64>, w: &Arena<f64>, examples: &[f64]| {
            for (g, w) in g.arena.all_mut().iter_mut().zip(w.all()) {
                *g = examples.iter().map(|x| w - x).sum::<f64>() / examples.len() as f64;
            }
        };
        let (mut whole, mut first, mut second) = (stepper(&layout), stepper(&layout), stepper(&layout));
        for _ in 0..5 {
            let whole = whole.touch(|_, _| ()).step(|g, (), w| mean(g, w, &examples)).update(0.1);
            let mut first = first.touch(|_, _| ()).step(|g, (), w| mean(g, w, &examples[..4]));
            let mut second = second.touch(|_, _| ()).step(|g, (), w| mean(g, w, &examples[4..]));
            let (a, b) = (first.gradient().arena.all_mut(), second.gradient().arena.all_mut());
            a.iter_mut().zip(b).for_each(|(a, b)| (*a, *b) = ((*a + *b) / 2.0, (*a + *b) / 2.0));
            let (first, second) = (first.update(0.1), second.update(0.1));
            assert!(first.norm == second.norm && (first.norm - whole.norm).abs() < 1e-12);
            assert!(whole.norm > 0.5, "the norm of the whole gradient is clipped");
        }
        let close = first.w.all().iter().zip(whole.w.all()).all(|(a, b)| (a - b).abs() < 1e-12);
        assert!(close && first.w.all() == second.w.all());
    }
}
