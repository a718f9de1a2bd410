//! Models, made of layers. A model knows nothing about files and optimizers.

pub mod graphs;
pub mod initial;
pub mod language_model;
pub mod ner;
pub mod pseudo_siamese;
pub mod siamese;
pub mod softmax_regression;

pub use initial::Init;
pub use language_model::LanguageModel;
pub use ner::Ner;
pub use pseudo_siamese::PseudoSiamese;
pub use siamese::Siamese;
pub use softmax_regression::SoftmaxRegression;
