//! The front through which all input files come.

use super::conll::is_markup;
use crate::kernels::files::{FileBytes, map_file};
use crate::notices::{Notice, Notices};
use crate::{Error, Result};
use std::io::Read;
use std::path::Path;

/// How input files are read, and where what is odd about them is reported.
#[derive(Default)]
pub struct Inputs {
    notices: Notices,
}

impl Inputs {
    /// Warnings go to `notices`.
    pub fn new(notices: Notices) -> Self {
        Inputs { notices }
    }

    /// Warns of something odd that is accepted.
    ///
    /// # Errors
    /// Under `--strict`, if an option decides it.
    pub fn warn(&self, notice: Notice) -> Result<()> {
        self.notices.warn(notice)
    }

    /// Where warnings go.
    pub fn notices(&self) -> &Notices {
        &self.notices
    }

    /// The bytes of a file. They are UTF-8 without a byte order mark unless the reader finds otherwise.
    ///
    /// # Errors
    /// The file cannot be read, or is a directory.
    pub fn open(&self, path: &Path) -> Result<FileBytes> {
        map_file(path)
    }

    /// A file to be read from its beginning to its end, for those too large to be held.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub fn stream(&self, path: &Path) -> Result<impl Read + use<>> {
        std::fs::File::open(path).map_err(|e| Error::io(path, "reading", e))
    }

    /// The text of a file, without a byte order mark.
    ///
    /// # Errors
    /// The file cannot be read or is not UTF-8 (line, byte); it is a page of HTML or XML, and not what is `expected`.
    pub fn text(&self, path: &Path, expected: &str) -> Result<String> {
        let text = self.open(path)?.read(|bytes| {
            let bytes = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(bytes);
            super::conll::utf8(path, bytes.to_vec())
        })?;
        if is_markup(text.as_bytes()) {
            return Err(Error::input(path, 0, "a page of HTML or XML", expected));
        }
        Ok(text)
    }
}
