//! A fast, reproducible CPU trainer for word-level neural networks.
//!
//! The program `wordmill` is described in the README; this is the library behind it. A file imports only from the floors below its own:
//!
//! | floor | modules | what |
//! |---|---|---|
//! | 0 | [`error`], [`profile`], [`real`], [`rng`] | errors in one line; profiling; the arithmetic of all computations; random numbers |
//! | 1 | [`sys`], [`kernels`], [`blas`] | the operating system; SIMD kernels, written once for all instruction sets; matrix products |
//! | 2 | [`params`], [`pool`] | tensors by name in one flat buffer; threads |
//! | 3 | [`layers`] | each with its backward directly below its forward |
//! | 4 | [`graph`], then [`models`] | computation graphs; models composed of the layers |
//! | 5 | [`text`], [`train`] | text as ids; optimizers, the training loop, checkpoints. Neither knows the other |
//! | 6 | [`tasks`] | text, model and training combined |
//! | 7 | [`cli`] | flags and printing |
//!
//! Everything is generic over [`Real`]: `f32` trains, and `f64` verifies the same code against finite differences. No result depends on
//! the number of threads: work is divided by the configuration and the data, and sums are computed in a fixed order.
//!
//! # Example
//! A model of five words learns a sentence by heart.
//! ```
//! use wordmill::kernels::dropout::Keep;
//! use wordmill::models::language_model::{Config, LanguageModel, Noise, Window};
//! use wordmill::models::Init;
//! use wordmill::params::{Arena, Gradients};
//! use wordmill::train::optimizer::{Optimizer, Rule};
//! use wordmill::train::stepper::Stepper;
//!
//! let model = LanguageModel::new(Config {
//!     words: 5,
//!     embed: 8,
//!     hidden: 16,
//!     layers: 1,
//!     reset_at: None,
//!     ..Config::default()
//! });
//! let mut w = Arena::<f32>::zeros(model.layout());
//! Init::Xavier.fill(&mut w, 1);
//!
//! // One lane of text, in a window of six steps: the target of each word is the next word.
//! let (inputs, targets) = ([0, 1, 2, 1, 3, 4], [1, 2, 1, 3, 4, 0]);
//! let window = Window { inputs: &inputs, targets: &targets, loss_from: 0 };
//! let mut space = model.space(inputs.len(), 1);
//! let g = Gradients::zeros(model.layout(), inputs.len());
//! let adam = Optimizer::new(Rule::Adam, 5.0, 0.0, model.layout());
//! let mut stepper = Stepper::new(w, g, adam, 0);
//! let mut losses = Vec::new();
//! for _ in 0..60 {
//!     let noise = |step| Noise { keep: Keep::inverted(1.0), seed: 1, step };
//!     let touched = stepper.touch(|g, step| model.touch(g, &mut space, window, noise(step)));
//!     let done = touched.step(|g, loaded, w| model.step(g, &mut space, loaded, w)).update(0.02);
//!     losses.push(done.outcome);
//! }
//! // At first all five words are equally likely; in the end each is almost certain.
//! assert!((losses[0] - 5f64.ln()).abs() < 0.3);
//! assert!(losses[59] < 0.1);
//! ```

pub mod blas;
#[cfg(feature = "cli")]
pub mod cli;
pub mod error;
pub mod graph;
pub mod kernels;
pub mod layers;
pub mod math;
pub mod models;
pub mod notices;
pub mod params;
pub mod pool;
pub mod profile;
pub mod real;
pub mod rng;
pub mod sys;
pub mod tasks;
pub mod text;
pub mod train;
pub mod tree;

pub use error::{Error, Result};
pub use real::Real;
