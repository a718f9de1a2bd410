//! Optimizers (equations, section 6): clipping by the global norm, L2, and the update, over arenas and touched rows of tables.
//!
//! A step visits only the rows of tables that it touches. SGD and Adagrad miss nothing by that. Adam would keep moving the other rows
//! by their decaying first moment: a row stores its moments as of its last gradient, with the step of that gradient, and is caught up
//! when needed, before it is read, evaluated or saved, which [`super::stepper::Stepper`] ensures. Each missed step adds its own term to
//! the weights, in the order of the steps, so that results are bit-identical no matter when, or in how many parts, a row is caught up.

mod idle;
mod rows;
#[cfg(test)]
mod tests;

use crate::kernels::update::{self, AdamStep, Proximal, Step, sum_of_squares};
use crate::math::pow;
use crate::params::{Arena, Gradients, Layout, Role, Tensor, TensorId};
use crate::pool;
use crate::profile::{Part, span};
use crate::real::{LANES, Real};
use crate::tree;
use idle::Idle;
use rows::TouchedRows;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The rule of an update.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
#[serde(rename_all = "kebab-case")]
pub enum Rule {
    /// w ← w − αg
    Sgd,
    /// w ← w − αg / (√Σg² + ε) (Duchi et al. 2011)
    Adagrad,
    /// Adagrad with one sum for a row of a table, of the mean of its g²
    AdagradRowwise,
    /// Kingma and Ba 2015, with β₁ 0.9, β₂ 0.999, ε 1e-8
    Adam,
}

impl Rule {
    /// Names of the states that the rule keeps.
    pub fn states(self) -> &'static [&'static str] {
        match self {
            Rule::Sgd => &[],
            Rule::Adagrad | Rule::AdagradRowwise => &["sum_of_squares"],
            Rule::Adam => &["first_moment", "second_moment", "last_gradient"],
        }
    }

    /// The layouts of the states for a model with `layout`.
    fn layouts(self, layout: &Layout) -> Vec<Layout> {
        // Tables with `columns` columns, and the other tensors entirely or not at all.
        let tables = |columns: usize, rest: usize| {
            layout.resized(|t| if t.role.by_rows() { (t.rows, columns) } else { (t.rows * rest, t.columns) })
        };
        match self {
            Rule::Sgd => vec![],
            Rule::Adagrad => vec![layout.clone()],
            Rule::AdagradRowwise => vec![tables(1, 1)],
            Rule::Adam => vec![layout.clone(), layout.clone(), tables(2, 0)],
        }
    }
}

/// An update rule with its states.
pub struct Optimizer<R: Real> {
    rule: Rule,
    /// Maximum norm of a gradient; a larger one is scaled down to it (gradient clipping).
    clip: f64,
    /// λ of λ/2 ‖w‖² on weights, excluding biases and tables.
    l2: f64,
    /// λ₁ and λ₂ of proximal steps on the same tensors.
    proximal: [f64; 2],
    states: Vec<Arena<R>>,
    /// The steps that rows have missed: with Adam, unless it is [`Optimizer::lazy`].
    idle: Option<Idle>,
}

/// Maximum and minimum number of elements updated by a task.
const PIECE: usize = 1 << 16;
const SMALLEST: usize = 1 << 12;
/// Number of elements whose squares a task adds up.
const SUM: usize = 1 << 14;
/// Rows of a tensor whose squares are one unit of the norm: groups of words have a multiple of them.
const ROWS: usize = 8;
const EPSILON: f64 = 1e-8;
const BETA1: f64 = 0.9;
const BETA2: f64 = 0.999;

/// A tensor with those states that it has.
struct Stated<'a, R> {
    w: &'a mut [R],
    states: [Option<&'a mut [R]>; 3],
}

impl<R: Real> Optimizer<R> {
    /// An optimizer with states of zero. `clip` is a norm, infinite for no clipping.
    pub fn new(rule: Rule, clip: f64, l2: f64, layout: &Arc<Layout>) -> Self {
        let states = rule.layouts(layout).into_iter().map(|layout| Arena::zeros(&Arc::new(layout))).collect();
        let idle = (rule == Rule::Adam).then(|| Idle::new(layout));
        Optimizer { rule, clip, l2, proximal: [0.0; 2], states, idle }
    }

