//! Files as memory.

use crate::{Error, Result};
use memmap2::Mmap;
use std::fs::File;
use std::io::Read;
use std::ops::Deref;
use std::path::Path;

/// The bytes of a file: a read-only map of a regular file, or what was read from anything else (a pipe).
#[derive(Debug)]
pub struct FileBytes(Bytes);

#[derive(Debug)]
enum Bytes {
    Map(Mmap),
    Read(Vec<u8>),
}

impl Deref for FileBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            Bytes::Map(map) => map,
            Bytes::Read(bytes) => bytes,
        }
    }
}

impl From<Vec<u8>> for FileBytes {
    fn from(bytes: Vec<u8>) -> Self {
        FileBytes(Bytes::Read(bytes))
    }
}

/// Opens `path` as bytes, without a copy where the system can map it. The file must not be changed or cut short by
/// another program while the result lives: its bytes would change, or the process be ended by SIGBUS.
///
/// # Errors
/// What the system says about opening, reading or mapping; a directory.
pub fn map_file(path: &Path) -> Result<FileBytes> {
    let failed = |e| Error::io(path, "reading", e);
    let mut file = File::open(path).map_err(failed)?;
    let kind = file.metadata().map_err(failed)?;
    if kind.is_dir() {
        return Err(Error::input(path, 0, "a directory", "a file"));
    }
    // A file of length 0 cannot be mapped, and those of /proc only claim to be empty.
    if !kind.is_file() || kind.len() == 0 {
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(failed)?;
        return Ok(FileBytes(Bytes::Read(bytes)));
    }
    // SAFETY: the map is private and read-only; that nobody else changes the file meanwhile cannot be had from the
    // system and is asked of the caller above. Everything derived from the bytes is checked when it is used.
    let map = unsafe { Mmap::map(&file) }.map_err(failed)?;
    Ok(FileBytes(Bytes::Map(map)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_what_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        for bytes in [&b""[..], b"x", b"two\nlines\n"] {
            std::fs::write(&path, bytes).unwrap();
            assert_eq!(&*map_file(&path).unwrap(), bytes);
        }
        let directory = map_file(dir.path()).unwrap_err().to_string();
        assert!(directory.ends_with(": found a directory, expected a file"), "{directory}");
        let missing = map_file(&dir.path().join("none")).unwrap_err();
        assert!(matches!(missing, Error::Io { .. }) && missing.to_string().contains("none: reading failed"));
    }

    /// `--train <(zcat text.gz)` is natural to try: a pipe cannot be mapped, but it can be read.
    #[cfg(unix)]
    #[test]
    fn reads_a_pipe() {
        use std::os::fd::AsRawFd;
        let (reader, mut writer) = std::io::pipe().unwrap();
        std::io::Write::write_all(&mut writer, b"from a pipe\n").unwrap();
        drop(writer);
        let path = format!("/dev/fd/{}", reader.as_raw_fd());
        assert_eq!(&*map_file(Path::new(&path)).unwrap(), b"from a pipe\n");
    }
}
