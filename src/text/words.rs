//! The words known to a tagger, and what stands in for others: the lower-case form, then this form with its digits replaced, then `<unk>`.

use std::borrow::Cow;
use std::fmt;
use std::path::Path;

use hashbrown::HashMap;
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// Number of the word that stands for all unknown words, `<unk>`.
pub const UNKNOWN: u32 = 0;
/// Number of the word before a sentence, `<s>`.
pub const BEGIN: u32 = 1;
/// Number of the word after a sentence, `</s>`.
pub const END: u32 = 2;
const SPECIAL: [&str; 3] = ["<unk>", "<s>", "</s>"];

/// The form under which a word was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// As it is.
    Exact,
    /// In lower case.
    Lower,
    /// In lower case, with its digits replaced.
    Digits,
    /// Not found.
    Unknown,
}

/// How digits are replaced. Only `0` to `9` count as digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Digits {
    /// Each becomes `0`: `1984-85` is `0000-00`.
    Zeros,
    /// Each becomes `#`, as in the vectors of word2vec's Google News.
    Hashes,
    /// A number, with sign, commas and points, becomes `N`, as in the files of the Penn Treebank; other words are unchanged.
    Number,
}

impl Digits {
    /// The word in this form, or `None` if that is the word itself.
    pub fn apply(self, word: &str) -> Option<String> {
        let is_digit = |c: char| c.is_ascii_digit();
        let form = match self {
            _ if !word.contains(is_digit) => return None,
            Digits::Zeros => word.replace(is_digit, "0"),
            Digits::Hashes => word.replace(is_digit, "#"),
            Digits::Number => {
                let number = word.strip_prefix(['-', '+']).unwrap_or(word);
                let all = number.chars().all(|c| is_digit(c) || c == '.' || c == ',');
                if all { "N".to_owned() } else { return None }
            }
        };
        (form != word).then_some(form)
    }
}

/// Tries the forms of a word in order (itself, lower case, then the lower case with each of `digits`) until `known` returns something.
/// Forms equal to an earlier one are skipped.
pub fn resolve<T>(word: &str, digits: &[Digits], mut known: impl FnMut(&str, Form) -> Option<T>) -> Option<T> {
    if let Some(found) = known(word, Form::Exact) {
        return Some(found);
    }
    let lower = lowercase(word);
    if lower != word
        && let Some(found) = known(&lower, Form::Lower)
    {
        return Some(found);
    }
    digits.iter().find_map(|digits| known(&digits.apply(&lower)?, Form::Digits))
}

/// The word in lower case, borrowed if it already is.
pub fn lowercase(word: &str) -> Cow<'_, str> {
    if word.bytes().all(|b| b.is_ascii() && !b.is_ascii_uppercase()) {
        Cow::Borrowed(word)
    } else {
        Cow::Owned(word.to_lowercase())
    }
}

/// How many words were found under each form.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Coverage {
    /// As they are.
    pub exact: u64,
    /// In lower case.
    pub lower: u64,
    /// In lower case, with the digits replaced.
    pub digits: u64,
    /// Not found.
    pub unknown: u64,
}

impl Coverage {
    /// Counts one word.
    pub fn add(&mut self, form: Form) {
        match form {
            Form::Exact => self.exact += 1,
            Form::Lower => self.lower += 1,
            Form::Digits => self.digits += 1,
            Form::Unknown => self.unknown += 1,
        }
    }

    /// The number of words counted.
    pub fn total(&self) -> u64 {
        self.exact + self.lower + self.digits + self.unknown
    }
}

impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let percent = |n: u64| 100.0 * n as f64 / self.total().max(1) as f64;
        write!(
            f,
            "{:.1} % of {} as they are, {:.1} % in lower case, {:.1} % with digits made equal, {:.1} % unknown",
            percent(self.exact),
            self.total(),
            percent(self.lower),
            percent(self.digits),
            percent(self.unknown)
        )
    }
}

/// Numbered words: `<unk>`, `<s>`, `</s>`, then those of the training text, the most frequent first.
#[derive(Clone, Debug, Default)]
pub struct WordIndex {
    words: Vec<String>,
    counts: Vec<u64>,
    numbers: HashMap<String, u32>,
}

