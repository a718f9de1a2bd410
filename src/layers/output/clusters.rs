//! Splits the vocabulary of an adaptive softmax, given the words' counts (Grave et al. 2017, section 4).
//!
//! The paper models the time of a product of k words and n tokens on its machine, and chooses the cuts with the
//! shortest total time. So does this module: with N tokens per step, a share p of which have their target in a part of
//! k words with d units,
//!
//! time = c + p N k (a + d / g) + k d u
//!
//! where a is the time of a logit's exponential and gradient, g the speed of its three products, and u the time to
//! update a weight, paid once per step, however few of its tokens are there.

use serde::{Deserialize, Serialize};
use std::ops::Range;

/// A part of the vocabulary that is not in the head.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tail {
    /// Its first word; it ends where the next one begins.
    pub first: usize,
    /// Number of units that distinguish its words.
    pub width: usize,
}

impl Tail {
    /// The words of each of `tails`, for a vocabulary of `words`.
    pub fn ranges(tails: &[Tail], words: usize) -> impl Iterator<Item = Range<usize>> {
        let ends = tails.iter().skip(1).map(|tail| tail.first).chain([words]);
        tails.iter().map(|tail| tail.first).zip(ends).map(|(first, end)| first..end)
    }

    /// Whether `tails` fit a vocabulary of `words`: no part is empty, the head included.
    pub fn fit(tails: &[Tail], words: usize) -> bool {
        let firsts = tails.iter().map(|tail| tail.first);
        let ends = firsts.clone().skip(1).chain([words]);
        firsts.zip(ends).all(|(first, end)| first > 0 && first < end) && tails.iter().all(|tail| tail.width > 0)
    }
}

/// Maximum number of tails: more gain little (the paper, figure 4).
const MOST: usize = 4;
/// Minimum number of words in the head: they are so frequent that all units are worth their time.
const HEAD: usize = 1000;
/// Minimum number of units of a tail: below that, exponentials dominate the time.
const NARROWEST: usize = 16;

// Measured by `cargo run --release --example clusters` on two cores with AVX-512 (202 GFLOP/s): within 10 % of the
// time of most parts. They are constants, and the tails are saved with the model, so that a run is the same on every machine.

/// c: nanoseconds that any part takes, however small.
const FIXED: f64 = 207_000.0;
/// a: nanoseconds of a logit's exponential and gradient.
const LOGIT: f64 = 0.374;
/// 1 / g: nanoseconds of a logit's three products, per unit.
const UNIT: f64 = 0.0287;
/// u: nanoseconds of a weight's gradient and update.
const WEIGHT: f64 = 0.389;

/// Nanoseconds that a part of `words` words with `width` units takes for `tokens` tokens.
fn time(words: usize, width: usize, tokens: f64) -> f64 {
    let (words, width) = (words as f64, width as f64);
    FIXED + tokens * words * (LOGIT + width * UNIT) + words * width * WEIGHT
}

/// Units of tail `i` (from 0) if the head has `units`: H / divisor^(i + 1), but at least 16.
fn width(units: usize, divisor: usize, i: usize) -> usize {
    let narrowed = (0..=i).fold(units, |width, _| width / divisor);
    narrowed.max(NARROWEST).min(units)
}

/// The tails that begin at `cutoffs`.
pub fn tails_at(cutoffs: &[usize], units: usize, divisor: usize) -> Vec<Tail> {
    cutoffs.iter().enumerate().map(|(i, &first)| Tail { first, width: width(units, divisor, i) }).collect()
}

