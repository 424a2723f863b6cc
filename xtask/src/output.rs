//! What people see, on standard error.

/// A heading of a longer part.
pub(crate) fn heading(text: &str) {
    eprintln!("\n=== {text}");
}

/// Something that is well.
pub(crate) fn good(text: &str) {
    eprintln!("  ✓ {text}");
}

/// Something that is not.
pub(crate) fn bad(text: &str) {
    eprintln!("  ✗ {text}");
}

/// Something worth knowing.
pub(crate) fn note(text: &str) {
    eprintln!("    {text}");
}
