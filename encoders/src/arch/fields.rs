//! Default values and skip conditions for serde fields that an encoder card may omit.

/// The default of fields that are true unless stated otherwise.
pub(super) fn yes() -> bool {
    true
}

// serde's `skip_serializing_if` passes a reference.
#[allow(clippy::trivially_copy_pass_by_ref)]
pub(super) fn is_yes(value: &bool) -> bool {
    *value
}

/// Whether a value equals its type's default and need not be written.
pub(super) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
