//! What was seen to crash, hang or mislead.
