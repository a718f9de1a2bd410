//! Model directories, which no crash, full disk or second process can spoil.
//!
//! A model directory holds `step-000000001234/` for each checkpoint kept (the newest, the one before it and the best),
//! `metrics.jsonl`, `curves.svg` and `lock`. A checkpoint holds small files such as `config.json` and `vocab.txt`,
//! tensors (`model.safetensors` and, to go on training, `optimizer.safetensors` and `state.json`) and
//! `manifest.sha256`, which `sha256sum -c` checks.
//!
//! A checkpoint is written as `.partial-step-…`, each file brought to the disk, the manifest last, and then renamed:
//! whatever is called `step-…` was complete. What is called `.partial-…` is rubbish of a run that was killed, and
//! the next run sweeps it away. Readers believe nothing that the manifest does not vouch for.

use super::disk::Disk;
use super::tensor_file::{self, Header, Tensor, TensorMut};
use crate::error::{Error, Result};
use rayon::prelude::*;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The weights; every checkpoint has it.
pub const MODEL: &str = "model.safetensors";
/// The state of the optimizer, needed to go on training only.
pub const OPTIMIZER: &str = "optimizer.safetensors";
/// Everything else needed to go on training only.
pub const STATE: &str = "state.json";
/// The reports of a run, beside its checkpoints.
pub const METRICS: &str = "metrics.jsonl";
/// The drawing of the reports, beside the checkpoints.
pub const CURVES: &str = "curves.svg";
const MANIFEST: &str = "manifest.sha256";
const LOCK: &str = "lock";
/// What is being written or removed; also `metrics.jsonl` while it is rewritten.
pub(super) const PARTIAL: &str = ".partial-";
/// A checkpoint that makes place for another of the same step.
const REPLACED: &str = ".replaced-";
/// A damaged checkpoint that a resumed run has passed over.
const DAMAGED: &str = "damaged-";
const SAVING: &str = "saving the checkpoint";
/// The version of the layout, noted in [`MODEL`].
const VERSION: &str = "1";
/// Limit on the manifest's length in bytes.
const MAX_MANIFEST: u64 = 1 << 20;

fn step_name(step: u64) -> String {
    format!("step-{step:012}")
}

/// The step of a checkpoint's name, `None` for all other names.
fn step_of(name: &str) -> Option<u64> {
    let step = name.strip_prefix("step-")?.parse().ok()?;
    (step_name(step) == name).then_some(step)
}

/// What is saved at one step.
#[derive(Debug)]
pub struct Snapshot<'a> {
    /// The optimizer steps made.
    pub step: u64,
    /// The step of the best checkpoint so far, which may be this one; it is kept.
    pub best: Option<u64>,
    /// Names and contents of the small files, as `config.json`.
    pub files: &'a [(&'a str, &'a [u8])],
    /// Names and contents of the tensor files; [`MODEL`] must be among them.
    pub tensors: &'a [(&'a str, &'a [Tensor<'a>])],
}

impl Snapshot<'_> {
    /// The room that it takes on the disk, in bytes, rounded up.
    pub fn bytes(&self) -> u64 {
        let block = |bytes: u64| bytes.next_multiple_of(4096) + 4096;
        let files = self.files.iter().map(|(_, bytes)| block(bytes.len() as u64));
        let tensors = self.tensors.iter().map(|(_, tensors)| block(tensor_file::file_bytes(tensors)));
        files.chain(tensors).sum::<u64>() + block(0) * 2
    }
}

/// What a checkpoint is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To use the model: [`OPTIMIZER`] and [`STATE`] may be absent, and their contents are not checked.
    Use,
    /// To go on training: everything is checked.
    Resume,
}

/// A model directory, or a single checkpoint's directory, to read from.
#[derive(Clone, Debug)]
pub struct ModelDir {
    path: PathBuf,
}

impl ModelDir {
    /// The model directory at `path`; a checkpoint's own directory serves as well.
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

