//! Trains a language model on a text: `cargo run --example train`.

use std::path::{Path, PathBuf};
use wordmill::Result;
use wordmill::models::language_model::Config;
use wordmill::pool::pool;
use wordmill::tasks::language_model::{Plan, train};
use wordmill::tasks::run;
use wordmill::text::Inputs;
use wordmill::train::progress::{Progress, Style};

/// Trains a small model in `dir`.
pub fn model(dir: &Path) -> Result<PathBuf> {
    let out = dir.join("model");
    let plan = Plan::new(concat!(env!("CARGO_MANIFEST_DIR"), "/data/lm/train.txt"), &out);
    let plan = Plan {
        model: Config { embed: 16, hidden: 32, ..plan.model },
        run: run::Plan { max_steps: Some(40), rate: 0.02, ..plan.run },
        ..plan
    };
    let summary = pool(1)?.install(|| train(&plan, &Inputs::default(), Progress::new(Style::Quiet)))?;
    println!(
        "{} parameters, {} {} seen in {} steps",
        summary.parameters, summary.examples, summary.unit, summary.steps
    );
    Ok(out)
}

pub(crate) fn main() -> Result<()> {
    model(tempfile::tempdir().expect("a directory").path()).map(|_| ())
}
