//! The arguments of timm's model classes: the table of its architectures (made by `tests/reference/timm_table.py`),
//! overridden by the arguments of a configuration.

use crate::arch::NormKind;
use crate::arch::parts::ActivationKind;
use crate::json_values::{SupportedValues, first_unsupported, integer, side};
use burgess_base::{Error, Result, nearest};
use serde_json::{Map, Value};

/// The table of architectures, one per line: name, class, arguments.
const TABLE: &str = include_str!("architectures.tsv");

/// Arguments of training, of the classifier and of its pooling, which do not affect the features.
pub(crate) const IGNORED: &[&str] = &[
    "attn_drop_rate",
    "attn_pool_mlp_ratio",
    "attn_pool_num_heads",
    "drop_rate",
    "dynamic_img_size",
    "features_only",
    "fix_init",
    "head_init_scale",
    "num_classes",
    "out_indices",
    "patch_drop_rate",
    "pool_include_prefix",
    "pos_drop_rate",
    "proj_drop_rate",
    "weight_init",
];

/// Iterates over name, class and arguments of all architectures.
fn table() -> impl Iterator<Item = (&'static str, &'static str, &'static str)> {
    TABLE.lines().filter_map(|line| {
        let mut columns = line.split('\t');
        Some((columns.next()?, columns.next()?, columns.next()?))
    })
}

/// The arguments of a model. Reading an argument removes it; [`TimmArguments::done`] rejects those that are left.
pub(crate) struct TimmArguments {
    /// Class of the model in timm, such as `VisionTransformer`.
    pub class: &'static str,
    name: String,
    left: Map<String, Value>,
}

impl TimmArguments {
    /// Collects the arguments of the architecture `name`, overridden by `own`. A pretrained tag after a dot is ignored.
    ///
    /// `is_read` says which names the hint for an unknown name may suggest.
    ///
    /// # Errors
    /// timm 1.0.20 has no such architecture.
    pub fn of(name: &str, own: &Value, is_read: impl Fn(&str) -> bool) -> Result<Self> {
        let name = name.split('.').next().unwrap_or(name);
        let (_, class, usual) = table().find(|(known, ..)| *known == name).ok_or_else(|| {
            // Names that would themselves be rejected are not suggested.
            let near = nearest(name, table().map(|(known, ..)| known).filter(|known| is_read(known)));
            let hint = if near.is_empty() {
                "write a card, or use an architecture of timm 1.0.20 (`timm.list_models()`)".into()
            } else {
                format!("use one of the nearest names: {}; or write a card", near.join(", "))
            };
            Error::failed(format!("timm 1.0.20 has no architecture `{name}`")).hint(hint)
        })?;
        let mut left: Map<String, Value> = serde_json::from_str(usual)?;
        match own {
            Value::Null => {}
            Value::Object(own) => left.extend(own.clone()),
            other => {
                return Err(Error::failed(format!("model_args = {other} is not an object"))
                    .hint("set it to an object of arguments, or remove it"));
            }
        }
        Ok(Self { class, name: name.into(), left })
    }

    /// Name of the architecture, without its pretrained tag.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Sets `key` to `value` if neither the architecture nor the configuration has it.
    pub fn or(&mut self, key: &str, value: Option<&Value>) {
        if let Some(value) = value.filter(|v| !v.is_null()) {
            self.left.entry(key).or_insert_with(|| value.clone());
        }
    }

    /// Adds the fields of the object `key` (a dataclass of timm) as arguments; those that are given beside it override
    /// them.
    ///
    /// # Errors
    /// The argument is not an object.
    pub fn overlay(&mut self, key: &str) -> Result<()> {
        match self.left.remove(key) {
            None | Some(Value::Null) => {}
            Some(Value::Object(fields)) => {
                for (field, value) in fields {
                    self.left.entry(field).or_insert(value);
                }
            }
            Some(other) => return Err(self.unsupported(key, &other)),
        }
        Ok(())
    }

