//! Tasks combine text, model and training: everything the program does, without its command line.

pub mod any;
pub mod columns;
pub mod complexity;
pub mod demo;
pub mod epochs;
pub mod exchange_pytorch;
pub mod exchange_word2vec;
pub mod generate;
pub mod graphs;
pub mod inspect;
pub mod language_model;
pub mod lexicon;
pub mod measure;
pub mod memory;
pub mod model;
pub mod neighbors;
pub mod next;
pub mod options;
pub mod profiled;
mod prompt;
pub mod pseudo_siamese;
pub mod regression;
pub mod run;
pub mod saved;
pub mod scaling;
pub mod score;
pub mod siamese;
pub mod softmax;
pub mod speed;
pub mod tagger;
pub mod tune;
pub mod tuning;

pub use model::Model;
