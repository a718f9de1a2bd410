//! Words and their ids.

use super::{is_space, not_utf8};
use crate::kernels::memory::map_file;
use crate::{Error, Result};
use hashbrown::hash_table::Entry;
use hashbrown::{DefaultHashBuilder, HashMap, HashTable};
use rayon::prelude::*;
use std::cmp::Reverse;
use std::hash::{BuildHasher, Hasher};
use std::io::{self, BufWriter, Write};
use std::ops::Range;
use std::path::Path;

/// The word that stands for all unknown ones.
pub const UNK: &str = "<unk>";
/// The end of a sentence, implied at the end of every line.
pub const EOS: &str = "<eos>";

/// Different words, numbered as they come. They lie in one string and the index holds numbers only: about 13 bytes a
/// word besides its letters.
#[derive(Clone, Debug, Default)]
pub(crate) struct Words {
    text: String,
    /// Where each word ends in `text`; it begins where the one before it ends.
    ends: Vec<u32>,
    index: HashTable<u32>,
    hasher: DefaultHashBuilder,
}

impl Words {
    /// None yet, with room for so many and their letters.
    fn with_capacity(words: usize, bytes: usize) -> Self {
        Words {
            text: String::with_capacity(bytes),
            ends: Vec::with_capacity(words),
            index: HashTable::with_capacity(words),
            hasher: DefaultHashBuilder::default(),
        }
    }

    /// With hashes as `hasher` makes them, for those who know a word's hash already.
    pub(crate) fn with_hasher(hasher: DefaultHashBuilder) -> Self {
        Words { hasher, ..Words::default() }
    }

    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    /// Letters in all words, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.text.len()
    }

    pub(crate) fn get(&self, id: u32) -> &str {
        &self.text[span(&self.ends, id)]
    }

    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = &str> {
        (0..self.len()).map(|id| self.get(id as u32))
    }

    #[inline]
    fn find(&self, word: &[u8]) -> Option<u32> {
        let same = |&id: &u32| bytes(&self.text, &self.ends, id) == word;
        self.index.find(hash(&self.hasher, word), same).copied()
    }

    /// The number of `word`, which is new if it was the number of words before. None if the letters of all words would
    /// not fit in 4 GiB (and so neither their number in 32 bits).
    #[inline]
    pub(crate) fn intern(&mut self, word: &str, hash_of_word: u64) -> Option<u32> {
        let Words { text, ends, index, hasher } = self;
        let same = |&id: &u32| bytes(text, ends, id) == word.as_bytes();
        match index.entry(hash_of_word, same, |&id| hash(hasher, bytes(text, ends, id))) {
            Entry::Occupied(entry) => Some(*entry.get()),
            Entry::Vacant(entry) => {
                let id = ends.len() as u32;
                let end = u32::try_from(text.len() + word.len()).ok()?;
                entry.insert(id);
                text.push_str(word);
                ends.push(end);
                Some(id)
            }
        }
    }
}

#[inline(always)]
fn span(ends: &[u32], id: u32) -> Range<usize> {
    let id = id as usize;
    let start = if id == 0 { 0 } else { ends[id - 1] };
    start as usize..ends[id] as usize
}

#[inline(always)]
fn bytes<'a>(text: &'a str, ends: &[u32], id: u32) -> &'a [u8] {
    &text.as_bytes()[span(ends, id)]
}

#[inline(always)]
pub(crate) fn hash(hasher: &DefaultHashBuilder, word: &[u8]) -> u64 {
    let mut hasher = hasher.build_hasher();
    hasher.write(word);
    hasher.finish()
}

/// V words with their counts. Ids go by falling count, ties by the words' bytes, so that the same text gives the same
/// ids whatever read it. [`UNK`] and [`EOS`] are always there, at the place of their count.
#[derive(Clone, Debug)]
pub struct Vocabulary {
    words: Words,
    counts: Vec<u64>,
    unk: u32,
    eos: u32,
}

impl Vocabulary {
    /// The number of words, V: at least 2.
    #[expect(clippy::len_without_is_empty, reason = "the special words are always there")]
    pub fn len(&self) -> usize {
        self.words.len()
    }

    /// The id of `word`, if it has one.
    #[inline]
    pub fn id(&self, word: impl AsRef<[u8]>) -> Option<u32> {
        self.words.find(word.as_ref())
    }

    /// The id of `word`, or else that of [`UNK`].
    #[inline]
    pub fn id_or_unk(&self, word: impl AsRef<[u8]>) -> u32 {
        self.id(word).unwrap_or(self.unk)
    }