    /// Returns an argument without removing it.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.left.get(key)
    }

    /// Removes and returns an argument; `None` if it is absent or `None` in Python.
    pub fn take(&mut self, key: &str) -> Option<Value> {
        self.left.remove(key).filter(|v| !v.is_null())
    }

    /// Whether the argument is given and is not `None` in Python.
    pub fn has(&self, key: &str) -> bool {
        self.left.get(key).is_some_and(|value| !value.is_null())
    }

    /// Whether the argument is given and is `None` in Python.
    pub fn is_none(&self, key: &str) -> bool {
        self.left.get(key).is_some_and(Value::is_null)
    }

    /// Reads four integers, or one integer for all four.
    pub fn four(&mut self, key: &str, default: [usize; 4]) -> Result<[usize; 4]> {
        let read = |value: &Value| match value.as_array() {
            Some(list) => list.iter().map(integer).collect::<Option<Vec<_>>>()?.try_into().ok(),
            None => integer(value).map(|one| [one; 4]),
        };
        Ok(self.read(key, read)?.unwrap_or(default))
    }

    /// Reads a name and returns its value in `known`.
    pub fn one_of<T: Copy>(&mut self, key: &str, default: &str, known: &[(&str, T)]) -> Result<T> {
        let name = self.text(key, default)?;
        let found = known.iter().find(|(known, _)| *known == name);
        found.map(|(_, value)| *value).ok_or_else(|| self.unsupported(key, &name.into()))
    }

    /// Reads the name of an activation function.
    pub fn activation(&mut self, key: &str, default: ActivationKind) -> Result<ActivationKind> {
        let named = |value: &Value| ActivationKind::TIMM.iter().find(|(name, _)| Some(*name) == value.as_str());
        Ok(self.read(key, |value| named(value).map(|(_, kind)| *kind))?.unwrap_or(default))
    }

    /// Reads an argument with `read`, which returns `None` for a value that is not supported.
    pub fn read<T>(&mut self, key: &str, read: impl Fn(&Value) -> Option<T>) -> Result<Option<T>> {
        match self.take(key) {
            None => Ok(None),
            Some(value) => read(&value).map(Some).ok_or_else(|| self.unsupported(key, &value)),
        }
    }

    /// Reads a non-negative integer.
    pub fn number(&mut self, key: &str, default: usize) -> Result<usize> {
        Ok(self.read(key, integer)?.unwrap_or(default))
    }

    /// Reads one value for each of `count` stages: a list of as many values, or one value for all stages.
    pub fn per_stage<T: Clone>(
        &mut self,
        key: &str,
        count: usize,
        default: T,
        read: impl Fn(&Value) -> Option<T>,
    ) -> Result<Vec<T>> {
        let all = |value: &Value| match value.as_array() {
            Some(list) => Some(list.iter().map(&read).collect::<Option<Vec<T>>>()?).filter(|list| list.len() == count),
            None => read(value).map(|one| vec![one; count]),
        };
        Ok(self.read(key, all)?.unwrap_or_else(|| vec![default; count]))
    }

    /// Reads the side of a square: an integer, or two equal integers.
    pub fn side(&mut self, key: &str) -> Result<Option<usize>> {
        self.read(key, side)
    }

    /// Reads a list of non-negative integers.
    pub fn numbers(&mut self, key: &str) -> Result<Option<Vec<usize>>> {
        self.read(key, |value| value.as_array()?.iter().map(integer).collect())
    }

    /// Reads a number.
    pub fn real(&mut self, key: &str) -> Result<Option<f64>> {
        self.read(key, Value::as_f64)
    }

    /// Reads a Boolean; `None` if it is absent.
    pub fn choice(&mut self, key: &str) -> Result<Option<bool>> {
        self.read(key, Value::as_bool)
    }

    /// Reads a Boolean.
    pub fn flag(&mut self, key: &str, default: bool) -> Result<bool> {
        Ok(self.choice(key)?.unwrap_or(default))
    }

    /// Reads a string.
    pub fn text(&mut self, key: &str, default: &str) -> Result<String> {
        Ok(self.read(key, |value| value.as_str().map(str::to_string))?.unwrap_or_else(|| default.into()))
    }

    /// Reads arguments for which only one value is supported.
    pub fn only(&mut self, fixed: &SupportedValues) -> Result<()> {
        if let Some(key) = first_unsupported(fixed, |key| self.left.get(key))? {
            let value = self.take(key).unwrap_or_default();
            return Err(self.unsupported(key, &value));
        }
        for (key, _) in fixed {
            self.left.remove(*key);
        }
        Ok(())
    }

    /// Removes arguments that do not affect the features.
    pub fn without(&mut self, keys: &[&str]) {
        for key in keys {
            self.left.remove(*key);
        }
    }

    /// Reads the class and the epsilon of the norms at `key`, which must be norms over all channels of a token.
    pub fn norm(&mut self, key: &str, default: (NormKind, f64)) -> Result<(NormKind, f64)> {
        const CLASSES: [(&str, NormKind); 6] = [
            ("LayerNorm", NormKind::Layer),
            ("layernorm", NormKind::Layer),
            ("RmsNorm", NormKind::Rms),
            ("rmsnorm", NormKind::Rms),
            ("SimpleNorm", NormKind::Simple),
            ("simplenorm", NormKind::Simple),
        ];
        // The default epsilon of timm's own classes.
        const TIMM_EPS: f64 = 1e-6;
        let kind = |name: &str| CLASSES.iter().find(|(known, _)| *known == name).map(|(_, kind)| *kind);
        let read = |value: &Value| match value.as_object() {
            None => Some((kind(value.as_str()?)?, TIMM_EPS)),
            Some(layer) => {
                let (name, settings) = layer.iter().next().filter(|_| layer.len() == 1)?;
                let settings = settings.as_object().filter(|table| table.keys().all(|key| key == "eps"))?;
                Some((kind(name)?, settings.get("eps").map_or(Some(TIMM_EPS), Value::as_f64)?))
            }
        };
        Ok(self.read(key, read)?.unwrap_or(default))
    }

    /// Reads the epsilon of the norms, which must be layer norms over all channels of a token.
    pub fn norm_eps(&mut self, default: f64) -> Result<f64> {
        // timm's own LayerNorm class has another default than PyTorch's.
        const TIMM_EPS: f64 = 1e-6;
        Ok(self
            .read("norm_layer", |value| match value.as_object() {
                None => matches!(value.as_str()?, "LayerNorm" | "layernorm").then_some(TIMM_EPS),
                Some(layer) => layer.get("LayerNorm")?.as_object()?.get("eps").map_or(Some(TIMM_EPS), Value::as_f64),
            })?
            .unwrap_or(default))
    }

    /// Returns the error for an argument with an unsupported value.
    pub fn unsupported(&self, key: &str, value: &Value) -> Error {
        Error::failed(format!("timm's `{}` has {key} = {value}, which is not supported", self.name))
            .hint("describe the model in a card: copy one of its family from encoders/zoo/")
    }

    /// Returns the error for missing or inconsistent arguments; `what` says what is wrong.
    pub fn invalid(&self, what: &str) -> Error {
        Error::failed(format!("timm's `{}`: {what}", self.name))
            .hint("describe the model in a card: copy one of its family from encoders/zoo/")
    }

    /// Checks that all arguments have been read.
    ///
    /// # Errors
    /// An argument has not been read.
    pub fn done(self) -> Result<()> {
        match self.left.iter().next() {
            None => Ok(()),
            Some((key, value)) => Err(self.unsupported(key, value)),
        }
    }
}

/// Computes Python's `int(width * ratio)`.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
pub(crate) fn times(width: usize, ratio: f64) -> usize {
    (width as f64 * ratio) as usize
}
