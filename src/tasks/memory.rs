//! Memory: how much a run needs, and whether it is available.

use crate::error::{Error, Result};
use crate::notices::Notice;
use crate::params::{Gradients, Layout};
use crate::pool;
use crate::sys::usage;
use crate::text::Inputs;
use crate::train::optimizer::{Optimizer, Rule};
use crate::train::progress::Progress;
use crate::train::saver::Saver;

/// The expected peak when `bytes` more are allocated and used.
pub fn predicted_peak(bytes: usize) -> usize {
    // Measured overhead of threads, the allocator and checkpoints.
    const REST: usize = 2 << 20;
    usage::peak().max(usage::resident() + bytes + REST)
}

/// Bytes of the weights in `layout`, of gradients and states of `rule` for those in `trained`, and of saving them or of an evaluation
/// that temporarily takes `evaluation` bytes, whichever is larger. A step touches up to `rows` rows of a table.
pub fn learning_bytes(layout: &Layout, trained: &Layout, rule: Rule, rows: usize, evaluation: usize) -> usize {
    let bytes = |all: &Layout, trained: &Layout| all.len() * size_of::<f32>() + Optimizer::<f32>::bytes(rule, trained);
    // What a checkpoint copies when it begins.
    let dense = |of: &Layout| of.resized(|t| if t.role.by_rows() { (0, t.columns) } else { (t.rows, t.columns) });
    let (all, copied) = (bytes(layout, trained), bytes(&dense(layout), &dense(trained)));
    all + Gradients::<f32>::bytes(trained, rows) + Saver::bytes(copied, all - copied).max(evaluation)
}

/// Options that determine the memory of a run.
#[derive(Clone, Copy, Debug)]
pub struct Needs {
    /// `--hidden`, if the model has it.
    pub hidden: Option<usize>,
    /// `--embed`, if it can be chosen.
    pub embed: Option<usize>,
    /// `--batch`
    pub batch: usize,
    /// `--optimizer`
    pub rule: Rule,
}

impl Needs {
    /// Reports the memory that training needs, `bytes` with these options, and rejects it as [`check`] does.
    pub fn check(self, bytes: impl Fn(Needs) -> usize, progress: &mut Progress, inputs: &Inputs) -> Result<()> {
        let predicted = predicted_peak(bytes(self));
        progress.say(&format!("predicted peak memory {:.0} MB", predicted as f64 / 1e6));
        let fits = |room: usize| self.what_fits(|needs| predicted_peak(bytes(needs)) <= room);
        check("training", predicted, fits, inputs)
    }

    /// Options each of which alone would make the run fit.
    fn what_fits(self, fits: impl Fn(Needs) -> bool) -> Vec<String> {
        let hidden = self.hidden.and_then(|most| largest(most, |hidden| fits(Needs { hidden: Some(hidden), ..self })));
        let embed = self.embed.and_then(|most| largest(most, |embed| fits(Needs { embed: Some(embed), ..self })));
        let batch = largest(self.batch, |batch| fits(Needs { batch, ..self }));
        let named = [("--hidden", hidden), ("--embed", embed), ("--batch", batch)];
        let numbers = named.into_iter().filter_map(|(name, most)| Some(format!("{name} {}", most?)));
        let sgd = self.rule != Rule::Sgd && fits(Needs { rule: Rule::Sgd, ..self });
        numbers.chain(sgd.then(|| "--optimizer sgd".to_owned())).collect()
    }
}

/// Rejects `work`, such as "training", that exceeds the memory of the machine, of this process's control group or of
/// its limits, and reports `what_fits` in the available memory. Warns if there is enough memory in total, but not at
/// present.
pub fn check(
    work: &str,
    predicted: usize,
    what_fits: impl FnOnce(usize) -> Vec<String>,
    inputs: &Inputs,
) -> Result<()> {
    let gb = |bytes: usize| bytes as f64 / 1e9;
    if let Some(room) = usage::room().filter(|&room| room < predicted) {
        let fits = match &what_fits(room)[..] {
            [] => "reducing a single size would not be enough".to_owned(),
            [one] => format!("{one} would fit"),
            [some @ .., last] => format!("{} or {last} would fit", some.join(", ")),
        };
        let (needed, room) = (gb(predicted), gb(room));
        let what = format!("{work} needs {needed:.2} GB of memory, this machine offers {room:.2} GB; {fits}");
        return Err(Error::Usage(what));
    }
    if let Some(free) = usage::free().filter(|&free| free < predicted) {
        let (needed, free) = (gb(predicted), gb(free));
        let what = format!("{work} needs {needed:.2} GB of memory, of which {free:.2} GB are free at present");
        inputs.warn(Notice::new(what))?;
    }
    Ok(())
}

/// The same for work whose only adjustable size is the number of threads, on which `bytes` depends.
pub fn check_threads(work: &str, bytes: impl Fn(usize) -> usize, inputs: &Inputs) -> Result<()> {
    let threads = pool::threads();
    let fits = |room: usize| {
        let fewer = largest(threads, |threads| predicted_peak(bytes(threads)) <= room);
        fewer.map(|threads| format!("--threads {threads}")).into_iter().collect()
    };
    check(work, predicted_peak(bytes(threads)), fits, inputs)
}

/// The largest number from 1 to below `limit` that fits, given that larger ones need more.
pub fn largest(limit: usize, fits: impl Fn(usize) -> bool) -> Option<usize> {
    let (mut fitting, mut too_large) = (0, limit);
    while fitting + 1 < too_large {
        let middle = fitting + (too_large - fitting) / 2;
        *(if fits(middle) { &mut fitting } else { &mut too_large }) = middle;
    }
    (fitting > 0).then_some(fitting)
}
