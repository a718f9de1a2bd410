//! How the program handles its own bugs: a panic in any thread ends in one line and exit code 70.

use crate::error::quoted;
use crate::notices::say;
use std::any::Any;
use std::ffi::OsString;
use std::panic::{self, AssertUnwindSafe, PanicHookInfo};
use std::process::ExitCode;
use std::sync::{Arc, Mutex};

/// The exit code after a panic: `EX_SOFTWARE` of sysexits.h.
pub const EXIT_CODE: u8 = 70;

/// Runs `work`, the program called with `command`. If it panics, one line on standard error says where and what to
/// report, and the exit code is [`EXIT_CODE`]. Unwinding leaves checkpoints intact: one that was not written completely
/// is not a checkpoint.
///
/// For programs only: it replaces the panic hook of the process while `work` runs.
pub fn reported(command: &[OsString], work: impl FnOnce() -> ExitCode) -> ExitCode {
    // The first panic is the cause; the others follow from it.
    let first: Arc<Mutex<Option<String>>> = Arc::default();
    let before: Arc<dyn Fn(&PanicHookInfo) + Send + Sync> = Arc::from(panic::take_hook());
    let (seen, usual) = (Arc::clone(&first), Arc::clone(&before));
    panic::set_hook(Box::new(move |info| {
        if let Ok(mut seen) = seen.lock() {
            seen.get_or_insert_with(|| describe(info));
        }
        // With RUST_BACKTRACE set, Rust's own message is printed.
        if std::env::var_os("RUST_BACKTRACE").is_some_and(|value| value != "0") {
            usual(info);
        }
    }));
    let ended = panic::catch_unwind(AssertUnwindSafe(work));
    panic::set_hook(Box::new(move |info| before(info)));
    let first = first.lock().map_or(None, |mut first| first.take());
    match (ended, first) {
        (Ok(code), None) => code,
        (ended, first) => {
            // A thread that nobody joins may have panicked while the others continued: the result is unreliable.
            let what = first.or_else(|| ended.err().map(|panic| text(&*panic).to_owned()));
            say(&format!("wordmill: {}", line(&what.unwrap_or_default(), command)));
            ExitCode::from(EXIT_CODE)
        }
    }
}

/// The message of a panic, its location and its thread.
fn describe(info: &PanicHookInfo) -> String {
    let place = info.location().map_or(String::new(), |at| format!(" at {}:{}", at.file(), at.line()));
    let thread = std::thread::current();
    let thread =
        thread.name().filter(|name| *name != "main").map_or(String::new(), |name| format!(" in thread {name}"));
    format!("{}{place}{thread}", text(info.payload()))
}

fn text(payload: &dyn Any) -> &str {
    let owned = payload.downcast_ref::<String>().map(String::as_str);
    owned.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("a panic without a message")
}

/// What is reported, in one line.
fn line(panic: &str, command: &[OsString]) -> String {
    let command: Vec<String> = command.iter().map(|word| quoted(word.as_ref())).collect();
    let text = format!(
        "this is a bug in wordmill {}, not a problem with your data: {panic}; please report this line, \
         which contains the version and the command line (your data is not needed): {}; earlier checkpoints are kept",
        env!("CARGO_PKG_VERSION"),
        command.join(" ")
    );
    text.split_whitespace().collect::<Vec<&str>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_told_in_one_line() {
        let command = ["wordmill", "train", "ner", "--train", "my data.conll"].map(OsString::from);
        let text = line("index out of bounds:\n the len is 3 at src/x.rs:7", &command);
        assert!(!text.contains('\n') && text.contains("index out of bounds: the len is 3 at src/x.rs:7;"), "{text}");
        assert!(
            text.contains(env!("CARGO_PKG_VERSION")) && text.contains("wordmill train ner --train 'my data.conll'")
        );
    }
}
