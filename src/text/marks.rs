//! Markers that other tools write around the lines of a text and in place of unknown words.

use super::vocabulary::{EOS, UNK, Vocabulary};
use super::{Inputs, is_space};
use crate::Result;
use crate::notices::Notice;
use std::path::Path;

/// How markers of other tools are read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    /// Whether markers around lines, such as `<s>` and `</s>`, are dropped.
    pub strip: bool,
    /// The word that stands for unknown words, besides [`UNK`].
    pub unk_token: Option<String>,
}

/// Markers at the beginning of a line.
const STARTS: [&str; 12] = [
    "<s>",
    "<S>",
    "<bos>",
    "<BOS>",
    "[BOS]",
    "<sos>",
    "<SOS>",
    "[SOS]",
    "[CLS]",
    "<start>",
    "<|startoftext|>",
    "<|begin_of_text|>",
];

/// Markers at the end of a line.
const ENDS: [&str; 11] = [
    "</s>",
    "</S>",
    EOS,
    "<EOS>",
    "[EOS]",
    "[SEP]",
    "<end>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<|im_end|>",
    "<eol>",
];

/// Words that stand for unknown words.
const UNKNOWN: [&str; 9] = ["<UNK>", "[UNK]", "<unknown>", "<UNKNOWN>", "UNK", "<Unk>", "_UNK_", "_UNK", "@UNK@"];

const KNOWN: usize = STARTS.len() + ENDS.len() + UNKNOWN.len();

fn all() -> impl Iterator<Item = &'static str> {
    STARTS.into_iter().chain(ENDS).chain(UNKNOWN)
}

impl Marks {
    /// The words of a line without the markers around them.
    pub fn stripped<W: AsRef<[u8]>>(words: &[W]) -> &[W] {
        let is = |marks: &[&str], word: &W| marks.iter().any(|mark| mark.as_bytes() == word.as_ref());
        let from = words.iter().take_while(|word| is(&STARTS, word)).count();
        let words = &words[from..];
        &words[..words.len() - words.iter().rev().take_while(|word| is(&ENDS, word)).count()]
    }

    /// The text with these rules applied; none if it does not change.
    pub(super) fn apply(&self, file: &[u8]) -> Option<Vec<u8>> {
        if *self == Marks::default() {
            return None;
        }
        let mut text = Vec::with_capacity(file.len());
        let mut words: Vec<&[u8]> = Vec::new();
        for line in file.split_inclusive(|&byte| byte == b'\n') {
            words.clear();
            words.extend(line.split(|&byte| is_space(byte)).filter(|word| !word.is_empty()));
            let kept = if self.strip { Marks::stripped(&words) } else { &words };
            for word in kept {
                let unknown = self.unk_token.as_ref().is_some_and(|token| token.as_bytes() == *word);
                text.extend(if unknown { UNK.as_bytes() } else { word });
                text.push(b' ');
            }
            if line.ends_with(b"\n") {
                text.push(b'\n');
            }
        }
        Some(text)
    }
}

/// The number of occurrences of each marker in a text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts([u64; KNOWN]);

impl Counts {
    /// Counts a word that occurs `count` times.
    pub(super) fn add(&mut self, word: &str, count: u64) {
        if word.starts_with(['<', '[', 'U', '_', '@'])
            && word.len() < 20
            && let Some(number) = all().position(|mark| mark == word)
        {
            self.0[number] += count;
        }
    }

    /// The sum of both.
    pub(super) fn and(mut self, other: Counts) -> Counts {
        self.0.iter_mut().zip(other.0).for_each(|(sum, count)| *sum += count);
        self
    }

    /// The markers in nearly all of `lines` lines. Line ends themselves have been counted as [`EOS`].
    fn everywhere(&self, lines: u64) -> impl Iterator<Item = &'static str> {
        let counts = *self;
        let count = move |number: usize, mark: &str| counts.0[number] - if mark == EOS { lines } else { 0 };
        all().enumerate().take(STARTS.len() + ENDS.len()).filter_map(move |(number, mark)| {
            let often = count(number, mark);
            (often > 0 && often * 10 >= lines * 8).then_some(mark)
        })
    }

    /// Warns about markers in a training text.
    ///
    /// # Errors
    /// Under `--strict`.
    pub(super) fn warn_training(&self, path: &Path, tokens: u64, lines: u64, inputs: &Inputs) -> Result<()> {
        let around: Vec<String> = self.everywhere(lines).map(|mark| format!("`{mark}`")).collect();
        if !around.is_empty() {
            let notice = Notice::of_file(path, 1, format!("nearly every line has {}", around.join(" and ")));
            inputs.warn(notice.done("learned as words").option("--strip-marks removes such marks"))?;
        }
        for (number, mark) in all().enumerate().skip(STARTS.len() + ENDS.len()) {
            let count = self.0[number];
            if count >= 2 && count * 2000 >= tokens {
                let notice = Notice::of_file(path, 0, format!("the word `{mark}` occurs {count} times"));
                let option = format!("--unk-token '{mark}' reads it as the unknown word");
                inputs.warn(notice.done(format!("learned as a word other than {UNK}")).option(option))?;
            }
        }
        Ok(())
    }

    /// Warns about markers in a text read with the words of `vocabulary`, if its training text did not have them.
    ///
    /// # Errors
    /// Under `--strict`.
    pub(super) fn warn_reading(&self, path: &Path, lines: u64, vocabulary: &Vocabulary, inputs: &Inputs) -> Result<()> {
        let learned = |mark: &str| vocabulary.id(mark).filter(|&id| id != vocabulary.eos());
        let quoted = |mark: &str| format!("`{mark}`");
        let strange: Vec<String> = self.everywhere(lines).filter(|mark| learned(mark).is_none()).map(quoted).collect();
        if !strange.is_empty() {
            let found = format!("nearly every line has {}", strange.join(" and "));
            let notice = Notice::of_file(path, 1, found).done("read as words");
            inputs.warn(notice.option("--strip-marks removes such marks"))?;
        }
        let trained = vocabulary.count(vocabulary.eos());
        let missing: Vec<String> = (all().enumerate().take(STARTS.len() + ENDS.len()))
            .filter(|&(number, mark)| {
                let often = learned(mark).is_some_and(|id| vocabulary.count(id) * 10 >= trained * 8);
                often && self.0[number] * 10 < lines
            })
            .map(|(_, mark)| quoted(mark))
            .collect();
        if !missing.is_empty() && !vocabulary.strips_marks() {
            let found =
                format!("lines without {}, which nearly every line of the training text had", missing.join(" and "));
            inputs
                .warn(Notice::of_file(path, 1, found).done("read unchanged: the model will consider them unlikely"))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_left_out_around_lines_only() {
        let marks = Marks { strip: true, unk_token: Some("UNK".into()) };
        let text = "<s> a UNK <s> b </s>\n\n[CLS] c\t[SEP]\r\n</s> d\n <s> <s> </s> \n</s>e UNKs <eos>";
        let read = "a <unk> <s> b \n\nc \n</s> d \n\n</s>e UNKs ";
        assert_eq!(String::from_utf8(marks.apply(text.as_bytes()).unwrap()).unwrap(), read);
        assert_eq!(Marks::default().apply(text.as_bytes()), None);
        let only = Marks { strip: false, unk_token: Some("b".into()) };
        assert_eq!(only.apply(b"<s> b bb\n").unwrap(), b"<s> <unk> bb \n");
    }
}
