//! Words and their ids.

use super::{is_space, wrong_byte};
use crate::pool;
use crate::sys::files::map_file;
use crate::{Error, Result};
use hashbrown::hash_table::Entry;
use hashbrown::{DefaultHashBuilder, HashMap, HashTable};
use std::cmp::Reverse;
use std::hash::{BuildHasher, Hasher};
use std::io::{self, BufWriter, Write};
use std::ops::Range;
use std::path::Path;

/// The word that stands for all unknown words.
pub const UNK: &str = "<unk>";
/// The end of a sentence, implied at the end of every line.
pub const EOS: &str = "<eos>";

/// Distinct words, numbered in order of appearance. They are stored in one string and the index contains only numbers: about 13 bytes
/// per word besides its letters.
#[derive(Clone, Debug, Default)]
pub(crate) struct Words {
    text: String,
    /// The end of each word in `text`; it begins where the previous one ends.
    ends: Vec<u32>,
    index: HashTable<u32>,
    hasher: DefaultHashBuilder,
}

impl Words {
    /// No words yet, with capacity for `words` words of `bytes` bytes in total.
    fn with_capacity(words: usize, bytes: usize) -> Self {
        Words {
            text: String::with_capacity(bytes),
            ends: Vec::with_capacity(words),
            index: HashTable::with_capacity(words),
            hasher: DefaultHashBuilder::default(),
        }
    }

    /// With hashes computed by `hasher`, for callers that already know the hash of a word.
    pub(crate) fn with_hasher(hasher: DefaultHashBuilder) -> Self {
        Words { hasher, ..Words::default() }
    }

    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    /// Total length of all words in bytes.
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

    /// The number of `word`, which is new if it equals the previous number of words. None if the letters of all words would exceed 4
    /// GiB (so that their number always fits in 32 bits).
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

/// A word as two numbers, to be hashed and compared without reading its letters: a word of up to 16 bytes is itself, padded with zeros;
/// a longer one is its hash and 256 times its length. Words do not contain the byte 0, so that the low byte of the second number
/// distinguishes the two.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Key(u64, u64);

impl Key {
    /// The key of the word `bytes[at..end]`, which does not contain the byte 0. It is faster if more bytes follow the word.
    #[inline(always)]
    pub(crate) fn new(hasher: &DefaultHashBuilder, bytes: &[u8], at: usize, end: usize) -> Self {
        let first = |n: usize| if n < 8 { (1 << (8 * n)) - 1 } else { u64::MAX };
        match end - at {
            n @ 0..=8 => Key(load(bytes, at) & first(n), 0),
            n @ 9..=16 => Key(load(bytes, at), load(bytes, at + 8) & first(n - 8)),
            n => {
                let mut hasher = hasher.build_hasher();
                hasher.write(&bytes[at..end]);
                Key(hasher.finish(), (n as u64) << 8)
            }
        }
    }

    /// Whether the key is the word itself.
    #[inline(always)]
    pub(crate) fn is_exact(self) -> bool {
        self.1 == 0 || self.1 as u8 != 0
    }

    #[inline(always)]
    pub(crate) fn hash(self, hasher: &DefaultHashBuilder) -> u64 {
        let mut hasher = hasher.build_hasher();
        hasher.write_u64(self.0);
        hasher.write_u64(self.1);
        hasher.finish()
    }
}

/// Eight bytes from `at` on, the first one lowest; zeros beyond the end.
#[inline(always)]
pub(crate) fn load(bytes: &[u8], at: usize) -> u64 {
    let rest = &bytes[at..];
    match rest.first_chunk() {
        Some(eight) => u64::from_le_bytes(*eight),
        None => (0..).zip(rest).map(|(i, &byte)| u64::from(byte) << (8 * i)).sum(),
    }
}

fn hash(hasher: &DefaultHashBuilder, word: &[u8]) -> u64 {
    Key::new(hasher, word, 0, word.len()).hash(hasher)
}

/// V words with their counts. Ids are in the order of descending counts, ties in byte order, so that the same text always gives the
/// same ids. [`UNK`] and [`EOS`] are always included, at the position of their count.
#[derive(Clone, Debug)]
pub struct Vocabulary {
    words: Words,
    counts: Vec<u64>,
    unk: u32,
    eos: u32,
    strips_marks: bool,
}

impl Vocabulary {
    /// Whether markers around lines are dropped from texts read with these words: see [`Marks`](super::marks::Marks).
    pub fn strips_marks(&self) -> bool {
        self.strips_marks
    }

