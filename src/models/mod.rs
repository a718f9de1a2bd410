//! Models: what the layers make together. A model knows no file and no optimizer.

pub mod language_model;

pub use language_model::LanguageModel;
