//! What asks a run to end or to save: signals, and a limit of time.
//!
//! While there is something to save (see [`Signals::hold`]), the first SIGINT, SIGTERM, SIGHUP or SIGXCPU is only noted, for the loop
//! to save and end, and the second SIGINT or SIGTERM ends the process at once: a lost terminal and a spent allowance of processor time
//! repeat theirs without anybody's hurry. Otherwise, as while a command waits for input, the first one ends it at once. SIGUSR1 and
//! SIGUSR2, by which schedulers announce that they are going to kill, ask for a checkpoint.

use crate::error::{Error, Result, signal_name};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2, SIGXFSZ};
use signal_hook::flag;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Who has something to save.
static HELD: AtomicUsize = AtomicUsize::new(0);
/// What is installed already.
static INSTALLED: Mutex<Option<Signals>> = Mutex::new(None);

/// Why a run is to end before its plan is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// A signal.
    Signal(i32),
    /// Its time is over.
    Time,
}

/// Tells whether this process has been asked to end, or to save.
#[derive(Clone, Debug)]
pub struct Signals {
    raised: Arc<AtomicUsize>,
    save: Arc<AtomicBool>,
    installed: Instant,
    until: Option<Instant>,
}

/// As long as it lives, the first signal is noted and the process goes on.
#[derive(Debug)]
pub struct Hold(());

impl Drop for Hold {
    fn drop(&mut self) {
        HELD.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Signals {
    /// Takes over the signals for the rest of the process; once for all, so that a second call gives what the first did. SIGHUP stays
    /// ignored where it is, as `nohup` has it. Also, a file that grows beyond the process's limit becomes a failed write instead of
    /// a killed process.
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
                // Actions run in the order of registration: the first signal finds `second` unset, and sets it.
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

    /// The same with a limit: the run is to end when so many minutes of the process are over.
    pub fn limited(self, minutes: Option<f64>) -> Self {
        let until = |minutes: f64| self.installed.checked_add(Duration::from_secs_f64((minutes * 60.0).min(1e9)));
        Signals { until: minutes.and_then(until), ..self }
    }

    /// From now on a signal does not end the process: the caller looks for it, saves and ends.
    pub fn hold(&self) -> Hold {
        HELD.fetch_add(1, Ordering::Relaxed);
        Hold(())
    }

    /// The signal that asked the process to end.
    pub fn raised(&self) -> Option<i32> {
        match self.raised.load(Ordering::Relaxed) {
            0 => None,
            signal => Some(signal as i32),
        }
    }

    /// Why the run is to end, if it is.
    pub fn stop(&self) -> Option<Stop> {
        let late = || self.until.is_some_and(|until| Instant::now() >= until).then_some(Stop::Time);
        self.raised().map(Stop::Signal).or_else(late)
    }

    /// Whether a checkpoint has been asked for since the last call.
    pub fn take_save(&self) -> bool {
        self.save.load(Ordering::Relaxed) && self.save.swap(false, Ordering::Relaxed)
    }
}

/// Whether the process was started with `signal` ignored, as `nohup` does with SIGHUP.
fn is_ignored(signal: i32) -> bool {
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
fn end_at_once(signal: i32, status: i32, line: &'static str, held: &'static AtomicUsize) -> io::Result<()> {
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
