//! The operations on the disk that a checkpoint is made of. Each is a place where a test can make the system
//! fail, so that what is promised about full disks and broken ones is run and not only meant.

use sha2::{Digest, Sha256};
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What is about to be done to a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// Make a directory.
    CreateDir,
    /// Make a new file.
    Create,
    /// Write some bytes to a file.
    Write,
    /// Bring a file or directory to the disk.
    Sync,
    /// Give a file or directory another name.
    Rename,
    /// Remove a file or an empty directory.
    Remove,
}

type Fault = dyn Fn(Op, &Path) -> io::Result<()> + Send + Sync;

/// The file system, or one that fails where a test says so.
#[derive(Clone, Default)]
pub struct Disk {
    fault: Option<Arc<Fault>>,
}

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.fault.is_some() { "Disk(failing)" } else { "Disk" })
    }
}

impl Disk {
    /// A disk that asks `fault` before everything it does. An error it returns is what the caller sees, a failed
    /// write leaving half of its bytes behind; `ErrorKind::Interrupted` at a write makes it a short one instead.
    pub fn failing(fault: impl Fn(Op, &Path) -> io::Result<()> + Send + Sync + 'static) -> Self {
        Disk { fault: Some(Arc::new(fault)) }
    }

    fn ask(&self, op: Op, path: &Path) -> io::Result<()> {
        self.fault.as_ref().map_or(Ok(()), |fault| fault(op, path))
    }

    /// Makes a directory, with the mode the umask leaves.
    pub fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.ask(Op::CreateDir, path)?;
        fs::create_dir(path)
    }

    /// Makes a file that must not exist yet, with the mode the umask leaves.
    pub fn create(&self, path: &Path) -> io::Result<Output> {
        self.ask(Op::Create, path)?;
        let file = File::create_new(path)?;
        Ok(Output { file, path: path.to_owned(), disk: self.clone(), hash: Sha256::new() })
    }

    /// Brings the entries of a directory to the disk, if its file system can do that: CIFS and some FUSE and NFS servers cannot.
    pub fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let synced = self.ask(Op::Sync, path).and_then(|()| File::open(path)?.sync_all());
        match synced {
            Err(e) if cannot_sync(&e) || e.raw_os_error() == Some(libc::EBADF) => Ok(()),
            synced => synced,
        }
    }

    /// Renames `from` to `to`.
    pub fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.ask(Op::Rename, from)?;
        fs::rename(from, to)
    }

    /// Removes a file, or a directory and the files in it; a directory within is not touched and makes it fail. So does
    /// a file that someone holds open on NFS, see [`is_held`].
    pub fn remove(&self, path: &Path) -> io::Result<()> {
        if !fs::symlink_metadata(path)?.is_dir() {
            self.ask(Op::Remove, path)?;
            return fs::remove_file(path);
        }
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            let (file, name) = (entry.path(), entry.file_name());
            if is_renamed(&name.to_string_lossy()) {
                // Of a removed file that is held open: the system refuses. Of one that a broken machine has left: it goes.
                _ = fs::remove_file(file);
                continue;
            }
            // Directories that other programs make.
            if is_litter(&name.to_string_lossy()) && entry.file_type()?.is_dir() {
                continue;
            }
            self.ask(Op::Remove, &file)?;
            fs::remove_file(file)?;
        }
        self.ask(Op::Remove, path)?;
        fs::remove_dir(path)
    }
}

/// Whether a directory could not be removed because there is something in it yet: on NFS and FUSE a removed file that a process holds
/// open stays under another name until it is closed, and file managers leave files of their own. It goes with a later sweep.
pub fn is_held(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOTEMPTY | libc::EEXIST | libc::EBUSY | libc::ESTALE))
}

