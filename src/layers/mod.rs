//! Layers: what a model is made of, each with its backward directly below its forward.

pub mod cells;
pub mod embedding;
pub mod gated_feedback;
pub mod losses;
pub mod matrix;
pub mod net;
pub mod norms;
pub mod recurrent;
pub mod shards;
pub mod window;
