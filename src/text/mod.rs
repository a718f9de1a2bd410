//! Text and its forms: where words come from and how they are read, counted and laid out.

pub mod grammar;