/// Bytes that the file system of `path` has free, if it says so: those of FUSE and of the cloud may say that they have no blocks at all.
pub fn free_space(path: &Path) -> io::Result<Option<u64>> {
    match rustix::fs::statvfs(path) {
        Ok(stat) if stat.f_blocks == 0 || stat.f_frsize == 0 => Ok(None),
        Ok(stat) => Ok(Some(stat.f_bavail.saturating_mul(stat.f_frsize))),
        Err(rustix::io::Errno::NOSYS | rustix::io::Errno::OPNOTSUPP) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

/// Whether the file system, as some NFS and parallel ones do, has no locks.
pub fn has_no_locks(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::ENOLCK | libc::EOPNOTSUPP))
}

/// Whether the file system cannot bring such a thing to the disk at all, which is no error of the disk.
fn cannot_sync(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EINVAL | libc::ENOSYS | libc::EOPNOTSUPP))
}

/// Whether the system has given this name to a removed file that is held open.
fn is_renamed(name: &str) -> bool {
    name.starts_with(".nfs") || name.starts_with(".fuse_hidden")
}

/// Whether `name` is of a file or directory that systems and file managers leave in any directory: nobody's, and passed over.
pub fn is_litter(name: &str) -> bool {
    // macOS, Windows, Linux file managers, file servers, and what keeps an empty directory in Git.
    const NAMES: [&str; 19] = [
        ".DS_Store",
        ".AppleDouble",
        ".Spotlight-V100",
        ".Trashes",
        ".fseventsd",
        ".TemporaryItems",
        ".apdisk",
        ".localized",
        "__MACOSX",
        "Thumbs.db",
        "ehthumbs.db",
        "desktop.ini",
        "$RECYCLE.BIN",
        "System Volume Information",
        ".directory",
        "lost+found",
        ".snapshot",
        "@eaDir",
        ".gitkeep",
    ];
    let same = |litter: &str| litter.eq_ignore_ascii_case(name);
    is_renamed(name) || name.starts_with("._") || name.starts_with(".Trash-") || NAMES.iter().any(|litter| same(litter))
}

/// A file being written; its SHA-256 is computed on the way.
#[derive(Debug)]
pub struct Output {
    file: File,
    path: PathBuf,
    disk: Disk,
    hash: Sha256,
}

impl Output {
    /// Brings the file to the disk and gives the SHA-256 of all that was written.
    pub fn finish(self) -> io::Result<[u8; 32]> {
        self.disk.ask(Op::Sync, &self.path)?;
        match self.file.sync_all() {
            Err(e) if !cannot_sync(&e) => Err(e),
            _ => Ok(self.hash.finalize().into()),
        }
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let fault = self.disk.ask(Op::Write, &self.path).err();
        let taken = if fault.is_some() { bytes.len().div_ceil(2) } else { bytes.len() };
        let n = self.file.write(&bytes[..taken])?;
        self.hash.update(&bytes[..n]);
        match fault {
            Some(error) if error.kind() != io::ErrorKind::Interrupted => Err(error),
            _ => Ok(n),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_leave() {
        for name in
            [".nfs000000001", ".fuse_hidden01", ".DS_Store", "._model", "THUMBS.DB", "lost+found", ".Trash-1000"]
        {
            assert!(is_litter(name), "{name}");
        }
        for name in ["model.safetensors", "nfs", "dear.txt", ".hidden", "DS_Store", "_x"] {
            assert!(!is_litter(name), "{name}");
        }
    }

    /// A directory of another program's within keeps it, which is no error; a directory that is nobody's is one.
    #[test]
    fn a_directory_goes_with_its_files() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("a");
        let make = |within: &str| {
            fs::create_dir_all(path.join(within)).unwrap();
            ["file", ".nfs01", ".DS_Store"].iter().for_each(|name| fs::write(path.join(name), "x").unwrap());
        };
        make("");
        Disk::default().remove(&path).unwrap();
        assert!(!path.exists());
        make("@eaDir");
        assert!(is_held(&Disk::default().remove(&path).unwrap_err()));
        assert!(path.join("@eaDir").exists() && !path.join("file").exists());
        make("own");
        assert!(!is_held(&Disk::default().remove(&path).unwrap_err()));
        assert!(path.join("own").exists());
    }
}
