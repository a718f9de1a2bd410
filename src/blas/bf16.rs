//! Products of operands rounded to bfloat16 (eight bits of mantissa), accumulated in f32: twice as fast as products in f32 on
//! processors with AVX-512 BF16.
//!
//! The instruction multiplies *pairs*: elements of two consecutive rows of `b` with two consecutive elements of a row of `a`, each pair
//! in 32 bits. Blocks of `b` are laid out as pairs in a buffer of the thread, unless packed in advance; rows of `a`, eight at a time.
//! Rounding is to nearest even, and denormals are zero, whatever the thread's settings.

use crate::real::{LANES, Real};
use ndarray::{ArrayView2, ArrayViewMut2};

/// Whether this processor multiplies bfloat16 and `WORDMILL_ISA` allows it.
pub fn available() -> bool {
    #[cfg(target_arch = "x86_64")]
    return crate::kernels::isa() == crate::kernels::Isa::Avx512 && is_x86_feature_detected!("avx512bf16");
    #[cfg(not(target_arch = "x86_64"))]
    false
}

/// Whether `c` has contiguous rows, and each operand contiguous rows or columns.
pub fn takes<R: Real>(c: &ArrayViewMut2<R>, a: &ArrayView2<R>, b: &ArrayView2<R>) -> bool {
    let contiguous = |x: &ArrayView2<R>| {
        let ((rows, columns), strides) = (x.dim(), x.strides());
        strides[1] == 1 || columns == 1 || strides[0] == 1 || rows == 1
    };
    (c.strides()[1] == 1 || c.ncols() == 1) && contiguous(a) && contiguous(b)
}

/// Number of pairs that [`pack`] writes. All blocks but the last have an even number of rows.
pub fn packed_len(k: usize, n: usize) -> usize {
    k.div_ceil(2) * n.next_multiple_of(LANES)
}