    /// Rows of tables that a step does not touch remain unchanged, including their moments: nothing is caught up. Affects
    /// [`Rule::Adam`] only; PyTorch calls this SparseAdam. Bias corrections use the number of the step in both cases.
    pub fn lazy(mut self) -> Self {
        self.idle = None;
        self.states.truncate(2);
        self
    }

    /// Adds l1 ‖w‖₁ + l2/2 ‖w‖² on weights as proximal steps: after each update, the penalties plus the distance from the updated
    /// weights are minimised, in the metric of the rule ([`Rule::Sgd`]: 1/α; [`Rule::Adagrad`]: (√Σg² + ε)/α). The l1 penalty can make
    /// weights exactly zero (Duchi et al. 2011, section 5).
    pub fn proximal(mut self, l1: f64, l2: f64) -> Self {
        assert!(self.rule != Rule::Adam || (l1 == 0.0 && l2 == 0.0), "Adam has no proximal step");
        self.proximal = [l1, l2];
        self
    }

    /// Bytes of the states that `rule` keeps for a model with `layout`.
    pub fn bytes(rule: Rule, layout: &Layout) -> usize {
        rule.layouts(layout).iter().map(Layout::len).sum::<usize>() * size_of::<R>()
    }

    /// The rule.
    pub fn rule(&self) -> Rule {
        self.rule
    }

    /// The states, named by [`Rule::states`].
    pub fn states(&self) -> &[Arena<R>] {
        &self.states
    }

    /// The states, to be restored together with weights that are caught up to step `step`.
    pub fn states_mut(&mut self, step: u64) -> &mut [Arena<R>] {
        self.idle.iter_mut().for_each(|idle| idle.all_caught_up(step));
        &mut self.states
    }

    /// The norm of a gradient, summed in a fixed order: by the tree of its tensors, of each by that of its units, which are eight rows
    /// (of a vector, eight elements) or one row of a table. NaN or infinite if any element is.
    pub(super) fn norm(&self, g: &Gradients<R>) -> f64 {
        let _span = span(Part::Norm);
        let mut tables = g.tables().iter();
        let of_tensor = |(p, tensor): (TensorId, &Tensor)| {
            let rows = if tensor.role.by_rows() { tables.next() } else { None };
            match rows {
                Some(rows) => squares(rows.values(), rows.width()),
                None => squares(g.arena.slice(p), ROWS * if tensor.rows == 1 { 1 } else { tensor.columns }),
            }
        };
        tree::sum(g.arena.layout().tensors().map(of_tensor)).sqrt()
    }

    /// Catches up the touched rows of `g` before step `step`, which will read them.
    pub(super) fn catch_up(&mut self, w: &mut Arena<R>, g: &Gradients<R>, step: u64) {
        let Some(idle) = &mut self.idle else { return };
        let _span = span(Part::CatchUp);
        let (missed, mut tables) = idle.parts_mut();
        let mut parts = tensors(w, &mut self.states)
            .filter_map(
                |(role, tensor)| if role.by_rows() { tables.next().map(|caught| (tensor, caught)) } else { None },
            )
            .zip(g.tables());
        spread(&mut parts, &|((tensor, caught), rows)| {
            let rows = TouchedRows::new(tensor, Some(caught), rows.ids(), rows.values(), rows.width());
            rows.for_each(&|row| missed.catch_up(row, step.saturating_sub(1)));
        });
    }