    /// The same vocabulary, which drops markers around lines if `strips`.
    pub fn stripping_marks(self, strips: bool) -> Self {
        Vocabulary { strips_marks: strips, ..self }
    }

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

    /// The id of `word`, or that of [`UNK`].
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

    /// How often the word with `id`, which must be below V, occurred in training.
    pub fn count(&self, id: u32) -> u64 {
        self.counts[id as usize]
    }

    /// All counts, by id, in descending order.
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

    /// Builds a vocabulary from counted `words`; counts of a repeated word are added. Words that occur fewer than `min_count` times,
    /// and the rarest ones beyond a total size of `max_vocab`, are cut and counted as [`UNK`].
    ///
    /// # Errors
    /// A word that is empty or contains white space; limits that leave no word; more than 4 GiB of words.
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

    /// Writes one line per word, by id: `word TAB count`.
    ///
    /// # Errors
    /// Errors of `out`.
    pub fn write_to(&self, out: impl Write) -> io::Result<()> {
        let mut out = BufWriter::new(out);
        for (word, count) in self.words().zip(&self.counts) {
            writeln!(out, "{word}\t{count}")?;
        }
        out.flush()
    }

    /// Reads a file written by [`Vocabulary::write_to`].
    ///
    /// # Errors
    /// A file that cannot be read or has another format; its first invalid line is named.
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = map_file(path)?.read(|file| Ok(file.to_vec()))?;
        Self::parse(path, &bytes)
    }

