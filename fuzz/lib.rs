//! What the targets share: limits on time and memory, and files to read from.

use std::alloc::{GlobalAlloc, Layout, System};
use std::fs;
use std::path::PathBuf;
use std::sync::{LazyLock, Once};

/// The system's allocator, which ends the process when a GiB or more is asked for at once.
struct Limited;

const LIMIT: usize = 1 << 30;

// SAFETY: passes everything on to the system's allocator.
unsafe impl GlobalAlloc for Limited {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        assert_small(layout.size());
        // SAFETY: the caller's promises are those that the system's allocator asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        assert_small(layout.size());
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, old: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        assert_small(size);
        // SAFETY: as above.
        unsafe { System.realloc(old, layout, size) }
    }

    unsafe fn dealloc(&self, old: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(old, layout) }
    }
}

fn assert_small(size: usize) {
    if size >= LIMIT {
        // Not a panic, which would allocate.
        std::process::abort();
    }
}

#[global_allocator]
static ALLOCATOR: Limited = Limited;

/// Seconds of processor time that this process has used: not those for which it was stopped.
fn seconds() -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes the time to the place given.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut time) };
    time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
}

/// Parallel work is done by this thread itself, which would otherwise wait for another most of the time.
pub fn alone() {
    static ALONE: Once = Once::new();
    ALONE.call_once(|| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(1).use_current_thread();
        pool.build_global().expect("nothing has been done in parallel yet");
    });
}

/// Runs `read`, which must take less than a second.
pub fn limited(read: impl FnOnce()) {
    alone();
    let begin = seconds();
    read();
    let taken = seconds() - begin;
    assert!(taken < 1.0, "took {taken} s");
}

/// A directory of this process in memory.
pub fn directory() -> PathBuf {
    static DIRECTORY: LazyLock<PathBuf> = LazyLock::new(|| {
        let path = PathBuf::from(format!("/dev/shm/wordmill-fuzz-{}", std::process::id()));
        fs::create_dir_all(&path).expect("a directory can be made in /dev/shm");
        path
    });
    DIRECTORY.clone()
}

/// A file that holds `bytes`.
pub fn file(name: &str, bytes: &[u8]) -> PathBuf {
    let path = directory().join(name);
    fs::write(&path, bytes).expect("a file can be written in /dev/shm");
    path
}
