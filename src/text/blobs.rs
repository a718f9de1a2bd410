//! A classic problem of five classes: points around five centres in the plane.
//!
//! x ~ N(c_k, I) with equally likely classes k: then ln P(k | x) = c_k·x − ½|c_k|² + a term independent of k, so that the best possible
//! classifier is the softmax of a known linear function.

use crate::math::{exp, ln};
use crate::rng::{Purpose, Stream};
use std::fmt::Write;

/// Names and centres of the classes.
const CENTRES: [(&str, [f64; 2]); 5] = [
    ("north", [0.0, 2.5]),
    ("east", [2.5, 0.0]),
    ("south", [0.0, -2.5]),
    ("west", [-2.5, 0.0]),
    ("centre", [0.0, 0.0]),
];

/// Points and their classes.
pub struct Blobs {
    points: Vec<([f64; 2], usize)>,
}

impl Blobs {
    /// Draws `n` points; `part` distinguishes draws with the same seed for different purposes.
    pub fn draw(n: usize, seed: u64, part: u32) -> Self {
        let mut stream = Stream::new(seed, Purpose::Synth, 0, part);
        let mut normal = || stream.normal();
        let point = |i: usize| {
            let class = i % CENTRES.len();
            // Rounded to three decimals, as written to files.
            let place = CENTRES[class].1.map(|c| ((c + normal()) * 1e3).round() / 1e3);
            (place, class)
        };
        Blobs { points: (0..n).map(point).collect() }
    }

    /// As a CSV file.
    pub fn csv(&self) -> String {
        let mut csv = String::from("x,y,class\n");
        for ([x, y], class) in &self.points {
            writeln!(csv, "{x},{y},{}", CENTRES[*class].0).expect("a string takes all");
        }
        csv
    }

    /// Accuracy and cross-entropy (nats) of the true probabilities: the best possible values, apart from chance.
    pub fn best(&self) -> (f64, f64) {
        let (mut right, mut loss) = (0, 0.0);
        for ([x, y], class) in &self.points {
            let score = |[cx, cy]: [f64; 2]| cx * x + cy * y - (cx * cx + cy * cy) / 2.0;
            let scores = CENTRES.map(|(_, centre)| score(centre));
            right += usize::from(scores.iter().all(|&other| other <= scores[*class]));
            loss += ln(scores.iter().map(|&s| exp(s)).sum()) - scores[*class];
        }
        let n = self.points.len() as f64;
        (right as f64 / n, loss / n)
    }
}
