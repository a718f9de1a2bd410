//! Products by register tiles of rows × 16-lane vectors, over `b`'s rows as they lie, or over `b` as packed before, once for many
//! products. Nothing is allocated.
//!
//! Whatever the tile, the block and the instruction set, an element of c is one chain of fused multiply-adds over ascending k, begun
//! from what c holds, or from zero: none of them changes a bit.

use crate::kernels::{Isa, compiled, isa};
use crate::real::{Kernel, LANES, Real, Simd};
use ndarray::{ArrayView2, ArrayViewMut2, Axis, s};
use std::cell::RefCell;
use std::mem::MaybeUninit;
use std::ptr::copy_nonoverlapping;

/// Maximum number of rows of `b` processed at a time.
const DEPTH: usize = 384;
/// Maximum number of columns of `b` processed at a time: with as many rows they take 576 KiB, which stay in L2.
pub const COLUMNS: usize = 384;
/// What is packed at a time of a `b` that was not packed before: 160 × 320 f32, or 384 × 128.
pub const ROOM_BYTES: usize = 160 * 320 * 4;
/// The smallest products for which packing pays on AVX2: in rows, and in multiply-adds.
const MANY: usize = 48;
const LARGE: usize = 1 << 20;
/// Rows of the tallest tile.
const TALLEST: usize = 8;
/// Vectors side by side in the widest tile.
const WIDEST: usize = 3;

/// c = a · b, or c ← c + a · b. The rows of `c` are contiguous.
pub fn product<R: Real>(mut c: ArrayViewMut2<R>, a: ArrayView2<R>, b: ArrayView2<R>, add: bool) {
    let ((m, n), k) = (c.dim(), a.ncols());
    assert_contiguous(&c);
    let pays = isa() == Isa::Avx2 && m >= MANY && m * n * k >= LARGE;
    if pays || (b.strides()[1] != 1 && n > 1) {
        return packing_product(c, a, b, add);
    }
    R::dispatch::<Products>(Product {
        m,
        n,
        k,
        a: a.as_ptr(),
        a_row: a.strides()[0],
        a_column: a.strides()[1],
        b: b.as_ptr(),
        b_row: Some(b.strides()[0]),
        c_row: c.strides()[0],
        c: c.as_mut_ptr(),
        add,
    });
}

/// Room for the packed part of `b`.
#[repr(align(64))]
struct Room([u64; ROOM_BYTES / 8]);

thread_local! {
    /// It is part of a thread, so that no product allocates.
    static ROOM: RefCell<Room> = const { RefCell::new(Room([0; ROOM_BYTES / 8])) };
}

/// The same with `b` packed, as many columns at a time as there is room for: where its rows are not contiguous, and where narrow tiles walk
/// them often.
fn packing_product<R: Real>(mut c: ArrayViewMut2<R>, a: ArrayView2<R>, b: ArrayView2<R>, add: bool) {
    let (k, n) = b.dim();
    let (depth, _) = blocks(k, n, DEPTH);
    ROOM.with_borrow_mut(|room| {
        // SAFETY: both are numbers of which any bits are values.
        let (_, room, _) = unsafe { room.0.align_to_mut::<R>() };
        let width = room.len() / depth / LANES * LANES;
        for (from, rows) in parts(k, depth) {
            let rows = from..from + rows;
            for (column, columns) in parts(n, width.min(COLUMNS)) {
                let columns = column..column + columns;
                let packed = &mut room[..packed_len(rows.len(), columns.len())];
                pack(packed, b.slice(s![rows.clone(), columns.clone()]));
                packed_product(c.slice_mut(s![.., columns]), a.slice(s![.., rows.clone()]), packed, add || from > 0);
            }
        }
    });
}

fn assert_contiguous<R>(c: &ArrayViewMut2<R>) {
    assert!(c.strides()[1] == 1 || c.ncols() == 1, "the rows of what a product is written to are contiguous");
}