    /// The newest checkpoint that is whole. Damaged ones are passed over, with a warning that names what is wrong.
    pub fn load_newest(&self, purpose: Purpose) -> Result<Checkpoint> {
        if self.is_checkpoint() {
            return Checkpoint::open(&self.path, purpose);
        }
        // While a run goes on, the checkpoint just listed may be removed; there is a newer one then.
        let mut tries = 0;
        loop {
            let mut failed = Vec::new();
            let mut steps = self.steps()?;
            while let Some(step) = steps.pop() {
                let path = self.path.join(step_name(step));
                match Checkpoint::open(&path, purpose) {
                    Ok(mut checkpoint) => {
                        let warning = |e: Error| format!("{e}; the checkpoint of step {step} is used instead");
                        checkpoint.warnings = failed.into_iter().map(warning).collect();
                        return Ok(checkpoint);
                    }
                    Err(_) if tries < 5 && !path.exists() => break,
                    Err(e) => failed.push(e),
                }
            }
            tries += 1;
            if steps.is_empty() {
                let none = || Error::model(&self.path, "there is no checkpoint step-… in it");
                return Err(failed.into_iter().next().unwrap_or_else(none));
            }
        }
    }

    /// The checkpoint that the newest whole one names as the best; if it is damaged or none is named, the newest.
    pub fn load_best(&self, purpose: Purpose) -> Result<Checkpoint> {
        let mut newest = self.load_newest(purpose)?;
        let Some(best) = newest.best.filter(|&best| best != newest.step && !self.is_checkpoint()) else {
            return Ok(newest);
        };
        match Checkpoint::open(&self.path.join(step_name(best)), purpose) {
            Ok(mut checkpoint) => {
                checkpoint.warnings = newest.warnings;
                Ok(checkpoint)
            }
            Err(e) => {
                let step = newest.step;
                newest
                    .warnings
                    .push(format!("{e}; the newest checkpoint, of step {step}, is used instead of the best"));
                Ok(newest)
            }
        }
    }

    fn is_checkpoint(&self) -> bool {
        self.path.join(MANIFEST).is_file()
    }
}

/// The entries of a directory, sorted; names that are not UTF-8 with replacement characters (none of ours is such).
fn names(path: &Path) -> Result<Vec<String>> {
    let list = || -> io::Result<Vec<String>> {
        fs::read_dir(path)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
    };
    let mut names = list().map_err(|e| Error::io(path, "listing the directory", e))?;
    names.sort_unstable();
    Ok(names)
}

/// A checkpoint whose files are those of its manifest. They are held open, so that it stays readable while a
/// training run removes it.
#[derive(Debug)]
pub struct Checkpoint {
    path: PathBuf,
    step: u64,
    best: Option<u64>,
    files: BTreeMap<String, File>,
    /// What was wrong with the checkpoints that were tried before this one.
    pub warnings: Vec<String>,
}