impl WordIndex {
    /// The index of a training text. A word that occurs fewer than `least` times counts as its lower-case form, and if that is still
    /// too rare, as that form with its digits replaced by zeros, just as [`WordIndex::find`] looks it up; if still too rare, it is
    /// unknown. With `lower`, all words are first converted to lower case. Words of equal count are in byte order.
    pub fn build<'a>(words: impl IntoIterator<Item = &'a str>, least: u64, lower: bool) -> WordIndex {
        let mut counts: HashMap<Cow<str>, u64> = HashMap::new();
        for word in words {
            let word = if lower { lowercase(word) } else { Cow::Borrowed(word) };
            *counts.entry(word).or_insert(0) += 1;
        }
        demote(&mut counts, least, |word| match lowercase(word) {
            lower if lower != word => Some(lower.into_owned()),
            _ => None,
        });
        demote(&mut counts, least, |word| Digits::Zeros.apply(word));
        counts.retain(|word, count| *count >= least && !SPECIAL.contains(&word.as_ref()));
        let mut sorted: Vec<(String, u64)> = counts.into_iter().map(|(w, n)| (w.into_owned(), n)).collect();
        sorted.sort_unstable_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        let special = SPECIAL.iter().map(|word| (word.to_string(), 0));
        let (words, counts): (Vec<String>, Vec<u64>) = special.chain(sorted).unzip();
        let numbers = words.iter().zip(0..).map(|(word, number)| (word.clone(), number)).collect();
        WordIndex { words, counts, numbers }
    }

    /// The index of a list of distinct words, in the given order after the special ones.
    pub fn listed<'a>(words: impl IntoIterator<Item = &'a str>) -> WordIndex {
        let others = words.into_iter().filter(|word| !SPECIAL.contains(word));
        let words: Vec<String> = SPECIAL.into_iter().chain(others).map(str::to_owned).collect();
        let numbers = words.iter().zip(0..).map(|(word, number)| (word.clone(), number)).collect();
        WordIndex { counts: vec![0; words.len()], words, numbers }
    }

    /// Parses the text of [`WordIndex::text`]; `path` is for messages.
    ///
    /// # Errors
    /// The first three words are not the special ones, or a word occurs twice.
    pub fn parse(path: impl AsRef<Path>, text: &str) -> Result<WordIndex> {
        let mut index = WordIndex::default();
        for (line, word) in (1..).zip(text.split_terminator('\n')) {
            let number = index.words.len();
            if let Some(special) = SPECIAL.get(number)
                && *special != word
            {
                return Err(Error::input(path, line, format!("the word `{word}`"), format!("`{special}`")));
            }
            if let Some(first) = index.numbers.insert(word.to_owned(), number as u32) {
                let found = format!("`{word}` again, as in line {}", first + 1);
                return Err(Error::input(path, line, found, "each word once"));
            }
            index.words.push(word.to_owned());
        }
        if index.words.len() < SPECIAL.len() {
            let found = format!("{} words", index.words.len());
            return Err(Error::input(path, 0, found, "at least <unk>, <s> and </s>"));
        }
        index.counts = vec![0; index.words.len()];
        Ok(index)
    }

    /// The words in order, one per line.
    pub fn text(&self) -> String {
        let mut text = self.words.join("\n");
        text.push('\n');
        text
    }

    /// The number of a word and the form under which it was found; [`UNKNOWN`] if none of its forms is known.
    pub fn find(&self, word: &str) -> (u32, Form) {
        let known = |word: &str, form| self.numbers.get(word).map(|&number| (number, form));
        resolve(word, &[Digits::Zeros], known).unwrap_or((UNKNOWN, Form::Unknown))
    }

    /// The number of exactly this word.
    pub fn get(&self, word: &str) -> Option<u32> {
        self.numbers.get(word).copied()
    }

    /// All words in the order of their numbers.
    pub fn words(&self) -> &[String] {
        &self.words
    }

    /// The number of occurrences of a word in the training text, as itself or under this form; 0 for the special words and in an index
    /// read from a file.
    pub fn count(&self, number: u32) -> u64 {
        self.counts[number as usize]
    }

    /// The number of words.
    pub fn len(&self) -> usize {
        self.words.len()
    }

    /// Whether there are no words, not even the special ones; never the case after [`WordIndex::build`].
    pub fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    /// How many of the given words are found, and under which form.
    pub fn coverage<'a>(&self, words: impl IntoIterator<Item = &'a str>) -> Coverage {
        let mut coverage = Coverage::default();
        words.into_iter().for_each(|word| coverage.add(self.find(word).1));
        coverage
    }
}

