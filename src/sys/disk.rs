//! The disk operations of a checkpoint. A test can make each of them fail, so that what is promised about full and broken disks is tested.

use sha2::{Digest, Sha256};
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// An operation on a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// Create a directory.
    CreateDir,
    /// Create a new file.
    Create,
    /// Write bytes to a file.
    Write,
    /// Flush a file or directory to the disk.
    Sync,
    /// Rename a file or directory.
    Rename,
    /// Remove a file or an empty directory.
    Remove,
}

type Fault = dyn Fn(Op, &Path) -> io::Result<()> + Send + Sync;

/// The file system, or one that fails where a test requests it.
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
    /// A disk that calls `fault` before every operation. An error it returns is passed to the caller, and a failed write leaves half of
    /// its bytes behind; `ErrorKind::Interrupted` at a write causes a short write instead.
    pub fn failing(fault: impl Fn(Op, &Path) -> io::Result<()> + Send + Sync + 'static) -> Self {
        Disk { fault: Some(Arc::new(fault)) }
    }

    fn ask(&self, op: Op, path: &Path) -> io::Result<()> {
        self.fault.as_ref().map_or(Ok(()), |fault| fault(op, path))
    }

    /// Creates a directory, with the mode given by the umask.
    pub fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.ask(Op::CreateDir, path)?;
        fs::create_dir(path)
    }

    /// Creates a file that must not exist yet, with the mode given by the umask.
    pub fn create(&self, path: &Path) -> io::Result<Output> {
        self.ask(Op::Create, path)?;
        let file = File::create_new(path)?;
        Ok(Output { file, path: path.to_owned(), disk: self.clone(), hash: Sha256::new() })
    }

    /// Flushes the entries of a directory to the disk, if its file system supports it: CIFS and some FUSE and NFS servers do not.
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

    /// Removes a file, or a directory and the files in it; fails if it contains a directory, which is left alone, or on NFS a file that
    /// is held open, see [`is_held`].
    pub fn remove(&self, path: &Path) -> io::Result<()> {
        if !fs::symlink_metadata(path)?.is_dir() {
            self.ask(Op::Remove, path)?;
            return fs::remove_file(path);
        }
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            let (file, name) = (entry.path(), entry.file_name());
            if is_renamed(&name.to_string_lossy()) {
                // If the file is still held open, the system refuses; if a crashed machine has left it behind, it is removed.
                _ = fs::remove_file(file);
                continue;
            }
            // Directories made by other programs.
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

/// Whether a directory could not be removed because it is not empty yet: on NFS and FUSE a removed file that a process holds open
/// remains under another name until it is closed, and file managers leave files of their own. A later cleanup removes it.
pub fn is_held(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOTEMPTY | libc::EEXIST | libc::EBUSY | libc::ESTALE))
}

/// Free bytes on the file system of `path`, if it reports them: FUSE and cloud file systems may report that they have no blocks at all.
pub fn free_space(path: &Path) -> io::Result<Option<u64>> {
    match rustix::fs::statvfs(path) {
        Ok(stat) if stat.f_blocks == 0 || stat.f_frsize == 0 => Ok(None),
        Ok(stat) => Ok(Some(stat.f_bavail.saturating_mul(stat.f_frsize))),
        Err(rustix::io::Errno::NOSYS | rustix::io::Errno::OPNOTSUPP) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

/// Whether the file system does not support locks, as some NFS and parallel ones.
pub fn has_no_locks(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::ENOLCK | libc::EOPNOTSUPP))
}

/// Whether the file system cannot flush such a thing at all, which is not a disk error.
fn cannot_sync(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EINVAL | libc::ENOSYS | libc::EOPNOTSUPP))
}

/// Whether this is a name that the system gives to a removed file that is held open.
fn is_renamed(name: &str) -> bool {
    name.starts_with(".nfs") || name.starts_with(".fuse_hidden")
}

/// Whether `name` is a file or directory that systems and file managers leave in any directory, to be ignored.
pub fn is_litter(name: &str) -> bool {
    // macOS, Windows, Linux file managers, file servers, and files that keep an empty directory in Git.
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
    /// Flushes the file to the disk and returns the SHA-256 of everything written.
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

    /// A directory of another program prevents the removal, which is not an error; any other directory is one.
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