/// Elements that [`pack`] writes.
pub fn packed_len(k: usize, n: usize) -> usize {
    k * n.next_multiple_of(LANES)
}

/// Packs `b` \[k, n\] in the order in which tiles read it: block by block, within a block panel by panel, within a panel row by row.
pub fn pack<R: Real>(out: &mut [R], b: ArrayView2<R>) {
    assert_eq!(out.len(), packed_len(b.nrows(), b.ncols()));
    if b.is_empty() {
        return;
    }
    R::dispatch::<Packs>(Pack { out, b });
}

/// c = a · b, or c ← c + a · b, for a packed `b`.
pub fn packed_product<R: Real>(mut c: ArrayViewMut2<R>, a: ArrayView2<R>, b: &[R], add: bool) {
    let ((m, n), k) = (c.dim(), a.ncols());
    assert_contiguous(&c);
    assert!(b.len() == packed_len(k, n));
    R::dispatch::<Products>(Product {
        m,
        n,
        k,
        a: a.as_ptr(),
        a_row: a.strides()[0],
        a_column: a.strides()[1],
        b: b.as_ptr(),
        b_row: None,
        c_row: c.strides()[0],
        c: c.as_mut_ptr(),
        add,
    });
}

/// The numbers of rows (at most `deepest`) and columns of the blocks of a \[k, n\] operand.
pub fn blocks(k: usize, n: usize, deepest: usize) -> (usize, usize) {
    let depth = k.div_ceil(k.div_ceil(deepest));
    (depth, n.div_ceil(n.div_ceil(COLUMNS)).next_multiple_of(LANES))
}

/// The range of vectors of each panel of a block of `n` columns: at most `widest`, and of nearly equal width.
#[inline(always)]
pub fn panels(n: usize, widest: usize) -> impl Iterator<Item = (usize, usize)> {
    let vectors = n.div_ceil(LANES);
    let panels = vectors.div_ceil(widest);
    (0..panels).map(move |panel| (panel * vectors / panels, (panel + 1) * vectors / panels))
}

/// The parts of 0 .. n of at most `size`: where each begins, and its length.
#[inline(always)]
pub fn parts(n: usize, size: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..n).step_by(size).map(move |from| (from, size.min(n - from)))
}

/// Packs one panel: rows of `width` elements, the first of which are filled from `source`.
#[inline(always)]
fn pack_panel<R: Real>(panel: &mut [R], width: usize, source: ArrayView2<R>) {
    if source.strides()[1] == 1 {
        for (place, row) in panel.chunks_exact_mut(width).zip(source.rows()) {
            place[..row.len()].copy_from_slice(row.as_slice().expect("the row is contiguous"));
        }
    } else {
        // Columns of a few rows at a time, so that source and destination stay in L1.
        for (panel, rows) in panel.chunks_mut(LANES * width).zip(source.axis_chunks_iter(Axis(0), LANES)) {
            for (j, column) in rows.columns().into_iter().enumerate() {
                panel[j..].iter_mut().step_by(width).zip(column).for_each(|(place, x)| *place = *x);
            }
        }
    }
}

enum Packs {}
compiled!(Packs, Pack<'k, R>);

struct Pack<'a, R> {
    out: &'a mut [R],
    b: ArrayView2<'a, R>,
}

impl<R: Real> Kernel<R> for Pack<'_, R> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<R = R>>(self, _: S) {
        let (k, n) = self.b.dim();
        let (depth, width) = blocks(k, n, DEPTH);
        let mut out = self.out;
        for (column, columns) in parts(n, width) {
            for (from, rows) in parts(k, depth) {
                for (first, end) in panels(columns, S::TILE.1.min(WIDEST)) {
                    let columns = column + first * LANES..(column + end * LANES).min(n);
                    let width = (end - first) * LANES;
                    let panel = out.split_off_mut(..rows * width).expect("a packed operand has room");
                    let source = self.b.slice(s![from..from + rows, columns]);
                    pack_panel(panel, width, source);
                }
            }
        }
    }
}

