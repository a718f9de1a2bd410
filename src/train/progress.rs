//! Progress of training, on standard error: standard output is for results.

use crate::math::exp;
use std::io::Write;
use std::time::{Duration, Instant};

/// How progress is shown.
pub enum Style {
    /// Nothing.
    Quiet,
    /// A line from time to time.
    Lines,
    /// A bar that is redrawn in place.
    Bar(Box<dyn Bar>),
}

/// The progress bar of an epoch on a terminal.
pub trait Bar: Send {
    /// Begins an epoch of `words` words, of which `done` are done.
    fn begin(&mut self, epoch: &str, words: u64, done: u64);

    /// Shows that `done` words are done, with `state` beside the bar.
    fn show(&mut self, done: u64, state: String);

    /// Hides the bar while `print` prints.
    fn suspend(&mut self, print: &mut dyn FnMut());

    /// Removes the bar.
    fn clear(&mut self);
}

/// Time between two lines.
const LINE: Duration = Duration::from_secs(10);
/// Time between two updates of the bar.
const DRAW: Duration = Duration::from_millis(200);

/// Progress, epoch by epoch.
pub struct Progress {
    style: Style,
    out: Box<dyn Write + Send>,
    epoch: String,
    total: u64,
    started: Instant,
    started_at: u64,
    shown: Instant,
    perplexity: bool,
    unit: &'static str,
}

impl Progress {
    /// Nothing is shown before [`Progress::epoch`].
    pub fn new(style: Style) -> Self {
        Self::to(style, Box::new(std::io::stderr()))
    }

    fn to(style: Style, out: Box<dyn Write + Send>) -> Self {
        let now = Instant::now();
        Progress {
            style,
            out,
            epoch: String::new(),
            total: 0,
            started: now,
            started_at: 0,
            shown: now,
            perplexity: true,
            unit: "words",
        }
    }

    /// Does not show the loss as a perplexity.
    pub fn without_perplexity(mut self) -> Self {
        self.perplexity = false;
        self
    }

    /// Counts a unit other than words.
    pub fn counting(mut self, unit: &'static str) -> Self {
        self.unit = unit;
        self
    }

    /// Begins epoch `number` (from 1) of `count`, which has `words` target words, of which `done` are done already.
    pub fn epoch(&mut self, number: u64, count: u64, words: u64, done: u64) {
        self.finish();
        self.epoch = format!("epoch {number}/{count}");
        (self.total, self.started_at) = (words, done);
        self.started = Instant::now();
        self.shown = self.started;
        if let Style::Bar(bar) = &mut self.style {
            bar.begin(&self.epoch, words, done);
        }
    }

    /// Shows that `done` words of the epoch are done; `loss` is a recent mean loss per word, in nats. Call it after every step: it
    /// updates the display at most a few times per second, and otherwise only checks the clock.
    pub fn update(&mut self, done: u64, loss: f64) {
        let every = match self.style {
            Style::Quiet => return,
            Style::Lines => LINE,
            Style::Bar(_) => DRAW,
        };
        let now = Instant::now();
        if now.duration_since(self.shown) < every {
            return;
        }
        self.shown = now;
        let speed = done.saturating_sub(self.started_at) as f64 / now.duration_since(self.started).as_secs_f64();
        let left = self.total.saturating_sub(done) as f64 / speed;
        let perplexity = if self.perplexity { format!("  perplexity {}", short(exp(loss))) } else { String::new() };
        let unit = self.unit;
        let state = format!("{speed:.0} {unit}/s  loss {loss:.3}{perplexity}  {} left", time(left));
        if let Style::Bar(bar) = &mut self.style {
            bar.show(done, state);
        } else {
            let percent = 100.0 * done as f64 / self.total.max(1) as f64;
            let epoch = &self.epoch;
            // Standard error may be closed; training continues.
            _ = writeln!(self.out, "{epoch}  {percent:.0}%  {state}");
        }
    }

    /// Prints a line, above the bar if there is one.
    pub fn say(&mut self, line: &str) {
        let out = &mut self.out;
        // Standard error may be closed.
        let mut print = || _ = writeln!(out, "{line}");
        match &mut self.style {
            Style::Quiet => {}
            Style::Bar(bar) => bar.suspend(&mut print),
            Style::Lines => print(),
        }
    }

    /// Removes the bar.
    pub fn finish(&mut self) {
        if let Style::Bar(bar) = &mut self.style {
            bar.clear();
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.finish();
    }
}

/// A perplexity with four or five digits.
pub fn short(value: f64) -> String {
    match value {
        v if v < 100.0 => format!("{v:.2}"),
        v if v < 1e3 => format!("{v:.1}"),
        v if v < 1e7 => format!("{v:.0}"),
        v => format!("{v:.1e}"),
    }
}

/// A duration in words with at most two units; `?` if it is not known.
fn time(seconds: f64) -> String {
    if seconds.is_nan() || seconds >= 1e9 {
        return "?".to_owned();
    }
    let s = seconds.round() as u64;
    match s {
        0..60 => format!("{s} s"),
        60..3600 => format!("{} min {:02} s", s / 60, s % 60),
        _ => format!("{} h {:02} min", s / 3600, s % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_perplexities_read_well() {
        assert_eq!(
            [0.4, 59.4, 61.0, 3600.0, 90_061.0].map(time),
            ["0 s", "59 s", "1 min 01 s", "1 h 00 min", "25 h 01 min"]
        );
        assert_eq!([f64::NAN, f64::INFINITY].map(time), ["?", "?"]);
        assert_eq!([1.0, 151.26, 10_000.4, f64::INFINITY].map(short), ["1.00", "151.3", "10000", "inf"]);
    }

    #[test]
    fn quiet_says_nothing_and_lines_come_seldom() {
        use std::sync::{Arc, Mutex};
        #[derive(Clone, Default)]
        struct Sink(Arc<Mutex<Vec<u8>>>);
        impl Write for Sink {
            fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
                self.0.lock().unwrap().write(bytes)
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let run = |style| {
            let sink = Sink::default();
            let mut progress = Progress::to(style, Box::new(sink.clone()));
            progress.epoch(2, 5, 1000, 0);
            for done in 1..=500 {
                progress.update(done, 2.0);
            }
            // As if ten seconds had passed.
            progress.shown -= LINE;
            progress.started -= LINE;
            progress.update(500, 100f64.ln());
            progress.say("validation perplexity 99.0");
            drop(progress);
            String::from_utf8(sink.0.lock().unwrap().clone()).unwrap()
        };
        assert_eq!(run(Style::Quiet), "");
        let expected =
            "epoch 2/5  50%  50 words/s  loss 4.605  perplexity 100.0  10 s left\nvalidation perplexity 99.0\n";
        assert_eq!(run(Style::Lines), expected);
    }
}
