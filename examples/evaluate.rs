//! Evaluates a model of any kind on a file: `cargo run --example evaluate`.

use std::path::Path;
use wordmill::Result;
use wordmill::pool::pool;
use wordmill::tasks::any;
use wordmill::tasks::measure::Measuring;
use wordmill::text::Inputs;

#[path = "train.rs"]
#[allow(dead_code, reason = "its main is another example")]
mod train;

pub(crate) fn main() -> Result<()> {
    let dir = tempfile::tempdir().expect("a directory");
    let file = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/data/lm/test.txt"));
    let (saved, model) = any::load(&train::model(dir.path())?)?;
    let found = pool(1)?.install(|| model.evaluate(file, &Measuring::default(), &Inputs::default()))?;
    println!("a {}\n{}\n{}", saved.kind(), found.text, found.json["perplexity"]);
    Ok(())
}
