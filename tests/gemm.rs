//! The matrix products of every backend against a triple loop in f64, for every shape, transposition and stride that can go wrong; those
//! of tiles against a chain of fused multiply-adds for every element, to the last bit.

mod common;

use common::{assert_close, hash, uniform};
use ndarray::{Array2, ArrayViewMut2, Axis, s};
use wordmill::Real;
use wordmill::blas::{self, Backend, Packed, Precision, add_product, product, product_on};
use wordmill::sys::memory::Room;

/// How a matrix lies in memory.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Lie {
    /// Row after row.
    Rows,
    /// The transpose of such a matrix.
    Columns,
    /// A part of a larger one.
    Part,
    /// Every second row and column of another.
    Sparse,
    /// Rows from last to first.
    Reversed,
}

const LIES: [Lie; 5] = [Lie::Rows, Lie::Columns, Lie::Part, Lie::Sparse, Lie::Reversed];
/// Those whose rows are contiguous, as those of a product have to be.
const CONTIGUOUS: [Lie; 3] = [Lie::Rows, Lie::Part, Lie::Reversed];

/// A matrix inside an owner that is `around` elsewhere.
struct Placed<R> {
    owner: Array2<R>,
    lie: Lie,
    shape: (usize, usize),
}

impl<R: Real> Placed<R> {
    fn new(lie: Lie, (rows, columns): (usize, usize), around: R, values: &[R]) -> Self {
        let owner = match lie {
            Lie::Rows | Lie::Reversed => (rows, columns),
            Lie::Columns => (columns, rows),
            Lie::Part => (rows + 2, columns + 5),
            Lie::Sparse => (2 * rows, 2 * columns),
        };
        let mut placed = Placed { owner: Array2::from_elem(owner, around), lie, shape: (rows, columns) };
        placed.view().iter_mut().zip(values).for_each(|(x, &value)| *x = value);
        placed
    }

    fn view(&mut self) -> ArrayViewMut2<'_, R> {
        let (rows, columns) = self.shape;
        match self.lie {
            Lie::Rows => self.owner.view_mut(),
            Lie::Columns => self.owner.view_mut().reversed_axes(),
            Lie::Part => self.owner.slice_mut(s![1..=rows, 3..3 + columns]),
            Lie::Sparse => self.owner.slice_mut(s![..; 2, ..; 2]),
            Lie::Reversed => {
                let mut view = self.owner.view_mut();
                view.invert_axis(Axis(0));
                view
            }
        }
    }
}

/// The sizes of one product and how its operands lie.
#[derive(Clone, Copy, Debug)]
struct Case {
    m: usize,
    n: usize,
    k: usize,
    c: Lie,
    a: Lie,
    b: Lie,
}

/// The nearest number with eight bits of mantissa, of two that are as near the even one.
fn bf16(x: f64) -> f64 {
    let bits = (x as f32).to_bits();
    let up = 0x7fff + (bits >> 16 & 1);
    f64::from(f32::from_bits((bits + up) & 0xffff_0000))
}

