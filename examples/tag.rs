//! Trains a tagger and tags a sentence: `cargo run --example tag`.

use wordmill::Result;
use wordmill::pool::pool;
use wordmill::tasks::tagger::{Plan, Tagger, train};
use wordmill::tasks::{Model, run};
use wordmill::text::Inputs;
use wordmill::train::progress::{Progress, Style};

pub(crate) fn main() -> Result<()> {
    let dir = tempfile::tempdir().expect("a directory");
    let plan = Plan::new(concat!(env!("CARGO_MANIFEST_DIR"), "/data/ner/train.conll"), dir.path().join("tagger"));
    let plan = Plan { hidden: 32, run: run::Plan { max_steps: Some(300), rate: 0.01, ..plan.run }, ..plan };
    let (words, inputs) = (["Samuel", "Keller", "left", "Lincoln", "on", "Monday", "."], Inputs::default());
    pool(1)?.install(|| {
        train(&plan, &inputs, Progress::new(Style::Quiet))?;
        let tagger = Tagger::load(&plan.run.out)?;
        let labels = &tagger.config.labels;
        for (word, tag) in words.iter().zip(tagger.tag(&words, &[words.len()], &inputs)?) {
            println!("{word}\t{}", tag.text(&labels.kinds, labels.scheme));
        }
        Ok(())
    })
}
