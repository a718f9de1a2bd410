//! Model directories, safe against crashes, full disks and concurrent processes.
//!
//! A model directory contains `step-000000001234/` for each checkpoint kept (the newest, the one before it and the best),
//! `metrics.jsonl`, `curves.svg` and `lock`. A checkpoint holds small files such as `config.json` and `vocab.txt`,
//! tensors (`model.safetensors` and, to resume training, `optimizer.safetensors` and `state.json`) and
//! `manifest.sha256`, which `sha256sum -c` checks.
//!
//! A checkpoint is written as `.partial-step-…`, each file flushed to the disk, the manifest last, and then renamed: whatever is called
//! `step-…` was complete. `.partial-…` directories are left behind by killed runs, and removed by the next run. Readers use only files
//! that match the manifest. Writing is implemented in [`super::writer`].

use super::tensor_file::{Header, TensorMut};
use crate::error::{Error, Result};
use crate::pool;
use crate::sys::disk::is_litter;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// The weights; every checkpoint has it.
pub const MODEL: &str = "model.safetensors";
/// The optimizer states, needed only to resume training.
pub const OPTIMIZER: &str = "optimizer.safetensors";
/// Everything else that is needed only to resume training.
pub const STATE: &str = "state.json";
/// The reports of a run, next to its checkpoints.
pub const METRICS: &str = "metrics.jsonl";
/// The drawing of the reports, next to the checkpoints.
pub const CURVES: &str = "curves.svg";
pub(super) const MANIFEST: &str = "manifest.sha256";
/// Begins the name of what is being written or removed, including `metrics.jsonl` while it is rewritten.
pub(super) const PARTIAL: &str = ".partial-";
/// The version of the layout, recorded in [`MODEL`].
pub(super) const VERSION: &str = "1";
/// Limit on the manifest's length in bytes.
const MAX_MANIFEST: u64 = 1 << 20;
/// How often a reader retries if the checkpoint it was about to open has been removed.
const TRIES: u32 = 100;

pub(super) fn step_name(step: u64) -> String {
    format!("step-{step:012}")
}

/// The step in the name of a checkpoint, `None` for all other names.
pub(super) fn step_of(name: &str) -> Option<u64> {
    let step = name.strip_prefix("step-")?.parse().ok()?;
    (step_name(step) == name).then_some(step)
}

/// The purpose of opening a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To use the model: [`OPTIMIZER`] and [`STATE`] may be absent, and their contents are not checked.
    Use,
    /// To resume training: everything is checked.
    Resume,
}

/// A model directory, or the directory of a single checkpoint, for reading.
#[derive(Clone, Debug)]
pub struct ModelDir {
    pub(super) path: PathBuf,
}

impl ModelDir {
    /// Opens the model directory at `path`; the directory of a checkpoint is accepted, too.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let dir = ModelDir { path: path.as_ref().to_owned() };
        match fs::metadata(&dir.path) {
            Ok(found) if found.is_dir() => {}
            Ok(_) => {
                return Err(Error::model(dir.path, "found a file, expected a model directory"));
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                return Err(Error::model(dir.path, "no such model directory"));
            }
            Err(e) => return Err(Error::io(dir.path, "opening the model directory", e)),
        }
        if !dir.is_checkpoint() && dir.steps()?.is_empty() {
            return Err(Error::model(dir.path, "is not a model directory: there is no checkpoint step-… in it"));
        }
        Ok(dir)
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The steps of the checkpoints in it, ascending.
    pub fn steps(&self) -> Result<Vec<u64>> {
        let mut steps: Vec<u64> = names(&self.path)?.iter().filter_map(|name| step_of(name)).collect();
        steps.sort_unstable();
        Ok(steps)
    }

