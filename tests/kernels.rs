//! The SIMD kernels: the same bits on every instruction set, NaN in → NaN out, and the errors of exp, tanh and σ.

mod common;

use common::{hash, uniform};
use std::process::Command;
use wordmill::Real;
use wordmill::kernels::activation::Activation;
use wordmill::kernels::dropout::{Keep, dropout, dropout_backward};
use wordmill::kernels::gates;
use wordmill::kernels::isa::run_on;
use wordmill::kernels::softmax::{exp_columns, join_blocks, scale_columns};
use wordmill::kernels::update::{self, AdamStep, Step};
use wordmill::kernels::{Isa, isa};
use wordmill::real::{Kernel, Simd};
use wordmill::rng::{Place, Purpose};
use wordmill::sys::cpu::flush_denormals;

const ACTIVATIONS: [Activation; 3] = [Activation::Sigmoid, Activation::Tanh, Activation::Relu];

/// Where kernels could go astray: the ends of the number line and of the functions' pieces.
const SPECIAL: [f32; 24] = [
    f32::NAN,
    f32::INFINITY,
    f32::NEG_INFINITY,
    0.0,
    -0.0,
    1e-45,
    -1e-40,
    f32::MIN_POSITIVE,
    -f32::MIN_POSITIVE,
    f32::MAX,
    f32::MIN,
    1.25,
    -1.25,
    1.250_000_1,
    88.722_84,
    88.722_85,
    -87.336_54,
    -103.972_1,
    -104.5,
    89.0,
    9.01,
    -17.3,
    1e-37,
    0.346_573_6,
];

/// `n` numbers; `special`: every third is one of [`SPECIAL`].
fn numbers<R: Real>(n: usize, special: bool, seed: u64) -> Vec<R> {
    let mut x = uniform(n, 20.0, seed);
    if special {
        for i in (seed as usize % 3..n).step_by(3) {
            x[i] = R::of(f64::from(SPECIAL[(i / 3 + n + seed as usize) % SPECIAL.len()]));
        }
    }
    x
}

fn place() -> Place {
    Place::new(7, Purpose::Dropout, 3, 5)
}

fn step<R: Real>() -> Step<R> {
    Step { rate: R::of(0.1), scale: R::of(0.7), decay: R::of(0.01) }
}

fn adam_step<R: Real>() -> AdamStep<R> {
    AdamStep {
        decay1: R::of(0.9),
        decay2: R::of(0.999),
        gain1: R::of(0.1),
        gain2: R::of(0.001),
        rate: R::of(0.2),
        correction: R::of(3.0),
        epsilon: R::of(1e-8),
    }
}

