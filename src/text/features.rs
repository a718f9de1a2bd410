//! Features of a word for a tagger besides the word itself: how it is written, and its ending (Collobert et al. 2011, "Natural Language
//! Processing (Almost) from Scratch", section 4.1).

use hashbrown::HashMap;
use serde::{Deserialize, Serialize};

use super::words;

/// How a word is written: its case, and whether it contains digits. Letters of scripts without case count as lower case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Caps {
    /// No word: a position before or after a sentence.
    Padding,
    /// Neither letters nor digits.
    Symbol,
    /// Digits without letters.
    Number,
    /// Lower-case letters only.
    Lower,
    /// A capital followed by lower-case letters, or a single capital.
    Initial,
    /// Capitals only, at least two.
    Upper,
    /// Capitals and lower-case letters in another order.
    Mixed,
    /// Lower-case letters and digits.
    LowerDigits,
    /// Capitals and digits.
    UpperDigits,
    /// Capitals, lower-case letters and digits.
    MixedDigits,
}

impl Caps {
    /// The number of classes.
    pub const COUNT: usize = 10;

    /// The class of a word.
    pub fn of(word: &str) -> Caps {
        let (mut upper, mut small, mut digits, mut first_upper) = (0usize, 0usize, false, false);
        for c in word.chars() {
            if c.is_numeric() {
                digits = true;
            } else if c.is_uppercase() {
                first_upper |= upper + small == 0;
                upper += 1;
            } else if c.is_alphabetic() {
                small += 1;
            }
        }
        match (upper, small, digits) {
            (0, 0, false) => Caps::Symbol,
            (0, 0, true) => Caps::Number,
            (0, _, false) => Caps::Lower,
            (0, _, true) => Caps::LowerDigits,
            (_, 0, true) => Caps::UpperDigits,
            (_, _, true) => Caps::MixedDigits,
            (1, _, _) if first_upper => Caps::Initial,
            (_, 0, _) => Caps::Upper,
            _ => Caps::Mixed,
        }
    }
}

/// Number of the suffix of a position before or after a sentence.
pub const PADDING: u32 = 0;
/// Number of the suffixes not in the table.
pub const RARE: u32 = 1;

/// Numbered suffixes: the last characters of words in lower case, with digits as `0`. A shorter word is its own suffix.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Saved", into = "Saved")]
pub struct Suffixes {
    length: usize,
    texts: Vec<String>,
    numbers: HashMap<String, u32>,
}

#[derive(Serialize, Deserialize)]
struct Saved {
    length: usize,
    suffixes: Vec<String>,
}

impl Suffixes {
    /// The table of the suffixes of `length` characters that occur at least `least` times in `words`, the most frequent first, and
    /// those of equal count in byte order.
    pub fn build<'a>(words: impl IntoIterator<Item = &'a str>, length: usize, least: u64) -> Suffixes {
        let mut counts: HashMap<String, u64> = HashMap::new();
        let mut buffer = String::new();
        for word in words {
            suffix(word, length, &mut buffer);
            *counts.entry_ref(buffer.as_str()).or_insert(0) += 1;
        }
        let mut sorted: Vec<(String, u64)> = counts.into_iter().filter(|(_, n)| *n >= least).collect();
        sorted.sort_unstable_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        Saved { length, suffixes: sorted.into_iter().map(|(text, _)| text).collect() }.into()
    }

    /// The number of a word's suffix; [`RARE`] if it is not in the table.
    pub fn find(&self, word: &str) -> u32 {
        let mut text = String::new();
        suffix(word, self.length, &mut text);
        self.numbers.get(&text).copied().unwrap_or(RARE)
    }

    /// The number of rows of an embedding of the suffixes, including [`PADDING`] and [`RARE`].
    pub fn count(&self) -> usize {
        self.texts.len() + 2
    }

    /// The suffixes in order; the first has the number 2.
    pub fn texts(&self) -> &[String] {
        &self.texts
    }
}

impl From<Saved> for Suffixes {
    fn from(Saved { length, suffixes: texts }: Saved) -> Self {
        let numbers = texts.iter().zip(RARE + 1..).map(|(text, number)| (text.clone(), number)).collect();
        Suffixes { length, texts, numbers }
    }
}

impl From<Suffixes> for Saved {
    fn from(suffixes: Suffixes) -> Self {
        Saved { length: suffixes.length, suffixes: suffixes.texts }
    }
}

/// Writes the suffix of `word` to `out`.
fn suffix(word: &str, length: usize, out: &mut String) {
    let lower = words::lowercase(word);
    let start = lower.char_indices().rev().take(length).last().map_or(lower.len(), |(i, _)| i);
    out.clear();
    out.extend(lower[start..].chars().map(|c| if c.is_ascii_digit() { '0' } else { c }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_of_capitals() {
        let cases = [
            ("", Caps::Symbol),
            ("...", Caps::Symbol),
            ("\u{200b}", Caps::Symbol),
            ("1,984", Caps::Number),
            ("the", Caps::Lower),
            ("über-", Caps::Lower),
            ("中国", Caps::Lower),
            ("The", Caps::Initial),
            ("#Élan", Caps::Initial),
            ("A", Caps::Initial),
            ("U.S.", Caps::Upper),
            ("DNA", Caps::Upper),
            ("mRNA", Caps::Mixed),
            ("McDonald", Caps::Mixed),
            ("iPhone", Caps::Mixed),
            ("p53", Caps::LowerDigits),
            ("IL-2", Caps::UpperDigits),
            ("I2", Caps::UpperDigits),
            ("Sp1", Caps::MixedDigits),
        ];
        for (word, caps) in cases {
            assert_eq!(Caps::of(word), caps, "{word}");
        }
        assert_eq!(Caps::COUNT, Caps::MixedDigits as usize + 1);
    }

    #[test]
    fn suffixes_are_numbered_by_count() {
        let words = ["Kinase", "phase", "base", "p53", "q21", "IL", "il", "x", "ÄÖÜ", "straßen", "äöü"];
        let table = Suffixes::build(words, 2, 2);
        assert_eq!(table.texts(), ["se", "00", "il", "öü"]);
        assert_eq!(table.count(), 6);
        assert_eq!(table.find("CASE"), 2);
        assert_eq!(table.find("1999"), 3);
        assert_eq!(table.find("öü"), 5);
        assert_eq!([table.find("x"), table.find(""), table.find("new")], [RARE; 3]);
        let text = serde_json::to_string(&table).unwrap();
        assert_eq!(serde_json::from_str::<Suffixes>(&text).unwrap(), table);
    }

    #[test]
    fn short_words_are_their_own_suffix() {
        let table = Suffixes::build(["a", "ba", "cba", "", "dcba"], 3, 1);
        assert_eq!(table.texts(), ["cba", "", "a", "ba"]);
    }
}
