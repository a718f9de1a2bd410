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

/// The bytes of a file: a read-only map of a regular file, or what was read from anything else (a pipe).
///
/// Another program may cut a mapped file short: its bytes beyond are zeros then, and [`FileBytes::check_unchanged`] tells. So whoever
/// has read them asks it in the end, or reads in [`FileBytes::read`].
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

/// A mapped file, and what it was when it was mapped.
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
    /// An error if the file has been cut short or written anew since it was mapped, or if the disk could not give some of its bytes.
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

    /// What `read` makes of the bytes, which may be others when it looks at them again: it must not panic then. If they have changed meanwhile, that is the error, whatever came of it.
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
/// What the system says about opening, reading or mapping; a directory.
pub fn map_file(path: &Path) -> Result<FileBytes> {
    let failed = |e| Error::io(path, "reading", e);
    let mut file = File::open(path).map_err(failed)?;
    let kind = file.metadata().map_err(failed)?;
    if kind.is_dir() {
        return Err(Error::input(path, 0, "a directory", "a file"));
    }
    let path = path.to_owned();
    // A file of length 0 cannot be mapped, and those of /proc only claim to be empty.
    if kind.is_file() && kind.len() > 0 {
        // SAFETY: the map is private and read-only. If the file is cut short, the handler of `Guard` puts zeros in the place of what is
        // gone; that nobody else writes to it cannot be had from the system, and is found out by `check_unchanged`. Everything derived
        // from the bytes is checked when it is used.
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

/// A map that the handler of SIGBUS knows.
struct Place {
    start: AtomicUsize,
    bytes: AtomicUsize,
    lost: AtomicBool,
    taken: AtomicBool,
}

/// Maps at a time; any more files are read instead.
static PLACES: [Place; 64] = [const {
    Place {
        start: AtomicUsize::new(0),
        bytes: AtomicUsize::new(0),
        lost: AtomicBool::new(false),
        taken: AtomicBool::new(false),
    }
}; 64];

/// What is done with a SIGBUS that is not about one of the maps.
static BEFORE: OnceLock<Option<libc::sigaction>> = OnceLock::new();

/// Keeps a place for a map, as long as that lives: where the file under it ends before the map, which otherwise is SIGBUS and the end of
/// the process, are zeros.
#[derive(Debug)]
struct Guard(usize);

impl Guard {
    /// None if all places are taken, or the system has no such handlers.
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

/// Takes over SIGBUS; gives what was there before.
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

/// The handler. Puts zeros in the place of the rest of the map that the fault is in, and makes a note of it. Only atomics and `mmap`,
/// which is a plain system call: it may run at any moment, on any thread.
extern "C" fn on_bus(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the system gives a valid siginfo, of a memory fault.
    let at = unsafe { (*info).si_addr() } as usize;
    // SAFETY: asks for a constant of the system.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as usize;
    for place in &PLACES {
        let (start, bytes) = (place.start.load(Ordering::SeqCst), place.bytes.load(Ordering::SeqCst));
        if start == 0 || at < start || at - start >= bytes.next_multiple_of(page) {
            continue;
        }
        let from = at / page * page;
        let rest = (start + bytes).next_multiple_of(page) - from;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED;
        // SAFETY: the pages belong to a map of this process that is read-only, whose owner is reading it at this moment, and stay readable;
        // the owner unmaps all of them.
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
                // SAFETY: with this flag the action is a function of this signature.
                let handler: extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void) =
                    unsafe { std::mem::transmute(before.sa_sigaction) };
                handler(signal, info, context);
            } else {
                // SAFETY: without it, of this one.
                let handler: extern "C" fn(libc::c_int) = unsafe { std::mem::transmute(before.sa_sigaction) };
                handler(signal);
            }
        }
        _ => {
            // SAFETY: as in `install`. The default action comes when the fault is made again.
            let default: libc::sigaction = unsafe { std::mem::zeroed() };
            // SAFETY: a valid struct; the old action is not asked for.
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

    /// A reader of a file that is cut short finds zeros and an error, not the end of the process; what is left is as it was.
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
            // Many threads meet the same fault.
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
            // Its place is free again, and the next map is not taken for lost.
            map_file(&path).unwrap().check_unchanged().unwrap();
        }
    }

    #[test]
    fn a_file_written_to_while_it_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        std::fs::write(&path, "two\nlines\n").unwrap();
        let file = map_file(&path).unwrap();
        // One that only grows is as it was.
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