enum Products {}
compiled!(Products, Product<R>);

/// The operands of one product, or of one tile of it.
#[derive(Clone, Copy)]
struct Product<R> {
    m: usize,
    n: usize,
    k: usize,
    a: *const R,
    a_row: isize,
    a_column: isize,
    b: *const R,
    /// Distance between rows of `b`; none if `b` is packed.
    b_row: Option<isize>,
    c: *mut R,
    c_row: isize,
    add: bool,
}

impl<R: Real> Kernel<R> for Product<R> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<R = R>>(self, s: S) {
        // k and n are divided into equal parts, so that a block of `b` stays in L2; then into tiles of rows, whose part of `a` stays in L1.
        let (depth, width) = blocks(self.k, self.n, DEPTH);
        for (column, n) in parts(self.n, width) {
            for (from, k) in parts(self.k, depth) {
                // SAFETY: from < k and column < n; packed blocks of these columns are as wide as their panels.
                let (a, b, c) = unsafe {
                    let b = match self.b_row {
                        Some(b_row) => self.b.offset(from as isize * b_row).add(column),
                        None => self.b.add(column * self.k + from * n.next_multiple_of(LANES)),
                    };
                    (self.a.offset(from as isize * self.a_column), b, self.c.add(column))
                };
                Product { n, k, a, b, c, add: self.add || from > 0, ..self }.block(s);
            }
        }
    }
}

impl<R: Real> Product<R> {
    /// The product with a block of `b` in L2.
    #[inline(always)]
    fn block<S: Simd<R = R>>(self, s: S) {
        let mut gathered = [const { MaybeUninit::uninit() }; TALLEST * DEPTH];
        let mut row = 0;
        while row < self.m {
            let rows = (self.m - row).min(S::TILE.0);
            // SAFETY: row < m.
            let (a, c) =
                unsafe { (self.a.offset(row as isize * self.a_row), self.c.offset(row as isize * self.c_row)) };
            let tile = Product { m: rows, a, c, ..self };
            row += match rows {
                8.. => tile.rows::<S, 8>(s, &mut gathered),
                6..8 => tile.rows::<S, 6>(s, &mut gathered),
                4..6 => tile.rows::<S, 4>(s, &mut gathered),
                2..4 => tile.rows::<S, 2>(s, &mut gathered),
                _ => tile.rows::<S, 1>(s, &mut gathered),
            };
        }
    }

    /// Computes M rows of the product, panel by panel; returns M.
    #[inline(always)]
    fn rows<S: Simd<R = R>, const M: usize>(mut self, s: S, gathered: &mut [MaybeUninit<R>; TALLEST * DEPTH]) -> usize {
        if S::GATHER && self.a_column != 1 && self.n > 2 * LANES {
            self.gather::<M>(gathered);
        }
        // The rows of `a` that come next, while these are used, and of `c` where they begin.
        for i in 0..M {
            if self.a_column == 1 {
                let next = self.a.wrapping_offset((M + i) as isize * self.a_row);
                (0..self.k).step_by(LANES).for_each(|k| s.prefetch(next.wrapping_add(k)));
            }
            if self.add {
                let next = self.c.wrapping_offset((M + i) as isize * self.c_row);
                (0..S::TILE.1.min(WIDEST)).for_each(|v| s.prefetch(next.wrapping_add(v * LANES)));
            }
        }
        for (from, to) in panels(self.n, S::TILE.1.min(WIDEST)) {
            let column = from * LANES;
            let part = Product {
                n: (to * LANES).min(self.n) - column,
                // SAFETY: column < n; packed panels have k rows each.
                b: unsafe { self.b.add(if self.b_row.is_some() { column } else { column * self.k }) },
                // SAFETY: as above.
                c: unsafe { self.c.add(column) },
                ..self
            };
            // SAFETY: M rows remain, and n is V vectors, the last one partial unless WHOLE.
            unsafe {
                match (to - from, part.n.is_multiple_of(LANES)) {
                    (3, true) => part.tile::<S, M, 3, true>(s),
                    (3, false) => part.tile::<S, M, 3, false>(s),
                    (2, true) => part.tile::<S, M, 2, true>(s),
                    (2, false) => part.tile::<S, M, 2, false>(s),
                    (_, true) => part.tile::<S, M, 1, true>(s),
                    (_, false) => part.tile::<S, M, 1, false>(s),
                }
            }
        }
        M
    }

