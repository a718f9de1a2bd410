//! CoNLL files and their tags.
