//! Files as memory.

use crate::{Error, Result};
use memmap2::Mmap;
use std::fs::File;
use std::io::{self, Read};
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::SystemTime;

/// Writes a file, such as a plot, over one that is there.
pub fn write(path: &Path, contents: impl AsRef<[u8]>) -> Result<()> {
    std::fs::write(path, contents).map_err(|e| Error::io(path, "writing", e))
}

/// The bytes of a file: a read-only map of a regular file, or what was read from anything else (such as a pipe).
///
/// Another program may truncate a mapped file: the missing bytes are then zeros, and [`FileBytes::check_unchanged`] reports it. Call it
/// after reading, or read within [`FileBytes::read`].
#[derive(Debug)]
pub struct FileBytes {
    path: PathBuf,
    bytes: Bytes,
}

#[derive(Debug)]
enum Bytes {
    Map(Map),
    Read(Vec<u8>),
}

/// A mapped file, and its state when it was mapped.
#[derive(Debug)]
struct Map {
    guard: Guard,
    map: Mmap,
    file: File,
    modified: Option<SystemTime>,
}

impl Deref for FileBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.bytes {
            Bytes::Map(map) => &map.map,
            Bytes::Read(bytes) => bytes,
        }
    }
}

impl FileBytes {
    /// Returns an error if the file has been truncated or modified since it was mapped, or if the disk failed to deliver some of its bytes.
    pub fn check_unchanged(&self) -> Result<()> {
        let Bytes::Map(Map { guard, map, file, modified }) = &self.bytes else { return Ok(()) };
        let now = file.metadata().map_err(|e| Error::io(&self.path, "reading", e))?;
        let found = if now.len() < map.len() as u64 {
            format!("a file that was cut short while it was read: {} bytes of {}", now.len(), map.len())
        } else if guard.is_lost() {
            "bytes that the disk did not give".to_owned()
        } else if now.len() == map.len() as u64 && now.modified().ok() != *modified {
            "a file that was written to while it was read".to_owned()
        } else {
            return Ok(());
        };
        Err(Error::input(&self.path, 0, found, "a file that stays as it is; try again when nothing writes to it"))
    }

    /// The result of `read` on the bytes, which may change while it runs: it must not panic then. If they have changed, that is the
    /// error, whatever the result.
    ///
    /// # Errors
    /// Those of `read` and of [`FileBytes::check_unchanged`].
    pub fn read<T>(&self, read: impl FnOnce(&[u8]) -> Result<T>) -> Result<T> {
        let done = read(self);
        self.check_unchanged()?;
        done
    }
}

impl From<Vec<u8>> for FileBytes {
    fn from(bytes: Vec<u8>) -> Self {
        FileBytes { path: PathBuf::new(), bytes: Bytes::Read(bytes) }
    }
}

/// Opens `path` as bytes, without a copy where the system can map it.
///
/// # Errors
/// Errors of the system on opening, reading or mapping; a directory.
pub fn map_file(path: &Path) -> Result<FileBytes> {
    let failed = |e| Error::io(path, "reading", e);
    let mut file = File::open(path).map_err(failed)?;
    let kind = file.metadata().map_err(failed)?;
    if kind.is_dir() {
        return Err(Error::input(path, 0, "a directory", "a file"));
    }
    let path = path.to_owned();
    // A file of length 0 cannot be mapped, and files in /proc report length 0 whatever they contain.
    if kind.is_file() && kind.len() > 0 {
        // SAFETY: the map is private and read-only. If the file is truncated, the handler of `Guard` replaces the missing part by
        // zeros; the system cannot prevent other programs from writing to it, which `check_unchanged` detects. Everything derived from
        // the bytes is checked when it is used.
        let map = unsafe { Mmap::map(&file) }.map_err(|e| Error::io(&path, "reading", e))?;
        if let Some(guard) = Guard::new(&map) {
            let map = Map { guard, map, file, modified: kind.modified().ok() };
            return Ok(FileBytes { path, bytes: Bytes::Map(map) });
        }
    }
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(|e| Error::io(&path, "reading", e))?;
    Ok(FileBytes { path, bytes: Bytes::Read(bytes) })
}

/// A map known to the handler of SIGBUS.
struct Place {
    start: AtomicUsize,
    bytes: AtomicUsize,
    lost: AtomicBool,
    taken: AtomicBool,
}

/// Maximum number of maps at a time; further files are read instead.
static PLACES: [Place; 64] = [const {
    Place {
        start: AtomicUsize::new(0),
        bytes: AtomicUsize::new(0),
        lost: AtomicBool::new(false),
        taken: AtomicBool::new(false),
    }
}; 64];

/// The previous action, for a SIGBUS not caused by one of the maps.
static BEFORE: OnceLock<Option<libc::sigaction>> = OnceLock::new();

/// Registers a map for as long as it lives: if the file is truncated, missing pages are zeros instead of causing SIGBUS and the end of
/// the process.
#[derive(Debug)]
struct Guard(usize);

impl Guard {
    /// None if all places are taken, or if the system has no such handlers.
    fn new(map: &Mmap) -> Option<Self> {
        BEFORE.get_or_init(|| install().ok()).as_ref()?;
        let index = PLACES.iter().position(|place| !place.taken.swap(true, Ordering::SeqCst))?;
        let place = &PLACES[index];
        place.lost.store(false, Ordering::SeqCst);
        place.bytes.store(map.len(), Ordering::SeqCst);
        place.start.store(map.as_ptr() as usize, Ordering::SeqCst);
        Some(Guard(index))
    }

