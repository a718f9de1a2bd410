//! Layers: what a model is made of, each with its backward directly below its forward.

pub mod cells;
pub mod embedding;
pub mod losses;
pub mod matrix;
pub mod norms;
pub mod output;
pub mod recurrence;
pub mod shards;
pub mod window;
