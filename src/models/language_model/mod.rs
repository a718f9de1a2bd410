//! The recurrent language model (equations, section 4).
//!
//! e⁽ᵗ⁾ = L_{x(t)}    h⁽ᵗ⁾ = net(h⁽ᵗ⁻¹⁾, e⁽ᵗ⁾)    ŷ⁽ᵗ⁾ = softmax(h⁽ᵗ⁾Uₒᵀ + b₂)    J = −Σ log ŷ_{x(t+1)} / N
//!
//! The net is a stack of cells or has gated feedback ([`crate::layers::recurrence`]); dropout applies to e and to every layer's output.
//! With tied weights L is Uₒ (Press and Wolf 2017). The lanes of a batch are divided into shards, over which the recurrent part is
//! parallel; the output layer is parallel over the vocabulary. Tokens are stored shard by shard, step by step within a shard.

mod config;
mod memory;
mod model;
mod reader;
mod reading;
mod space;
mod tensors;

pub use crate::layers::output::Loss;
pub use config::{Config, Sizes, shard_lanes};
pub use memory::Number;
pub use model::{Loaded, Noise};
pub use reading::Reading;
pub use space::{Space, Window};
pub use tensors::LanguageModel;
