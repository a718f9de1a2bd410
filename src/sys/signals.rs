//! Requests to end or save a run: signals, and a time limit.
//!
//! While there is something to save (see [`Signals::hold`]), the first SIGINT, SIGTERM, SIGHUP or SIGXCPU is only recorded, for the
//! loop to save and end, and the second SIGINT or SIGTERM ends the process at once; a repeated SIGHUP or SIGXCPU does not, since the
//! system repeats these by itself. Otherwise, such as while a command waits for input, the first one ends the process at once. SIGUSR1
//! and SIGUSR2, by which schedulers announce that they will kill the process, request a checkpoint.

use crate::error::{Error, Result, signal_name};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2, SIGXFSZ};
use signal_hook::flag;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Number of holders with something to save.
static HELD: AtomicUsize = AtomicUsize::new(0);
/// The signals, once installed.
static INSTALLED: Mutex<Option<Signals>> = Mutex::new(None);

/// Why a run ends before its plan is complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// A signal.
    Signal(i32),
    /// The time limit.
    Time,
}

/// Whether this process has been asked to end, or to save.
#[derive(Clone, Debug)]
pub struct Signals {
    raised: Arc<AtomicUsize>,
    save: Arc<AtomicBool>,
    installed: Instant,
    until: Option<Instant>,
}

/// While it lives, the first signal is only recorded and the process continues.
#[derive(Debug)]
pub struct Hold(());

impl Drop for Hold {
    fn drop(&mut self) {
        HELD.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Signals {
    /// Installs the signal handlers for the rest of the process; a second call returns the result of the first. If SIGHUP is ignored,
    /// as under `nohup`, it stays ignored. Also, exceeding the process's limit of file size becomes a failed write instead of killing
    /// the process.
    pub fn install() -> Result<Self> {
        let mut installed = INSTALLED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(signals) = &*installed {
            return Ok(signals.clone());
        }
        let signals = Signals { raised: Arc::default(), save: Arc::default(), installed: Instant::now(), until: None };
        let second = Arc::new(AtomicBool::new(false));
        let install = || {
            let lines = [
                (SIGINT, "wordmill: stopped by Ctrl-C\n"),
                (SIGTERM, "wordmill: stopped by SIGTERM\n"),
                (SIGHUP, "wordmill: stopped by SIGHUP\n"),
                (libc::SIGXCPU, "wordmill: stopped by SIGXCPU\n"),
            ];
            for (signal, line) in lines {
                debug_assert!(line.contains(signal_name(signal)));
                if signal == SIGHUP && is_ignored(signal) {
                    continue;
                }
                // Actions run in the order of registration: at the first signal `second` is not set yet, and is then set.
                end_at_once(signal, 128 + signal, line, &HELD)?;
                if signal == SIGINT || signal == SIGTERM {
                    flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&second))?;
                }
                flag::register(signal, Arc::clone(&second))?;
                flag::register_usize(signal, Arc::clone(&signals.raised), signal as usize)?;
            }
            for signal in [SIGUSR1, SIGUSR2] {
                flag::register(signal, Arc::clone(&signals.save))?;
            }
            flag::register(SIGXFSZ, Arc::default())
        };
        install().map_err(|e| Error::io("signals", "installing the handlers", e))?;
        *installed = Some(signals.clone());
        Ok(signals)
    }

    /// The same with a limit: the run ends after this many minutes of the process.
    pub fn limited(self, minutes: Option<f64>) -> Self {
        let until = |minutes: f64| self.installed.checked_add(Duration::from_secs_f64((minutes * 60.0).min(1e9)));
        Signals { until: minutes.and_then(until), ..self }
    }

    /// From now on a signal does not end the process: the caller must check for it, save and end.
    pub fn hold(&self) -> Hold {
        HELD.fetch_add(1, Ordering::Relaxed);
        Hold(())
    }

    /// The signal that requested the process to end.
    pub fn raised(&self) -> Option<i32> {
        match self.raised.load(Ordering::Relaxed) {
            0 => None,
            signal => Some(signal as i32),
        }
    }

    /// Why the run should end, if it should.
    pub fn stop(&self) -> Option<Stop> {
        let late = || self.until.is_some_and(|until| Instant::now() >= until).then_some(Stop::Time);
        self.raised().map(Stop::Signal).or_else(late)
    }

    /// Whether a checkpoint has been requested since the last call.
    pub fn take_save(&self) -> bool {
        self.save.load(Ordering::Relaxed) && self.save.swap(false, Ordering::Relaxed)
    }
}

/// Whether the process was started with `signal` ignored, as `nohup` does with SIGHUP.
fn is_ignored(signal: i32) -> bool {
    // SAFETY: all zeros is a valid `sigaction` of plain integers and a null pointer.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: without a new action the call only writes the current one to the given struct.
    let asked = unsafe { libc::sigaction(signal, std::ptr::null(), &raw mut action) };
    asked == 0 && action.sa_sigaction == libc::SIG_IGN
}

/// From now on `signal` writes `line` to standard error and ends the process with `status` at once, unless `held` is above zero.
///
/// # Errors
/// Errors of the system.
fn end_at_once(signal: i32, status: i32, line: &'static str, held: &'static AtomicUsize) -> io::Result<()> {
    let end = move || {
        if held.load(Ordering::Relaxed) == 0 {
            // A reader that no longer reads must not block the process: the line is written only if that is possible at once.
            let mut stderr = libc::pollfd { fd: libc::STDERR_FILENO, events: libc::POLLOUT, revents: 0 };
            // SAFETY: one `pollfd` that outlives the call, which does not wait; `poll` is async-signal-safe.
            let ready = unsafe { libc::poll(&raw mut stderr, 1, 0) };
            if ready == 1 {
                // SAFETY: the line is static and of this length; `write` is async-signal-safe. Its failure is ignored.
                unsafe { libc::write(libc::STDERR_FILENO, line.as_ptr().cast(), line.len()) };
            }
            signal_hook::low_level::exit(status);
        }
    };
    // SAFETY: the action loads an atomic and calls `poll`, `write` and `_exit`, all of them async-signal-safe; it takes no lock,
    // allocates nothing and cannot panic.
    unsafe { signal_hook::low_level::register(signal, end) }.map(|_| ())
}
