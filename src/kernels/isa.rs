//! The instruction sets, one of which is chosen per process, and their vectors of sixteen lanes.

use crate::real::{Compiled, Kernel, LANES, Output, Real, Simd};
use crate::{Error, Result, kernels::math};
use std::fmt;
use std::sync::OnceLock;

/// An instruction set that the kernels are compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Isa {
    /// Plain Rust: any machine.
    Scalar,
    /// AVX2 with FMA.
    Avx2,
    /// AVX-512 F, BW, DQ and VL.
    Avx512,
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Isa::Scalar => "scalar",
            Isa::Avx2 => "avx2",
            Isa::Avx512 => "avx512",
        })
    }
}

impl Isa {
    /// The best one that this machine supports.
    pub fn detect() -> Isa {
        #[cfg(target_arch = "x86_64")]
        {
            let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
            let avx512 = is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl");
            if avx2 && avx512 {
                return Isa::Avx512;
            }
            if avx2 {
                return Isa::Avx2;
            }
        }
        Isa::Scalar
    }

    /// Those that this machine supports, the best last.
    pub fn available() -> impl Iterator<Item = Isa> {
        [Isa::Scalar, Isa::Avx2, Isa::Avx512].into_iter().filter(|&isa| isa <= Isa::detect())
    }

    /// The one named by `WORDMILL_ISA`, or the best; an error if the machine does not support it or the name is unknown.
    pub fn chosen() -> Result<Isa> {
        let Some(name) = std::env::var_os("WORDMILL_ISA") else {
            return Ok(Isa::detect());
        };
        Isa::available().find(|isa| name == isa.to_string().as_str()).ok_or_else(|| {
            let known: Vec<_> = Isa::available().map(|isa| isa.to_string()).collect();
            Error::Usage(format!("WORDMILL_ISA={}: this machine offers {}", name.display(), known.join(", ")))
        })
    }
}

/// The instruction set in use, fixed at the first call.
///
/// # Panics
/// If `WORDMILL_ISA` names one that is not supported; [`Isa::chosen`] returns this as an error.
#[inline]
pub fn isa() -> Isa {
    static ISA: OnceLock<Isa> = OnceLock::new();
    *ISA.get_or_init(|| Isa::chosen().unwrap_or_else(|error| panic!("{error}")))
}

/// Runs a kernel on a given instruction set, for tests and measurements.
///
/// # Panics
/// If the machine does not support it.
pub fn run_on<K: Kernel<f32>>(isa: Isa, kernel: K) -> K::Output {
    assert!(isa <= Isa::detect(), "this machine has no {isa}");
    match isa {
        // SAFETY: detected just above.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => unsafe { x86::run_avx512(kernel) },
        // SAFETY: detected just above.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => unsafe { x86::run_avx2(kernel) },
        _ => kernel.run(Portable::<f32>::new()),
    }
}

/// Runs a kernel on the instruction set in use.
#[inline]
pub fn single<K: Kernel<f32>>(kernel: K) -> K::Output {
    match isa() {
        // SAFETY: `isa` returns what was detected.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => unsafe { x86::run_avx512(kernel) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => unsafe { x86::run_avx2(kernel) },
        _ => kernel.run(Portable::<f32>::new()),
    }
}

/// The same for f64, which need not be fast: one portable body, compiled with FMA if the machine has it.
#[inline]
pub fn double<K: Kernel<f64>>(kernel: K) -> K::Output {
    #[cfg(target_arch = "x86_64")]
    if isa() >= Isa::Avx2 {
        // SAFETY: `isa` returns what was detected.
        return unsafe { x86::run_portable_fma(kernel) };
    }
    kernel.run(Portable::<f64>::new())
}

impl Real for f32 {
    const NAME: &'static str = "f32";

    fn of(x: f64) -> f32 {
        x as f32
    }

    fn f64(self) -> f64 {
        f64::from(self)
    }

    fn dispatch<'a, C: Compiled>(kernel: C::Kernel<'a, f32>) -> Output<C::Kernel<'a, f32>, f32> {
        C::single(kernel)
    }
}

