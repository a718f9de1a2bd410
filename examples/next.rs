//! The most likely next words after the beginning of a sentence: `cargo run --example next`.

use wordmill::Result;
use wordmill::pool::pool;
use wordmill::tasks::Model;
use wordmill::tasks::language_model::TrainedLm;
use wordmill::tasks::next::Predictor;

#[path = "train.rs"]
#[allow(dead_code, reason = "its main is another example")]
mod train;

pub(crate) fn main() -> Result<()> {
    let dir = tempfile::tempdir().expect("a directory");
    let trained = TrainedLm::load(&train::model(dir.path())?)?;
    pool(1)?.install(|| {
        for next in Predictor::new(&trained).next_words("The president", 5, false).next {
            println!("{}\t{:.4}", next.word, next.probability);
        }
    });
    Ok(())
}
