//! Optimizers (equations, section 6): clipping by the global norm, L2, and the update, over arenas.

use crate::kernels::update::{self, AdamStep, Step};
use crate::params::{Arena, Gradients, Layout, Role};
use crate::profile::{Part, span};
use crate::real::Real;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// The rule of an update.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Rule {
    /// w ← w − αg
    Sgd,
    /// w ← w − αg / (√Σg² + ε) (Duchi et al. 2011)
    Adagrad,
    /// Kingma and Ba 2015, with β₁ 0.9, β₂ 0.999, ε 1e-8.
    Adam,
}

impl Rule {
    /// Names of the states that the rule keeps, each an arena.
    pub fn states(self) -> &'static [&'static str] {
        match self {
            Rule::Sgd => &[],
            Rule::Adagrad => &["sum_of_squares"],
            Rule::Adam => &["first_moment", "second_moment"],
        }
    }

    /// Whether a row whose gradient is zero stays as it is, so that a table's other rows need no visit.
    fn leaves_zeros(self) -> bool {
        self != Rule::Adam
    }
}

/// A rule with its states.
pub struct Optimizer<R: Real> {
    rule: Rule,
    /// Largest norm of a gradient; a larger one is scaled down to it.
    clip: f64,
    /// λ of λ/2 ‖w‖² on weights; biases and tables are left out.
    l2: f64,
    lazy: bool,
    states: Vec<Arena<R>>,
    /// Sums of squares of pieces of the gradient.
    partial: Vec<f64>,
}

/// Elements that a task updates, and the fewest.
const PIECE: usize = 1 << 16;
const SMALLEST: usize = 1 << 12;
/// Blocks that a table's rows are divided into, to be updated in parallel.
const BLOCKS: usize = 16;
const EPSILON: f64 = 1e-8;
const BETA1: f64 = 0.9;
const BETA2: f64 = 0.999;

impl<R: Real> Optimizer<R> {
    /// States of zeros. `clip` is a norm, infinite for none.
    pub fn new(rule: Rule, clip: f64, l2: f64, layout: &Arc<Layout>) -> Self {
        let pieces = layout.tensors().map(|(_, t)| t.range().len().div_ceil(PIECE)).sum();
        let states = rule.states().iter().map(|_| Arena::zeros(layout)).collect();
        Optimizer { rule, clip, l2, lazy: false, states, partial: Vec::with_capacity(pieces) }
    }

    /// Rows of tables that a step does not touch are left as they are, moments included, whatever the rule: a step's cost does
    /// not depend on the size of the tables. Changes [`Rule::Adam`] only, which otherwise lets the moments of every row decay
    /// and move it; this is what PyTorch calls SparseAdam. The corrections of bias are those of the step in both.
    pub fn lazy(mut self) -> Self {
        self.lazy = true;
        self
    }

    /// Whether a table's untouched rows need no visit.
    fn touched_only(&self) -> bool {
        self.lazy || self.rule.leaves_zeros()
    }

    /// The rule.
    pub fn rule(&self) -> Rule {
        self.rule
    }

    /// The states, named by [`Rule::states`].
    pub fn states(&self) -> &[Arena<R>] {
        &self.states
    }

    /// The states, to be restored.
    pub fn states_mut(&mut self) -> &mut [Arena<R>] {
        &mut self.states
    }

    /// The norm of a gradient, summed in a fixed order. NaN or infinite if any element is.
    pub fn norm(&mut self, g: &Gradients<R>) -> f64 {
        let _span = span(Part::Norm);
        let mut total = 0.0;
        for (p, tensor) in g.arena.layout().tensors() {
            if tensor.role.by_rows() {
                continue;
            }
            let pieces = g.arena.slice(p).par_chunks(PIECE);
            pieces.map(|x| update::sum_of_squares(x).f64()).collect_into_vec(&mut self.partial);
            total += self.partial.iter().sum::<f64>();
        }
        for (p, rows) in g.touched() {
            let (table, columns) = (g.arena.slice(p), g.arena.layout().tensor(p).columns);
            total += rows
                .iter()
                .map(|&row| update::sum_of_squares(&table[row as usize * columns..][..columns]).f64())
                .sum::<f64>();
        }
        total.sqrt()
    }

