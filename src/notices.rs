//! Warnings about irregularities in files or options that are accepted nonetheless, each in one line; `--strict` turns
//! those that an option controls into errors.

use crate::error::{Error, Result, shown};
use serde::Serialize;
use std::fmt;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// One warning. It reads `FILE:LINE: what was found; what was done; the option that decides it`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Notice {
    /// The file, if the warning is about one.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "as_text")]
    pub file: Option<PathBuf>,
    /// Line number from 1; 0 for the whole file.
    #[serde(skip_serializing_if = "is_zero")]
    pub line: usize,
    /// What was found.
    pub found: String,
    /// What was done about it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub done: String,
    /// The option that decides it, and how, such as `--word-column 2 reads the words from column 2`; empty if there is none.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub option: String,
}

/// Converts the path to text, since JSON is UTF-8 and a path need not be.
fn as_text<S: serde::Serializer>(file: &Option<PathBuf>, serializer: S) -> std::result::Result<S::Ok, S::Error> {
    serializer.collect_str(&shown(file.as_deref().unwrap_or(Path::new(""))))
}

fn is_zero(line: &usize) -> bool {
    *line == 0
}

impl Notice {
    /// Something found in the file at `path`, in `line` (from 1; 0: the whole file).
    pub fn of_file(path: impl AsRef<Path>, line: usize, found: impl Into<String>) -> Self {
        Notice { file: Some(path.as_ref().to_owned()), line, ..Notice::new(found) }
    }

    /// A warning not about a file.
    pub fn new(found: impl Into<String>) -> Self {
        Notice { file: None, line: 0, found: found.into(), done: String::new(), option: String::new() }
    }

    /// Sets what was done about it.
    pub fn done(self, done: impl Into<String>) -> Self {
        Notice { done: done.into(), ..self }
    }

    /// Sets the option that decides it; under `--strict` such a warning is an error.
    pub fn option(self, option: impl Into<String>) -> Self {
        Notice { option: option.into(), ..self }
    }
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        if let Some(file) = &self.file {
            write!(f, "{}:", shown(file))?;
            if self.line > 0 {
                write!(f, "{}:", self.line)?;
            }
            f.write_str(" ")?;
        }
        f.write_str(&self.found)?;
        [&self.done, &self.option]
            .into_iter()
            .filter(|part| !part.is_empty())
            .try_for_each(|part| write!(f, "; {part}"))
    }
}

/// An irregularity that is accepted, but reported to the user.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Oddity {
    /// Number of occurrences.
    pub count: usize,
    /// The first line, from 1; 0 if there is none.
    pub line: usize,
}

impl Oddity {
    /// Counts one more, in this line (from 1).
    pub fn add(&mut self, line: usize) {
        self.append(Oddity { count: 1, line });
    }

    /// Adds those of a later part of the file.
    pub fn append(&mut self, later: Oddity) {
        self.count += later.count;
        if self.line == 0 {
            self.line = later.line;
        }
    }

    /// A warning, if there are occurrences; `one` and `more` are the singular and plural of what was found.
    pub fn notice(self, path: &Path, one: &str, more: &str, done: &str) -> Option<Notice> {
        let found = match self.count {
            0 => return None,
            1 => format!("1 {one}"),
            count => format!("{count} {more}, the first one here"),
        };
        Some(Notice::of_file(path, self.line, found).done(done).option("--strict refuses them"))
    }
}

/// The destination of warnings, and all warnings so far.
pub struct Notices {
    strict: bool,
    say: Box<dyn Fn(&str) + Send + Sync>,
    all: Mutex<Vec<Notice>>,
}

impl Default for Notices {
    /// Collects warnings without printing them.
    fn default() -> Self {
        Notices::new(false, |_| {})
    }
}

impl Notices {
    /// Calls `say` with the text of every warning. If `strict`, those that an option controls become errors instead.
    pub fn new(strict: bool, say: impl Fn(&str) + Send + Sync + 'static) -> Self {
        Notices { strict, say: Box::new(say), all: Mutex::default() }
    }

    /// Issues a warning.
    ///
    /// # Errors
    /// Under `--strict`, if an option controls it.
    pub fn warn(&self, notice: Notice) -> Result<()> {
        if self.strict && !notice.option.is_empty() {
            let Notice { file, line, found, done, option } = notice;
            // If --strict itself decides, the remedy is to omit it.
            let way = if option.starts_with("--strict") { format!("without it: {done}") } else { option };
            return Err(match file {
                Some(file) => Error::input(file, line, found, format!("no irregularities under --strict; {way}")),
                None => Error::Usage(format!("{found}: rejected by --strict; {way}")),
            });
        }
        let mut all = self.lock();
        // When a stream is read in parts, each part may cause the same warning.
        if !all.contains(&notice) {
            (self.say)(&notice.to_string());
            all.push(notice);
        }
        Ok(())
    }

    /// All warnings so far.
    pub fn all(&self) -> Vec<Notice> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Notice>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Prints a line to standard error. If that fails, results and exit code are unaffected.
pub fn say(line: &str) {
    // In one write, so that it is not interleaved with lines of other processes.
    _ = io::stderr().write_all(format!("{line}\n").as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn one_line_each_and_kept() {
        let said = Arc::new(Mutex::new(Vec::new()));
        let notices = Notices::new(false, {
            let said = said.clone();
            move |text: &str| said.lock().unwrap().push(text.to_owned())
        });
        let odd = Notice::of_file("a.conll", 3, "2 empty words").done("kept").option("--strict refuses them");
        notices.warn(odd.clone()).unwrap();
        notices.warn(Notice::new("little memory")).unwrap();
        let lines = ["a.conll:3: 2 empty words; kept; --strict refuses them", "little memory"];
        assert_eq!(*said.lock().unwrap(), lines);
        assert_eq!(notices.all(), [odd, Notice::new("little memory")]);
    }

    #[test]
    fn strict_refuses_what_an_option_decides() {
        let notices = Notices::new(true, |_| {});
        notices.warn(Notice::of_file("a", 0, "x").done("y")).unwrap();
        let error = notices.warn(Notice::of_file("a", 2, "x").done("y").option("--z takes it")).unwrap_err();
        assert_eq!(error.to_string(), "a:2: found x, expected no irregularities under --strict; --z takes it");
        assert_eq!(error.exit_code(), 3);
        assert_eq!(notices.all().len(), 1);
    }
}
