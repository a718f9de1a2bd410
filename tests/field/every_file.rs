//! What any file may be: packed, in another encoding, something else altogether.
