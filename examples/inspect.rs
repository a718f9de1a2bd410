//! Inspects a model: its weights, its gates, and how far gradients travel back: `cargo run --example inspect`.

use std::path::Path;
use wordmill::Result;
use wordmill::pool::pool;
use wordmill::tasks::inspect::inspect;
use wordmill::text::Inputs;

#[path = "train.rs"]
#[allow(dead_code, reason = "its main is another example")]
mod train;

pub(crate) fn main() -> Result<()> {
    let dir = tempfile::tempdir().expect("a directory");
    let text = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/data/lm/test.txt"));
    let model = train::model(dir.path())?;
    let report = pool(1)?.install(|| inspect(&model, Some(text), 5, &Inputs::default()))?;
    println!("{report}");
    Ok(())
}
