//! Texts and language models.
