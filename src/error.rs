//! The one error type. Every message says what was found, where, and what was expected.

use std::path::{Path, PathBuf};

/// An error that is reported to the user in one line.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Reading or writing failed; `action` is the operation, such as "reading" or "saving the checkpoint".
    #[error("{}: {action} failed: {source}", shown(path))]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// The operation.
        action: &'static str,
        /// The error of the system.
        source: std::io::Error,
    },
    /// A file given by the user does not have the expected content.
    #[error("{}{}: found {found}, expected {expected}", shown(path), place(*line))]
    Input {
        /// The file.
        path: PathBuf,
        /// Line number from 1; 0 for the whole file.
        line: usize,
        /// What was found.
        found: String,
        /// What was expected.
        expected: String,
    },
    /// An option or configuration key cannot be used with this value.
    #[error("{0}")]
    Usage(String),
    /// A model directory cannot be used: missing, truncated, changed, or of another kind.
    #[error("{}: {what}", path.display())]
    Model {
        /// The file within the model directory, or the directory.
        path: PathBuf,
        /// What is wrong with it, and what to do.
        what: String,
    },
    /// A loss, gradient or weight became NaN or infinite; nothing was updated with it.
    #[error(
        "step {step}: {tensor} is not finite ({value}); training stopped, \
         checkpoints saved before are kept; a lower --lr may help"
    )]
    NotFinite {
        /// The first tensor that is not finite, or "loss".
        tensor: String,
        /// The optimizer step, from 1.
        step: u64,
        /// The value found.
        value: f64,
    },
    /// Training has diverged by the end of the run; the model is not saved.
    #[error(
        "step {step}: training has diverged: after the last step {found}; the model is not saved, \
         checkpoints saved before are kept; a lower --lr may help"
    )]
    Diverged {
        /// The optimizer step, from 1.
        step: u64,
        /// The evidence.
        found: String,
    },
    /// A signal requested the run to end; a checkpoint has been saved.
    #[error("stopped by {}; continue with: {resume}", signal_name(*signal))]
    Interrupted {
        /// Its number, such as 15 (SIGTERM).
        signal: i32,
        /// The command that continues.
        resume: String,
    },
}

/// The result of everything that can fail because of the user's input.
pub type Result<T> = std::result::Result<T, Error>;

/// The name of a signal that ends runs.
pub fn signal_name(signal: i32) -> &'static str {
    match signal {
        libc::SIGINT => "Ctrl-C",
        libc::SIGTERM => "SIGTERM",
        libc::SIGHUP => "SIGHUP",
        libc::SIGXCPU => "SIGXCPU",
        _ => "a signal",
    }
}

/// A path as shown in messages: `-` is standard input.
pub fn shown(path: &Path) -> impl std::fmt::Display {
    if path.as_os_str() == "-" { Path::new("standard input").display() } else { path.display() }
}

/// A path quoted for the shell.
pub fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+,:=@%".contains(c) || !c.is_ascii();
    if text.chars().all(plain) && !text.is_empty() { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

/// A count with its noun, such as `1 line` or `2 lines`; `one` is the singular.
pub fn counted(count: impl std::fmt::Display, one: &str) -> String {
    let count = count.to_string();
    match one.strip_suffix('y') {
        _ if count == "1" => format!("1 {one}"),
        Some(stem) => format!("{count} {stem}ies"),
        None => format!("{count} {one}s"),
    }
}

fn place(line: usize) -> String {
    if line == 0 { String::new() } else { format!(":{line}") }
}

/// The first of the `mistakes` that is made is an error in the use of options.
pub fn reject(mistakes: &[(bool, &str)]) -> Result<()> {
    match mistakes.iter().find(|(made, _)| *made) {
        Some((_, what)) => Err(Error::Usage((*what).into())),
        None => Ok(()),
    }
}

/// The name of standard output in errors.
pub const STANDARD_OUTPUT: &str = "standard output";

impl Error {
    /// A system error on `path` while `action` ("reading", "writing", …).
    pub fn io(path: impl AsRef<Path>, action: &'static str, source: std::io::Error) -> Self {
        Error::Io { path: path.as_ref().to_owned(), action, source }
    }

    /// A failed write to standard output.
    pub fn output(source: std::io::Error) -> Self {
        Error::io(STANDARD_OUTPUT, "writing", source)
    }

    /// Wrong content of `path` at `line` (from 1; 0: the whole file).
    pub fn input(path: impl AsRef<Path>, line: usize, found: impl Into<String>, expected: impl Into<String>) -> Self {
        Error::Input { path: path.as_ref().to_owned(), line, found: found.into(), expected: expected.into() }
    }

    /// A model directory that cannot be used.
    pub fn model(path: impl AsRef<Path>, what: impl Into<String>) -> Self {
        Error::Model { path: path.as_ref().to_owned(), what: what.into() }
    }

    /// The exit code of the program: 2 usage, 3 input, 4 model directory, 5 not finite or diverged, 6 system, 128 + signal.
    pub fn exit_code(&self) -> u8 {
        match self {
            Error::Usage(_) => 2,
            Error::Input { .. } => 3,
            Error::Model { .. } => 4,
            Error::NotFinite { .. } | Error::Diverged { .. } => 5,
            Error::Io { .. } => 6,
            Error::Interrupted { signal, .. } => 128 + *signal as u8,
        }
    }
}
