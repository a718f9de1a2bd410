//! exp, ln and their kin in f64, by the `libm` crate: additions, multiplications and divisions alone, so that their bits are the same on
//! every machine. The standard library calls the system's, which differ from one version to the next. `tests/floors.rs` sees to it that
//! what computes uses these.

/// eˣ
#[inline]
pub fn exp(x: f64) -> f64 {
    libm::exp(x)
}

/// eˣ − 1
#[inline]
pub fn exp_m1(x: f64) -> f64 {
    libm::expm1(x)
}

/// ln x
#[inline]
pub fn ln(x: f64) -> f64 {
    libm::log(x)
}

/// ln(1 + x)
#[inline]
pub fn ln_1p(x: f64) -> f64 {
    libm::log1p(x)
}

/// xʸ
#[inline]
pub fn pow(x: f64, y: f64) -> f64 {
    libm::pow(x, y)
}

/// tanh x
#[inline]
pub fn tanh(x: f64) -> f64 {
    libm::tanh(x)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Known bits, and the system's functions to a few units in the last place.
    #[test]
    fn bits_are_known_and_values_right() {
        let known = [exp(0.3), exp_m1(0.3), ln(0.3), ln_1p(0.3), pow(0.3, 0.7), tanh(0.3)].map(f64::to_bits);
        let right = [0.3f64.exp(), 0.3f64.exp_m1(), 0.3f64.ln(), 0.3f64.ln_1p(), 0.3f64.powf(0.7), 0.3f64.tanh()];
        assert_eq!(known, KNOWN, "{known:#x?}");
        for (known, right) in known.into_iter().zip(right) {
            assert!(known.abs_diff(right.to_bits()) <= 2, "{known:x} {right}");
        }
    }

    const KNOWN: [u64; 6] = [
        0x3ff5_9905_8c8c_1a96,
        0x3fd6_6416_3230_6a56,
        0xbff3_4378_fcbd_a721,
        0x3fd0_ca93_7be1_b9dc,
        0x3fdb_8d80_9c61_5f41,
        0x3fd2_a4dd_a7d9_14f9,
    ];
}
