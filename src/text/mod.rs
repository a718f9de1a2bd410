//! Text on its way to a model: words become ids ([`Vocabulary`]), files become streams of ids ([`Corpus`], [`Lines`]),
//! and streams become minibatches ([`Lanes`], [`Windows`]). Tagged text: [`conll`] files, [`tags`], their evaluation ([`spans`]),
//! and word [`vectors`].
//! Pairs of words ([`pairs`]) and how well distances rank them ([`ranking`]). Numbers with classes: [`table`], and [`blobs`] of them.

pub mod batches;
pub mod blobs;
pub mod conll;
pub mod corpus;
pub mod csv;
pub mod features;
pub mod grammar;
pub mod inputs;
pub mod labelled;
pub mod pairs;
pub mod ranking;
pub mod rows;
pub mod spans;
pub mod subset;
pub mod table;
pub mod tags;
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

/// A byte that ends a word: space, tab, line feed, form feed, carriage return. Other white space of Unicode (no-break
/// space, U+200B, U+2028, …) is part of words, as the tools that write token files mean it.
#[inline(always)]
pub(crate) fn is_space(byte: u8) -> bool {
    // Without branches, so that loops over bytes are vectorised.
    (byte == b' ') | ((byte.wrapping_sub(b'\t') < 5) & (byte != 0x0B))
}

/// The error for `found` at the byte `offset` of a file that holds `bytes`.
pub(crate) fn wrong_byte(path: &Path, bytes: &[u8], offset: usize, found: &str, expected: &str) -> Error {
    let line = 1 + bytes[..offset].iter().filter(|&&byte| byte == b'\n').count();
    Error::input(path, line, format!("{found} at byte offset {offset}"), expected)
}

/// The error for a byte at `offset` that is not UTF-8.
pub(crate) fn not_utf8(path: &Path, bytes: &[u8], offset: usize) -> Error {
    let found = format!("invalid UTF-8 (0x{:02X})", bytes[offset]);
    wrong_byte(path, bytes, offset, &found, "UTF-8 text")
}
