//! Training: optimizers and what surrounds them. Nothing here knows text or a particular model.

pub mod optimizer;
