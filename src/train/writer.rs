//! Writing of model directories: by one process at a time, with checkpoints that become visible only when complete and flushed to the disk.

use super::checkpoint::{
    CURVES, Checkpoint, MANIFEST, METRICS, MODEL, ModelDir, PARTIAL, Purpose, VERSION, hex, is_plain, names,
    read_manifest, step_name, step_of,
};
use super::tensor_file::{self, Tensor};
use crate::error::{Error, Result};
use crate::pool;
use crate::sys::disk::{Disk, Output, free_space, has_no_locks, is_held, is_litter};
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write as _};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

const LOCK: &str = "lock";
/// A checkpoint that is being replaced by another of the same step.
const REPLACED: &str = ".replaced-";
/// A damaged checkpoint that a resumed run has skipped.
const DAMAGED: &str = "damaged-";
const SAVING: &str = "saving the checkpoint";

/// What is saved at one step.
#[derive(Debug)]
pub struct Snapshot<'a> {
    /// Number of optimizer steps made.
    pub step: u64,
    /// The step of the best checkpoint so far, which may be this one; it is kept.
    pub best: Option<u64>,
    /// Names and contents of the small files, such as `config.json`.
    pub files: &'a [(&'a str, &'a [u8])],
    /// Names and contents of the tensor files; [`MODEL`] must be among them.
    pub tensors: &'a [(&'a str, &'a [Tensor<'a>])],
}

/// Writes the file of the given name and returns its line in the manifest.
pub(super) type Write<'a> = &'a (dyn Fn(&str, &mut Fill) -> Result<String> + Sync);
/// Writes the contents of a file.
pub(super) type Fill<'a> = dyn FnMut(&mut Output) -> io::Result<()> + 'a;

/// A model directory that only this process writes to, until this value is dropped.
#[derive(Debug)]
pub struct Writer {
    dir: ModelDir,
    disk: Disk,
    lock: File,
    /// The checkpoints of the model being replaced; they are removed when the first checkpoint of this one is in place.
    replaces: Mutex<Vec<u64>>,
    /// Limitations of the file system that the user should know about.
    pub warnings: Vec<String>,
}

impl Writer {
    /// Fails if [`Writer::create`] would reject `path`; changes nothing.
    pub fn check_free(path: impl AsRef<Path>, force: bool) -> Result<()> {
        let path = path.as_ref();
        match fs::metadata(path) {
            Ok(found) if found.is_dir() => {}
            Ok(_) => return Err(Error::model(path, "found a file, expected a directory or nothing")),
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(e) => return Err(Error::io(path, "opening the model directory", e)),
        }
        let ours = |name: &str| {
            [METRICS, CURVES, LOCK].contains(&name)
                || step_of(name).is_some()
                || [PARTIAL, REPLACED, DAMAGED].iter().any(|prefix| name.starts_with(prefix))
                || is_litter(name)
        };
        if let Some(foreign) = names(path)?.iter().find(|name| !ours(name)) {
            let what = format!("contains {foreign}, which is not a file of wordmill; give a new or empty directory");
            return Err(Error::model(path, what));
        }
        let dir = ModelDir { path: path.to_owned() };
        match dir.steps()?.last() {
            Some(step) if !force => {
                let what =
                    format!("contains a model of {step} steps; continue it with --resume or replace it with --force");
                Err(Error::model(path, what))
            }
            _ => Ok(()),
        }
    }

    /// Creates a directory for a new model at `path`, if it does not exist. A model that is already there is an error or, with `force`,
    /// replaced by the first checkpoint saved; files that are not wordmill's are never touched, and are an error.
    pub fn create(path: impl AsRef<Path>, force: bool) -> Result<Self> {
        let path = path.as_ref();
        Self::check_free(path, force)?;
        fs::create_dir_all(path).map_err(|e| Error::io(path, "making the model directory", e))?;
        let mut writer = Self::lock(path)?;
        writer.sweep()?;
        // The cleanup may have restored a checkpoint.
        Self::check_free(path, force)?;
        writer.replaces = Mutex::new(writer.dir.steps()?);
        for name in [METRICS, CURVES] {
            let file = path.join(name);
            if file.exists() {
                writer.disk.remove(&file).map_err(|e| Error::io(file, "removing", e))?;
            }
        }
        Ok(writer)
    }

