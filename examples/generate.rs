//! Generates sentences with a language model: `cargo run --example generate`.

use wordmill::Result;
use wordmill::pool::pool;
use wordmill::tasks::Model;
use wordmill::tasks::generate::{Draws, Generator};
use wordmill::tasks::language_model::TrainedLm;

#[path = "train.rs"]
#[allow(dead_code, reason = "its main is another example")]
mod train;

pub(crate) fn main() -> Result<()> {
    let dir = tempfile::tempdir().expect("a directory");
    let trained = TrainedLm::load(&train::model(dir.path())?)?;
    let draws = Draws { words: 20, temperature: 0.8, top_k: Some(50), ..Draws::default() };
    pool(1)?.install(|| {
        let mut generator = Generator::new(&trained, None);
        (0..3).for_each(|number| println!("{}", generator.sentence("The president", &draws, number).text));
    });
    Ok(())
}
