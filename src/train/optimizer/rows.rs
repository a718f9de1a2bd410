//! The touched rows of a table, each with its gradient and states.

use super::{SMALLEST, Stated};
use crate::kernels::rows::RowsMut;
use crate::pool;
use crate::real::Real;

/// Number of rows to prefetch ahead.
const AHEAD: usize = 2;

/// Touched rows of one table.
pub struct TouchedRows<'a, R> {
    rows: usize,
    width: usize,
    w: RowsMut<'a, R>,
    /// \[rows, width\], or nothing.
    g: &'a [R],
    states: [Option<RowsMut<'a, R>>; 3],
    caught: Option<RowsMut<'a, u32>>,
}

/// One touched row.
pub struct Row<'a, R> {
    /// Its weights.
    pub w: &'a mut [R],
    /// Its gradient, if there is any.
    pub g: &'a [R],
    /// Its part of each state.
    pub states: [Option<&'a mut [R]>; 3],
    /// The step to which it is caught up.
    pub caught: Option<&'a mut u32>,
}

impl<'a, R: Real> TouchedRows<'a, R> {
    /// The rows `ids` of a table with `width` columns.
    pub fn new(table: Stated<'a, R>, caught: Option<&'a mut [u32]>, ids: &'a [u32], g: &'a [R], width: usize) -> Self {
        let all = table.w.len() / width;
        let state = |state: &'a mut [R]| {
            let width = state.len() / all;
            RowsMut::new(state, width, ids)
        };
        TouchedRows {
            rows: ids.len(),
            width,
            w: RowsMut::new(table.w, width, ids),
            g,
            states: table.states.map(|part| part.map(state)),
            caught: caught.map(|caught| RowsMut::new(caught, 1, ids)),
        }
    }

    fn split(self) -> (Self, Self) {
        let TouchedRows { rows, width, w, g, states, caught } = self;
        let half = rows / 2;
        let (w, w_rest) = w.split_at(half);
        let (g, g_rest) = g.split_at(g.len().min(half * width));
        let (caught, caught_rest) = caught.map(|part| part.split_at(half)).unzip();
        let mut rest = [None, None, None];
        let mut i = 0;
        let states = states.map(|state| {
            let (first, other) = state.map(|state| state.split_at(half)).unzip();
            rest[i] = other;
            i += 1;
            first
        });
        let first = TouchedRows { rows: half, width, w, g, states, caught };
        (first, TouchedRows { rows: rows - half, width, w: w_rest, g: g_rest, states: rest, caught: caught_rest })
    }

    /// Runs `work` on every row, in parallel.
    pub fn for_each(mut self, work: &(impl Fn(&mut Row<R>) + Sync)) {
        // A row has a cost besides its elements.
        if self.rows > 1 && self.rows * (self.width + 32) > SMALLEST {
            let (first, rest) = self.split();
            pool::join(|| first.for_each(work), || rest.for_each(work));
            return;
        }
        for i in 0..self.rows {
            self.w.ask_for(i + AHEAD);
            self.states.iter_mut().flatten().for_each(|state| state.ask_for(i + AHEAD));
            let g = if self.g.is_empty() { &[] } else { &self.g[i * self.width..][..self.width] };
            let states = self.states.each_mut().map(|state| Some(state.as_mut()?.get(i)));
            work(&mut Row { w: self.w.get(i), g, states, caught: self.caught.as_mut().map(|c| &mut c.get(i)[0]) });
        }
    }
}
