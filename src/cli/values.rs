//! Values of options, beyond clap's own types.

use std::result::Result;

/// A size from 1 to 2²⁰.
pub fn size(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(n @ 1..=0x10_0000) => Ok(n),
        _ => Err("expected an integer from 1 to 1048576".into()),
    }
}

/// Ranks at which the vocabulary is split, ascending.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cutoffs(pub Vec<usize>);

impl std::str::FromStr for Cutoffs {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let numbers: Option<Vec<usize>> = text.split(',').map(|n| n.trim().parse().ok().filter(|&n| n > 0)).collect();
        match numbers.filter(|numbers| numbers.is_sorted_by(|a, b| a < b) && numbers.len() <= 16) {
            Some(numbers) => Ok(Cutoffs(numbers)),
            None => {
                Err("expected up to 16 positive integers in ascending order, separated by commas, such as 2000,10000"
                    .into())
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

/// A positive integer.
pub fn count(text: &str) -> Result<u64, String> {
    text.parse().ok().filter(|&n| n > 0).ok_or_else(|| "expected a positive integer".into())
}

/// Any non-negative integer.
pub fn seed(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| "expected an integer from 0 to 2^64 - 1".into())
}

/// A number of threads, 0 for one per core.
pub fn threads(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(n @ 0..=1024) => Ok(n),
        _ => Err("expected an integer from 0 to 1024".into()),
    }
}

/// A probability.
pub fn probability(text: &str) -> Result<f64, String> {
    number(text, |x| (0.0..=1.0).contains(&x), "expected a number from 0 to 1")
}

/// A fraction below 1.
pub fn share(text: &str) -> Result<f64, String> {
    number(text, |x| (0.0..1.0).contains(&x), "expected a number from 0 to below 1")
}

/// A finite number.
pub fn finite(text: &str) -> Result<f64, String> {
    number(text, |_| true, "expected a number")
}

/// A finite positive number.
pub fn positive(text: &str) -> Result<f64, String> {
    number(text, |x| x > 0.0, "expected a positive number")
}

/// A finite non-negative number.
pub fn not_negative(text: &str) -> Result<f64, String> {
    number(text, |x| x >= 0.0, "expected a non-negative number")
}

/// A positive probability.
pub fn keep_probability(text: &str) -> Result<f64, String> {
    number(text, |x| x > 0.0 && x <= 1.0, "expected a positive number, at most 1")
}

fn number(text: &str, takes: impl Fn(f64) -> bool, expected: &str) -> Result<f64, String> {
    text.parse().ok().filter(|&x: &f64| x.is_finite() && takes(x)).ok_or_else(|| expected.to_owned())
}
