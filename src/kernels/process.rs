//! What a signal does while nothing is to be saved: the process says so and ends, wherever it is.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Whether the process was started with `signal` ignored, as `nohup` does with SIGHUP.
pub fn is_ignored(signal: i32) -> bool {
    // SAFETY: all zeros is a valid `sigaction` of plain integers and a null pointer.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: without a new action the call only writes the current one to the place that it is given.
    let asked = unsafe { libc::sigaction(signal, std::ptr::null(), &raw mut action) };
    asked == 0 && action.sa_sigaction == libc::SIG_IGN
}

/// From now on `signal` writes `line` to standard error and ends the process with `status`, at once and wherever it is, unless `held`
/// is above zero.
///
/// # Errors
/// What the system says.
pub fn end_at_once(signal: i32, status: i32, line: &'static str, held: &'static AtomicUsize) -> io::Result<()> {
    let end = move || {
        if held.load(Ordering::Relaxed) == 0 {
            // A reader that has stopped reading must not keep the process: written only where it can be at once.
            let mut stderr = libc::pollfd { fd: libc::STDERR_FILENO, events: libc::POLLOUT, revents: 0 };
            // SAFETY: one `pollfd` that lives during the call, which does not wait; `poll` is async-signal-safe.
            let ready = unsafe { libc::poll(&raw mut stderr, 1, 0) };
            if ready == 1 {
                // SAFETY: the line is static and of this length; `write` is async-signal-safe. If it fails, nobody is listening.
                unsafe { libc::write(libc::STDERR_FILENO, line.as_ptr().cast(), line.len()) };
            }
            signal_hook::low_level::exit(status);
        }
    };
    // SAFETY: the action loads an atomic and calls `poll`, `write` and `_exit`, all of them async-signal-safe; it takes no lock,
    // allocates nothing and cannot panic.
    unsafe { signal_hook::low_level::register(signal, end) }.map(|_| ())
}