    /// Catches up all rows to step `step`, the last one.
    pub(super) fn catch_up_all(&mut self, w: &mut Arena<R>, step: u64) {
        let Some(idle) = &mut self.idle else { return };
        let layout = w.layout().clone();
        let (missed, mut tables) = idle.parts_mut();
        for ((role, tensor), (_, shape)) in tensors(w, &mut self.states).zip(layout.tensors()) {
            if let Some(caught) = if role.by_rows() { tables.next() } else { None } {
                let ids: Vec<u32> = (0..shape.rows as u32).collect();
                let rows = TouchedRows::new(tensor, Some(caught), &ids, &[], shape.columns);
                rows.for_each(&|row| missed.catch_up(row, step));
            }
        }
        drop(tables);
        idle.all_caught_up(step);
    }

    /// Updates the weights by a gradient whose norm is `norm`; `step` counts from 1 without gaps. Returns whether all weights and
    /// states that were written are finite.
    pub(super) fn update(&mut self, w: &mut Arena<R>, g: &mut Gradients<R>, norm: f64, rate: f64, step: u64) -> bool {
        let _span = span(Part::Update);
        let scale = if norm > self.clip { self.clip / norm } else { 1.0 };
        let applied = Applied::new(self.rule, rate, scale, step);
        if let Some(idle) = &mut self.idle {
            idle.push([-rate / (1.0 - pow(BETA1, step as f64)), 1.0 / (1.0 - pow(BETA2, step as f64)).sqrt()], step);
        }
        let (missed, mut caught) = self.idle.as_mut().map(Idle::parts_mut).unzip();
        let mut tables = g.tables().iter();
        let handles = g.arena.layout().tensors();
        let mut parts = handles.zip(tensors(w, &mut self.states)).map(|((p, _), (role, tensor))| {
            let rows = if role.by_rows() { tables.next() } else { None };
            let caught = rows.and_then(|_| caught.as_mut()?.next());
            (p, role, tensor, rows, caught)
        });
        let broken = AtomicBool::new(false);
        let see = |written: R| {
            if written != R::zero() {
                broken.store(true, Ordering::Relaxed);
            }
        };
        spread(&mut parts, &|(p, role, tensor, rows, caught)| match rows {
            Some(rows) => {
                let rows = TouchedRows::new(tensor, caught, rows.ids(), rows.values(), rows.width());
                rows.for_each(&|row| match missed {
                    Some(missed) => {
                        let decayed = missed.touch(row, step);
                        see(applied.decayed(decayed).apply(row.w, row.g, &mut row.states));
                    }
                    None => see(applied.apply(row.w, row.g, &mut row.states)),
                });
            }
            None => {
                let is_weight = matches!(role, Role::Weight | Role::Recurrent | Role::Output);
                let (decay, penalties) = if is_weight { (self.l2, self.proximal) } else { (0.0, [0.0; 2]) };
                // The tensors of a small network are divided, too.
                let piece = (tensor.w.len() / 4).clamp(SMALLEST, PIECE);
                see(dense(tensor, g.arena.slice(p), piece, &applied.with_l2(decay).with_proximal(penalties)));
            }
        });
        drop(parts);
        g.clear_tables();
        !broken.into_inner()
    }
}

/// The tensors of `w` with their roles and states.
fn tensors<'a, R: Real>(
    w: &'a mut Arena<R>,
    states: &'a mut [Arena<R>],
) -> impl Iterator<Item = (Role, Stated<'a, R>)> + Send {
    let mut all = states.iter_mut().map(Arena::tensors_mut);
    let mut all = [all.next(), all.next(), all.next()];
    w.tensors_mut()
        .map(move |(role, w)| (role, Stated { w, states: all.each_mut().map(|state| Some(state.as_mut()?.next()?.1)) }))
}

/// Runs `work` on all `parts` in parallel.
fn spread<T: Send>(parts: &mut (impl Iterator<Item = T> + Send), work: &(impl Fn(T) + Sync)) {
    if let Some(part) = parts.next() {
        pool::join(|| work(part), || spread(parts, work));
    }
}

/// Σx², by the tree of units of so many elements.
fn squares<R: Real>(x: &[R], unit: usize) -> f64 {
    if x.len() <= SUM.max(unit) {
        return sum_of_squares(x, unit);
    }
    let (a, b) = x.split_at(tree::left(x.len().div_ceil(unit)) * unit);
    let (a, b) = pool::join(|| squares(a, unit), || squares(b, unit));
    a + b
}