impl Checkpoint {
    /// The checkpoint in the directory `path`.
    pub fn open(path: &Path, purpose: Purpose) -> Result<Self> {
        let manifest = read_manifest(&path.join(MANIFEST))?;
        let found = names(path)?;
        if let Some(missing) = manifest.keys().find(|name| found.binary_search(name).is_err())
            && (purpose == Purpose::Resume || !for_training(missing))
        {
            return Err(Error::model(path.join(missing), "is missing: its checkpoint's manifest lists it"));
        }
        if let Some(surplus) = found.iter().find(|name| *name != MANIFEST && !manifest.contains_key(*name)) {
            return Err(Error::model(path.join(surplus), "is surplus: its checkpoint's manifest does not list it"));
        }
        let needed = |name: &str| purpose == Purpose::Resume || !for_training(name);
        let mut files: BTreeMap<String, File> = manifest
            .par_iter()
            .filter(|(name, _)| needed(name))
            .map(|(name, hash)| Ok((name.clone(), verified(&path.join(name), hash)?)))
            .collect::<Vec<Result<(String, File)>>>()
            .into_iter()
            .collect::<Result<_>>()?;
        let model = path.join(MODEL);
        let file = files.get_mut(MODEL).ok_or_else(|| Error::model(&model, "is missing"))?;
        let header = Header::read(file, &model)?;
        if header.note("wordmill") != Some(VERSION) {
            let version = header.note("wordmill").unwrap_or("none");
            return Err(Error::model(model, format!("found layout version {version}, expected {VERSION}")));
        }
        let note = |key: &str| header.note(key).and_then(|text| text.parse::<u64>().ok());
        let step = note("step").ok_or_else(|| Error::model(&model, "does not tell its step"))?;
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

    /// The optimizer steps made when it was saved.
    pub fn step(&self) -> u64 {
        self.step
    }

    /// The step of the best checkpoint known when this one was saved.
    pub fn best(&self) -> Option<u64> {
        self.best
    }

    /// Whether it has the file `name` and that was checked when it was opened.
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

    /// Fills `targets` from the tensor file `name`, which must hold exactly them; see [`Header::read_tensors`].
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
fn is_plain(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    name.bytes().all(plain) && !name.is_empty() && !name.starts_with('.') && name != MANIFEST
}

fn hex(hash: &[u8]) -> String {
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Reads name → SHA-256 in lower-case hexadecimal, 64 digits.
fn read_manifest(path: &Path) -> Result<BTreeMap<String, String>> {
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

/// Opens the file at `path` and checks that its SHA-256 is `hash`.
fn verified(path: &Path, hash: &str) -> Result<File> {
    let io_error = |e| Error::io(path, "reading", e);
    // Before opening: a named pipe would wait for a writer.
    if !fs::metadata(path).map_err(io_error)?.is_file() {
        return Err(Error::model(path, "is not a file"));
    }
    let mut file = File::open(path).map_err(io_error)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 18];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => hasher.update(&buffer[..n]),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(io_error(e)),
        }
    }
    if hex(&hasher.finalize()) == hash {
        return Ok(file);
    }
    // A header that contradicts the file's length says better what happened.
    if path.extension().is_some_and(|e| e == "safetensors") {
        Header::read(&mut file, path)?;
    }
    Err(Error::model(path, "is damaged or truncated: its SHA-256 is not that of its checkpoint's manifest"))
}

/// A model directory that this process alone writes to, until this value is dropped.
#[derive(Debug)]
pub struct Writer {
    dir: ModelDir,
    disk: Disk,
    lock: File,
}

impl Writer {
    /// A directory for a new model at `path`, made if it does not exist. A model that is already there is removed
    /// with `force` and otherwise refused; files that are not wordmill's are never touched, and refused.
    pub fn create(path: impl AsRef<Path>, force: bool) -> Result<Self> {
        let path = path.as_ref();
        match fs::metadata(path) {
            Ok(found) if found.is_dir() => {}
            Ok(_) => {
                return Err(Error::model(path, "found a file, expected a directory or nothing"));
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                fs::create_dir_all(path).map_err(|e| Error::io(path, "making the model directory", e))?;
            }
            Err(e) => return Err(Error::io(path, "opening the model directory", e)),
        }
        let ours = |name: &str| {
            [METRICS, CURVES, LOCK].contains(&name)
                || step_of(name).is_some()
                || [PARTIAL, REPLACED, DAMAGED].iter().any(|prefix| name.starts_with(prefix))
        };
        if let Some(foreign) = names(path)?.iter().find(|name| !ours(name)) {
            let what = format!("holds {foreign}, which is not wordmill's; give a new or empty directory");
            return Err(Error::model(path, what));
        }
        let writer = Self::lock(path)?;
        writer.sweep()?;
        let steps = writer.dir.steps()?;
        if let (Some(step), false) = (steps.last(), force) {
            let what = format!("holds a model of {step} steps; continue it with --resume or replace it with --force");
            return Err(Error::model(path, what));
        }
        // Oldest first: if this is cut short, what is left is still a model directory.
        for step in steps {
            writer.remove_step(step)?;
        }
        for name in [METRICS, CURVES] {
            let file = path.join(name);
            if file.exists() {
                writer.disk.remove(&file).map_err(|e| Error::io(file, "removing", e))?;
            }
        }
        Ok(writer)
    }

    /// The model directory at `path` and its newest whole checkpoint. Newer ones that are damaged are set aside
    /// under the name `damaged-step-…`.
    pub fn resume(path: impl AsRef<Path>) -> Result<(Self, Checkpoint)> {
        let path = path.as_ref();
        if !path.join(LOCK).is_file() {
            ModelDir::open(path)?;
        }
        let writer = Self::lock(path)?;
        writer.sweep()?;
        let dir = ModelDir::open(path)?;
        if dir.is_checkpoint() {
            return Err(Error::model(path, "is a single checkpoint; training goes on in the directory that holds it"));
        }
        let checkpoint = dir.load_newest(Purpose::Resume)?;
        for step in dir.steps()?.into_iter().filter(|&step| step > checkpoint.step) {
            writer.set_aside(step)?;
        }
        Ok((writer, checkpoint))
    }

    /// The same directory on a disk that fails where `disk` says so.
    pub fn on(mut self, disk: Disk) -> Self {
        self.disk = disk;
        self
    }