    /// The newest intact checkpoint. Damaged ones are skipped, with a warning that names the damage.
    pub fn load_newest(&self, purpose: Purpose) -> Result<Checkpoint> {
        if self.is_checkpoint() {
            return Checkpoint::open(&self.path, purpose);
        }
        // During a run, the checkpoint just listed may be removed; there is a newer one then.
        let mut tries = 0;
        'again: loop {
            let mut failed = Vec::new();
            for step in self.steps()?.into_iter().rev() {
                let path = self.path.join(step_name(step));
                match Checkpoint::open(&path, purpose) {
                    Ok(mut checkpoint) => {
                        let warning = |e: Error| format!("{e}; the checkpoint of step {step} is used instead");
                        checkpoint.warnings = failed.into_iter().map(warning).collect();
                        return Ok(checkpoint);
                    }
                    Err(_) if tries < TRIES && !path.exists() => {
                        tries += 1;
                        continue 'again;
                    }
                    Err(e) => failed.push(e),
                }
            }
            let none = || Error::model(&self.path, "there is no checkpoint step-… in it");
            return Err(failed.into_iter().next().unwrap_or_else(none));
        }
    }

    /// The checkpoint that the newest intact one names as the best; if it is damaged or none is named, the newest.
    pub fn load_best(&self, purpose: Purpose) -> Result<Checkpoint> {
        let mut tries = 0;
        loop {
            let mut newest = self.load_newest(purpose)?;
            let Some(best) = newest.best.filter(|&best| best != newest.step && !self.is_checkpoint()) else {
                return Ok(newest);
            };
            let path = self.path.join(step_name(best));
            match Checkpoint::open(&path, purpose) {
                Ok(mut checkpoint) => {
                    checkpoint.warnings = newest.warnings;
                    return Ok(checkpoint);
                }
                // A concurrent run has found a better one: the newest checkpoint names it.
                Err(_) if tries < TRIES && !path.exists() && self.steps()?.last() != Some(&newest.step) => tries += 1,
                Err(e) => {
                    let step = newest.step;
                    newest
                        .warnings
                        .push(format!("{e}; the newest checkpoint, of step {step}, is used instead of the best"));
                    return Ok(newest);
                }
            }
        }
    }

    pub(super) fn is_checkpoint(&self) -> bool {
        self.path.join(MANIFEST).is_file()
    }
}

/// The entries of a directory, sorted; names that are not UTF-8 have replacement characters (none of ours has).
pub(super) fn names(path: &Path) -> Result<Vec<String>> {
    let list = || -> io::Result<Vec<String>> {
        fs::read_dir(path)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
    };
    let mut names = list().map_err(|e| Error::io(path, "listing the directory", e))?;
    names.sort_unstable();
    Ok(names)
}

/// A checkpoint whose files match its manifest. They are kept open, so that it stays readable while a training run removes it.
#[derive(Debug)]
pub struct Checkpoint {
    path: PathBuf,
    step: u64,
    best: Option<u64>,
    files: BTreeMap<String, File>,
    /// What was wrong with the checkpoints tried before this one.
    pub warnings: Vec<String>,
}

impl Checkpoint {
    /// Opens the checkpoint in the directory `path`.
    pub fn open(path: &Path, purpose: Purpose) -> Result<Self> {
        let manifest = read_manifest(&path.join(MANIFEST))?;
        let found = names(path)?;
        if let Some(missing) = manifest.keys().find(|name| found.binary_search(name).is_err())
            && (purpose == Purpose::Resume || !for_training(missing))
        {
            return Err(Error::model(path.join(missing), "is missing: its checkpoint's manifest lists it"));
        }
        if let Some(surplus) =
            found.iter().find(|name| *name != MANIFEST && !manifest.contains_key(*name) && !is_litter(name))
        {
            return Err(Error::model(path.join(surplus), "is unexpected: its checkpoint's manifest does not list it"));
        }
        let needed = |name: &str| purpose == Purpose::Resume || !for_training(name);
        let needed: Vec<(&String, &String)> = manifest.iter().filter(|(name, _)| needed(name)).collect();
        let files = pool::map(needed, |(name, hash)| Ok((name.clone(), verified(&path.join(name), hash)?)));
        let mut files: BTreeMap<String, File> = files.into_iter().collect::<Result<_>>()?;
        let model = path.join(MODEL);
        let file = files.get_mut(MODEL).ok_or_else(|| Error::model(&model, "is missing"))?;
        let header = Header::read(file, &model)?;
        if header.note("wordmill") != Some(VERSION) {
            let version = header.note("wordmill").unwrap_or("none");
            return Err(Error::model(model, format!("found layout version {version}, expected {VERSION}")));
        }
        let note = |key: &str| header.note(key).and_then(|text| text.parse::<u64>().ok());
        let step = note("step").ok_or_else(|| Error::model(&model, "does not contain its step"))?;
        if let Some(named) = path.file_name().and_then(|name| step_of(&name.to_string_lossy()))
            && named != step
        {
            return Err(Error::model(path, format!("found the checkpoint of step {step}, expected step {named}")));
        }
        let best = note("best");
        Ok(Checkpoint { path: path.to_owned(), step, best, files, warnings: Vec::new() })
    }

    /// Its directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Number of optimizer steps made when it was saved.
    pub fn step(&self) -> u64 {
        self.step
    }