    /// Opens the model directory at `path` and its newest intact checkpoint. Newer ones that are damaged are renamed to
    /// `damaged-step-…`.
    pub fn resume(path: impl AsRef<Path>) -> Result<(Self, Checkpoint)> {
        let path = path.as_ref();
        if !path.join(LOCK).is_file() {
            ModelDir::open(path)?;
        }
        let writer = Self::lock(path)?;
        writer.sweep()?;
        let dir = ModelDir::open(path)?;
        if dir.is_checkpoint() {
            return Err(Error::model(
                path,
                "is a single checkpoint; resume training in the directory that contains it",
            ));
        }
        let checkpoint = dir.load_newest(Purpose::Resume)?;
        for step in dir.steps()?.into_iter().filter(|&step| step > checkpoint.step()) {
            writer.set_aside(step)?;
        }
        Ok((writer, checkpoint))
    }

    /// The same directory on another disk, such as one that fails in tests.
    pub fn on(mut self, disk: Disk) -> Self {
        self.disk = disk;
        self
    }

    /// The directory, to read from.
    pub fn dir(&self) -> &ModelDir {
        &self.dir
    }

    /// Fails if the disk reports less than `bytes` of free space.
    pub fn check_space(&self, bytes: u64) -> Result<()> {
        let path = &self.dir.path;
        let free = free_space(path).map_err(|e| Error::io(path, "asking for the free space", e))?;
        let Some(free) = free.filter(|&free| free < bytes) else { return Ok(()) };
        let mb = |bytes: u64| bytes as f64 / 1e6;
        let what = format!("found {:.1} MB free on the disk, expected at least {:.1} MB", mb(free), mb(bytes));
        Err(Error::io(path, SAVING, io::Error::new(io::ErrorKind::StorageFull, what)))
    }

    /// Saves a checkpoint. It replaces one of the same step; of the others, the newest before it and `snapshot.best` are kept.
    ///
    /// If this fails, everything that existed before still exists, and is usable.
    ///
    /// # Panics
    /// If the model's tensors are missing, or a file's name is not plain (letters, digits, `.`, `_`, `-`).
    pub fn save(&self, snapshot: &Snapshot<'_>) -> Result<()> {
        let Snapshot { step, best, files, tensors } = *snapshot;
        let notes = Self::notes(step, best);
        let lens: Vec<(&str, u64)> =
            tensors.iter().map(|(name, tensors)| (*name, tensor_file::file_bytes(tensors))).collect();
        self.commit(step, best, files, &lens, |write| {
            // In parallel: the hash of one is computed while another is written to the disk.
            let write =
                |(name, tensors): &(&str, &[Tensor])| write(name, &mut |out| tensor_file::write(out, &notes, tensors));
            pool::map(tensors, write).into_iter().collect()
        })
    }

    /// The text entries of a tensor file.
    pub(super) fn notes(step: u64, best: Option<u64>) -> Vec<(&'static str, String)> {
        let mut notes = vec![("wordmill", VERSION.to_owned()), ("step", step.to_string())];
        notes.extend(best.map(|best| ("best", best.to_string())));
        notes
    }