    /// The directory, to read from.
    pub fn dir(&self) -> &ModelDir {
        &self.dir
    }

    /// Fails unless the disk has room for `bytes` more.
    pub fn check_space(&self, bytes: u64) -> Result<()> {
        let path = &self.dir.path;
        let stat = rustix::fs::statvfs(path).map_err(|e| Error::io(path, "asking for the free space", e.into()))?;
        let free = stat.f_bavail.saturating_mul(stat.f_frsize);
        if free >= bytes {
            return Ok(());
        }
        let mb = |bytes: u64| bytes as f64 / 1e6;
        let what = format!("found {:.1} MB free on the disk, expected at least {:.1} MB", mb(free), mb(bytes));
        Err(Error::io(path, SAVING, io::Error::new(io::ErrorKind::StorageFull, what)))
    }

    /// Saves a checkpoint. It replaces one of the same step; of the others, the newest before it and `snapshot.best` stay.
    ///
    /// When this fails, everything that was there before is still there, and usable.
    ///
    /// # Panics
    /// If a file's name is not plain or given twice, or if the model's tensors are missing.
    pub fn save(&self, snapshot: &Snapshot<'_>) -> Result<()> {
        assert!(snapshot.tensors.iter().any(|(name, _)| *name == MODEL), "a checkpoint needs {MODEL}");
        self.check_space(snapshot.bytes())?;
        let name = step_name(snapshot.step);
        let partial = self.dir.path.join(format!("{PARTIAL}{name}"));
        let written = self.write(&partial, snapshot).and_then(|()| self.put_in_place(&partial, &name));
        if written.is_err() && partial.exists() {
            // On a real disk; what cannot even be removed is left to the next run's sweep.
            _ = Disk::default().remove(&partial);
        }
        written?;
        let older = self.dir.steps()?.into_iter().filter(|&step| step < snapshot.step);
        let mut older: Vec<u64> = older.collect();
        older.pop();
        for step in older.into_iter().filter(|&step| Some(step) != snapshot.best) {
            self.remove_step(step)?;
        }
        Ok(())
    }

    /// Writes the files of a checkpoint into the new directory `partial`, and brings all to the disk.
    fn write(&self, partial: &Path, snapshot: &Snapshot<'_>) -> Result<()> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |e| Error::io(path, SAVING, e)
        };
        let mut manifest = BTreeMap::new();
        let mut write = |name: &str, fill: &dyn Fn(&mut dyn Write) -> io::Result<()>| {
            assert!(is_plain(name), "{name:?} is not a plain file name");
            let path = partial.join(name);
            let mut out = self.disk.create(&path).map_err(failed(&path))?;
            let hash = fill(&mut out).and_then(|()| out.finish()).map_err(failed(&path))?;
            manifest.insert(name.to_owned(), hash);
            Ok(())
        };
        self.clear(partial)?;
        self.disk.create_dir(partial).map_err(failed(partial))?;
        for (name, bytes) in snapshot.files {
            write(name, &|out| out.write_all(bytes))?;
        }
        let mut notes = vec![("wordmill", VERSION.to_owned()), ("step", snapshot.step.to_string())];
        notes.extend(snapshot.best.map(|best| ("best", best.to_string())));
        for (name, tensors) in snapshot.tensors {
            write(name, &|mut out| tensor_file::write(&mut out, &notes, tensors))?;
        }
        let lines: String = manifest.iter().map(|(name, hash)| format!("{}  {name}\n", hex(hash))).collect();
        let path = partial.join(MANIFEST);
        let mut out = self.disk.create(&path).map_err(failed(&path))?;
        out.write_all(lines.as_bytes()).and_then(|()| out.finish()).map_err(failed(&path))?;
        self.disk.sync_dir(partial).map_err(failed(partial))
    }

    /// Renames the finished `partial` to `name`; an older checkpoint of that name goes once this one is in its place.
    fn put_in_place(&self, partial: &Path, name: &str) -> Result<()> {
        let (root, target) = (&self.dir.path, self.dir.path.join(name));
        let replaced = root.join(format!("{REPLACED}{name}"));
        let failed = |e| Error::io(&target, SAVING, e);
        let replaces = target.exists();
        if replaces {
            self.clear(&replaced)?;
            self.disk.rename(&target, &replaced).map_err(failed)?;
        }
        if let Err(e) = self.disk.rename(partial, &target) {
            if replaces {
                // On a real disk; if even this fails, the next run's sweep does it.
                _ = fs::rename(&replaced, &target);
            }
            return Err(failed(e));
        }
        self.disk.sync_dir(root).map_err(failed)?;
        if replaces {
            self.disk.remove(&replaced).map_err(|e| Error::io(&replaced, "removing", e))?;
        }
        Ok(())
    }

