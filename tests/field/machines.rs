//! Signals, file systems, standard streams.