/// Updates a tensor that a step touches entirely, piece by piece; returns 0 or NaN, as the kernels do.
fn dense<R: Real>(tensor: Stated<R>, g: &[R], piece: usize, applied: &Applied<R>) -> R {
    let Stated { w, mut states } = tensor;
    if w.len() <= piece {
        return applied.apply(w, g, &mut states);
    }
    let half = (w.len() / 2).next_multiple_of(LANES);
    let (g, g_rest) = g.split_at(half);
    let (w, w_rest) = w.split_at_mut(half);
    let (mut first, mut rest) =
        (Stated { w, states: [None, None, None] }, Stated { w: w_rest, states: [None, None, None] });
    for (i, state) in states.into_iter().enumerate() {
        (first.states[i], rest.states[i]) =
            state.filter(|state| !state.is_empty()).map(|state| state.split_at_mut(half)).unzip();
    }
    let (first, rest) = pool::join(|| dense(first, g, piece, applied), || dense(rest, g_rest, piece, applied));
    first + rest
}

/// A rule with the values of one step.
#[derive(Clone, Copy)]
struct Applied<R> {
    rule: Rule,
    step: Step<R>,
    adam: AdamStep<R>,
    proximal: Option<Proximal<R>>,
}

impl<R: Real> Applied<R> {
    fn new(rule: Rule, rate: f64, scale: f64, step: u64) -> Self {
        let correction = |beta: f64| 1.0 - pow(beta, step as f64);
        let adam = AdamStep {
            decay1: R::of(BETA1),
            decay2: R::of(BETA2),
            gain1: R::of(1.0 - BETA1),
            gain2: R::of(1.0 - BETA2),
            rate: R::of(rate / correction(BETA1)),
            correction: R::of(1.0 / correction(BETA2).sqrt()),
            epsilon: R::of(EPSILON),
        };
        Applied { rule, step: Step { rate: R::of(rate), scale: R::of(scale), decay: R::zero() }, adam, proximal: None }
    }

    /// Adds L2.
    fn with_l2(mut self, decay: f64) -> Self {
        self.step.decay = R::of(decay);
        self
    }

    /// Adds proximal steps, if there is a penalty.
    fn with_proximal(mut self, [l1, l2]: [f64; 2]) -> Self {
        self.proximal = (l1 > 0.0 || l2 > 0.0).then(|| Proximal { l1: R::of(l1), l2: R::of(l2) });
        self
    }

    /// Accounts for moments that were last written some steps ago.
    fn decayed(mut self, [decay1, decay2]: [f64; 2]) -> Self {
        (self.adam.decay1, self.adam.decay2) = (R::of(decay1), R::of(decay2));
        self
    }

    fn apply(&self, w: &mut [R], g: &[R], states: &mut [Option<&mut [R]>; 3]) -> R {
        let epsilon = R::of(EPSILON);
        let seen = match (self.rule, &mut *states) {
            (Rule::Sgd, _) => update::sgd(w, g, self.step),
            (Rule::Adagrad, [Some(a), ..]) => update::adagrad(w, g, a, self.step, epsilon),
            // A dense tensor has one sum per weight, a row of a table one for all its weights.
            (Rule::AdagradRowwise, [Some(a), ..]) if a.len() == w.len() => update::adagrad(w, g, a, self.step, epsilon),
            (Rule::AdagradRowwise, [Some(a), ..]) => update::adagrad_row(w, g, &mut a[0], self.step, epsilon),
            (Rule::Adam, [Some(m), Some(v), _]) => update::adam(w, g, m, v, self.step, self.adam),
            _ => unreachable!("the states are those of the rule"),
        };
        match (self.proximal, states) {
            (None, _) => {}
            (Some(penalty), [Some(a), ..]) => update::adagrad_proximal(w, a, self.step.rate, epsilon, penalty),
            (Some(penalty), _) => update::sgd_proximal(w, self.step.rate, penalty),
        }
        seen
    }
}