/// Calls `tell` with what every kernel makes of vectors of 0 to 70 elements, and of as many rows.
fn all_kernels<R: Real>(special: bool, mut tell: impl FnMut(&str, usize, &[R])) {
    for n in 0..=70 {
        let (x, y) = (numbers::<R>(n, special, 1), numbers::<R>(n, special, 2));
        for f in ACTIVATIONS {
            let mut h = y.clone();
            f.forward(&x, &mut h);
            tell(&format!("{f:?}"), n, &h);
            let mut g = y.clone();
            f.backward(&mut g, &h);
            tell(&format!("{f:?} backward"), n, &g);
        }
        for probability in [0.7, 1.0] {
            let (keep, mut out, mut g) = (Keep::inverted(probability), y.clone(), y.clone());
            dropout(keep, place(), &x, &mut out);
            tell(&format!("dropout {probability}"), n, &out);
            dropout_backward(keep, place(), &mut g);
            tell(&format!("dropout backward {probability}"), n, &g);
        }
        let (mut m, mut v) = (numbers::<R>(n, special, 3), numbers::<R>(n, special, 4));
        v.iter_mut().for_each(|v| *v = v.abs());
        let mut w = x.clone();
        update::add(&mut w, &y);
        tell("add", n, &w);
        update::sgd(&mut w, &y, step());
        tell("sgd", n, &w);
        update::adagrad(&mut w, &y, &mut v, step(), R::of(1e-8));
        tell("adagrad", n, &[&w[..], &v].concat());
        update::adam(&mut w, &y, &mut m, &mut v, step(), adam_step());
        tell("adam", n, &[&w[..], &m, &v].concat());
        let missed = [[R::of(-0.1), R::of(2.0)], [R::of(-0.09), R::of(1.9)]];
        update::adam_idle(&mut w, &m, &v, &missed, R::of(1e-8));
        tell("adam, idle", n, &w);
        let mut sum = R::of(0.5);
        update::adagrad_row(&mut w, &y, &mut sum, step(), R::of(1e-8));
        tell("adagrad of a row", n, &[&w[..], &[sum]].concat());
        tell("sum of squares", n, &[R::of(update::sum_of_squares(&x, 21))]);
        if n > 0 {
            let of = |count: usize, salt| numbers::<R>(count * n, special, salt);
            let (mut h, mut a, before) = (of(2, 12), of(10, 13), of(4, 14));
            gates::lstm(&mut h, &mut a, &before, n);
            tell("lstm", n, &[&h[..], &a].concat());
            let mut carry = of(4, 15);
            gates::lstm_backward(&mut a, &mut carry, &of(2, 16), &before, n);
            tell("lstm backward", n, &[&a[..], &carry].concat());
        }
    }
    for columns in [16, 32, 48, 64, 80, 144] {
        for rows in 0..=70 {
            let (mut x, bias) = (numbers::<R>(rows * columns, special, 5), numbers::<R>(rows, special, 6));
            let (mut max, mut sum) = (numbers::<R>(columns, special, 7), numbers::<R>(columns, special, 8));
            exp_columns(&mut x, columns, &bias, &mut max, &mut sum);
            tell(&format!("exp_columns of {columns}"), rows, &[&x[..], &max, &sum].concat());
            let (scale, mut sums) = (numbers::<R>(columns, special, 9), bias);
            scale_columns(&mut x, columns, &scale, &mut sums);
            tell(&format!("scale_columns of {columns}"), rows, &[&x[..], &sums].concat());
            if rows > 0 {
                let (mut largest, mut sums) =
                    (numbers::<R>(rows * columns, special, 10), numbers::<R>(rows * columns, special, 11));
                sums.iter_mut().for_each(|x| *x = x.abs());
                join_blocks(&mut largest, &mut sums, &mut sum);
                tell(&format!("join_blocks of {columns}"), rows, &[&largest[..columns], &sums, &sum].concat());
            }
        }
    }
}

/// Run by [`same_bits_on_every_isa`] in a process for each instruction set, which is fixed for a process.
#[test]
#[ignore = "prints what another test compares"]
fn print_hashes() {
    println!("running on = {}", isa());
    let print = |mode: &'static str| {
        for special in [false, true] {
            all_kernels::<f32>(special, |what, n, x| println!("{what}, {n}, f32 {mode} {special} = {:x}", hash(x)));
            all_kernels::<f64>(special, |what, n, x| println!("{what}, {n}, f64 {mode} {special} = {:x}", hash(x)));
        }
    };
    print("denormals kept");
    let flushing = std::thread::spawn(move || {
        flush_denormals();
        print("denormals flushed");
    });
    flushing.join().expect("the kernels ran");
}