    /// The step of the best checkpoint when this one was saved.
    pub fn best(&self) -> Option<u64> {
        self.best
    }

    /// Whether it contains the file `name`, checked when it was opened.
    pub fn has(&self, name: &str) -> bool {
        self.files.contains_key(name)
    }

    /// The contents of the small file `name`.
    pub fn read(&mut self, name: &str) -> Result<Vec<u8>> {
        let (file, path) = self.file(name)?;
        let mut bytes = Vec::new();
        file.seek(SeekFrom::Start(0))
            .and_then(|_| file.read_to_end(&mut bytes))
            .map_err(|e| Error::io(path, "reading", e))?;
        Ok(bytes)
    }

    /// Names and shapes of the tensors in the file `name`.
    pub fn shapes(&mut self, name: &str) -> Result<Vec<(String, Vec<usize>)>> {
        let (file, path) = self.file(name)?;
        Ok(Header::read(file, &path)?.shapes())
    }

    /// Fills `targets` from the tensor file `name`, which must contain exactly these; see [`Header::read_tensors`].
    pub fn read_tensors(&mut self, name: &str, targets: &mut [TensorMut<'_>]) -> Result<()> {
        let (file, path) = self.file(name)?;
        Header::read(file, &path)?.read_tensors(file, &path, targets)
    }

    fn file(&mut self, name: &str) -> Result<(&mut File, PathBuf)> {
        let path = self.path.join(name);
        match self.files.get_mut(name) {
            Some(file) => Ok((file, path)),
            None => Err(Error::model(path, "is missing: this checkpoint does not have it")),
        }
    }
}

fn for_training(name: &str) -> bool {
    name == OPTIMIZER || name == STATE
}

/// Whether a manifest may list `name`: a plain file name, without anything that `sha256sum` would escape.
pub(super) fn is_plain(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    name.bytes().all(plain) && !name.is_empty() && !name.starts_with('.') && name != MANIFEST
}

pub(super) fn hex(hash: &[u8]) -> String {
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Reads a manifest: name → SHA-256 in lower-case hexadecimal, 64 digits.
pub(super) fn read_manifest(path: &Path) -> Result<BTreeMap<String, String>> {
    let mut bytes = Vec::new();
    match File::open(path).and_then(|file| file.take(MAX_MANIFEST + 1).read_to_end(&mut bytes)) {
        Ok(_) => {}
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            return Err(Error::model(path, "is missing"));
        }
        Err(e) => return Err(Error::io(path, "reading", e)),
    }
    let wrong = |line: usize| Error::model(path, format!("is damaged or truncated at line {line}"));
    if bytes.len() as u64 > MAX_MANIFEST {
        return Err(Error::model(path, format!("is damaged: it is longer than {MAX_MANIFEST} bytes")));
    }
    let text = String::from_utf8(bytes).map_err(|_| Error::model(path, "is damaged: it is not UTF-8"))?;
    let mut files = BTreeMap::new();
    for (number, line) in (1..).zip(text.split_inclusive('\n')) {
        let entry = line.strip_suffix('\n').and_then(|line| line.split_once("  "));
        let (hash, name) = entry.ok_or_else(|| wrong(number))?;
        let is_hash = hash.len() == 64 && hash.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if !is_hash || !is_plain(name) || files.insert(name.to_owned(), hash.to_owned()).is_some() {
            return Err(wrong(number));
        }
    }
    if files.is_empty() {
        return Err(Error::model(path, "is empty"));
    }
    Ok(files)
}

/// The SHA-256 of the contents of a file.
pub fn sha256(file: &mut File, path: &Path) -> Result<String> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 18];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(hex(&hasher.finalize())),
            Ok(n) => hasher.update(&buffer[..n]),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(Error::io(path, "reading", e)),
        }
    }
}

/// Opens the file at `path` and checks that its SHA-256 is `hash`.
fn verified(path: &Path, hash: &str) -> Result<File> {
    let io_error = |e| Error::io(path, "reading", e);
    // Before opening: a named pipe would wait for a writer.
    if !fs::metadata(path).map_err(io_error)?.is_file() {
        return Err(Error::model(path, "is not a file"));
    }
    let mut file = File::open(path).map_err(io_error)?;
    if sha256(&mut file, path)? == hash {
        return Ok(file);
    }
    // A header that contradicts the file's length is the better explanation.
    if path.extension().is_some_and(|e| e == "safetensors") {
        Header::read(&mut file, path)?;
    }
    Err(Error::model(path, "is damaged or truncated: its SHA-256 is not that of its checkpoint's manifest"))
}