/// The tails that take the least time, for words with the decreasing `counts` and `tokens` tokens per step; none if one
/// softmax over the whole vocabulary does.
pub fn choose(counts: &[u64], units: usize, divisor: usize, tokens: usize) -> Vec<Tail> {
    let words = counts.len();
    // Candidate cuts: 16 per octave.
    let mut places: Vec<usize> = Vec::new();
    let mut at = HEAD as f64;
    while (at as usize) < words {
        if places.last() != Some(&(at as usize)) {
            places.push(at as usize);
        }
        at *= 1.045;
    }
    places.push(words);
    // The share of the text that the words before each place make up.
    let total = counts.iter().sum::<u64>().max(1) as f64;
    let mut seen = 0.0;
    let mut from = 0;
    let mut shares = Vec::with_capacity(places.len());
    for &place in &places {
        seen += counts[from..place].iter().sum::<u64>() as f64 / total;
        from = place;
        shares.push(seen);
    }
    // least[i][j]: the least time of all words from place j on in tails i.., and where tail i ends.
    let end = places.len() - 1;
    let mut best: Option<(f64, Vec<usize>)> = None;
    for tails in 0..=MOST.min(end) {
        let mut least = vec![vec![(f64::INFINITY, end); end + 1]; tails + 1];
        least[tails][end] = (0.0, end);
        for i in (0..tails).rev() {
            for j in 0..end {
                for k in j + 1..=end {
                    let part =
                        time(places[k] - places[j], width(units, divisor, i), tokens as f64 * (shares[k] - shares[j]));
                    let all = part + least[i + 1][k].0;
                    if all < least[i][j].0 {
                        least[i][j] = (all, k);
                    }
                }
            }
        }
        for j in 0..=end {
            let all = time(places[j] + tails, units, tokens as f64) + least[0][j].0;
            if best.as_ref().is_none_or(|(time, _)| all < *time) {
                let cut = |at: &mut usize, i: usize| Some(std::mem::replace(at, least[i][*at].1));
                best = Some((all, (0..tails).scan(j, |at, i| cut(at, i)).collect()));
            }
        }
    }
    let cuts = best.map_or(Vec::new(), |(_, cuts)| cuts);
    tails_at(&cuts.iter().map(|&j| places[j]).collect::<Vec<_>>(), units, divisor)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Time of a step with given cuts.
    fn in_all(counts: &[u64], units: usize, tokens: usize, tails: &[Tail]) -> f64 {
        let total = counts.iter().sum::<u64>() as f64;
        let head = tails.first().map_or(counts.len(), |tail| tail.first);
        let part = |(words, tail): (Range<usize>, &Tail)| {
            let share = counts[words.clone()].iter().sum::<u64>() as f64 / total;
            time(words.len(), tail.width, tokens as f64 * share)
        };
        time(head + tails.len(), units, tokens as f64)
            + Tail::ranges(tails, counts.len()).zip(tails).map(part).sum::<f64>()
    }

    fn zipf(words: u64) -> Vec<u64> {
        (0..words).map(|k| 20_000_000 / (k + 1)).collect()
    }

    /// By the model, no step is faster with a cut moved or removed.
    #[test]
    fn chosen_cuts_are_the_best_near_them() {
        for (words, units, tokens) in [(3000, 64, 640), (10_000, 100, 640), (100_000, 256, 1280), (641_611, 256, 640)] {
            let counts = zipf(words);
            let tails = choose(&counts, units, 4, tokens);
            assert!(Tail::fit(&tails, counts.len()));
            let best = in_all(&counts, units, tokens, &tails);
            let cuts: Vec<usize> = tails.iter().map(|tail| tail.first).collect();
            println!(
                "{words} words, {units} units: {cuts:?}, {best:.0} ns, full {:.0} ns",
                in_all(&counts, units, tokens, &[])
            );
            let mut others = vec![Vec::new()];
            for i in 0..cuts.len() {
                for factor in [0.7, 0.9, 1.1, 1.4] {
                    let mut moved = cuts.clone();
                    moved[i] = (moved[i] as f64 * factor) as usize;
                    others.push(moved);
                }
                let mut fewer = cuts.clone();
                fewer.remove(i);
                others.push(fewer);
            }
            for other in others {
                let other = tails_at(&other, units, 4);
                if Tail::fit(&other, counts.len()) && other.first().is_none_or(|tail| tail.first >= HEAD) {
                    // Cuts are on a grid of 4.5 %.
                    assert!(in_all(&counts, units, tokens, &other) > best * 0.995, "{tails:?} {other:?}");
                }
            }
        }
        assert!(choose(&zipf(1000), 64, 4, 640).is_empty() && choose(&[5], 64, 4, 640).is_empty());
        assert!(choose(&zipf(641_611), 256, 4, 640).len() >= 2);
    }

    #[test]
    fn widths_and_ranges() {
        let tails = tails_at(&[10, 30, 70], 300, 4);
        assert_eq!(tails.iter().map(|tail| tail.width).collect::<Vec<_>>(), [75, 18, 16]);
        assert_eq!(Tail::ranges(&tails, 100).collect::<Vec<_>>(), [10..30, 30..70, 70..100]);
        assert_eq!(tails_at(&[3], 5, 2)[0].width, 5);
        assert!(Tail::fit(&tails, 100) && !Tail::fit(&tails, 70) && Tail::fit(&[], 1));
        assert!(!Tail::fit(&tails_at(&[10, 10], 8, 2), 20) && !Tail::fit(&tails_at(&[0], 8, 2), 20));
    }
}
