//! A subset of a text to evaluate models on if the whole text would take too long.

use crate::rng::{Purpose, philox};

/// Longer lines are chosen from in parts: a corpus may be a single line.
const LONGEST: usize = 1000;

/// A random subset of the lines of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subset {
    /// The words of the chosen lines, in order.
    pub ids: Vec<u32>,
    /// Number of lines chosen.
    pub lines: u64,
    /// Number of lines of the text.
    pub of_lines: u64,
    /// Whether parts of long lines count as lines.
    pub cut: bool,
}

impl Subset {
    /// Chooses enough lines of `ids` for at least `tokens` words, including line ends: always the same lines of a text, whatever the
    /// seed of a run. Every line ends with `eos`; lines of more than a thousand words are divided into parts.
    pub fn choose(ids: &[u32], eos: u32, tokens: usize) -> Self {
        let whole = ids.split_inclusive(|&id| id == eos);
        let mut cut = false;
        let parts = whole.flat_map(|line| {
            cut |= line.len() > LONGEST;
            line.chunks(LONGEST)
        });
        let lines: Vec<&[u32]> = parts.collect();
        let rank = |line: u32| {
            let [high, low, ..] = philox([line, 0, 0, Purpose::Subset as u32], [0; 2]);
            (high, low, line)
        };
        let mut order: Vec<_> = (0..lines.len() as u32).map(rank).collect();
        order.sort_unstable();
        let mut found = 0;
        let mut chosen: Vec<u32> = Vec::new();
        for (.., line) in order {
            if found >= tokens {
                break;
            }
            found += lines[line as usize].len();
            chosen.push(line);
        }
        chosen.sort_unstable();
        Subset {
            ids: chosen.iter().flat_map(|&line| lines[line as usize]).copied().collect(),
            lines: chosen.len() as u64,
            of_lines: lines.len() as u64,
            cut,
        }
    }
}

impl std::fmt::Display for Subset {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        let Subset { ids, lines, of_lines, cut } = self;
        let what = if *cut { "lines and parts of long lines" } else { "lines" };
        write!(f, "a fixed random subset: {lines} of {of_lines} {what}, {} words", ids.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_whole_and_always_the_same() {
        let text: Vec<u32> = (0..1000u32).flat_map(|line| (0..line % 7).map(move |_| line + 1).chain([0])).collect();
        let some = Subset::choose(&text, 0, 500);
        assert!(some.ids.len() >= 500 && some.ids.len() < 507, "{}", some.ids.len());
        assert_eq!(some, Subset::choose(&text, 0, 500));
        assert_eq!(some.lines, some.ids.iter().filter(|&&id| id == 0).count() as u64);
        assert_eq!(some.of_lines, 1000);
        let words: Vec<u32> = some.ids.iter().copied().filter(|&id| id > 0).collect();
        assert!(
            words.is_sorted()
                && words.iter().all(|&id| words.iter().filter(|&&x| x == id).count() as u32 == (id - 1) % 7)
        );
        // From the whole text.
        assert!(words[0] < 50 && words[words.len() - 1] > 950);
        // A text of a single line is divided.
        let line: Vec<u32> = (1..10_000).chain([0]).collect();
        let part = Subset::choose(&line, 0, 1500);
        assert_eq!((part.ids.len(), part.lines, part.of_lines, part.cut), (2000, 2, 10, true));
        assert_eq!(Subset::choose(&line, 0, usize::MAX).ids, line);
        // More than the text has: everything. A smaller subset is part of a larger one.
        assert_eq!(Subset::choose(&text, 0, 100_000).ids, text);
        let few = Subset::choose(&text, 0, 100);
        assert!(few.ids.iter().all(|id| some.ids.contains(id)));
    }
}