impl Real for f64 {
    const NAME: &'static str = "f64";

    fn of(x: f64) -> f64 {
        x
    }

    fn f64(self) -> f64 {
        self
    }

    fn dispatch<'a, C: Compiled>(kernel: C::Kernel<'a, f64>) -> Output<C::Kernel<'a, f64>, f64> {
        C::double(kernel)
    }
}

/// Sixteen lanes in plain Rust.
#[derive(Clone, Copy)]
struct Portable<R>(std::marker::PhantomData<R>);

impl<R> Portable<R> {
    fn new() -> Self {
        Portable(std::marker::PhantomData)
    }
}

/// Operations that plain Rust names differently for f32 and f64.
trait Scalar: Real {
    fn pow2(n: i32) -> Self;
    /// a · b + c, rounded once.
    fn fused(a: Self, b: Self, c: Self) -> Self;
    fn exp_lanes(x: [Self; LANES]) -> [Self; LANES];
    fn tanh_lanes(x: [Self; LANES]) -> [Self; LANES];
    fn sigmoid_lanes(x: [Self; LANES]) -> [Self; LANES];
}

impl Scalar for f32 {
    #[inline(always)]
    fn pow2(n: i32) -> f32 {
        f32::from_bits(((n + 127) as u32) << 23)
    }
    #[inline(always)]
    fn fused(a: f32, b: f32, c: f32) -> f32 {
        if cfg!(all(target_arch = "x86_64", not(target_feature = "fma"))) {
            fused_in_f64(a, b, c)
        } else {
            a.mul_add(b, c)
        }
    }
    #[inline(always)]
    fn exp_lanes(x: [f32; LANES]) -> [f32; LANES] {
        math::exp(Portable::new(), x)
    }
    #[inline(always)]
    fn tanh_lanes(x: [f32; LANES]) -> [f32; LANES] {
        math::tanh(Portable::new(), x)
    }
    #[inline(always)]
    fn sigmoid_lanes(x: [f32; LANES]) -> [f32; LANES] {
        math::sigmoid(Portable::new(), x)
    }
}

impl Scalar for f64 {
    #[inline(always)]
    fn pow2(n: i32) -> f64 {
        f64::from_bits(((n + 1023) as u64) << 52)
    }
    #[inline(always)]
    fn fused(a: f64, b: f64, c: f64) -> f64 {
        a.mul_add(b, c)
    }
    fn exp_lanes(x: [f64; LANES]) -> [f64; LANES] {
        x.map(crate::math::exp)
    }
    fn tanh_lanes(x: [f64; LANES]) -> [f64; LANES] {
        x.map(crate::math::tanh)
    }
    fn sigmoid_lanes(x: [f64; LANES]) -> [f64; LANES] {
        x.map(|x| 1.0 / (1.0 + crate::math::exp(-x)))
    }
}

/// a · b + c rounded once, without an instruction for it: f64 holds the product exactly, and their sum, rounded to f64 and then to f32, is
/// right unless it is halfway between two numbers of f32. The library's `fmaf` takes far longer.
#[inline(always)]
fn fused_in_f64(a: f32, b: f32, c: f32) -> f32 {
    /// The bits of f64 that f32 has not.
    const REST: u64 = (1 << 29) - 1;
    let (product, c) = (f64::from(a) * f64::from(b), f64::from(c));
    let sum = product + c;
    let bits = sum.to_bits();
    if bits & REST != REST.div_ceil(2) && sum.abs() > f64::from(f32::MIN_POSITIVE) {
        return sum as f32;
    }
    // Rounded to odd instead (of its two neighbours, the one whose last bit is set), it is always right (Boldo and Melquiond 2008).
    let part = sum - product;
    // What it lacks (Knuth's two-sum); NaN if it is not finite.
    let lost = (product - (sum - part)) + (c - part);
    let inexact = lost.abs() > 0.0;
    if bits & 1 == 1 || !inexact {
        return sum as f32;
    }
    let odd = if (lost > 0.0) == (sum > 0.0) { bits + 1 } else { bits - 1 };
    f64::from_bits(odd) as f32
}

