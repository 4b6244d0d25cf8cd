//! What serde asks about fields that a card may leave out.

/// The default of what is usual.
pub(super) fn yes() -> bool {
    true
}

// serde hands a reference to it.
#[allow(clippy::trivially_copy_pass_by_ref)]
pub(super) fn is_yes(value: &bool) -> bool {
    *value
}

/// Whether a value is its type's default, which need not be written.
pub(super) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
