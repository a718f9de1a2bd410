//! What options take, beyond clap's own types.

use std::result::Result;

/// A size from 1 to 2²⁰.
pub fn size(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(n @ 1..=0x10_0000) => Ok(n),
        _ => Err("expected a whole number from 1 to 1048576".into()),
    }
}

/// Ranks at which a vocabulary is cut, ascending.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cutoffs(pub Vec<usize>);

impl std::str::FromStr for Cutoffs {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let numbers: Option<Vec<usize>> = text.split(',').map(|n| n.trim().parse().ok().filter(|&n| n > 0)).collect();
        match numbers.filter(|numbers| numbers.is_sorted_by(|a, b| a < b) && numbers.len() <= 16) {
            Some(numbers) => Ok(Cutoffs(numbers)),
            None => {
                Err("expected up to 16 whole numbers from 1, ascending, with commas between them, as 2000,10000".into())
            }
        }
    }
}

impl serde::Serialize for Cutoffs {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let numbers: Vec<String> = self.0.iter().map(usize::to_string).collect();
        serializer.serialize_str(&numbers.join(","))
    }
}

/// A whole number from 1.
pub fn count(text: &str) -> Result<u64, String> {
    text.parse().ok().filter(|&n| n > 0).ok_or_else(|| "expected a whole number from 1".into())
}

/// Any whole number.
pub fn seed(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| "expected a whole number from 0 to 2^64 - 1".into())
}

/// A number of threads, 0 for one per core.
pub fn threads(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(n @ 0..=1024) => Ok(n),
        _ => Err("expected a whole number from 0 to 1024".into()),
    }
}

/// A probability.
pub fn probability(text: &str) -> Result<f64, String> {
    number(text, |x| (0.0..=1.0).contains(&x), "expected a number from 0 to 1")
}

/// A share that is not all.
pub fn share(text: &str) -> Result<f64, String> {
    number(text, |x| (0.0..1.0).contains(&x), "expected a number from 0 up to, but not, 1")
}

/// A finite number above zero.
pub fn positive(text: &str) -> Result<f64, String> {
    number(text, |x| x > 0.0, "expected a number above 0")
}

/// A finite number, zero or above.
pub fn not_negative(text: &str) -> Result<f64, String> {
    number(text, |x| x >= 0.0, "expected 0 or a number above it")
}

/// A probability above zero.
pub fn keep_probability(text: &str) -> Result<f64, String> {
    number(text, |x| x > 0.0 && x <= 1.0, "expected a number above 0 and at most 1")
}

fn number(text: &str, takes: impl Fn(f64) -> bool, expected: &str) -> Result<f64, String> {
    text.parse().ok().filter(|&x: &f64| x.is_finite() && takes(x)).ok_or_else(|| expected.to_owned())
}