#[inline(always)]
fn zip<R: Copy>(mut a: [R; LANES], b: [R; LANES], f: impl Fn(R, R) -> R) -> [R; LANES] {
    for (a, b) in a.iter_mut().zip(b) {
        *a = f(*a, b);
    }
    a
}

impl<R: Scalar> Simd for Portable<R> {
    type R = R;
    type V = [R; LANES];
    const TILE: (usize, usize) = (2, 1);
    const GATHER: bool = false;

    #[inline(always)]
    fn splat(self, x: R) -> [R; LANES] {
        [x; LANES]
    }
    #[inline(always)]
    fn load(self, x: &[R]) -> [R; LANES] {
        std::array::from_fn(|i| x[i])
    }
    #[inline(always)]
    fn load_part(self, x: &[R]) -> [R; LANES] {
        std::array::from_fn(|i| if i < x.len() { x[i] } else { R::zero() })
    }
    #[inline(always)]
    fn store(self, v: [R; LANES], x: &mut [R]) {
        x[..LANES].copy_from_slice(&v);
    }
    #[inline(always)]
    fn store_part(self, v: [R; LANES], x: &mut [R]) {
        x.copy_from_slice(&v[..x.len()]);
    }
    #[inline(always)]
    fn add(self, a: Self::V, b: Self::V) -> Self::V {
        zip(a, b, |a, b| a + b)
    }
    #[inline(always)]
    fn sub(self, a: Self::V, b: Self::V) -> Self::V {
        zip(a, b, |a, b| a - b)
    }
    #[inline(always)]
    fn mul(self, a: Self::V, b: Self::V) -> Self::V {
        zip(a, b, |a, b| a * b)
    }
    #[inline(always)]
    fn div(self, a: Self::V, b: Self::V) -> Self::V {
        zip(a, b, |a, b| a / b)
    }
    #[inline(always)]
    fn fma(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        std::array::from_fn(|i| R::fused(a[i], b[i], c[i]))
    }
    #[inline(always)]
    fn sqrt(self, a: Self::V) -> Self::V {
        a.map(R::sqrt)
    }
    #[inline(always)]
    fn abs(self, a: Self::V) -> Self::V {
        a.map(R::abs)
    }
    #[inline(always)]
    fn copysign(self, a: Self::V, b: Self::V) -> Self::V {
        zip(a, b, R::copysign)
    }
    #[inline(always)]
    fn round(self, a: Self::V) -> Self::V {
        // Adding and subtracting 1.5 · 2^(mantissa bits) rounds ties to even, for values as small as those in exp.
        let magic = R::of(if R::NAME == "f32" { 12_582_912.0 } else { 6_755_399_441_055_744.0 });
        a.map(|x| (x + magic) - magic)
    }
    #[inline(always)]
    fn scale2(self, a: Self::V, n: Self::V) -> Self::V {
        zip(a, n, |a, n| {
            // In two factors, because 2¹²⁸ and 2⁻¹⁵⁰ are not normal numbers.
            let n = n.to_i32().unwrap_or(0);
            a * R::pow2(n >> 1) * R::pow2(n - (n >> 1))
        })
    }
    #[inline(always)]
    fn if_greater(self, a: Self::V, b: Self::V, x: Self::V, y: Self::V) -> Self::V {
        std::array::from_fn(|i| if a[i] > b[i] { x[i] } else { y[i] })
    }
    #[inline(always)]
    fn array(self, a: Self::V) -> [R; LANES] {
        a
    }
    #[inline(always)]
    fn exp(self, x: Self::V) -> Self::V {
        R::exp_lanes(x)
    }
    #[inline(always)]
    fn tanh(self, x: Self::V) -> Self::V {
        R::tanh_lanes(x)
    }
    #[inline(always)]
    fn sigmoid(self, x: Self::V) -> Self::V {
        R::sigmoid_lanes(x)
    }
    #[inline(always)]
    fn prefetch(self, _p: *const R) {}
    #[inline(always)]
    unsafe fn load_at(self, p: *const R) -> Self::V {
        // SAFETY: the caller's promise.
        unsafe { p.cast::<[R; LANES]>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn load_part_at(self, p: *const R, n: usize) -> Self::V {
        // SAFETY: the caller's promise.
        self.load_part(unsafe { std::slice::from_raw_parts(p, n) })
    }
    #[inline(always)]
    unsafe fn store_at(self, v: Self::V, p: *mut R) {
        // SAFETY: the caller's promise.
        unsafe { p.cast::<[R; LANES]>().write_unaligned(v) }
    }
    #[inline(always)]
    unsafe fn store_part_at(self, v: Self::V, p: *mut R, n: usize) {
        // SAFETY: the caller's promise.
        self.store_part(v, unsafe { std::slice::from_raw_parts_mut(p, n) })
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{Kernel, LANES, Portable, Simd, math};
    use std::arch::x86_64::*;

    /// # Safety
    /// The machine has AVX-512 F, BW, DQ, VL, AVX2 and FMA.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
    pub unsafe fn run_avx512<K: Kernel<f32>>(kernel: K) -> K::Output {
        kernel.run(Avx512(()))
    }

    /// # Safety
    /// The machine has AVX2 and FMA.
    #[target_feature(enable = "avx2,fma")]
    pub unsafe fn run_avx2<K: Kernel<f32>>(kernel: K) -> K::Output {
        kernel.run(Avx2(()))
    }

    /// # Safety
    /// The machine has AVX2 and FMA.
    #[target_feature(enable = "avx2,fma")]
    pub unsafe fn run_portable_fma<K: Kernel<f64>>(kernel: K) -> K::Output {
        kernel.run(Portable::<f64>::new())
    }

    /// One 512-bit register. A value exists only inside [`run_avx512`], which makes its instructions safe to call.
    #[derive(Clone, Copy)]
    struct Avx512(());

    /// Two 256-bit registers. A value exists only inside [`run_avx2`].
    #[derive(Clone, Copy)]
    struct Avx2(());

    fn first(n: usize) -> __mmask16 {
        ((1u32 << n) - 1) as __mmask16
    }

    /// `name(args) = expression` for a method whose intrinsics are available wherever a value of the type exists.
    macro_rules! op {
        ($name:ident($($arg:ident),*) $body:expr) => {
            #[inline(always)]
            fn $name(self, $($arg: Self::V),*) -> Self::V {
                // SAFETY: `self` exists, so the instructions are available.
                unsafe { $body }
            }
        };
    }

    /// The slice methods, in terms of the pointer methods.
    macro_rules! slices {
        () => {
            #[inline(always)]
            fn load(self, x: &[f32]) -> Self::V {
                assert!(x.len() >= LANES);
                // SAFETY: the length is checked.
                unsafe { self.load_at(x.as_ptr()) }
            }
            #[inline(always)]
            fn load_part(self, x: &[f32]) -> Self::V {
                assert!(x.len() <= LANES);
                // SAFETY: the length is checked.
                unsafe { self.load_part_at(x.as_ptr(), x.len()) }
            }
            #[inline(always)]
            fn store(self, v: Self::V, x: &mut [f32]) {
                assert!(x.len() >= LANES);
                // SAFETY: the length is checked.
                unsafe { self.store_at(v, x.as_mut_ptr()) }
            }
            #[inline(always)]
            fn store_part(self, v: Self::V, x: &mut [f32]) {
                assert!(x.len() <= LANES);
                // SAFETY: the length is checked.
                unsafe { self.store_part_at(v, x.as_mut_ptr(), x.len()) }
            }
            #[inline(always)]
            fn prefetch(self, p: *const f32) {
                // SAFETY: a hint; any address may be given.
                unsafe { _mm_prefetch::<_MM_HINT_T0>(p.cast()) }
            }
            #[inline(always)]
            fn exp(self, x: Self::V) -> Self::V {
                math::exp(self, x)
            }
            #[inline(always)]
            fn tanh(self, x: Self::V) -> Self::V {
                math::tanh(self, x)
            }
            #[inline(always)]
            fn sigmoid(self, x: Self::V) -> Self::V {
                math::sigmoid(self, x)
            }
        };
    }

    impl Simd for Avx512 {
        type R = f32;
        type V = __m512;
        const TILE: (usize, usize) = (8, 3);
        const GATHER: bool = false;

        #[inline(always)]
        fn splat(self, x: f32) -> __m512 {
            // SAFETY: `self` exists, so the instructions are available.
            unsafe { _mm512_set1_ps(x) }
        }
        op!(add(a, b) _mm512_add_ps(a, b));
        op!(sub(a, b) _mm512_sub_ps(a, b));
        op!(mul(a, b) _mm512_mul_ps(a, b));
        op!(div(a, b) _mm512_div_ps(a, b));
        op!(fma(a, b, c) _mm512_fmadd_ps(a, b, c));
        op!(sqrt(a) _mm512_sqrt_ps(a));
        op!(abs(a) _mm512_abs_ps(a));
        op!(copysign(a, b) _mm512_castsi512_ps(_mm512_ternarylogic_epi32::<0xB8>(
            _mm512_castps_si512(a), _mm512_set1_epi32(i32::MIN), _mm512_castps_si512(b))));
        op!(round(a) _mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a));
        op!(scale2(a, n) _mm512_scalef_ps(a, n));
        op!(if_greater(a, b, x, y) _mm512_mask_blend_ps(_mm512_cmp_ps_mask::<_CMP_GT_OQ>(a, b), y, x));
        #[inline(always)]
        fn array(self, a: __m512) -> [f32; LANES] {
            let mut x = [0.0; LANES];
            self.store(a, &mut x);
            x
        }
        slices!();
        #[inline(always)]
        unsafe fn load_at(self, p: *const f32) -> __m512 {
            // SAFETY: the caller's promise.
            unsafe { _mm512_loadu_ps(p) }
        }
        #[inline(always)]
        unsafe fn load_part_at(self, p: *const f32, n: usize) -> __m512 {
            // SAFETY: the caller's promise; masked lanes are not read.
            unsafe { _mm512_maskz_loadu_ps(first(n), p) }
        }
        #[inline(always)]
        unsafe fn store_at(self, v: __m512, p: *mut f32) {
            // SAFETY: the caller's promise.
            unsafe { _mm512_storeu_ps(p, v) }
        }
        #[inline(always)]
        unsafe fn store_part_at(self, v: __m512, p: *mut f32, n: usize) {
            // SAFETY: the caller's promise; masked lanes are not written.
            unsafe { _mm512_mask_storeu_ps(p, first(n), v) }
        }
    }

    /// The masks of the first `n` of 16 lanes.
    ///
    /// # Safety
    /// The machine has AVX2; n ≤ 16.
    #[inline(always)]
    unsafe fn first_16(n: usize) -> [__m256i; 2] {
        const ONES_THEN_ZEROS: [i32; 32] = {
            let mut x = [0; 32];
            let mut i = 0;
            while i < LANES {
                x[i] = -1;
                i += 1;
            }
            x
        };
        debug_assert!(n <= LANES);
        // SAFETY: n ≤ 16, so all sixteen are within the 32.
        unsafe {
            let p = ONES_THEN_ZEROS.as_ptr().add(LANES - n);
            [_mm256_loadu_si256(p.cast()), _mm256_loadu_si256(p.add(8).cast())]
        }
    }

    /// # Safety
    /// The machine has AVX2.
    #[inline(always)]
    unsafe fn copysign_8(a: __m256, b: __m256) -> __m256 {
        // SAFETY: the caller's promise.
        unsafe {
            let sign = _mm256_set1_ps(-0.0);
            _mm256_or_ps(_mm256_andnot_ps(sign, a), _mm256_and_ps(sign, b))
        }
    }

    /// # Safety
    /// The machine has AVX2.
    #[inline(always)]
    unsafe fn round_8(a: __m256) -> __m256 {
        // SAFETY: the caller's promise.
        unsafe { _mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a) }
    }

    /// # Safety
    /// The machine has AVX2.
    #[inline(always)]
    unsafe fn scale2_8(a: __m256, n: __m256) -> __m256 {
        // SAFETY: the caller's promise.
        unsafe {
            // In two factors, because 2¹²⁸ and 2⁻¹⁵⁰ are not normal numbers.
            let (n, bias) = (_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
            let half = _mm256_srai_epi32::<1>(n);
            let rest = _mm256_sub_epi32(n, half);
            let low = _mm256_castsi256_ps(_mm256_slli_epi32::<23>(_mm256_add_epi32(half, bias)));
            let high = _mm256_castsi256_ps(_mm256_slli_epi32::<23>(_mm256_add_epi32(rest, bias)));
            _mm256_mul_ps(_mm256_mul_ps(a, low), high)
        }
    }

    impl Simd for Avx2 {
        type R = f32;
        type V = [__m256; 2];
        const TILE: (usize, usize) = (6, 1);
        const GATHER: bool = true;

        #[inline(always)]
        fn splat(self, x: f32) -> Self::V {
            // SAFETY: `self` exists, so the instructions are available.
            unsafe { [_mm256_set1_ps(x); 2] }
        }
        op!(add(a, b) [_mm256_add_ps(a[0], b[0]), _mm256_add_ps(a[1], b[1])]);
        op!(sub(a, b) [_mm256_sub_ps(a[0], b[0]), _mm256_sub_ps(a[1], b[1])]);
        op!(mul(a, b) [_mm256_mul_ps(a[0], b[0]), _mm256_mul_ps(a[1], b[1])]);
        op!(div(a, b) [_mm256_div_ps(a[0], b[0]), _mm256_div_ps(a[1], b[1])]);
        op!(fma(a, b, c) [_mm256_fmadd_ps(a[0], b[0], c[0]), _mm256_fmadd_ps(a[1], b[1], c[1])]);
        op!(sqrt(a) [_mm256_sqrt_ps(a[0]), _mm256_sqrt_ps(a[1])]);
        op!(abs(a) [_mm256_andnot_ps(_mm256_set1_ps(-0.0), a[0]), _mm256_andnot_ps(_mm256_set1_ps(-0.0), a[1])]);
        op!(copysign(a, b) [copysign_8(a[0], b[0]), copysign_8(a[1], b[1])]);
        op!(round(a) [round_8(a[0]), round_8(a[1])]);
        op!(scale2(a, n) [scale2_8(a[0], n[0]), scale2_8(a[1], n[1])]);
        op!(if_greater(a, b, x, y) [
            _mm256_blendv_ps(y[0], x[0], _mm256_cmp_ps::<_CMP_GT_OQ>(a[0], b[0])),
            _mm256_blendv_ps(y[1], x[1], _mm256_cmp_ps::<_CMP_GT_OQ>(a[1], b[1])),
        ]);
        #[inline(always)]
        fn array(self, a: Self::V) -> [f32; LANES] {
            let mut x = [0.0; LANES];
            self.store(a, &mut x);
            x
        }
        slices!();
        #[inline(always)]
        unsafe fn load_at(self, p: *const f32) -> Self::V {
            // SAFETY: the caller's promise.
            unsafe { [_mm256_loadu_ps(p), _mm256_loadu_ps(p.add(8))] }
        }
        #[inline(always)]
        unsafe fn load_part_at(self, p: *const f32, n: usize) -> Self::V {
            // SAFETY: the caller's promise; masked lanes are not read.
            unsafe {
                let [low, high] = first_16(n);
                [_mm256_maskload_ps(p, low), _mm256_maskload_ps(p.wrapping_add(8), high)]
            }
        }
        #[inline(always)]
        unsafe fn store_at(self, v: Self::V, p: *mut f32) {
            // SAFETY: the caller's promise.
            unsafe {
                _mm256_storeu_ps(p, v[0]);
                _mm256_storeu_ps(p.add(8), v[1]);
            }
        }
        #[inline(always)]
        unsafe fn store_part_at(self, v: Self::V, p: *mut f32, n: usize) {
            // SAFETY: the caller's promise; masked lanes are not written.
            unsafe {
                let [low, high] = first_16(n);
                _mm256_maskstore_ps(p, low, v[0]);
                _mm256_maskstore_ps(p.wrapping_add(8), high, v[1]);
            }
        }
    }
}
