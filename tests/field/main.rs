//! What people bring: for each kind of file and surrounding that public reports tell of, a small input of our own, what the
//! program says of it, and what comes out. One module per kind of thing.

mod program;
mod score;

mod conll;
mod crashes;
mod csv;
mod every_file;
mod machines;
mod texts;
mod vectors;
