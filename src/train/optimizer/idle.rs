//! Adam's updates of a row in steps that do not touch it (equations, section 6, with g = 0): in step n, j steps after its last
//! gradient, which left the moments m and v,
//!
//! w ← w − rateₙ / (1 − β₁ⁿ) · β₁ʲ m / (√(β₂ʲ v / (1 − β₂ⁿ)) + ε)

use super::rows::Row;
use super::{BETA1, BETA2, EPSILON};
use crate::kernels::update::adam_idle;
use crate::math::pow;
use crate::params::Layout;
use crate::real::Real;

/// Number of missed steps after which a row no longer moves: β₁ʲ is below the precision of the sum so far, for f32 and f64.
const LIMITS: [u64; 2] = [200, 400];
/// The step of a row's last gradient is stored as two numbers below this, which f32 represents exactly.
const HALF: u64 = 1 << 22;
/// Number of steps recorded without another allocation.
const ROOM: usize = 1 << 16;

/// The steps that rows may have missed, and the step to which each row is caught up.
pub struct Idle {
    missed: Missed,
    /// For each table and row: the step to which its weights are caught up; irrelevant before its first gradient.
    caught: Vec<Vec<u32>>,
}

/// The steps since all rows were caught up.
pub struct Missed {
    /// The first of them.
    first: u64,
    /// −rate / (1 − β₁ⁿ) and 1 / √(1 − β₂ⁿ) of each step n.
    steps: Vec<[f64; 2]>,
    /// β₁ʲ and √β₂ʲ for each j.
    powers: Vec<[f64; 2]>,
}

impl Idle {
    /// No missed steps, before the first step.
    pub fn new(layout: &Layout) -> Self {
        let power = |j: u64| [pow(BETA1, j as f64), pow(BETA2, j as f64 / 2.0)];
        let missed = Missed { first: 1, steps: Vec::with_capacity(ROOM), powers: (0..=LIMITS[1]).map(power).collect() };
        let tables = layout.tensors().filter(|(_, tensor)| tensor.role.by_rows());
        Idle { missed, caught: tables.map(|(_, tensor)| vec![0; tensor.rows]).collect() }
    }

    /// The missed steps, and the steps to which the rows of each table are caught up.
    pub fn parts_mut(&mut self) -> (&Missed, impl Iterator<Item = &mut [u32]> + Send) {
        (&self.missed, self.caught.iter_mut().map(Vec::as_mut_slice))
    }

    /// Records −rate / (1 − β₁ⁿ) and 1 / √(1 − β₂ⁿ) of step n.
    pub fn push(&mut self, factors: [f64; 2], n: u64) {
        assert_eq!(n, self.missed.first + self.missed.steps.len() as u64, "steps are made one by one");
        self.missed.steps.push(factors);
    }

    /// Records that all rows are caught up to step n.
    pub fn all_caught_up(&mut self, n: u64) {
        self.missed.first = n + 1;
        self.missed.steps.clear();
        self.caught.iter_mut().for_each(|rows| rows.fill(n as u32));
    }
}

impl Missed {
    /// Catches a row up to step n, if no step since touches it.
    pub fn catch_up<R: Real>(&self, row: &mut Row<R>, n: u64) {
        let ([Some(m), Some(v), Some(last)], Some(caught)) = (&row.states, &mut row.caught) else {
            unreachable!("Adam has three states")
        };
        let last = last[0].f64() as u64 * HALF + last[1].f64() as u64;
        let limit = LIMITS[usize::from(size_of::<R>() > 4)];
        let (from, to) = (u64::from(**caught) + 1, n.min(last + limit));
        **caught = n as u32;
        if last == 0 || from > to {
            return;
        }
        let mut steps = [[R::zero(); 2]; LIMITS[1] as usize];
        for (step, n) in steps.iter_mut().zip(from..=to) {
            let ([factor, correction], [power1, power2]) =
                (self.steps[(n - self.first) as usize], self.powers[(n - last) as usize]);
            *step = [R::of(factor * power1), R::of(correction * power2)];
        }
        adam_idle(row.w, m, v, &steps[..(to + 1 - from) as usize], R::of(EPSILON));
    }

    /// Catches a row up before step n, in which it has a gradient; returns the decay of its moments until then.
    pub fn touch<R: Real>(&self, row: &mut Row<R>, n: u64) -> [f64; 2] {
        self.catch_up(row, n - 1);
        let ([.., Some(last)], Some(caught)) = (&mut row.states, &mut row.caught) else {
            unreachable!("Adam has three states")
        };
        let since = n - (last[0].f64() as u64 * HALF + last[1].f64() as u64);
        (last[0], last[1]) = (R::of((n / HALF) as f64), R::of((n % HALF) as f64));
        **caught = n as u32;
        // β₂ʲ is √β₂²ʲ; most rows come again within the steps whose powers are there.
        match (self.powers.get(since as usize), self.powers.get(2 * since as usize)) {
            (Some(&[power1, _]), Some(&[_, power2])) => [power1, power2],
            _ => [pow(BETA1, since as f64), pow(BETA2, since as f64)],
        }
    }
}
