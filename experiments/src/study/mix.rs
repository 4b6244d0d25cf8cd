//! The mix of an arm: which of the study's tune conversations it is trained on.

use crate::study::paths;
use burgess_base::{Error, Result};
use burgess_mix::Mix;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use std::borrow::Cow;
use std::fmt;
use std::path::{Path, PathBuf};

/// The mix of an arm, as in the TOML file of a mix but without pools, whose place the study's tune conversations take.
#[derive(Clone, Debug, PartialEq)]
pub enum ArmMix {
    /// The name of a built-in mix, or the path of a TOML file, which was not read yet.
    Named(PathBuf),
    /// The rules.
    Rules(Box<Mix>),
}

/// Hint on how the mix of an arm is written.
const FORM: &str = "write mix = { threshold = { t = 250 } }, or the path of a TOML file with these tables";

impl ArmMix {
    /// Reads the file or the built-in mix that is named; a path is relative to `folder`, see [`paths::locate`].
    ///
    /// # Errors
    /// There is no such file, or it is no mix.
    pub fn resolve(&mut self, folder: Option<&Path>) -> Result<()> {
        let Self::Named(name) = &*self else { return Ok(()) };
        let text = name.to_string_lossy();
        let mix = match text.ends_with(".toml") || text.contains(['/', '\\']) {
            true => Mix::open(&paths::locate(folder, name, "the mix")?)?,
            false => Mix::builtin(&text)?,
        };
        *self = Self::Rules(Box::new(mix));
        Ok(())
    }

    /// Returns the rules.
    ///
    /// # Errors
    /// The file that is named was not read.
    pub fn rules(&self) -> Result<&Mix> {
        match self {
            Self::Rules(mix) => Ok(mix),
            Self::Named(name) => Err(Error::usage(format!("the mix {} was not read", name.display())).hint(FORM)),
        }
    }

    /// Checks that the rules can be applied to the conversations of a study.
    ///
    /// # Errors
    /// A rule has a wrong value, needs the images, or names pools; the error names the key.
    pub fn check(&self) -> Result<()> {
        let mix = self.rules()?;
        mix.validate()?;
        if !mix.pools.is_empty() {
            return Err(Error::usage(
                "`pools`: the mix of an arm has none: it chooses among the study's tune conversations",
            )
            .hint("remove `pools`; the study's data are named in [evaluator.data]"));
        }
        let filters = &mix.filters;
        let reads_images = [
            ("missing_images", filters.missing_images != burgess_mix::mix::KeepOrDrop::default()),
            ("duplicate_images", filters.duplicate_images.is_some()),
            ("leaks", filters.leaks.is_some()),
        ];
        match reads_images.iter().find(|(_, set)| *set) {
            Some((key, _)) => Err(Error::usage(format!(
                "`filters.{key}` reads the images, which the mix of an arm does not: its conversations are kept by the \
                 digest of their file"
            ))
            .hint("make the file with `burgess data mix`, and name it as the study's tune conversations")),
            None => Ok(()),
        }
    }
}

impl<'de> Deserialize<'de> for ArmMix {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = ArmMix;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a mix: a table such as { threshold = { t = 250 } }, or the path of a TOML file")
            }

            fn visit_str<E: serde::de::Error>(self, name: &str) -> std::result::Result<ArmMix, E> {
                Ok(ArmMix::Named(name.into()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> std::result::Result<ArmMix, A::Error> {
                Mix::deserialize(MapAccessDeserializer::new(map)).map(|mix| ArmMix::Rules(Box::new(mix)))
            }
        }
        deserializer.deserialize_any(Either)
    }
}

impl Serialize for ArmMix {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let value = |mix: &Mix| serde_json::to_value(mix).map_err(serde::ser::Error::custom);
        match self {
            Self::Named(name) => name.serialize(serializer),
            Self::Rules(mix) => stated(&value(mix)?, &value(&Mix::default())?).serialize(serializer),
        }
    }
}

/// Returns the keys of a table whose values differ from the defaults.
fn stated(value: &Value, default: &Value) -> Value {
    let (Value::Object(fields), Value::Object(defaults)) = (value, default) else { return value.clone() };
    let differs = |(key, value): &(&String, &Value)| !value.is_null() && defaults.get(*key) != Some(*value);
    let inner =
        |(key, value): (&String, &Value)| (key.clone(), stated(value, defaults.get(key).unwrap_or(&Value::Null)));
    Value::Object(fields.iter().filter(differs).map(inner).collect())
}

impl JsonSchema for ArmMix {
    fn schema_name() -> Cow<'static, str> {
        "ArmMix".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "The mix of an arm: a table, the path of a TOML file, or the name of a built-in mix.",
            "anyOf": [
                { "description": "Path of a TOML file, or the name of a built-in mix.", "type": "string" },
                generator.subschema_for::<Mix>(),
            ],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Serialize, Deserialize)]
    struct Holder {
        mix: ArmMix,
    }

    fn read(text: &str) -> Result<ArmMix> {
        let mut mix = toml::from_str::<Holder>(text).map_err(|e| Error::usage(e.to_string()))?.mix;
        mix.resolve(None)?;
        mix.check()?;
        Ok(mix)
    }

    #[test]
    fn a_mix_is_a_table_a_file_or_a_built_in_name() -> Result<()> {
        let table = "mix = { threshold = { t = 25 }, ratios = { total = 9, shares = { ocr = 1.0, general = 2.0 } } }";
        let mix = read(table)?;
        assert_eq!(mix.rules()?.threshold.as_ref().map(|threshold| threshold.t), Some(25));
        let written = toml::to_string(&Holder { mix: mix.clone() }).map_err(|e| Error::failed(e.to_string()))?;
        assert!(!written.contains("filters") && !written.contains("seed"), "only what was stated: {written}");
        assert_eq!(read(&written)?, mix);
        let dir = tempfile::tempdir()?;
        let file = dir.path().join("m.toml");
        std::fs::write(&file, "[threshold]\nt = 25\n[ratios]\ntotal = 9\nshares = { ocr = 1.0, general = 2.0 }\n")?;
        assert_eq!(read(&format!("mix = '{}'", file.display()))?, mix);
        let mut beside = ArmMix::Named("m.toml".into());
        beside.resolve(Some(dir.path()))?;
        assert_eq!(beside, mix);
        Ok(())
    }

    #[test]
    fn mixes_that_an_arm_cannot_have_are_refused_with_their_key() {
        for (text, said) in [
            ("mix = { threshold = { t = 0 } }", "`t` is 0"),
            ("mix = { treshold = { t = 5 } }", "unknown field `treshold`"),
            ("mix = { threshold = { t = -5 } }", "invalid value"),
            ("mix = { pools = [{ path = 'x.jsonl' }] }", "`pools`"),
            ("mix = { filters = { missing_images = 'drop' } }", "`filters.missing_images` reads the images"),
            ("mix = 7", "a mix: a table such as"),
            ("mix = 'no-such-mix'", "no mix called `no-such-mix`"),
            ("mix = 'no/such.toml'", "does not exist"),
        ] {
            let e = read(text).expect_err(text);
            assert!(e.exit_code() == 2 && e.to_string().contains(said), "{text}: {e}");
        }
    }
}
