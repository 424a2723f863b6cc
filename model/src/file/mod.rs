//! Reading limits files.