    fn is_lost(&self) -> bool {
        PLACES[self.0].lost.load(Ordering::SeqCst)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let place = &PLACES[self.0];
        place.start.store(0, Ordering::SeqCst);
        place.bytes.store(0, Ordering::SeqCst);
        place.taken.store(false, Ordering::SeqCst);
    }
}

/// Installs the handler of SIGBUS; returns the previous action.
fn install() -> io::Result<libc::sigaction> {
    // SAFETY: all zeros is a valid `sigaction`: no flags, an empty mask, the default action.
    let mut before: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: as above.
    let mut ours: libc::sigaction = unsafe { std::mem::zeroed() };
    ours.sa_sigaction = on_bus as *const () as usize;
    ours.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
    // SAFETY: both point to valid structs, and the handler has the signature that SA_SIGINFO asks for.
    match unsafe { libc::sigaction(libc::SIGBUS, &raw const ours, &raw mut before) } {
        0 => Ok(before),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The handler. Replaces the rest of the map from the fault on by zeros, and records it. Uses only atomics and `mmap`, a plain system
/// call: it may run at any moment, on any thread.
extern "C" fn on_bus(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the system passes a valid siginfo of a memory fault.
    let at = unsafe { (*info).si_addr() } as usize;
    // SAFETY: queries a constant of the system.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as usize;
    for place in &PLACES {
        let (start, bytes) = (place.start.load(Ordering::SeqCst), place.bytes.load(Ordering::SeqCst));
        if start == 0 || at < start || at - start >= bytes.next_multiple_of(page) {
            continue;
        }
        let from = at / page * page;
        let rest = (start + bytes).next_multiple_of(page) - from;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED;
        // SAFETY: the pages belong to a read-only map of this process that its owner is reading, and remain readable; the owner unmaps
        // all of them.
        let zeros = unsafe { libc::mmap(from as *mut libc::c_void, rest, libc::PROT_READ, flags, -1, 0) };
        if zeros != libc::MAP_FAILED {
            place.lost.store(true, Ordering::SeqCst);
            return;
        }
    }
    let before = BEFORE.get().copied().flatten();
    match before {
        Some(before) if before.sa_sigaction != libc::SIG_DFL && before.sa_sigaction != libc::SIG_IGN => {
            if before.sa_flags & libc::SA_SIGINFO != 0 {
                // SAFETY: with this flag the action is a function with this signature.
                let handler: extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void) =
                    unsafe { std::mem::transmute(before.sa_sigaction) };
                handler(signal, info, context);
            } else {
                // SAFETY: without it, with this one.
                let handler: extern "C" fn(libc::c_int) = unsafe { std::mem::transmute(before.sa_sigaction) };
                handler(signal);
            }
        }
        _ => {
            // SAFETY: as in `install`. The default action follows when the fault recurs.
            let default: libc::sigaction = unsafe { std::mem::zeroed() };
            // SAFETY: a valid struct; the old action is not requested.
            unsafe { libc::sigaction(signal, &raw const default, std::ptr::null_mut()) };
        }
    }
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

    /// When a file is truncated, its reader finds zeros and an error, and the process lives on; the remaining bytes are unchanged.
    #[test]
    fn a_file_cut_short_while_it_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        let text = b"word\n".repeat(20_000);
        for left in [0, 1, 4096, 5_000, 99_999] {
            std::fs::write(&path, &text).unwrap();
            let file = map_file(&path).unwrap();
            file.check_unchanged().unwrap();
            File::options().write(true).open(&path).unwrap().set_len(left).unwrap();
            let left = left as usize;
            // Many threads encounter the same fault.
            std::thread::scope(|threads| {
                for _ in 0..4 {
                    threads.spawn(|| {
                        assert_eq!(file[..left], text[..left]);
                        assert!(file[left.next_multiple_of(1 << 16).min(file.len())..].iter().all(|&byte| byte == 0));
                    });
                }
            });
            let other = |_: &[u8]| Err(Error::Usage("what the reader made of it".into()));
            for result in [file.check_unchanged(), file.read(|_| Ok(())), file.read(other)] {
                let error = result.unwrap_err();
                let expected = format!("found a file that was cut short while it was read: {left} bytes of 100000");
                assert!(error.to_string().contains(&expected) && error.exit_code() == 3, "{error}");
            }
            drop(file);
            // Its place is free again, and the next map is not considered lost.
            map_file(&path).unwrap().check_unchanged().unwrap();
        }
    }

    #[test]
    fn a_file_written_to_while_it_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        std::fs::write(&path, "two\nlines\n").unwrap();
        let file = map_file(&path).unwrap();
        // A file that only grows counts as unchanged.
        std::io::Write::write_all(&mut File::options().append(true).open(&path).unwrap(), b"three\n").unwrap();
        file.check_unchanged().unwrap();
        let other = File::options().write(true).open(&path).unwrap();
        other.set_len(10).unwrap();
        other.set_modified(SystemTime::UNIX_EPOCH).unwrap();
        assert!(file.check_unchanged().unwrap_err().to_string().contains("was written to while it was read"));
    }

    #[test]
    fn more_maps_than_places() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        std::fs::write(&path, "text").unwrap();
        let all: Vec<FileBytes> = (0..PLACES.len() + 3).map(|_| map_file(&path).unwrap()).collect();
        assert!(all.iter().all(|file| &**file == b"text"));
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
