//! Text in and out: files of tagged sentences, tags, word vectors, and the evaluation of predicted tags.

pub mod conll;
pub mod features;
pub mod spans;
pub mod tags;
pub mod vectors;
pub mod words;
