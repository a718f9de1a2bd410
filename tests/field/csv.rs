//! CSV files, pairs and lexicons.
