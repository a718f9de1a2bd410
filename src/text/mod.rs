//! From text to a model's input: words become ids ([`Vocabulary`]), files become streams of ids ([`Corpus`], [`Lines`]), and streams
//! become minibatches ([`Lanes`], [`Windows`]). Tagged text: [`conll`] files, [`tags`], their evaluation ([`spans`]), and word
//! [`vectors`]. Pairs of words ([`pairs`]) and how well distances rank them ([`ranking`]). Numbers with classes: [`table`], and
//! [`blobs`], which generates some.

pub mod batches;
pub mod blobs;
pub mod conll;
pub mod corpus;
mod csv;
pub mod features;
pub mod grammar;
pub mod inputs;
pub mod labelled;
pub mod lines;
pub mod marks;
pub mod packed;
pub mod pairs;
pub mod parts;
pub mod ranking;
pub mod rows;
pub mod signatures;
pub mod spans;
pub mod subset;
pub mod table;
pub mod tags;
pub mod unigrams;
pub mod vectors;
pub mod vocabulary;
pub mod words;

pub use batches::{Lanes, Window, Windows};
pub use corpus::{Corpus, Lines};
pub use inputs::Inputs;
pub use subset::Subset;
pub use vocabulary::Vocabulary;

use crate::Error;
use std::path::Path;

/// A byte that ends a word: space, tab, line feed, form feed, carriage return. Other Unicode white space (no-break space, U+200B,
/// U+2028, …) is part of words, as in the tools that write token files.
#[inline(always)]
pub(crate) fn is_space(byte: u8) -> bool {
    // Without branches, so that loops over bytes are vectorised.
    (byte == b' ') | ((byte.wrapping_sub(b'\t') < 5) & (byte != 0x0B))
}

/// The first `most` items of a list, and the number of the others: `a, b and 140 more`.
pub fn list<T: AsRef<str>>(items: &[T], most: usize) -> String {
    let shown = items.iter().take(most).map(AsRef::as_ref).collect::<Vec<_>>().join(", ");
    match items.len().saturating_sub(most) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// The most common of some numbers, such as the columns of rows; the first if several are equally common, 0 if there are none.
pub(crate) fn commonest(numbers: impl Iterator<Item = usize>) -> usize {
    let mut counts: Vec<(usize, usize)> = Vec::new();
    for number in numbers {
        match counts.iter_mut().find(|(other, _)| *other == number) {
            Some((_, count)) => *count += 1,
            None => counts.push((number, 1)),
        }
    }
    counts.iter().rev().max_by_key(|(_, count)| *count).map_or(0, |(number, _)| *number)
}

/// Whether a character is white space or a zero-width mark, which a reader of a message would not see.
pub(crate) fn is_invisible(c: char) -> bool {
    c.is_whitespace()
        || c.is_control()
        || matches!(c, '\u{ad}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2064}' | '\u{feff}')
}

/// A piece of a file for a message: in backquotes, shortened if necessary, with invisible characters written as `\u{a0}`.
pub fn shown(text: &str) -> String {
    const MOST: usize = 60;
    let mut out = String::from("`");
    for c in text.chars().take(MOST) {
        if c != ' ' && is_invisible(c) { out.extend(c.escape_default()) } else { out.push(c) }
    }
    if text.chars().nth(MOST).is_some() {
        out.push('…');
    }
    out.push('`');
    out
}

/// The error for `found` at byte `offset` of a file with the content `bytes`.
pub(crate) fn wrong_byte(path: &Path, bytes: &[u8], offset: usize, found: &str, expected: &str) -> Error {
    let line = 1 + bytes[..offset].iter().filter(|&&byte| byte == b'\n').count();
    Error::input(path, line, format!("{found} at byte offset {offset}"), expected)
}

/// The error for a byte at `offset` that is not UTF-8.
pub(crate) fn not_utf8(path: &Path, bytes: &[u8], offset: usize) -> Error {
    let found = format!("invalid UTF-8 (0x{:02X})", bytes[offset]);
    let expected = format!("UTF-8 text; {}", encodings(&bytes[offset..]));
    wrong_byte(path, bytes, offset, &found, &expected)
}

/// The options that may read a text that is not UTF-8 from the beginning of `bytes` on.
pub(crate) fn encodings(bytes: &[u8]) -> String {
    let bytes = &bytes[..bytes.len().min(1 << 16)];
    let (mut bad, mut good) = (0, 0);
    for chunk in bytes.utf8_chunks() {
        good += chunk.valid().chars().filter(|c| !c.is_ascii()).count();
        bad += usize::from(!chunk.invalid().is_empty());
    }
    let pass = "--bad-utf8 skip or replace drops or replaces such bytes";
    // Few invalid places among many valid ones are damage, not another encoding.
    if good > 4 * bad {
        return pass.into();
    }
    // Languages in Latin script have a few letters beyond ASCII, in others most letters are.
    let high = bytes.iter().filter(|&&byte| byte >= 0x80).count();
    let latin = bytes.iter().filter(|byte| byte.is_ascii_alphabetic()).count() >= high;
    let label = if latin { "latin1" } else { "LABEL (windows-1251, gb18030, shift_jis, …)" };
    format!("--encoding {label} reads another encoding; {pass}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_and_pieces_in_messages() {
        assert_eq!(list::<&str>(&[], 2), "");
        assert_eq!(list(&["a", "b"], 2), "a, b");
        assert_eq!(list(&["a", "b", "c", "d"], 2), "a, b and 2 more");
        assert_eq!(shown("a b\tc\u{a0}\u{200b}é"), "`a b\\tc\\u{a0}\\u{200b}é`");
        assert_eq!(shown(&"x".repeat(61)), format!("`{}…`", "x".repeat(60)));
    }
}
