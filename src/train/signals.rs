//! Ctrl-C and SIGTERM: the first asks the run to save and end, the second ends it at once.

use crate::error::{Error, Result};
use signal_hook::consts::{SIGINT, SIGTERM, SIGXFSZ};
use signal_hook::flag;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Tells whether a signal has asked this process to end.
#[derive(Clone, Debug)]
pub struct Signals {
    raised: Arc<AtomicUsize>,
}

impl Signals {
    /// Takes over SIGINT and SIGTERM for the rest of the process. Also, a file that grows beyond the process's limit
    /// becomes a failed write instead of a killed process.
    pub fn install() -> Result<Self> {
        let raised = Arc::new(AtomicUsize::new(0));
        let second = Arc::new(AtomicBool::new(false));
        let install = || {
            for signal in [SIGINT, SIGTERM] {
                // Actions run in the order of registration: the first signal finds `second` unset, and sets it.
                flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&second))?;
                flag::register(signal, Arc::clone(&second))?;
                flag::register_usize(signal, Arc::clone(&raised), signal as usize)?;
            }
            flag::register(SIGXFSZ, Arc::default())
        };
        match install() {
            Ok(_) => Ok(Signals { raised }),
            Err(e) => Err(Error::io("signals", "installing the handlers", e)),
        }
    }

    /// The signal that asked the run to end: 2 or 15.
    pub fn raised(&self) -> Option<i32> {
        match self.raised.load(Ordering::Relaxed) {
            0 => None,
            signal => Some(signal as i32),
        }
    }
}
