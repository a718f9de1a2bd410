//! The interface to the operating system and the processor: files, memory, signals, rounding. Besides `kernels/` and `blas/` the only
//! place with `unsafe`.

pub mod cpu;
pub mod disk;
pub mod files;
pub mod memory;
pub mod panics;
pub mod signals;
pub mod usage;