/// Adds the counts of words below `least` to those of another form, if there is one.
fn demote(counts: &mut HashMap<Cow<str>, u64>, least: u64, form: impl Fn(&str) -> Option<String>) {
    let mut moved = Vec::new();
    counts.retain(|word, &mut count| match if count < least { form(word) } else { None } {
        None => true,
        Some(form) => {
            moved.push((form, count));
            false
        }
    });
    for (form, count) in moved {
        *counts.entry(Cow::Owned(form)).or_insert(0) += count;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_in_order() {
        let forms = |word: &str, digits: &[Digits]| {
            let mut tried = Vec::new();
            let none: Option<()> = resolve(word, digits, |form, _| {
                tried.push(form.to_owned());
                None
            });
            assert!(none.is_none());
            tried
        };
        let all = [Digits::Zeros, Digits::Hashes, Digits::Number];
        assert_eq!(forms("the", &all), ["the"]);
        assert_eq!(forms("IL-2Rα", &all), ["IL-2Rα", "il-2rα", "il-0rα", "il-#rα"]);
        assert_eq!(forms("-1,984.5", &all), ["-1,984.5", "-0,000.0", "-#,###.#", "N"]);
        assert_eq!(forms("00", &all), ["00", "##", "N"]);
        assert_eq!(forms("ÄRGER", &[]), ["ÄRGER", "ärger"]);
        assert_eq!(forms("...", &all), ["..."]);
        assert_eq!(forms("", &all), [""]);
    }

    #[test]
    fn index_and_fallbacks() {
        // "Gene" 1 + "gene" 1 make "gene" 2; "p53" 1 + "p21" 1 + "P73" 1 make "p00" 3; "RARE" is dropped.
        let text = ["the", "The", "The", "Gene", "gene", "p53", "p21", "P73", "RARE", "the", "the", "<s>", "<s>"];
        let index = WordIndex::build(text, 2, false);
        assert_eq!(index.words(), ["<unk>", "<s>", "</s>", "p00", "the", "The", "gene"]);
        assert_eq!((3..7).map(|i| index.count(i)).collect::<Vec<_>>(), [3, 3, 2, 2]);
        assert_eq!(index.find("the"), (4, Form::Exact));
        assert_eq!(index.find("THE"), (4, Form::Lower));
        assert_eq!(index.find("Gene"), (6, Form::Lower));
        assert_eq!(index.find("P99"), (3, Form::Digits));
        assert_eq!(index.find("rare"), (UNKNOWN, Form::Unknown));
        assert_eq!(index.find("</s>"), (END, Form::Exact));
        let coverage = index.coverage(["the", "THE", "Gene", "P99", "rare"]);
        assert_eq!(coverage, Coverage { exact: 1, lower: 2, digits: 1, unknown: 1 });
        assert!(coverage.to_string().starts_with("20.0 % of 5 as they are, 40.0 % in lower case"));
    }

    #[test]
    fn everything_is_kept_at_one() {
        let index = WordIndex::build(["b", "B", "7", "b", ""], 1, false);
        assert_eq!(index.words(), ["<unk>", "<s>", "</s>", "b", "", "7", "B"]);
        let index = WordIndex::build(["b", "B", "7", "b", ""], 1, true);
        assert_eq!(index.words(), ["<unk>", "<s>", "</s>", "b", "", "7"]);
        assert_eq!(index.find("B"), (3, Form::Lower));
        assert_eq!(index.count(3), 3);
    }

    #[test]
    fn text_round_trip_and_errors() {
        let index = WordIndex::build(["new york", "", "\u{a0}", "a\r", "#x"], 1, false);
        let again = WordIndex::parse("vocab.txt", &index.text()).unwrap();
        assert_eq!(again.words(), index.words());
        assert_eq!(again.find("new york"), index.find("new york"));
        let fail = |text: &str| WordIndex::parse("vocab.txt", text).unwrap_err().to_string();
        assert_eq!(fail("<unk>\n<s>\n"), "vocab.txt: found 2 words, expected at least <unk>, <s> and </s>");
        assert_eq!(fail("<unk>\nthe\n"), "vocab.txt:2: found the word `the`, expected `<s>`");
        let again = fail("<unk>\n<s>\n</s>\na\nb\na\n");
        assert_eq!(again, "vocab.txt:6: found `a` again, as in line 4, expected each word once");
    }
}
