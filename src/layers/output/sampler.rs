//! Distributions that negative samples are drawn from (equations, section 10), each draw in O(1).

use crate::math::{exp, ln, ln_1p, pow};
use crate::rng::Stream;
use rand::RngExt;

/// A distribution q over the words 0 .. V.
pub enum Sampler {
    /// q(k) = ln((k + 2) / (k + 1)) / ln(V + 1): nearly Zipf's law, for words sorted by decreasing frequency.
    LogUniform {
        /// V
        words: usize,
        /// ln(V + 1)
        logarithm: f64,
    },
    /// q(k) ∝ count(k)^power, by the alias method (Walker 1977, Vose 1991).
    Unigram {
        /// For each word: the share of its cell that is its own, of 2³², and the word that has the rest.
        cells: Vec<(u32, u32)>,
        /// q
        q: Vec<f32>,
    },
}

impl Sampler {
    /// The log-uniform distribution over `words`.
    pub fn log_uniform(words: usize) -> Self {
        assert!(words > 0);
        Sampler::LogUniform { words, logarithm: ln((words + 1) as f64) }
    }

    /// Words in proportion to their counts, each raised to `power`; a count of zero counts as one.
    pub fn unigram(counts: &[u64], power: f64) -> Self {
        assert!(!counts.is_empty());
        let weights: Vec<f64> = counts.iter().map(|&n| pow(n.max(1) as f64, power)).collect();
        let total: f64 = weights.iter().sum();
        // Cells with mean 1: those with less are filled up from those with more.
        let mut part: Vec<f64> = weights.iter().map(|w| w / total * counts.len() as f64).collect();
        let (mut low, mut high): (Vec<u32>, Vec<u32>) = (0..counts.len() as u32).partition(|&i| part[i as usize] < 1.0);
        let mut cells: Vec<(u32, u32)> = (0..counts.len() as u32).map(|i| (u32::MAX, i)).collect();
        while let (Some(small), Some(&large)) = (low.pop(), high.last()) {
            let share = part[small as usize];
            // Of 2³², rounded to nearest: a word's probability is exact to 2⁻³² of a cell.
            cells[small as usize] = ((share * 4_294_967_296.0).round() as u32, large);
            part[large as usize] -= 1.0 - share;
            if part[large as usize] < 1.0 {
                low.extend(high.pop());
            }
        }
        Sampler::Unigram { cells, q: weights.iter().map(|w| (w / total) as f32).collect() }
    }

    /// One draw.
    pub fn draw(&self, stream: &mut Stream) -> u32 {
        match self {
            Sampler::LogUniform { words, logarithm } => {
                let u: f64 = stream.random();
                let k = (exp(u * logarithm) - 1.0) as usize;
                k.min(words - 1) as u32
            }
            Sampler::Unigram { cells, .. } => {
                let cell = stream.random_range(0..cells.len() as u32);
                let (own, other) = cells[cell as usize];
                if stream.random::<u32>() < own { cell } else { other }
            }
        }
    }

    /// q of a word.
    pub fn probability(&self, word: u32) -> f64 {
        match self {
            Sampler::LogUniform { logarithm, .. } => ln_1p(1.0 / (f64::from(word) + 1.0)) / logarithm,
            Sampler::Unigram { q, .. } => f64::from(q[word as usize]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Purpose;

    /// χ² of the draws against the claimed probabilities of a small vocabulary. If q is not what is drawn (word 0 at 0.585 of its
    /// share, say), it is in the thousands.
    fn chi_square(sampler: &Sampler, words: usize, draws: usize) -> f64 {
        let mut stream = Stream::new(7, Purpose::Negatives, 1, 0);
        let mut counts = vec![0u64; words];
        (0..draws).for_each(|_| counts[sampler.draw(&mut stream) as usize] += 1);
        let total: f64 = (0..words as u32).map(|k| sampler.probability(k)).sum();
        assert!((total - 1.0).abs() < 1e-6, "{total}");
        let expected = |k: usize| sampler.probability(k as u32) * draws as f64;
        counts.iter().enumerate().map(|(k, &n)| (n as f64 - expected(k)).powi(2) / expected(k)).sum()
    }

    /// The total share of each word in the alias table, and the number of cells that it is from.
    fn held(cells: &[(u32, u32)]) -> Vec<(f64, u32)> {
        let mut held = vec![(0.0, 0); cells.len()];
        for (i, &(own, other)) in cells.iter().enumerate() {
            // A cell that is wholly its word's own is marked with the largest number.
            let own = if other as usize == i { 1.0 } else { f64::from(own) / 4_294_967_296.0 };
            for (word, share) in [(i, own), (other as usize, 1.0 - own)] {
                held[word].0 += share / cells.len() as f64;
                held[word].1 += 1;
            }
        }
        held
    }

    /// The table holds the claimed distribution, for hundreds of thousands of real counts and for awkward ones.
    #[test]
    fn alias_tables_hold_the_distribution() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/data/counts/lm1b_unigram_counts.txt");
        let mut cases = vec![vec![1], vec![1; 7], vec![u64::from(u32::MAX), 1, 1, 0, 5], (1..5000).collect()];
        match std::fs::read_to_string(path) {
            Ok(text) => {
                cases.push(text.lines().filter_map(|line| line.split_whitespace().last()?.parse().ok()).collect())
            }
            Err(error) => println!("skipped: {path}: {error}"),
        }
        for counts in cases {
            for power in [0.0, 0.75, 1.0] {
                let start = std::time::Instant::now();
                let sampler = Sampler::unigram(&counts, power);
                println!("{} counts, power {power}: built in {:?}", counts.len(), start.elapsed());
                let Sampler::Unigram { cells, q } = &sampler else { unreachable!("it is by counts") };
                let weight = |n: u64| (n.max(1) as f64).powf(power);
                let total: f64 = counts.iter().map(|&n| weight(n)).sum();
                for ((&n, (held, parts)), &q) in counts.iter().zip(held(cells)).zip(q) {
                    let want = weight(n) / total;
                    // 2⁻³² of each cell that a word has a part of.
                    let rounding = f64::from(parts) / counts.len() as f64 / 4_294_967_296.0 + 1e-15;
                    assert!((held - want).abs() <= rounding, "{n}: {held} {want}");
                    assert!((f64::from(q) / want - 1.0).abs() < 1e-6, "{n}: {q} {want}");
                }
            }
        }
    }

    #[test]
    fn draws_are_distributed_as_claimed() {
        const WORDS: usize = 400;
        let counts: Vec<u64> = (0..WORDS as u64).map(|k| 1_000_000 / (k + 1)).collect();
        for sampler in [Sampler::log_uniform(WORDS), Sampler::unigram(&counts, 0.75), Sampler::unigram(&counts, 0.0)] {
            // 399 degrees of freedom: mean 399, standard deviation 28.
            let chi = chi_square(&sampler, WORDS, 10_000_000);
            assert!((399.0 - 5.0 * 28.3..399.0 + 5.0 * 28.3).contains(&chi), "{chi}");
        }
        assert_eq!(chi_square(&Sampler::log_uniform(1), 1, 10), 0.0);
        assert_eq!(chi_square(&Sampler::unigram(&[3], 1.0), 1, 10), 0.0);
    }
}