#[test]
fn same_bits_on_every_isa() {
    let hashes = |isa: Isa| -> Vec<String> {
        let output = Command::new(std::env::current_exe().expect("this test has a path"))
            .args(["--exact", "print_hashes", "--ignored", "--nocapture"])
            .env("WORDMILL_ISA", isa.to_string())
            .output()
            .expect("this test runs itself");
        assert!(output.status.success(), "{isa}: {}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).expect("names and hashes are ASCII");
        let mut lines: Vec<_> = text.lines().filter(|line| line.contains(" = ")).map(str::to_owned).collect();
        assert!(lines.remove(0).ends_with(&format!("running on = {isa}")), "the child ran on {isa}");
        assert!(lines.len() > 10_000, "{isa}: {} lines", lines.len());
        lines
    };
    let scalar = hashes(Isa::Scalar);
    for isa in Isa::available().skip(1) {
        for (got, want) in hashes(isa).iter().zip(&scalar) {
            assert_eq!(got, want, "{isa} against scalar");
        }
    }
}

/// Different inputs make different hashes, or the comparison above would show nothing.
#[test]
fn hashes_tell_values_apart() {
    assert_ne!(hash(&[1.0f32, 2.0]), hash(&[2.0f32, 1.0]));
    assert_ne!(hash(&[0.0f32]), hash(&[-0.0f32]));
    assert_ne!(hash(&[1.0f32]), hash(&[1.0f32 + f32::EPSILON]));
    assert_ne!(hash(&[0.0f32]), hash(&[0.0f32; 2]));
}

/// A NaN at any place comes out there, and nowhere else.
#[test]
fn nan_in_nan_out() {
    fn check<R: Real>() {
        const N: usize = 35;
        let nan = R::of(f64::NAN);
        let with = |x: &[R], i: usize| {
            let mut x = x.to_vec();
            x[i] = nan;
            x
        };
        let only = |what: &str, x: &[R], i: usize| {
            for (j, x) in x.iter().enumerate() {
                assert_eq!(x.is_nan(), i == j, "{what}: NaN put at {i}; found {x} at {j}");
            }
        };
        let ones = vec![R::one(); N];
        for i in 0..N {
            let bad = with(&ones, i);
            for f in ACTIVATIONS {
                let mut h = ones.clone();
                f.forward(&bad, &mut h);
                only("forward", &h, i);
                let mut g = ones.clone();
                f.backward(&mut g, &bad);
                only("backward, h", &g, i);
                let mut g = bad.clone();
                f.backward(&mut g, &ones);
                only("backward, g", &g, i);
            }
            let mut out = ones.clone();
            dropout(Keep::inverted(0.5), place(), &bad, &mut out);
            only("dropout", &out, i);
            let mut g = bad.clone();
            dropout_backward(Keep::inverted(0.5), place(), &mut g);
            only("dropout backward", &g, i);
            assert!(update::sum_of_squares(&bad, 21).is_nan());
            for (w, g, m, v) in [
                (&bad, &ones, &ones, &ones),
                (&ones, &bad, &ones, &ones),
                (&ones, &ones, &bad, &ones),
                (&ones, &ones, &ones, &bad),
            ] {
                let fresh = || (w.clone(), m.clone(), v.clone());
                let (mut w, mut m, mut v) = fresh();
                update::adam(&mut w, g, &mut m, &mut v, step(), adam_step());
                only("adam", &w, i);
                let (mut w, m, mut v) = fresh();
                if !m[i].is_nan() {
                    update::adagrad(&mut w, g, &mut v, step(), R::of(1e-8));
                    only("adagrad", &w, i);
                }
                if !m[i].is_nan() && !v[i].is_nan() {
                    let (mut w, ..) = fresh();
                    update::sgd(&mut w, g, step());
                    only("sgd", &w, i);
                }
            }
        }
        // A NaN logit takes its column along: the sum, and with it every probability of that token.
        let (rows, columns) = (5, 48);
        for at in (0..rows * columns).step_by(7) {
            let (column, zeros) = (at % columns, vec![R::zero(); columns]);
            let (mut x, bias) = (with(&vec![R::one(); rows * columns], at), vec![R::zero(); rows]);
            let (mut max, mut sum, mut total) = (zeros.clone(), zeros.clone(), zeros);
            exp_columns(&mut x, columns, &bias, &mut max, &mut sum);
            only("exp_columns", &x, at);
            only("sums", &sum, column);
            join_blocks(&mut max, &mut sum, &mut total);
            only("factors", &sum, column);
            only("totals", &total, column);
            let mut row_sums = vec![R::zero(); rows];
            scale_columns(&mut x, columns, &sum, &mut row_sums);
            for (i, x) in x.iter().enumerate() {
                assert_eq!(x.is_nan(), i % columns == column, "scale_columns: NaN put at {at}; found {x} at {i}");
            }
            assert!(row_sums.iter().all(|x| x.is_nan()));
        }
    }
    check::<f32>();
    check::<f64>();
}

/// The functions that have a stated error.
#[derive(Clone, Copy, Debug)]
enum Function {
    Exp,
    Tanh,
    Sigmoid,
}

/// Sixteen values of one of them.
struct Sixteen(Function, [f32; 16]);

impl Kernel<f32> for Sixteen {
    type Output = [f32; 16];

    #[inline(always)]
    fn run<S: Simd<R = f32>>(self, s: S) -> [f32; 16] {
        let x = s.load(&self.1);
        s.array(match self.0 {
            Function::Exp => s.exp(x),
            Function::Tanh => s.tanh(x),
            Function::Sigmoid => s.sigmoid(x),
        })
    }
}

impl Function {
    fn exact(self, x: f64) -> f64 {
        match self {
            Function::Exp => x.exp(),
            Function::Tanh => x.tanh(),
            Function::Sigmoid => 1.0 / (1.0 + (-x).exp()),
        }
    }
}

struct Fused([[f32; 16]; 3]);

impl Kernel<f32> for Fused {
    type Output = [f32; 16];

    #[inline(always)]
    fn run<S: Simd<R = f32>>(self, s: S) -> [f32; 16] {
        let [a, b, c] = self.0.map(|x| s.load(&x));
        s.array(s.fma(a, b, c))
    }
}

/// a · b + c is rounded once on every instruction set: for all kinds of bits, and where the sum all but cancels or is halfway between two
/// numbers.
#[test]
fn fma_is_rounded_once() {
    check_fma();
    let flushing = std::thread::spawn(|| {
        flush_denormals();
        check_fma();
    });
    flushing.join().expect("sums are right where denormals are zero");
}

fn check_fma() {
    // A product that is halfway between two f32, and a sum that is not, by less than f64 holds.
    let (half, rest) = (1.0 + 2f32.powi(-12), 2f32.powi(-80));
    for isa in Isa::available() {
        for (a, c) in [(half, rest), (half, -rest), (-half, rest), (-half, -rest)] {
            let found = run_on(isa, Fused([[a; 16], [half; 16], [c; 16]]));
            assert_eq!(found[0].to_bits(), a.mul_add(half, c).to_bits(), "{isa}: {a:e} {c:e} {:e}", found[0]);
        }
    }
    let bits = |x: u64| f32::from_bits((x.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32) as u32);
    let near = |x: f32, ulps: u64| f32::from_bits(x.to_bits().wrapping_add_signed(ulps as i32 - 3));
    for round in 0..60_000u64 {
        let a: [f32; 16] = std::array::from_fn(|i| bits(round * 48 + i as u64));
        let b: [f32; 16] = std::array::from_fn(|i| bits(round * 48 + i as u64 + 16));
        let c: [f32; 16] = std::array::from_fn(|i| match round % 4 {
            0 => bits(round * 48 + i as u64 + 32),
            // Cancels, up to a few units in the last place.
            1 => near(-(a[i] * b[i]), round / 4 % 7),
            // As large as the product, or as its last place.
            2 => a[i] * b[i] * [1.0, -0.5, 3.0, 6e-8, -6e-8, 3e-8, 1e-7, -9e-15][i % 8],
            _ => SPECIAL[(round as usize / 4 + i) % SPECIAL.len()],
        });
        for isa in Isa::available() {
            let found = run_on(isa, Fused([a, b, c]));
            for i in 0..16 {
                let want = a[i].mul_add(b[i], c[i]);
                let same = found[i].to_bits() == want.to_bits() || found[i].is_nan() && want.is_nan();
                assert!(same, "{isa}: {:e} · {:e} + {:e} = {:e}, not {want:e}", a[i], b[i], c[i], found[i]);
            }
        }
    }
}

/// The largest errors found over the floats `from`, `from + every`, … by their bits.
#[derive(Clone, Copy, Debug, Default)]
struct Errors {
    /// In units of the last place of the exact value, where that is a normal f32.
    ulp: f64,
    /// Where that was.
    at: f32,
    /// |error| where the exact value is no normal f32, in units of the smallest normal f32.
    below: f64,
}

fn errors(isa: Isa, f: Function, floats: std::ops::Range<u64>, every: usize) -> Errors {
    let mut found = Errors::default();
    let check = |x: &[f32], found: &mut Errors| {
        let mut lanes = [0.0; 16];
        lanes[..x.len()].copy_from_slice(x);
        for (&x, y) in x.iter().zip(run_on(isa, Sixteen(f, lanes))) {
            let exact = f.exact(f64::from(x));
            if exact.is_nan() || exact.abs() > f64::from(f32::MAX) {
                // Beyond f32::MAX an error of one ULP may be ∞ already, and must be from where f32 rounds to it.
                let rounded = exact as f32;
                assert!(y.is_nan() == exact.is_nan(), "{f:?}({x}) = {y}");
                assert!(exact.is_nan() || y == rounded || y == f32::MAX, "{f:?}({x}) = {y}");
                continue;
            }
            let error = (f64::from(y) - exact).abs();
            if exact.abs() < f64::from(f32::MIN_POSITIVE) {
                found.below = found.below.max(error / f64::from(f32::MIN_POSITIVE));
            } else {
                let place = 2f64.powi(((exact.to_bits() >> 52) & 0x7FF) as i32 - 1023 - 23);
                let ulp = if y.is_finite() { error / place } else { f64::INFINITY };
                if ulp > found.ulp || ulp.is_nan() {
                    (found.ulp, found.at) = (ulp, x);
                }
            }
        }
    };
    let mut chunk = Vec::with_capacity(16);
    for bits in floats.step_by(every) {
        chunk.push(f32::from_bits(bits as u32));
        if chunk.len() == 16 {
            check(&chunk, &mut found);
            chunk.clear();
        }
    }
    check(&chunk, &mut found);
    found
}

/// What `kernels::math` states, on every 1009th float.
#[test]
fn stated_errors() {
    for isa in Isa::available() {
        let denormal = f64::from(f32::EPSILON);
        for (f, ulp, below) in
            [(Function::Exp, 1.02, denormal), (Function::Tanh, 1.34, denormal), (Function::Sigmoid, 2.49, 0.25)]
        {
            let found = errors(isa, f, 0..1 << 32, 1009);
            assert!(found.ulp > 0.5 && found.ulp <= ulp, "{isa} {f:?}: {found:?}");
            assert!(found.below <= below, "{isa} {f:?}: {found:?}");
        }
    }
}

/// All floats: `cargo test --release --test kernels -- --ignored --nocapture all_floats`.
#[test]
#[ignore = "takes minutes"]
fn all_floats() {
    for f in [Function::Exp, Function::Tanh, Function::Sigmoid] {
        let halves = [0..1u64 << 31, 1 << 31..1 << 32];
        let found = std::thread::scope(|scope| {
            let threads = halves.map(|floats| scope.spawn(move || errors(Isa::detect(), f, floats, 1)));
            threads.map(|thread| thread.join().expect("no assertion fails"))
        });
        println!("{f:?}: positive {:?}, negative {:?}", found[0], found[1]);
    }
}

/// What is exact at the tails.
#[test]
fn tails() {
    let tails = [f32::NEG_INFINITY, f32::MIN, -200.0, 200.0, f32::MAX, f32::INFINITY];
    for isa in Isa::available() {
        let of = |f, x: f32| run_on(isa, Sixteen(f, [x; 16]))[3];
        for x in tails {
            let up = x > 0.0;
            assert_eq!(of(Function::Exp, x), if up { f32::INFINITY } else { 0.0 }, "{isa} exp({x})");
            assert_eq!(of(Function::Tanh, x), x.signum(), "{isa} tanh({x})");
            assert_eq!(of(Function::Sigmoid, x), if up { 1.0 } else { 0.0 }, "{isa} sigmoid({x})");
        }
        for (x, y) in [(0.0f32, 0.0f32), (-0.0, -0.0)] {
            assert_eq!(of(Function::Tanh, x).to_bits(), y.to_bits());
            assert_eq!((of(Function::Exp, x), of(Function::Sigmoid, x)), (1.0, 0.5));
        }
        for x in uniform::<f32>(1000, 10.0, 3) {
            assert_eq!(of(Function::Tanh, -x), -of(Function::Tanh, x), "{isa}: tanh is odd, at {x}");
            let sum = of(Function::Sigmoid, x) + of(Function::Sigmoid, -x);
            assert!((sum - 1.0).abs() <= f32::EPSILON, "{isa}: σ(x) + σ(−x) = {sum} at {x}");
        }
    }
}
