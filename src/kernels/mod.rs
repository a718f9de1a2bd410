//! What needs `unsafe`: memory maps.

pub mod memory;