    /// Parses the contents of such a file; `path` is for messages.
    ///
    /// # Errors
    /// As [`Vocabulary::read`].
    pub fn parse(path: &Path, file: &[u8]) -> Result<Self> {
        let text = std::str::from_utf8(file).map_err(|e| {
            let at = e.valid_up_to();
            wrong_byte(path, file, at, &format!("invalid UTF-8 (0x{:02X})", file[at]), "UTF-8 text")
        })?;
        let (mut words, mut counts) = (Words::default(), Vec::<u64>::new());
        for (number, line) in (1..).zip(text.split_inclusive('\n')) {
            let wrong = |found: String, expected: &str| Err(Error::input(path, number, found, expected));
            let Some(line) = line.strip_suffix('\n') else {
                return wrong("no end of the last line".into(), "a complete vocabulary file");
            };
            let Some((word, count)) = parse(line.strip_suffix('\r').unwrap_or(line)) else {
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
                None => {
                    return wrong("a word beyond 4 GiB of words".into(), "a smaller vocabulary");
                }
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
        Ok(Vocabulary { words, counts, unk, eos, strips_marks: false })
    }
}

/// Parses a line of a vocabulary file; the word must not contain white space, nor the count anything but digits.
fn parse(line: &str) -> Option<(&str, u64)> {
    let (word, count) = line.split_once('\t')?;
    let good = !word.is_empty() && !word.bytes().any(is_space) && count.bytes().all(|byte| byte.is_ascii_digit());
    good.then_some((word, count.parse().ok()?))
}

/// The beginning of a text that may be too long for a message.
fn excerpt(text: &str) -> &str {
    text.char_indices().nth(40).map_or(text, |(end, _)| &text[..end])
}

/// Counted words in the order of a vocabulary.
pub(crate) struct Ranking<'a> {
    /// The words as given, followed by the special ones if they were missing.
    words: Vec<(&'a str, u64)>,
    /// Their indices, by id.
    order: Vec<u32>,
    /// The id of every given word: that of [`UNK`] if it was cut.
    pub(crate) ids: Vec<u32>,
}

impl<'a> Ranking<'a> {
    /// Ranks distinct `words`, fewer than 2³² − 2; see [`Vocabulary::from_counts`].
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
        let mut keys = vec![(Reverse(0), 0, 0); words.len()];
        pool::each((pool::chunks_mut(&mut keys, KEYS), pool::chunks(&words, KEYS)), |piece, (keys, words)| {
            for (i, (key, &(word, count))) in keys.iter_mut().zip(words).enumerate() {
                *key = (Reverse(count), prefix(word), (piece * KEYS + i) as u32);
            }
        });
        pool::sort_by(&mut keys, |a, b| {
            let word = |i: u32| words[i as usize].0;
            (a.0, a.1).cmp(&(b.0, b.1)).then_with(|| word(a.2).cmp(word(b.2)))
        });

        // The words that are kept, then the special ones at the positions of their counts.
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
        let counts = counted().map(|(_, count)| count).collect();
        Ok(Vocabulary { counts, words, unk, eos, strips_marks: false })
    }
}

/// Number of words whose keys are computed per task.
const KEYS: usize = 1 << 12;

/// The first eight bytes, ordered like the words wherever they differ.
fn prefix(word: &str) -> u64 {
    load(word.as_bytes(), 0).swap_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn lines(vocabulary: &Vocabulary) -> String {
        let mut out = Vec::new();
        vocabulary.write_to(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    fn read(text: impl AsRef<[u8]>) -> Result<Vocabulary> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        Vocabulary::read(file.path())
    }

    const WORDS: [(&str, u64); 6] = [("b", 3), ("é", 3), ("<eos>", 4), ("a", 3), ("rare", 1), ("the", 9)];

    #[test]
    fn ranks_by_count_then_bytes() {
        let all = Vocabulary::from_counts(WORDS, 1, None).unwrap();
        assert_eq!(lines(&all), "the\t9\n<eos>\t4\na\t3\nb\t3\né\t3\nrare\t1\n<unk>\t0\n");
        assert_eq!((all.len(), all.unk(), all.eos()), (7, 6, 1));
        assert_eq!((all.id("é"), all.id(b"a"), all.id("x"), all.id_or_unk("x")), (Some(4), Some(2), None, 6));
        assert_eq!((all.word(0), all.count(0), all.counts()[5]), ("the", 9, 1));
        let twice = Vocabulary::from_counts(WORDS.into_iter().chain([("rare", 7)]), 1, None).unwrap();
        assert_eq!(twice.id("rare"), Some(1));
    }

    #[test]
    fn cut_words_count_as_unknown() {
        let cut = |min_count, max_vocab| Vocabulary::from_counts(WORDS, min_count, max_vocab).map(|v| lines(&v));
        assert_eq!(cut(3, None).unwrap(), "the\t9\n<eos>\t4\na\t3\nb\t3\né\t3\n<unk>\t1\n");
        assert_eq!(cut(1, Some(5)).unwrap(), "the\t9\n<eos>\t4\n<unk>\t4\na\t3\nb\t3\n");
        assert_eq!(cut(4, None).unwrap(), "<unk>\t10\nthe\t9\n<eos>\t4\n");
        assert_eq!(cut(1, Some(3)).unwrap(), "<unk>\t10\nthe\t9\n<eos>\t4\n");
        let error = |result: Result<String>| result.unwrap_err().to_string();
        assert_eq!(
            error(cut(10, None)),
            "a minimal count of 10 leaves no word: the most frequent one, \"the\", was seen 9 times"
        );
        let few = "a vocabulary of at most 2 leaves no word besides <unk> and <eos>: at least 3 are needed";
        assert_eq!(error(cut(1, Some(2))), few);
        assert_eq!(lines(&Vocabulary::from_counts([], 1, None).unwrap()), "<eos>\t0\n<unk>\t0\n");
        for word in ["", "a b", "a\t"] {
            let error = Vocabulary::from_counts([(word, 1)], 1, None).unwrap_err().to_string();
            assert_eq!(error, format!("a word must not be empty or hold white space, as {word:?}"));
        }
    }

    #[test]
    fn refuses_files_it_did_not_write() {
        let cases: [(&[u8], &str); 15] = [
            (b"", ": found no word <unk>, expected one line for it"),
            (b"<unk>\t3\na\t1\n", ": found no word <eos>, expected one line for it"),
            (b"<unk>\t3\n<eos>\t1", ":2: found no end of the last line, expected a complete vocabulary file"),
            (b"<unk>\t3\n\n<eos>\t1\n", ":2: found \"\", expected word TAB count"),
            (b"<unk>\t3\na 2\n<eos>\t1\n", ":2: found \"a 2\","),
            (b"<unk>\t3\na b\t2\n<eos>\t1\n", ":2: found \"a b\\t2\","),
            (b"<unk>\t3\n\t2\n<eos>\t1\n", ":2: found \"\\t2\","),
            (b"<unk>\t3\na\t\n<eos>\t1\n", ":2: found \"a\\t\","),
            (b"<unk>\t3\na\t+2\n<eos>\t1\n", ":2: found \"a\\t+2\","),
            (b"<unk>\t3\na\t2\t2\n<eos>\t1\n", ":2: found \"a\\t2\\t2\","),
            (b"<unk>\t3\na\t99999999999999999999\n", ":2: found \"a\\t99999999999999999999\","),
            (b"<unk>\t3\na\t2\na\t2\n", ":3: found \"a\" again, which line 2 has, expected different words"),
            (b"<unk>\t3\na\t2\n<unk>\t1\n", ":3: found \"<unk>\" again, which line 1 has,"),
            (b"<unk>\t3\nb\t2\na\t2\n", ":3: found \"a\" (2) after \"b\" (2), expected falling counts"),
            (b"<unk>\t3\nb\t4\n", ":2: found \"b\" (4) after \"<unk>\" (3),"),
        ];
        for (text, message) in cases {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains(message), "{error}\nhas not\n{message}");
        }
        let error = read(b"<unk>\t3\n\xE9t\xE9\t1\n").unwrap_err().to_string();
        assert!(error.ends_with(":2: found invalid UTF-8 (0xE9) at byte offset 8, expected UTF-8 text"), "{error}");
        let long = read("é".repeat(1000)).unwrap_err().to_string();
        assert!(long.len() < 300, "{long}");
        let error = read(format!("<unk>\t3\n{}", "é".repeat(100) + "\n")).unwrap_err().to_string();
        assert!(error.contains(&format!(":2: found \"{}\",", "é".repeat(40))), "{error}");
    }

    proptest! {
        #[test]
        fn words_and_ids_go_round(words in prop::collection::vec(("[^ \t\n\r\u{c}]{1,20}", 0u64..9), 0..60)) {
            let counts = words.iter().map(|(word, count)| (word.as_str(), *count));
            let vocabulary = Vocabulary::from_counts(counts, 0, None).unwrap();
            for (word, _) in &words {
                prop_assert_eq!(vocabulary.word(vocabulary.id(word).unwrap()), word);
            }
            for (id, word) in (0..).zip(vocabulary.words()) {
                prop_assert_eq!(vocabulary.id(word), Some(id));
                let other = format!("{word}\0");
                prop_assert_eq!(vocabulary.id(&other).is_some(), words.iter().any(|(word, _)| *word == other));
            }
            prop_assert!(vocabulary.counts().is_sorted_by(|a, b| a >= b));
            prop_assert_eq!(vocabulary.counts().iter().sum::<u64>(), words.iter().map(|word| word.1).sum::<u64>());
            let again = read(lines(&vocabulary)).unwrap();
            prop_assert_eq!(lines(&again), lines(&vocabulary));
            prop_assert_eq!((again.unk(), again.eos()), (vocabulary.unk(), vocabulary.eos()));
        }

        /// Two words have the same key if and only if they are equal, wherever they are.
        #[test]
        fn keys_are_words(a in "[ab]{1,18}", b in "[ab]{1,18}", before in "[ab ]{0,3}", behind in "[ab ]{0,20}") {
            let hasher = DefaultHashBuilder::default();
            let key = |word: &str| Key::new(&hasher, word.as_bytes(), 0, word.len());
            prop_assert_eq!(key(&a) == key(&b), a == b);
            prop_assert_eq!(key(&a).is_exact(), a.len() <= 16);
            let (text, at) = (format!("{before}{a}{behind}"), before.len());
            prop_assert!(Key::new(&hasher, text.as_bytes(), at, at + a.len()) == key(&a));
        }
    }
}