/// c = ab and c += ab by `backend` (`None`: the one that is chosen), against the naive product.
fn check<R: Real>(backend: Option<Backend>, case: Case) {
    let Case { m, n, k, .. } = case;
    let (a, b, old) = (uniform::<R>(m * k, 1.0, 1), uniform::<R>(k * n, 1.0, 2), uniform::<R>(m * n, 1.0, 3));
    let nan = R::of(f64::NAN);
    let (mut pa, mut pb) = (Placed::new(case.a, (m, k), nan, &a), Placed::new(case.b, (k, n), nan, &b));
    for add in [false, true] {
        // Without `add`, what c holds before must not be read: it is NaN.
        let before = if add { old.clone() } else { vec![nan; m * n] };
        let mark = R::of(-77.0);
        let mut pc = Placed::new(case.c, (m, n), mark, &before);
        let (a_view, b_view) = (pa.view(), pb.view());
        // Operands of which neither rows nor columns are contiguous are not rounded.
        let contiguous = |x: &ArrayViewMut2<R>, y: usize| x.strides()[y] == 1 || x.shape()[y] == 1;
        let rounds = backend == Some(Backend::Bf16)
            && R::NAME == "f32"
            && [&a_view, &b_view].into_iter().all(|x| contiguous(x, 0) || contiguous(x, 1))
            && contiguous(&pc.view(), 1);
        let rounded = |x: R| if rounds { bf16(x.f64()) } else { x.f64() };
        match backend {
            Some(backend) => product_on(backend, pc.view(), a_view.view(), b_view.view(), add),
            None if add => add_product(pc.view(), a_view.view(), b_view.view()),
            None => product(pc.view(), a_view.view(), b_view.view()),
        }
        let is_chain = match backend {
            Some(backend) => backend == Backend::Tiles,
            None => !cfg!(feature = "linked-blas"),
        };
        for ((i, j), got) in pc.view().indexed_iter() {
            if is_chain {
                let first = if add { old[i * n + j] } else { R::zero() };
                let want = (0..k).fold(first, |sum, l| a[i * k + l].mul_add(b[l * n + j], sum));
                let (got, want) = (got.f64(), want.f64());
                assert_eq!(got.to_bits(), want.to_bits(), "{} {case:?} add {add} [{i}, {j}]: {got} {want}", R::NAME);
            }
            let start = if add { old[i * n + j].f64() } else { 0.0 };
            let terms = || (0..k).map(|l| rounded(a[i * k + l]) * rounded(b[l * n + j]));
            let want = start + terms().sum::<f64>();
            let size = start.abs() + terms().map(f64::abs).sum::<f64>();
            // Any order of k + 1 rounded sums stays within this.
            let tolerance = (k + 2) as f64 * R::epsilon().f64();
            let what = format_args!("{} {backend:?} {case:?} add {add} [{i}, {j}]", R::NAME);
            assert_close(what, got.f64(), want, tolerance, size.max(f64::MIN_POSITIVE));
        }
        pc.view().fill(mark);
        assert!(pc.owner.iter().all(|&x| x == mark), "{backend:?} {case:?} wrote beside c");
    }
}

/// A packed operand gives the bits that the operand gives, whatever it lies like, in parts of wider matrices.
#[test]
fn packed_operands() {
    fn check<R: Real>(m: usize, n: usize, k: usize, precision: Precision) {
        if !precision.available() {
            return println!("skipped: products of bfloat16, which this processor does not have");
        }
        let (a, b, old) = (uniform::<R>(m * k, 1.0, 1), uniform::<R>(k * n, 1.0, 2), uniform::<R>(m * n, 1.0, 3));
        let mut rows = Placed::new(Lie::Rows, (k, n), R::zero(), &b);
        for (lie, add) in [(Lie::Rows, false), (Lie::Columns, true), (Lie::Part, true), (Lie::Sparse, false)] {
            if precision == Precision::Bf16 && lie == Lie::Sparse {
                continue;
            }
            let mut packed = Room::make(|room| Packed::new(room, k, n, precision));
            let mut shared = Room::make(|room| Packed::new(room, k + 3, n + 20, precision));
            packed.pack(Placed::new(lie, (k, n), R::one(), &b).view().view());
            let mut pa = Placed::new(Lie::Part, (m, k), R::one(), &a);
            let (mut want, mut got) =
                (Placed::new(Lie::Part, (m, n), R::one(), &old), Placed::new(Lie::Part, (m, n), R::one(), &old));
            let mut also = Placed::new(Lie::Part, (m, n), R::one(), &old);
            shared.pack(rows.view().view());
            shared.product_or_add(also.view(), pa.view().view(), add);
            if add {
                precision.add_product(want.view(), pa.view().view(), rows.view().view());
                packed.add_product(got.view(), pa.view().view());
            } else {
                precision.product(want.view(), pa.view().view(), rows.view().view());
                packed.product(got.view(), pa.view().view());
            }
            assert_eq!(got.owner, want.owner, "{} {m} {n} {k} {lie:?} {precision:?}", R::NAME);
            assert_eq!(also.owner, want.owner, "{} {m} {n} {k} {precision:?}, shared", R::NAME);
        }
    }
    for (m, n, k) in
        [(1, 1, 1), (3, 5, 2), (16, 48, 7), (17, 50, 100), (5, 385, 13), (9, 800, 390), (2, 49, 1000), (11, 801, 1603)]
    {
        for precision in [Precision::F32, Precision::Bf16] {
            check::<f32>(m, n, k, precision);
            check::<f64>(m, n, k, precision);
        }
    }
}

fn check_all(case: Case) {
    for backend in Backend::all().map(Some).chain([None]) {
        check::<f32>(backend, case);
        check::<f64>(backend, case);
    }
}

