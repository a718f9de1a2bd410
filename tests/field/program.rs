//! The program on small files of its own.

#![allow(dead_code, reason = "each kind of test uses its part of what is shared")]

use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use tempfile::TempDir;

/// A directory of files, in which the program is run.
pub struct Desk {
    dir: TempDir,
}

/// How a run ended.
pub struct Run {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Desk {
    pub fn new() -> Self {
        Desk { dir: tempfile::tempdir().unwrap() }
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Writes a file and gives its path.
    pub fn file(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    }

    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path().join(name)).unwrap()
    }

    /// The program in this directory, with nothing on its standard input.
    pub fn command<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_wordmill"));
        command.args(args).current_dir(self.path()).stdin(Stdio::null());
        command
    }

    /// Runs `wordmill` with the words of `line`, which are separated by spaces.
    pub fn run(&self, line: &str) -> Run {
        Run::of(self.command(line.split_whitespace()).output().unwrap())
    }

    /// The same with `input` on its standard input.
    pub fn feed(&self, line: &str, input: impl AsRef<[u8]>) -> Run {
        let mut command = self.command(line.split_whitespace());
        let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = piped.spawn().unwrap();
        let (mut stdin, input) = (child.stdin.take().unwrap(), input.as_ref().to_vec());
        // It may end before it has read everything.
        let writer = std::thread::spawn(move || _ = stdin.write_all(&input));
        let output = child.wait_with_output().unwrap();
        writer.join().unwrap();
        Run::of(output)
    }
}

impl Run {
    pub fn of(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("output is UTF-8");
        let (out, err) = (text(output.stdout), text(output.stderr));
        assert!(!err.contains("panicked") && !err.contains("RUST_BACKTRACE"), "{err}");
        let code = output.status.code().unwrap_or_else(|| panic!("ended by {}: {err}", output.status));
        Run { code, out, err }
    }

    /// Expects success.
    #[track_caller]
    pub fn works(self) -> Self {
        assert_eq!(self.code, 0, "{}", self.err);
        self
    }

    /// Expects exactly one warning that holds all of `parts`.
    #[track_caller]
    pub fn warns(self, parts: &[&str]) -> Self {
        let holds = |line: &&str| line.starts_with("warning: ") && parts.iter().all(|part| line.contains(part));
        assert_eq!(self.err.lines().filter(holds).count(), 1, "no such warning: {parts:?}\n{}", self.err);
        self
    }

    /// Expects no warning.
    #[track_caller]
    pub fn warns_of_nothing(self) -> Self {
        assert!(!self.err.lines().any(|line| line.starts_with("warning: ")), "{}", self.err);
        self
    }

    /// Expects this exit code, and one line at the end of standard error that holds all of `parts`.
    #[track_caller]
    pub fn refuses(self, code: i32, parts: &[&str]) -> Self {
        assert_eq!(self.code, code, "{}", self.err);
        let told: Vec<&str> = self.err.lines().filter(|line| line.starts_with("wordmill: ")).collect();
        assert_eq!(told.len(), 1, "{}", self.err);
        assert_eq!(self.err.lines().last(), Some(told[0]), "the error is not the last line: {}", self.err);
        assert!(parts.iter().all(|part| told[0].contains(part)), "{:?} lacks one of {parts:?}", told[0]);
        self
    }

    /// Its standard output as JSON.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {}", self.out))
    }
}

/// One sentence per line, over and over: enough to train on for a step or two.
pub fn text(lines: usize) -> String {
    (0..lines).map(|i| format!("the cat number {} sat on a mat\n", i % 7)).collect()
}

/// Options of a small language model that takes one step.
pub const SMALL_LM: &str = "--embed 4 --hidden 5 --batch 2 --tau 3 --epochs 1 --max-steps 2 --threads 1";
/// Options of a small tagger.
pub const SMALL_NER: &str = "--embed 4 --hidden 5 --epochs 1 --threads 1";