    /// One update of the weights by a gradient whose norm is `norm`; `step` counts from 1. Leaves the gradient's tables zero.
    pub fn update(&mut self, w: &mut Arena<R>, g: &mut Gradients<R>, norm: f64, rate: f64, step: u64) {
        let _span = span(Part::Update);
        let scale = R::of(if norm > self.clip { self.clip / norm } else { 1.0 });
        let layout = w.layout().clone();
        for (p, tensor) in layout.tensors() {
            let decay = match tensor.role {
                Role::Weight | Role::Recurrent | Role::Output => self.l2,
                _ => 0.0,
            };
            if tensor.role.by_rows() && self.touched_only() {
                continue;
            }
            let rule = self.applied(rate, scale, decay, step);
            // A small net's tensors are divided too.
            let piece = (tensor.range().len() / 4).clamp(SMALLEST, PIECE);
            let (w, g) = (w.slice_mut(p).par_chunks_mut(piece), g.arena.slice(p).par_chunks(piece));
            let pieces = w.zip(g);
            match self.states.as_mut_slice() {
                [] => pieces.for_each(|(w, g)| rule.apply(w, g, [])),
                [a] => pieces.zip(a.slice_mut(p).par_chunks_mut(piece)).for_each(|((w, g), a)| rule.apply(w, g, [a])),
                [m, v] => {
                    let states = m.slice_mut(p).par_chunks_mut(piece).zip(v.slice_mut(p).par_chunks_mut(piece));
                    pieces.zip(states).for_each(|((w, g), (m, v))| rule.apply(w, g, [m, v]));
                }
                _ => unreachable!("no rule keeps more than two states"),
            }
        }
        if self.touched_only() {
            let rule = self.applied(rate, scale, 0.0, step);
            let (arena, tables) = g.parts_mut();
            for (p, rows) in tables {
                let tensor = layout.tensor(*p);
                let block = tensor.rows.div_ceil(BLOCKS);
                let chunk = block * tensor.columns;
                // Each task has the touched rows of one block of the table.
                let update = |i: usize, w: &mut [R], g: &mut [R], states: &mut [&mut [R]]| {
                    let first = (i * block) as u32;
                    let from = rows.partition_point(|&row| row < first);
                    for &row in rows[from..].iter().take_while(|&&row| row < first + block as u32) {
                        let from = (row - first) as usize * tensor.columns;
                        let at = from..from + tensor.columns;
                        let (w, g) = (&mut w[at.clone()], &mut g[at.clone()]);
                        match states {
                            [] => rule.apply(w, g, []),
                            [a] => rule.apply(w, g, [&mut a[at]]),
                            [m, v] => rule.apply(w, g, [&mut m[at.clone()], &mut v[at]]),
                            _ => unreachable!("no rule keeps more than two states"),
                        }
                        g.fill(R::zero());
                    }
                };
                let blocks = w.slice_mut(*p).par_chunks_mut(chunk).zip(arena.slice_mut(*p).par_chunks_mut(chunk));
                let blocks = blocks.enumerate();
                match self.states.as_mut_slice() {
                    [] => blocks.for_each(|(i, (w, g))| update(i, w, g, &mut [])),
                    [a] => blocks
                        .zip(a.slice_mut(*p).par_chunks_mut(chunk))
                        .for_each(|((i, (w, g)), a)| update(i, w, g, &mut [a])),
                    [m, v] => blocks
                        .zip(m.slice_mut(*p).par_chunks_mut(chunk))
                        .zip(v.slice_mut(*p).par_chunks_mut(chunk))
                        .for_each(|(((i, (w, g)), m), v)| update(i, w, g, &mut [m, v])),
                    _ => unreachable!("no rule keeps more than two states"),
                }
                rows.clear();
            }
        }
        g.clear_tables();
    }

    fn applied(&self, rate: f64, scale: R, decay: f64, step: u64) -> Applied<R> {
        let correction = |beta: f64| 1.0 - beta.powf(step as f64);
        let adam = AdamStep {
            beta1: R::of(BETA1),
            beta2: R::of(BETA2),
            rate: R::of(rate / correction(BETA1)),
            correction: R::of(1.0 / correction(BETA2).sqrt()),
            epsilon: R::of(EPSILON),
        };
        Applied { rule: self.rule, step: Step { rate: R::of(rate), scale, decay: R::of(decay) }, adam }
    }
}

/// A rule with the numbers of one step.
#[derive(Clone, Copy)]
struct Applied<R> {
    rule: Rule,
    step: Step<R>,
    adam: AdamStep<R>,
}

impl<R: Real> Applied<R> {
    fn apply<const N: usize>(&self, w: &mut [R], g: &[R], mut states: [&mut [R]; N]) {
        match (self.rule, states.as_mut_slice()) {
            (Rule::Sgd, _) => update::sgd(w, g, self.step),
            (Rule::Adagrad, [a, ..]) => update::adagrad(w, g, a, self.step, R::of(EPSILON)),
            (Rule::Adam, [m, v]) => update::adam(w, g, m, v, self.step, self.adam),
            _ => unreachable!("the states are those of the rule"),
        }
    }
}