    /// Removes the checkpoint of `step`; if it holds anything but what its manifest lists, it is set aside instead.
    fn remove_step(&self, step: u64) -> Result<()> {
        let path = self.dir.path.join(step_name(step));
        let listed = read_manifest(&path.join(MANIFEST));
        let ours = |name: &String| name == MANIFEST || listed.as_ref().is_ok_and(|files| files.contains_key(name));
        if !names(&path)?.iter().all(ours) {
            return self.set_aside(step);
        }
        // Renamed first: a checkpoint is there as a whole or not at all.
        let partial = self.dir.path.join(format!("{PARTIAL}{}", step_name(step)));
        self.clear(&partial)?;
        self.disk
            .rename(&path, &partial)
            .and_then(|()| self.disk.remove(&partial))
            .map_err(|e| Error::io(&path, "removing the old checkpoint", e))
    }

    /// Removes what a failed attempt of this run has left under a name that is needed now.
    fn clear(&self, path: &Path) -> Result<()> {
        if !path.exists() {
            return Ok(());
        }
        self.disk.remove(path).map_err(|e| Error::io(path, "clearing up after a failed save", e))
    }

    fn set_aside(&self, step: u64) -> Result<()> {
        let from = self.dir.path.join(step_name(step));
        let name = format!("{DAMAGED}{}", step_name(step));
        let free = (1..).map(|n| if n == 1 { name.clone() } else { format!("{name}-{n}") });
        let to = free.map(|name| self.dir.path.join(name)).find(|to| !to.exists());
        let to = to.unwrap_or_else(|| unreachable!("one of endlessly many names is free"));
        self.disk.rename(&from, &to).map_err(|e| Error::io(&from, "setting the damaged checkpoint aside", e))
    }

    /// Removes what a killed run left, and puts a checkpoint back that it was replacing.
    fn sweep(&self) -> Result<()> {
        for name in names(&self.dir.path)? {
            let path = self.dir.path.join(&name);
            let original = name.strip_prefix(REPLACED).map(|original| self.dir.path.join(original));
            let done = match original {
                Some(original) if !original.exists() => self.disk.rename(&path, &original),
                Some(_) => self.disk.remove(&path),
                None if name.starts_with(PARTIAL) => self.disk.remove(&path),
                None => Ok(()),
            };
            done.map_err(|e| Error::io(&path, "clearing up after a run that was cut short", e))?;
        }
        Ok(())
    }

    /// Takes the directory for this process; the system gives it back when the process ends, however that happens.
    fn lock(path: &Path) -> Result<Self> {
        let file = path.join(LOCK);
        let io_error = |e| Error::io(&file, "locking the model directory", e);
        let mut lock =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&file).map_err(io_error)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let holder = holder(&mut lock).unwrap_or_else(|| "another process".to_owned());
                let what = format!("is being written by {holder}; wait for it, or give another directory");
                return Err(Error::model(path, what));
            }
            Err(TryLockError::Error(e)) => return Err(io_error(e)),
        }
        let pid = format!("{}\n", std::process::id());
        lock.set_len(0).and_then(|()| lock.write_all(pid.as_bytes())).map_err(io_error)?;
        let dir = ModelDir { path: path.to_owned() };
        Ok(Writer { dir, disk: Disk::default(), lock })
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // No stale number for the next holder's rivals to read.
        _ = self.lock.set_len(0);
        // Not left to the closing of the file: a child process that is just being started may share it.
        _ = self.lock.unlock();
    }
}

/// Who holds the lock; waits a moment for a holder that has just taken it to write its number.
fn holder(lock: &mut File) -> Option<String> {
    for _ in 0..10 {
        let mut text = String::new();
        lock.seek(SeekFrom::Start(0)).ok()?;
        lock.take(32).read_to_string(&mut text).ok()?;
        if let Some(pid) = text.strip_suffix('\n').and_then(|pid| pid.parse::<u32>().ok()) {
            return Some(format!("process {pid}"));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    None
}
