//! Layers: the building blocks of models, each with its backward pass directly below its forward pass.

pub mod cells;
pub mod embedding;
pub mod losses;
pub mod matrix;
pub mod norms;
pub mod output;
pub mod recurrence;
pub mod shards;
pub mod window;
