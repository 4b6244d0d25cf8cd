//! Serialisation of numbers that may be unknown or not measured, which are `null` in the file.

/// Serialises an unknown number: NaN in memory, `null` in the file.
pub(crate) mod unknown_as_null {
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(value: &f64, to: S) -> Result<S::Ok, S::Error> {
        if value.is_finite() { to.serialize_f64(*value) } else { to.serialize_none() }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
        Ok(Option::<f64>::deserialize(from)?.unwrap_or(f64::NAN))
    }
}

/// Serialises a measurement that was not taken: 0 in memory, `null` in the file.
pub(super) mod unmeasured {
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(value: &f64, to: S) -> Result<S::Ok, S::Error> {
        if value.is_finite() && *value > 0.0 { to.serialize_f64(*value) } else { to.serialize_none() }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
        Ok(Option::<f64>::deserialize(from)?.unwrap_or(0.0))
    }
}

/// Serialises integers as [`unmeasured`] does.
pub(super) mod uncounted {
    use serde::{Deserialize, Deserializer, Serializer};

    // serde requires a reference.
    #[allow(clippy::trivially_copy_pass_by_ref)]
    pub fn serialize<S: Serializer>(value: &u64, to: S) -> Result<S::Ok, S::Error> {
        if *value > 0 { to.serialize_u64(*value) } else { to.serialize_none() }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
        Ok(Option::<u64>::deserialize(from)?.unwrap_or(0))
    }
}