    /// As [`Writer::save`], for small files with their contents, and tensor files with their lengths; `write_tensors` writes the latter
    /// and returns their lines in the manifest.
    pub(super) fn commit(
        &self,
        step: u64,
        best: Option<u64>,
        files: &[(&str, &[u8])],
        tensors: &[(&str, u64)],
        write_tensors: impl FnOnce(Write) -> Result<String>,
    ) -> Result<()> {
        for name in (files.iter().map(|f| f.0)).chain(tensors.iter().map(|f| f.0)) {
            assert!(is_plain(name), "{name:?} is not a plain file name");
        }
        assert!(tensors.iter().any(|(name, _)| *name == MODEL), "a checkpoint needs {MODEL}");
        // The space it takes on the disk, rounded up.
        let block = |bytes: u64| bytes.next_multiple_of(4096) + 4096;
        let lens = files.iter().map(|(_, bytes)| bytes.len() as u64).chain(tensors.iter().map(|(_, bytes)| *bytes));
        self.check_space(lens.map(block).sum::<u64>() + block(0) * 2)?;
        let name = step_name(step);
        let partial = self.dir.path.join(format!("{PARTIAL}{name}"));
        let mut replaces = self.replaces.lock().unwrap_or_else(PoisonError::into_inner);
        let written = self.write(&partial, files, write_tensors).and_then(|()| {
            if replaces.contains(&step) && self.has_surplus(step)? {
                self.set_aside(step)?;
            }
            self.put_in_place(&partial, &name)
        });
        if written.is_err() && partial.exists() {
            // On a real disk; what cannot even be removed is left to the next run's cleanup.
            _ = Disk::default().remove(&partial);
        }
        written?;
        // The newest first, because the newest is the one read.
        while let Some(old) = replaces.pop() {
            if old != step {
                self.remove_step(old)?;
            }
        }
        let older = self.dir.steps()?.into_iter().filter(|&other| other < step);
        let mut older: Vec<u64> = older.collect();
        older.pop();
        for step in older.into_iter().filter(|&step| Some(step) != best) {
            self.remove_step(step)?;
        }
        Ok(())
    }

    /// Writes the files of a checkpoint into the new directory `partial`, and flushes them to the disk.
    fn write(
        &self,
        partial: &Path,
        files: &[(&str, &[u8])],
        write_tensors: impl FnOnce(Write) -> Result<String>,
    ) -> Result<()> {
        let write = |name: &str, fill: &mut Fill| {
            let path = partial.join(name);
            let written = self.disk.create(&path).and_then(|mut out| {
                fill(&mut out)?;
                out.finish()
            });
            let line = written.map(|hash| format!("{}  {name}\n", hex(&hash)));
            line.map_err(|e| Error::io(path, SAVING, e))
        };
        let failed = |e| Error::io(partial, SAVING, e);
        self.clear(partial)?;
        self.disk.create_dir(partial).map_err(failed)?;
        let mut manifest = String::new();
        for (name, bytes) in files {
            manifest += &write(name, &mut |out| out.write_all(bytes))?;
        }
        manifest += &write_tensors(&write)?;
        write(MANIFEST, &mut |out| out.write_all(manifest.as_bytes()))?;
        self.disk.sync_dir(partial).map_err(failed)
    }