const PLAIN: Case = Case { m: 5, n: 19, k: 7, c: Lie::Rows, a: Lie::Rows, b: Lie::Rows };

/// Nothing, one, and one less and more than every width of tile and vector, in all three sizes.
#[test]
fn every_remainder() {
    blas::initialise();
    let sizes = [0, 1, 2, 3, 5, 7, 8, 9, 13, 16, 17, 31, 33, 48, 49, 65];
    for (i, &m) in sizes.iter().enumerate() {
        for (j, &n) in sizes.iter().enumerate() {
            for k in [0, 1, 2, sizes[(i + j) % sizes.len()]] {
                check_all(Case { m, n, k, ..PLAIN });
            }
        }
    }
}

/// nn, nt, tn, tt, parts of matrices, gaps between columns, rows backwards.
#[test]
fn every_stride() {
    blas::initialise();
    for a in LIES {
        for b in LIES {
            for c in CONTIGUOUS {
                for (m, n, k) in [(5, 19, 7), (11, 48, 3), (1, 17, 9), (9, 1, 4), (3, 33, 1), (1, 1, 1), (6, 0, 2)] {
                    check_all(Case { m, n, k, c, a, b });
                }
            }
        }
    }
}

/// Deeper than the tiles walk at once, and wider than a block.
#[test]
fn large() {
    blas::initialise();
    for (m, n, k) in [
        (9, 50, 255),
        (9, 50, 256),
        (9, 50, 257),
        (3, 17, 1031),
        (130, 97, 301),
        (40, 530, 520),
        (7, 35, 385),
        (13, 401, 769),
    ] {
        check_all(Case { m, n, k, ..PLAIN });
        check_all(Case { m, n, k, a: Lie::Columns, ..PLAIN });
        check_all(Case { m, n, k, b: Lie::Columns, ..PLAIN });
        check_all(Case { m, n, k, a: Lie::Sparse, b: Lie::Sparse, c: Lie::Part });
    }
}

/// An infinity or a NaN in an operand reaches the elements that depend on it, and only those.
#[test]
fn not_finite_operands() {
    blas::initialise();
    let (m, n, k) = (9, 50, 20);
    for backend in Backend::all() {
        for bad in [f32::NAN, f32::INFINITY] {
            let (mut a, b) = (uniform::<f32>(m * k, 1.0, 1), uniform::<f32>(k * n, 1.0, 2));
            a[4 * k + 6] = bad;
            let mut c = vec![0.0; m * n];
            let view = |x, rows, columns| ndarray::ArrayView2::from_shape((rows, columns), x).expect("the shape fits");
            let out = ArrayViewMut2::from_shape((m, n), &mut c[..]).expect("the shape fits");
            product_on(backend, out, view(&a, m, k), view(&b, k, n), false);
            for (i, x) in c.iter().enumerate() {
                assert_eq!(x.is_finite(), i / n != 4, "{backend:?} {bad}: {x} at row {}", i / n);
            }
        }
    }
}

/// The bits of a product are a function of its operands, not of who else computes.
#[test]
fn same_bits_in_every_thread() {
    let run = || {
        let (m, n, k) = (130, 97, 301);
        let (a, b) = (uniform::<f32>(m * k, 1.0, 1), uniform::<f32>(k * n, 1.0, 2));
        let view = |x, rows, columns| ndarray::ArrayView2::from_shape((rows, columns), x).expect("the shape fits");
        let mut c = vec![0.0; m * n];
        let hashes = Backend::all().map(|backend| {
            let out = ArrayViewMut2::from_shape((m, n), &mut c[..]).expect("the shape fits");
            product_on(backend, out, view(&a, m, k), view(&b, k, n), false);
            hash(&c)
        });
        hashes.collect::<Vec<_>>()
    };
    let pool = wordmill::pool::pool(4).expect("four threads");
    let alone = run();
    for hashes in pool.install(|| rayon::broadcast(|_| run())) {
        assert_eq!(hashes, alone);
    }
}

#[test]
#[should_panic(expected = "contiguous")]
fn columns_are_not_written() {
    let x = Array2::<f32>::zeros((3, 3));
    product(Array2::zeros((3, 3)).view_mut().reversed_axes(), x.view(), x.view());
}

#[test]
#[should_panic(expected = "shapes")]
fn shapes_that_do_not_fit() {
    let x = Array2::<f32>::zeros((3, 4));
    product(Array2::zeros((3, 3)).view_mut(), x.view(), x.view());
}
