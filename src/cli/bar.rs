//! Training progress on a terminal.

use crate::train::progress::{Bar, Progress, Style};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal;

/// A progress bar on a terminal, lines elsewhere, nothing if `quiet`.
pub fn progress(quiet: bool) -> Progress {
    Progress::new(match (quiet, std::io::stderr().is_terminal()) {
        (true, _) => Style::Quiet,
        (false, true) => Style::Bar(Box::new(TerminalBar(ProgressBar::hidden()))),
        (false, false) => Style::Lines,
    })
}

struct TerminalBar(ProgressBar);

impl Bar for TerminalBar {
    fn begin(&mut self, epoch: &str, words: u64, done: u64) {
        let target = ProgressDrawTarget::stderr_with_hz(10);
        self.0 = ProgressBar::with_draw_target(Some(words), target).with_position(done);
        let style = ProgressStyle::with_template("{prefix} [{wide_bar}] {percent:>3}%  {msg}");
        self.0.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> "));
        self.0.set_prefix(epoch.to_owned());
        self.0.tick();
    }

    fn show(&mut self, done: u64, state: String) {
        self.0.set_position(done);
        self.0.set_message(state);
    }

    fn suspend(&mut self, print: &mut dyn FnMut()) {
        self.0.suspend(print);
    }

    fn clear(&mut self) {
        self.0.finish_and_clear();
    }
}