#[cfg(target_arch = "x86_64")]
pub use x86::{ROOM_BYTES, begin_thread, pack, packed_product, product};

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::super::tiles::{COLUMNS, blocks, panels, parts};
    use super::{available, packed_len};
    use crate::real::LANES;
    use crate::sys::memory::Buffer;
    use ndarray::{ArrayView2, ArrayViewMut2};
    use std::arch::x86_64::*;
    use std::cell::RefCell;

    /// Maximum number of rows of `b` processed at a time: as many bytes as in f32.
    const DEPTH: usize = 768;
    /// Rows and vectors of a tile.
    const TILE: (usize, usize) = (8, 3);
    /// Bytes of a thread's buffers.
    pub const ROOM_BYTES: usize = size_of::<u32>() * DEPTH / 2 * (TILE.0 + COLUMNS);

    /// A thread's buffers: a tile's rows of `a`, and a block of `b`.
    struct Room {
        a: Buffer<u32>,
        b: Buffer<u32>,
    }

    thread_local! {
        static ROOM: RefCell<Room> = RefCell::new(Room {
            a: Buffer::zeros(TILE.0 * DEPTH / 2),
            b: Buffer::zeros(packed_len(DEPTH, COLUMNS)),
        });
    }

    /// Allocates the buffers of the current thread, if it has none.
    pub fn begin_thread() {
        ROOM.with_borrow(|_| ());
    }

    /// An operand with contiguous rows or columns: its first element, and the distances between rows and between columns.
    #[derive(Clone, Copy)]
    struct Matrix {
        at: *const f32,
        row: isize,
        column: isize,
    }

    impl Matrix {
        fn of(x: &ArrayView2<f32>) -> Self {
            let ((rows, columns), strides) = (x.dim(), x.strides());
            // A dimension of 1 may have any stride.
            match strides {
                [_, 1] => Matrix { at: x.as_ptr(), row: strides[0], column: 1 },
                [1, _] => Matrix { at: x.as_ptr(), row: 1, column: strides[1] },
                _ if columns == 1 => Matrix { at: x.as_ptr(), row: strides[0], column: 1 },
                _ => {
                    assert!(rows == 1, "rows or columns are contiguous");
                    Matrix { at: x.as_ptr(), row: 1, column: strides[1] }
                }
            }
        }

        /// The part that begins at a row and column.
        #[inline(always)]
        fn from(self, row: usize, column: usize) -> Self {
            let at = self.at.wrapping_offset(row as isize * self.row + column as isize * self.column);
            Matrix { at, ..self }
        }
    }

    /// Packs `b` \[k, n\]: block by block, within a block panel by panel, within a panel by pairs of rows.
    pub fn pack(mut out: &mut [u32], b: ArrayView2<f32>) {
        let (k, n) = b.dim();
        assert!(available() && out.len() == packed_len(k, n));
        if b.is_empty() {
            return;
        }
        let b = Matrix::of(&b);
        let (depth, width) = even_blocks(k, n);
        for (column, n) in parts(n, width) {
            for (row, k) in parts(k, depth) {
                let block = out.split_off_mut(..packed_len(k, n)).expect("a packed operand has room");
                // SAFETY: the instructions are available, and the block is within b.
                unsafe { pack_block(block, b.from(row, column), k, n) };
            }
        }
    }

    /// c = a · b, or c ← c + a · b.
    pub fn product(c: ArrayViewMut2<f32>, a: ArrayView2<f32>, b: ArrayView2<f32>, add: bool) {
        assert!(b.dim() == (a.ncols(), c.ncols()));
        run(c, a, Right::Rows(Matrix::of(&b)), add);
    }

    /// The same for a packed `b`.
    pub fn packed_product(c: ArrayViewMut2<f32>, a: ArrayView2<f32>, b: &[u32], add: bool) {
        assert!(b.len() == packed_len(a.ncols(), c.ncols()));
        run(c, a, Right::Packed(b), add);
    }

    /// The right operand.
    enum Right<'a> {
        Rows(Matrix),
        /// Its remaining blocks.
        Packed(&'a [u32]),
    }

    /// The number of rows, which is even, and of columns of the blocks of a \[k, n\] operand.
    fn even_blocks(k: usize, n: usize) -> (usize, usize) {
        let (depth, width) = blocks(k, n, DEPTH);
        (depth.next_multiple_of(2), width)
    }

    fn run(mut c: ArrayViewMut2<f32>, a: ArrayView2<f32>, mut b: Right, add: bool) {
        let ((m, n), k) = (c.dim(), a.ncols());
        assert!(available() && a.nrows() == m && (c.strides()[1] == 1 || n == 1));
        let (c_row, a) = (c.strides()[0], Matrix::of(&a));
        let (depth, width) = even_blocks(k, n);
        ROOM.with_borrow_mut(|room| {
            for (column, n) in parts(n, width) {
                for (from, k) in parts(k, depth) {
                    let len = packed_len(k, n);
                    let block = match &mut b {
                        Right::Packed(b) => b.split_off(..len).expect("blocks make up a packed operand"),
                        Right::Rows(b) => {
                            // SAFETY: the instructions are available, and the block is within b.
                            unsafe { pack_block(&mut room.b[..len], b.from(from, column), k, n) };
                            &room.b[..len]
                        }
                    };
                    let c = c.as_mut_ptr().wrapping_add(column);
                    let part = Block { m, n, k, a: a.from(0, from), b: block.as_ptr(), c, c_row, add: add || from > 0 };
                    // SAFETY: the instructions are available; the block is within a, b and c.
                    unsafe { part.product(&mut room.a) };
                }
            }
        });
    }

    /// Prefetches a cache line.
    #[inline(always)]
    fn prefetch(p: *const f32) {
        // SAFETY: a hint; any address may be given.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(p.cast()) }
    }

    /// The mask of lanes 0 .. n.
    #[inline(always)]
    fn first(n: usize) -> __mmask16 {
        ((1u32 << n.min(LANES)) - 1) as __mmask16
    }

    /// The elements of two rows as pairs, lane by lane.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    fn pairs(low: __m512, high: __m512) -> __m512i {
        // SAFETY: the same bits in another type.
        let bits =
            |x| _mm512_cvtepu16_epi32(unsafe { std::mem::transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(x)) });
        _mm512_or_si512(bits(low), _mm512_slli_epi32::<16>(bits(high)))
    }

    /// Up to 32 consecutive elements as pairs.
    ///
    /// # Safety
    /// `p` is valid for reading `n` elements.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    unsafe fn pairs_at(p: *const f32, n: usize) -> __m512i {
        // SAFETY: the caller's promise; masked lanes are not read.
        unsafe {
            let low = _mm512_maskz_loadu_ps(first(n), p);
            let high = _mm512_maskz_loadu_ps(first(n.saturating_sub(LANES)), p.wrapping_add(LANES));
            std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(high, low))
        }
    }

    /// Packs a block of `b`.
    ///
    /// # Safety
    /// `b` has k rows and n columns.
    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    unsafe fn pack_block(mut out: &mut [u32], b: Matrix, k: usize, n: usize) {
        for (begin, end) in panels(n, TILE.1) {
            let width = (end - begin) * LANES;
            let panel = out.split_off_mut(..k.div_ceil(2) * width).expect("panels make up a block");
            if b.column == 1 {
                for (pair, row) in panel.chunks_exact_mut(width).enumerate() {
                    for (v, place) in row.chunks_exact_mut(LANES).enumerate() {
                        let column = (begin + v) * LANES;
                        let (low, some) = (b.from(2 * pair, column), first(n - column));
                        // SAFETY: if k is odd, the row after the last one is masked; masked lanes are not read.
                        unsafe {
                            let high = if 2 * pair + 1 < k { some } else { 0 };
                            let high = _mm512_maskz_loadu_ps(high, low.from(1, 0).at);
                            let both = pairs(_mm512_maskz_loadu_ps(some, low.at), high);
                            _mm512_storeu_si512(place.as_mut_ptr().cast(), both);
                        }
                    }
                }
            } else {
                for column in begin * LANES..(end * LANES).min(n) {
                    for row in (0..k).step_by(2 * LANES) {
                        let mut both = [0u32; LANES];
                        // SAFETY: only the remaining rows are read.
                        unsafe {
                            let column = pairs_at(b.from(row, column).at, k - row);
                            _mm512_storeu_si512(both.as_mut_ptr().cast(), column);
                        }
                        let places = panel[row / 2 * width + column - begin * LANES..].iter_mut().step_by(width);
                        places.zip(both).for_each(|(place, pair)| *place = pair);
                    }
                }
            }
        }
    }

    /// A product with one block of `b`.
    #[derive(Clone, Copy)]
    struct Block {
        m: usize,
        n: usize,
        k: usize,
        a: Matrix,
        b: *const u32,
        c: *mut f32,
        c_row: isize,
        add: bool,
    }

    impl Block {
        /// # Safety
        /// All operands have the given sizes.
        #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
        unsafe fn product(self, room: &mut [u32]) {
            let mut row = 0;
            while row < self.m {
                let (a, c) = (self.a.from(row, 0), self.c.wrapping_offset(row as isize * self.c_row));
                let part = Block { a, c, ..self };
                // SAFETY: at least as many rows remain.
                row += unsafe {
                    match self.m - row {
                        8.. => part.rows::<8>(room),
                        6..8 => part.rows::<6>(room),
                        4..6 => part.rows::<4>(room),
                        2..4 => part.rows::<2>(room),
                        _ => part.rows::<1>(room),
                    }
                };
            }
        }

        /// Computes M rows of the product, panel by panel; returns M.
        ///
        /// # Safety
        /// At least M rows remain.
        #[inline]
        #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
        unsafe fn rows<const M: usize>(self, room: &mut [u32]) -> usize {
            let pairs_per_row = self.k.div_ceil(2);
            let contiguous = self.a.column == 1;
            if contiguous {
                for (i, row) in room.chunks_exact_mut(DEPTH / 2).enumerate().take(M) {
                    for (v, place) in row[..pairs_per_row.next_multiple_of(LANES)].chunks_exact_mut(LANES).enumerate() {
                        let k = v * 2 * LANES;
                        // SAFETY: only the remaining columns are read.
                        unsafe {
                            let some = pairs_at(self.a.from(i, k).at, self.k - k);
                            _mm512_storeu_si512(place.as_mut_ptr().cast(), some);
                        }
                    }
                }
            } else {
                for (pair, place) in room.chunks_exact_mut(TILE.0).enumerate().take(pairs_per_row) {
                    let low = self.a.from(0, 2 * pair);
                    // SAFETY: M rows of a column are contiguous; masked lanes are not read.
                    unsafe {
                        let high = if 2 * pair + 1 < self.k { first(M) } else { 0 };
                        let high = _mm512_maskz_loadu_ps(high, low.from(0, 1).at);
                        let both = pairs(_mm512_maskz_loadu_ps(first(M), low.at), high);
                        _mm256_storeu_si256(place.as_mut_ptr().cast(), _mm512_castsi512_si256(both));
                    }
                }
            }
            let mut b = self.b;
            for (begin, end) in panels(self.n, TILE.1) {
                let column = begin * LANES;
                let part = Block { n: self.n - column, b, c: self.c.wrapping_add(column), ..self };
                let vectors = end - begin;
                // SAFETY: the panel has this many vectors, the last of which may be partial in c.
                unsafe {
                    match (vectors, contiguous) {
                        (3, true) => part.tile::<M, 3, true>(room),
                        (3, false) => part.tile::<M, 3, false>(room),
                        (2, true) => part.tile::<M, 2, true>(room),
                        (2, false) => part.tile::<M, 2, false>(room),
                        (_, true) => part.tile::<M, 1, true>(room),
                        (_, false) => part.tile::<M, 1, false>(room),
                    }
                }
                b = b.wrapping_add(pairs_per_row * vectors * LANES);
            }
            M
        }

        /// M rows × V vectors, kept in registers over all of k. `room` holds the rows of `a` as rows of pairs, or pair by pair if its
        /// columns are contiguous.
        ///
        /// # Safety
        /// The panel has V vectors, and c as many columns, except that the last ones may be missing.
        #[inline]
        #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
        #[expect(clippy::needless_range_loop, reason = "indices that the compiler unrolls into registers")]
        unsafe fn tile<const M: usize, const V: usize, const ROWS: bool>(self, room: &[u32]) {
            let (row, step) = if ROWS { (DEPTH / 2, 1) } else { (1, TILE.0) };
            if self.add {
                for i in 0..M {
                    let row = self.c.wrapping_offset(i as isize * self.c_row);
                    (0..V).for_each(|v| prefetch(row.wrapping_add(v * LANES)));
                }
            }
            let mut sum = [[_mm512_setzero_ps(); V]; M];
            let (mut a, mut b) = (room.as_ptr(), self.b);
            for _ in 0..self.k.div_ceil(2) {
                // SAFETY: within the panel and the pairs of the rows of a, which fit into the buffer; vectors of any 32-bit elements
                // have the same bits.
                unsafe {
                    let mut vectors = [_mm512_setzero_si512(); V];
                    for v in 0..V {
                        vectors[v] = _mm512_loadu_si512(b.add(v * LANES).cast());
                    }
                    for i in 0..M {
                        let factor =
                            std::mem::transmute::<__m512i, __m512bh>(_mm512_set1_epi32(*a.add(i * row) as i32));
                        for v in 0..V {
                            let vector = std::mem::transmute::<__m512i, __m512bh>(vectors[v]);
                            sum[i][v] = _mm512_dpbf16_ps(sum[i][v], factor, vector);
                        }
                    }
                    (a, b) = (a.add(step), b.add(V * LANES));
                }
            }
            for (i, row) in sum.iter().enumerate() {
                for (v, &x) in row.iter().enumerate() {
                    let p = self.c.wrapping_offset(i as isize * self.c_row).wrapping_add(v * LANES);
                    // SAFETY: within the M rows and n columns of c; masked lanes are neither read nor written.
                    unsafe {
                        let some = first(self.n - v * LANES);
                        let x = if self.add { _mm512_add_ps(_mm512_maskz_loadu_ps(some, p), x) } else { x };
                        _mm512_mask_storeu_ps(p, some, x);
                    }
                }
            }
        }
    }
}

#[cfg(not(target_arch = "x86_64"))]
pub use other::{ROOM_BYTES, begin_thread, pack, packed_product, product};

/// Never [`available`] on other processors.
#[cfg(not(target_arch = "x86_64"))]
mod other {
    use ndarray::{ArrayView2, ArrayViewMut2};

    pub const ROOM_BYTES: usize = 0;

    pub fn begin_thread() {
        unreachable!("`available` was asked");
    }

    pub fn pack(_: &mut [u32], _: ArrayView2<f32>) {
        unreachable!("`available` was asked");
    }

    pub fn product(_: ArrayViewMut2<f32>, _: ArrayView2<f32>, _: ArrayView2<f32>, _: bool) {
        unreachable!("`available` was asked");
    }

    pub fn packed_product(_: ArrayViewMut2<f32>, _: ArrayView2<f32>, _: &[u32], _: bool) {
        unreachable!("`available` was asked");
    }
}
