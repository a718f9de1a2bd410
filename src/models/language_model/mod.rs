//! The recurrent language model (equations, section 4).
//!
//! e⁽ᵗ⁾ = L_{x(t)}    h⁽ᵗ⁾ = net(h⁽ᵗ⁻¹⁾, e⁽ᵗ⁾)    ŷ⁽ᵗ⁾ = softmax(h⁽ᵗ⁾Uₒᵀ + b₂)    J = −Σ log ŷ_{x(t+1)} / N
//!
//! The net is a stack of cells or a gated-feedback net ([`crate::layers::recurrence`]); dropout is on e and on every layer's output. With
//! tied weights L is Uₒ (Press and Wolf 2017). The lanes of a batch are divided into shards, which the recurrent part is parallel
//! over; the output layer is parallel over the vocabulary. Tokens lie shard by shard, in a shard step by step.

mod config;
mod memory;
mod model;
mod reader;
mod space;
mod tensors;

pub use crate::layers::output::Loss;
pub use config::{Config, Sizes, shard_lanes};
pub use memory::Number;
pub use model::{Loaded, Noise};
pub use space::{Space, Window};
pub use tensors::LanguageModel;
