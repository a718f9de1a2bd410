//! Scattered rows of a large table: read with prefetching, and borrowed one by one for writing.

use super::kernel;
use crate::real::{LANES, Real, Simd};
use std::marker::PhantomData;

/// Number of rows to prefetch ahead.
const AHEAD: usize = 6;

/// Prefetches all cache lines of a row.
#[inline(always)]
fn prefetch<S: Simd>(s: S, row: &[S::R]) {
    row.chunks(LANES).for_each(|line| s.prefetch(line.as_ptr()));
}

kernel! {
    /// out\[i\] = table\[ids\[i\]\] for rows of `width`.
    pub fn gather<'a>(out: &'a mut [R], ids: &'a [u32], table: &'a [R], width: usize) {
        |s| {
            assert_eq!(out.len(), ids.len() * width);
            for (i, (out, &id)) in out.chunks_exact_mut(width).zip(ids).enumerate() {
                if let Some(&next) = ids.get(i + AHEAD) {
                    prefetch(s, &table[next as usize * width..][..width]);
                }
                out.copy_from_slice(&table[id as usize * width..][..width]);
            }
        }
    }
}

kernel! {
    /// Prefetches a row that will be read and written soon.
    pub fn ask_for<'a>(row: &'a [R]) {
        |s| prefetch(s, row)
    }
}

/// Some rows of a table, each of which is borrowed by itself: they are distinct, so that different threads can write to them.
pub struct RowsMut<'a, T> {
    table: *mut T,
    width: usize,
    ids: &'a [u32],
    lifetime: PhantomData<&'a mut [T]>,
}

// SAFETY: it is equivalent to mutable slices of T that are not shared.
unsafe impl<T: Send> Send for RowsMut<'_, T> {}

impl<'a, T> RowsMut<'a, T> {
    /// The rows `ids`, ascending and distinct, of a table with `width` columns.
    pub fn new(table: &'a mut [T], width: usize, ids: &'a [u32]) -> Self {
        assert!(ids.is_sorted_by(|a, b| a < b), "rows are distinct and in order");
        assert!(ids.last().is_none_or(|&last| (last as usize + 1) * width <= table.len()));
        RowsMut { table: table.as_mut_ptr(), width, ids, lifetime: PhantomData }
    }

    /// The first `n` rows, and the others.
    pub fn split_at(self, n: usize) -> (Self, Self) {
        let (first, rest) = self.ids.split_at(n);
        (RowsMut { ids: first, ..self }, RowsMut { ids: rest, ..self })
    }

    /// The `i`-th row.
    pub fn get(&mut self, i: usize) -> &mut [T] {
        // SAFETY: within the table, as the largest id is; distinct from the rows of every other part of the table, since ids
        // are distinct and each belongs to one part; borrowed as long as this part is.
        unsafe { std::slice::from_raw_parts_mut(self.table.add(self.ids[i] as usize * self.width), self.width) }
    }
}

impl<R: Real> RowsMut<'_, R> {
    /// Prefetches the `i`-th row, if there is one.
    pub fn ask_for(&mut self, i: usize) {
        if i < self.ids.len() {
            ask_for(self.get(i));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_lent_out_apart() {
        let mut table: Vec<f32> = (0..21).map(|i| i as f32).collect();
        let mut gathered = [0.0; 6];
        gather(&mut gathered, &[6, 1], &table, 3);
        assert_eq!(gathered, [18.0, 19.0, 20.0, 3.0, 4.0, 5.0]);
        let ids = [1, 2, 6];
        let (mut first, mut rest) = RowsMut::new(&mut table, 3, &ids).split_at(1);
        let (a, b) = (first.get(0), rest.get(1));
        a[0] = 30.0;
        b[2] = 200.0;
        rest.ask_for(7);
        rest.get(0).fill(0.0);
        let expected: Vec<f32> = (0..21)
            .map(|i| match i {
                3 => 30.0,
                6..9 => 0.0,
                20 => 200.0,
                i => i as f32,
            })
            .collect();
        assert_eq!(table, expected);
    }

    #[test]
    #[should_panic(expected = "distinct")]
    fn a_row_is_not_lent_twice() {
        RowsMut::new(&mut [0.0f32; 9], 3, &[1, 1]);
    }
}
