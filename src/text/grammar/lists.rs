//! Lists of a grammar's words: pairs of similar and dissimilar words, and words with their kinds.

use super::{Grammar, Purpose, Stream};
use hashbrown::{HashMap, HashSet};
use rand::RngExt;

/// Minimum size of a class: words of smaller ones are not interchangeable, but form an expression.
const SMALLEST: usize = 8;
/// Minimum number of occurrences of a listed word: nothing can be learnt about rarer ones.
const LEAST: u64 = 5;
/// Maximum number of draws per pair.
const TRIES: u64 = 200;

impl Grammar {
    /// The numbers of the words that are frequent enough in a text with these counts, in alphabetical order.
    fn frequent(&self, counts: &HashMap<&str, u64>) -> Vec<u32> {
        let often = |word: &u32| counts.get(self.words[*word as usize].as_str()).is_some_and(|n| *n >= LEAST);
        (0..self.words.len() as u32).filter(often).collect()
    }

    /// The classes that contain each word.
    fn classes(&self) -> Vec<Vec<u32>> {
        let class = |&(emission, _): &(u32, f64)| {
            (self.emissions[emission as usize].words.len() >= SMALLEST).then_some(emission)
        };
        self.emitters.iter().map(|emitters| emitters.iter().filter_map(class).collect()).collect()
    }

    /// Up to `count` distinct pairs of frequent words, alternately of two words with a class in common and of two words without.
    /// `counts` are those of the words of a text.
    pub fn pairs(&self, counts: &HashMap<&str, u64>, count: usize, seed: u64) -> Vec<(&str, &str, bool)> {
        let classes = self.classes();
        let words: Vec<u32> =
            self.frequent(counts).into_iter().filter(|word| !classes[*word as usize].is_empty()).collect();
        let mut members: HashMap<u32, Vec<u32>> = HashMap::new();
        for &word in &words {
            classes[word as usize].iter().for_each(|&class| members.entry(class).or_default().push(word));
        }
        let (mut pairs, mut known) = (Vec::new(), HashSet::new());
        if words.is_empty() {
            return pairs;
        }
        for index in 0..count as u64 {
            let alike = index.is_multiple_of(2);
            let mut stream = Stream::new(seed, Purpose::Synth, index, 1);
            let drawn = (0..TRIES).find_map(|_| {
                let first = words[stream.random_range(0..words.len())];
                let own = &classes[first as usize];
                let from = if alike { &members[&own[stream.random_range(0..own.len())]] } else { &words };
                let second = from[stream.random_range(0..from.len())];
                let shared = classes[second as usize].iter().any(|class| own.contains(class));
                (first != second && shared == alike && known.insert((first.min(second), first.max(second))))
                    .then_some((first, second))
            });
            let word = |word: u32| self.words[word as usize].as_str();
            pairs.extend(drawn.map(|(first, second)| (word(first), word(second), alike)));
        }
        pairs
    }

    /// The frequent words that have only one kind, an entity type or O, with this kind; in an order determined by the seed.
    pub fn kinds(&self, counts: &HashMap<&str, u64>, seed: u64) -> Vec<(&str, &str)> {
        let types = self.types();
        let mut kinds: Vec<(&str, &str)> = self
            .frequent(counts)
            .into_iter()
            .filter_map(|word| match types[word as usize][..] {
                [kind] => Some((self.words[word as usize].as_str(), kind.unwrap_or("O"))),
                _ => None,
            })
            .collect();
        let mut stream = Stream::new(seed, Purpose::Synth, 0, 2);
        for i in (1..kinds.len()).rev() {
            kinds.swap(i, stream.random_range(0..=i));
        }
        kinds
    }
}
