//! Exports a language model to PyTorch and imports it again: `cargo run --example exchange`.

use wordmill::Result;
use wordmill::tasks::Model;
use wordmill::tasks::exchange_pytorch::{Source, export, import};
use wordmill::tasks::language_model::TrainedLm;
use wordmill::text::Inputs;

#[path = "train.rs"]
#[allow(dead_code, reason = "its main is another example")]
mod train;

pub(crate) fn main() -> Result<()> {
    let dir = tempfile::tempdir().expect("a directory");
    let trained = TrainedLm::load(&train::model(dir.path())?)?;
    let file = dir.path().join("model.safetensors");
    let words = export(&trained, &file)?;
    println!("for PyTorch: {} and {}", file.display(), words.display());

    let (source, again) = (Source { file: &file, words: &words, activation: None }, dir.path().join("again"));
    import(&source, &again, false, &Inputs::default())?;
    assert_eq!(TrainedLm::load(&again)?.w.all(), trained.w.all());
    Ok(())
}
