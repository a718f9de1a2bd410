//! Computes the log-probability of each line of a text: `cargo run --example score`.

use wordmill::Result;
use wordmill::pool::pool;
use wordmill::tasks::Model;
use wordmill::tasks::language_model::TrainedLm;
use wordmill::tasks::score::score;
use wordmill::text::{Inputs, Lines};

#[path = "train.rs"]
#[allow(dead_code, reason = "its main is another example")]
mod train;

pub(crate) fn main() -> Result<()> {
    let dir = tempfile::tempdir().expect("a directory");
    let text = dir.path().join("hypotheses.txt");
    std::fs::write(&text, "The president said so .\nSo said president the .\n").expect("a text");
    let trained = TrainedLm::load(&train::model(dir.path())?)?;
    let lines = Lines::read_with(&text, &trained.vocabulary, &Inputs::default())?;
    for score in pool(1)?.install(|| score(&trained, &lines, None)) {
        println!("{score:.4}");
    }
    Ok(())
}