    /// Renames the finished `partial` to `name`; an older checkpoint of that name is removed once this one is in place.
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
                // On a real disk; if even this fails, the next run's cleanup does it.
                _ = fs::rename(&replaced, &target);
            }
            return Err(failed(e));
        }
        self.disk.sync_dir(root).map_err(failed)?;
        if replaces { self.remove(&replaced, "removing") } else { Ok(()) }
    }

    /// Removes the checkpoint of `step`; if it contains anything not listed in its manifest, it is set aside instead.
    fn remove_step(&self, step: u64) -> Result<()> {
        let path = self.dir.path.join(step_name(step));
        if self.has_surplus(step)? {
            return self.set_aside(step);
        }
        // Renamed first: a checkpoint exists as a whole or not at all.
        let partial = self.dir.path.join(format!("{PARTIAL}{}", step_name(step)));
        self.clear(&partial)?;
        let what = "removing the old checkpoint";
        self.disk.rename(&path, &partial).map_err(|e| Error::io(&path, what, e))?;
        self.remove(&partial, what)
    }

    /// Removes a directory that is no longer needed. What is held open by a process is left to the next run's cleanup.
    fn remove(&self, path: &Path, what: &'static str) -> Result<()> {
        match self.disk.remove(path) {
            Err(e) if !is_held(&e) => Err(Error::io(path, what, e)),
            _ => Ok(()),
        }
    }

    /// Whether the checkpoint of `step` contains anything not listed in its manifest.
    fn has_surplus(&self, step: u64) -> Result<bool> {
        let path = self.dir.path.join(step_name(step));
        let listed = read_manifest(&path.join(MANIFEST));
        let listed = |name: &String| listed.as_ref().is_ok_and(|files| files.contains_key(name));
        let ours = |name: &String| name == MANIFEST || listed(name) || is_litter(name);
        Ok(!names(&path)?.iter().all(ours))
    }

    /// Removes what a failed attempt of this run has left under a name that is needed now.
    fn clear(&self, path: &Path) -> Result<()> {
        if !path.exists() {
            return Ok(());
        }
        let what = "clearing up after a failed save";
        match self.disk.remove(path) {
            // Its name is needed: what is left of it is renamed, and removed by the next cleanup.
            Err(e) if is_held(&e) => {
                let root = &self.dir.path;
                let free = (1..).map(|n| root.join(format!("{PARTIAL}held-{n}"))).find(|free| !free.exists());
                let free = free.unwrap_or_else(|| unreachable!("one of endlessly many names is free"));
                self.disk.rename(path, &free).map_err(|e| Error::io(path, what, e))
            }
            done => done.map_err(|e| Error::io(path, what, e)),
        }
    }

    fn set_aside(&self, step: u64) -> Result<()> {
        let from = self.dir.path.join(step_name(step));
        let name = format!("{DAMAGED}{}", step_name(step));
        let free = (1..).map(|n| if n == 1 { name.clone() } else { format!("{name}-{n}") });
        let to = free.map(|name| self.dir.path.join(name)).find(|to| !to.exists());
        let to = to.unwrap_or_else(|| unreachable!("one of endlessly many names is free"));
        self.disk.rename(&from, &to).map_err(|e| Error::io(&from, "setting the damaged checkpoint aside", e))
    }

    /// Removes what a killed run has left behind, and restores a checkpoint that it was replacing.
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
            match done {
                Err(e) if !is_held(&e) => {
                    return Err(Error::io(&path, "clearing up after a run that was cut short", e));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Locks the directory for this process; the system releases it when the process ends, however that happens.
    fn lock(path: &Path) -> Result<Self> {
        let file = path.join(LOCK);
        let io_error = |e| Error::io(&file, "locking the model directory", e);
        let mut lock =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&file).map_err(io_error)?;
        let mut warnings = Vec::new();
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let holder = holder(&mut lock).unwrap_or_else(|| "another process".to_owned());
                let what = format!("is being written by {holder}; wait for it, or give another directory");
                return Err(Error::model(path, what));
            }
            Err(TryLockError::Error(e)) if has_no_locks(&e) => warnings.push(format!(
                "{}: this file system does not support locks ({e}); continuing without: \
                 do not start a second run that writes there",
                file.display()
            )),
            Err(TryLockError::Error(e)) => return Err(io_error(e)),
        }
        let pid = format!("{}\n", std::process::id());
        lock.set_len(0).and_then(|()| lock.write_all(pid.as_bytes())).map_err(io_error)?;
        let dir = ModelDir { path: path.to_owned() };
        Ok(Writer { dir, disk: Disk::default(), lock, replaces: Mutex::default(), warnings })
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // So that no stale number is reported to others.
        _ = self.lock.set_len(0);
        // Not left to the closing of the file: a child process that is just being started may share it.
        _ = self.lock.unlock();
    }
}

/// The holder of the lock; waits a moment for a holder that has only just locked it to write its number.
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