    /// Makes M rows of `a` lie side by side, column by column.
    #[inline(always)]
    fn gather<const M: usize>(&mut self, gathered: &mut [MaybeUninit<R>; TALLEST * DEPTH]) {
        let columns = gathered.as_chunks_mut::<M>().0[..self.k].iter_mut();
        for (k, column) in columns.enumerate() {
            let first = self.a.wrapping_offset(k as isize * self.a_column);
            // SAFETY: M rows and k columns of `a` are there.
            unsafe {
                if self.a_row == 1 {
                    copy_nonoverlapping(first, column.as_mut_ptr().cast(), M);
                } else {
                    column
                        .iter_mut()
                        .enumerate()
                        .for_each(|(i, place)| _ = place.write(*first.offset(i as isize * self.a_row)));
                }
            }
        }
        (self.a, self.a_row, self.a_column) = (gathered.as_ptr().cast(), 1, M as isize);
    }

    /// M rows × V vectors, kept in registers over all of k.
    ///
    /// # Safety
    /// m ≥ M, and n fills V vectors, the last one partly unless WHOLE.
    #[inline(always)]
    #[expect(clippy::needless_range_loop, reason = "indices that the compiler unrolls into registers")]
    unsafe fn tile<S: Simd<R = R>, const M: usize, const V: usize, const WHOLE: bool>(self, s: S) {
        let last = self.n - (V - 1) * LANES;
        let mut sum = [[s.splat(R::zero()); V]; M];
        if self.add {
            for i in 0..M {
                let row = self.c.wrapping_offset(i as isize * self.c_row);
                for v in 0..V {
                    // What the next tile begins from, while this one is worked on.
                    s.prefetch(row.wrapping_add((V + v) * LANES));
                    // SAFETY: within the M rows and n columns of c.
                    unsafe {
                        let p = row.add(v * LANES);
                        sum[i][v] = if WHOLE || v + 1 < V { s.load_at(p) } else { s.load_part_at(p, last) };
                    }
                }
            }
        }
        let (mut a, mut b) = (self.a, self.b);
        let b_row = self.b_row.unwrap_or((V * LANES) as isize);
        // Where `b` is not packed, the rows of the next panel, of which no processor guesses that they will be needed.
        let ahead = if self.b_row.is_some() { V * LANES } else { 8 * V * LANES };
        for _ in 0..self.k {
            // SAFETY: within the k rows of b and columns of a; of the last vector only the n columns are read.
            unsafe {
                if S::GATHER {
                    s.prefetch(b.wrapping_add(ahead));
                }
                let mut vectors = [s.splat(R::zero()); V];
                for v in 0..V {
                    let p = b.add(v * LANES);
                    vectors[v] = if WHOLE || v + 1 < V { s.load_at(p) } else { s.load_part_at(p, last) };
                }
                for i in 0..M {
                    let factor = s.splat(*a.offset(i as isize * self.a_row));
                    for v in 0..V {
                        sum[i][v] = s.fma(factor, vectors[v], sum[i][v]);
                    }
                }
                a = a.wrapping_offset(self.a_column);
                b = b.wrapping_offset(b_row);
            }
        }
        for (i, row) in sum.iter().enumerate() {
            for (v, &x) in row.iter().enumerate() {
                // SAFETY: within the M rows and n columns of c.
                unsafe {
                    let p = self.c.offset(i as isize * self.c_row).add(v * LANES);
                    if WHOLE || v + 1 < V { s.store_at(x, p) } else { s.store_part_at(x, p, last) }
                }
            }
        }
    }
}