    /// The word with `id`, which must be below V.
    pub fn word(&self, id: u32) -> &str {
        self.words.get(id)
    }

    /// All words, by id.
    pub fn words(&self) -> impl ExactSizeIterator<Item = &str> {
        self.words.iter()
    }

    /// How often the word with `id`, which must be below V, was seen in training.
    pub fn count(&self, id: u32) -> u64 {
        self.counts[id as usize]
    }

    /// All counts, by id: they never rise.
    pub fn counts(&self) -> &[u64] {
        &self.counts
    }

    /// The id of [`UNK`].
    pub fn unk(&self) -> u32 {
        self.unk
    }

    /// The id of [`EOS`].
    pub fn eos(&self) -> u32 {
        self.eos
    }

    /// A vocabulary of counted `words`; one that comes more than once is counted together. Words seen fewer than
    /// `min_count` times, and the rarest beyond a final size of `max_vocab`, are cut and counted as [`UNK`].
    ///
    /// # Errors
    /// A word that is empty or holds white space; cuts that leave no word; more than 4 GiB of words.
    pub fn from_counts<'a>(
        words: impl IntoIterator<Item = (&'a str, u64)>,
        min_count: u64,
        max_vocab: Option<usize>,
    ) -> Result<Self> {
        let mut sums = HashMap::<&str, u64>::new();
        for (word, count) in words {
            if word.is_empty() || word.bytes().any(is_space) {
                let what = "a word must not be empty or hold white space";
                return Err(Error::Usage(format!("{what}, as {word:?}")));
            }
            *sums.entry(word).or_default() += count;
        }
        Ranking::new(sums.into_iter().collect(), min_count, max_vocab)?.vocabulary()
    }

    /// Writes a line for every word, by id: `word TAB count`.
    ///
    /// # Errors
    /// What `out` says.
    pub fn write_to(&self, out: impl Write) -> io::Result<()> {
        let mut out = BufWriter::new(out);
        for (word, count) in self.words().zip(&self.counts) {
            writeln!(out, "{word}\t{count}")?;
        }
        out.flush()
    }

    /// Reads what [`Vocabulary::write_to`] wrote.
    ///
    /// # Errors
    /// A file that cannot be read or was not written so; the first line that is wrong is named.
    pub fn read(path: &Path) -> Result<Self> {
        let file = map_file(path)?;
        let text = std::str::from_utf8(&file).map_err(|e| not_utf8(path, &file, e.valid_up_to()))?;
        let (mut words, mut counts) = (Words::default(), Vec::<u64>::new());
        for (number, line) in (1..).zip(text.split_inclusive('\n')) {
            let wrong = |found: String, expected: &str| Err(Error::input(path, number, found, expected));
            let Some(line) = line.strip_suffix('\n') else {
                return wrong("no end of the last line".into(), "a complete vocabulary file");
            };
            let Some((word, count)) = parse(line) else {
                return wrong(format!("{:?}", excerpt(line)), "word TAB count");
            };
            if let Some(&before) = counts.last() {
                let last = words.get(number as u32 - 2);
                if (before, word) < (count, last) {
                    let found = format!("{:?} ({count}) after {:?} ({before})", excerpt(word), excerpt(last));
                    return wrong(found, "falling counts, and equal ones in the order of the words' bytes");
                }
            }
            match words.intern(word, hash(&words.hasher, word.as_bytes())) {
                None => return wrong("a word beyond 4 GiB of words".into(), "a smaller vocabulary"),
                Some(id) if (id as usize) < counts.len() => {
                    let found = format!("{:?} again, which line {} has", excerpt(word), id + 1);
                    return wrong(found, "different words");
                }
                Some(_) => counts.push(count),
            }
        }
        let special = |word: &str| {
            let id = words.find(word.as_bytes());
            id.ok_or_else(|| Error::input(path, 0, format!("no word {word}"), "one line for it"))
        };
        let (unk, eos) = (special(UNK)?, special(EOS)?);
        Ok(Vocabulary { words, counts, unk, eos })
    }
}

/// A line of a vocabulary file; white space in the word or anything but digits in the count are not one.
fn parse(line: &str) -> Option<(&str, u64)> {
    let (word, count) = line.split_once('\t')?;
    let good = !word.is_empty() && !word.bytes().any(is_space) && count.bytes().all(|byte| byte.is_ascii_digit());
    good.then_some((word, count.parse().ok()?))
}

/// The beginning of a text that may be too long for a message.
fn excerpt(text: &str) -> &str {
    text.char_indices().nth(40).map_or(text, |(end, _)| &text[..end])
}

/// Counted words put in the order of a vocabulary.
pub(crate) struct Ranking<'a> {
    /// The words as given, the special ones behind if they were missing.
    words: Vec<(&'a str, u64)>,
    /// Their indices, by id.
    order: Vec<u32>,
    /// The id of every word given: [`UNK`]'s if it was cut.
    pub(crate) ids: Vec<u32>,
}

impl<'a> Ranking<'a> {
    /// Ranks different `words`, fewer than 2³² − 2; see [`Vocabulary::from_counts`].
    pub(crate) fn new(mut words: Vec<(&'a str, u64)>, min_count: u64, max_vocab: Option<usize>) -> Result<Self> {
        let max_vocab = max_vocab.unwrap_or(usize::MAX);
        if max_vocab < 3 {
            let what = "leaves no word besides <unk> and <eos>: at least 3 are needed";
            return Err(Error::Usage(format!("a vocabulary of at most {max_vocab} {what}")));
        }
        let given = words.len();
        let mut special = |special| {
            let found = words.iter().position(|&(word, _)| word == special);
            found.unwrap_or_else(|| {
                words.push((special, 0));
                words.len() - 1
            })
        };
        let (unk, eos) = (special(UNK), special(EOS));
        let mut keys: Vec<_> = (0..words.len() as u32)
            .into_par_iter()
            .map(|i| {
                let (word, count) = words[i as usize];
                (Reverse(count), prefix(word), i)
            })
            .collect();
        keys.par_sort_unstable_by(|a, b| {
            let word = |i: u32| words[i as usize].0;
            (a.0, a.1).cmp(&(b.0, b.1)).then_with(|| word(a.2).cmp(word(b.2)))
        });

        // The words that stay, then the special ones at the places of their counts.
        let is_word = |&i: &u32| i as usize != unk && i as usize != eos;
        let ranked = keys.iter().map(|key| key.2).filter(is_word);
        let stay = |&i: &u32| words[i as usize].1 >= min_count;
        let mut order: Vec<u32> = ranked.clone().take_while(stay).take(max_vocab - 2).collect();
        if let (true, Some(first)) = (order.is_empty(), ranked.clone().next()) {
            let (word, count) = words[first as usize];
            let most = format!("the most frequent one, {:?}, was seen {count} times", excerpt(word));
            return Err(Error::Usage(format!("a minimal count of {min_count} leaves no word: {most}")));
        }
        words[unk].1 += ranked.skip(order.len()).map(|i| words[i as usize].1).sum::<u64>();
        for i in [unk, eos] {
            let key = |i: u32| (Reverse(words[i as usize].1), words[i as usize].0);
            let place = order.partition_point(|&other| key(other) < key(i as u32));
            order.insert(place, i as u32);
        }
        let mut ids = vec![0; words.len()];
        for (id, &i) in (0..).zip(&order) {
            ids[i as usize] = id;
        }
        let unk = ids[unk];
        for key in keys.iter().filter(|key| is_word(&key.2)).skip(order.len() - 2) {
            ids[key.2 as usize] = unk;
        }
        ids.truncate(given);
        Ok(Ranking { words, order, ids })
    }

    /// The vocabulary itself.
    pub(crate) fn vocabulary(&self) -> Result<Vocabulary> {
        let counted = || self.order.iter().map(|&i| self.words[i as usize]);
        let bytes = counted().map(|(word, _)| word.len()).sum();
        let mut words = Words::with_capacity(self.order.len(), bytes);
        for (word, _) in counted() {
            let hash = hash(&words.hasher, word.as_bytes());
            if words.intern(word, hash).is_none() {
                return Err(Error::Usage("a vocabulary holds at most 4 GiB of words".into()));
            }
        }
        let special = |word: &str| words.find(word.as_bytes()).expect("in every ranking");
        let (unk, eos) = (special(UNK), special(EOS));
        Ok(Vocabulary { counts: counted().map(|(_, count)| count).collect(), words, unk, eos })
    }
}

/// The first eight bytes: in the order of the words wherever they differ.
fn prefix(word: &str) -> u64 {
    let mut bytes = [0; 8];
    let n = word.len().min(8);
    bytes[..n].copy_from_slice(&word.as_bytes()[..n]);
    u64::from_be_bytes(bytes)
}
