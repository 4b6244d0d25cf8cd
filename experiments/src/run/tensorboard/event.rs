//! The protocol buffers of TensorBoard: `Event` and `Summary` of `event.proto` and `summary.proto`, as far as scalars
//! and texts need them.

use burgess_base::Result;
use burgess_base::protobuf::{ProtobufMessage, ProtobufValue};

/// One event: the values of a step.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Event {
    /// Time in seconds since 1970.
    pub wall_time: f64,
    /// Number of the step.
    pub step: usize,
    /// The version of the format; only in the first event of a file.
    version: Option<&'static str>,
    /// The values, each with its tag.
    pub values: Vec<Value>,
}

/// A value with its tag.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Value {
    /// Name of the curve.
    pub tag: String,
    content: Content,
}

/// A number or a text.
#[derive(Debug, Default, PartialEq)]
enum Content {
    Scalar(f32),
    Text(String),
    /// Another kind of value, which this reader skips.
    #[default]
    Other,
}

impl Value {
    /// Makes a point of a curve.
    pub(super) fn scalar(tag: impl Into<String>, value: f32) -> Self {
        Self { tag: tag.into(), content: Content::Scalar(value) }
    }

    /// Makes a text, which TensorBoard shows as Markdown.
    pub(super) fn text(tag: impl Into<String>, text: &str) -> Self {
        Self { tag: tag.into(), content: Content::Text(text.into()) }
    }

    /// Returns the number; `None` for other kinds of values.
    pub(super) fn number(&self) -> Option<f32> {
        match self.content {
            Content::Scalar(value) => Some(value),
            _ => None,
        }
    }

    /// Encodes `Summary.Value`.
    fn encoded(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.tag.len() + 16);
        bytes(&mut out, 1, self.tag.as_bytes());
        match &self.content {
            Content::Scalar(value) => {
                key(&mut out, 2, 5);
                out.extend_from_slice(&value.to_le_bytes());
            }
            Content::Text(text) => {
                // TensorProto: dtype 7 is DT_STRING; the shape is one dimension of size 1.
                let mut tensor = Vec::with_capacity(text.len() + 16);
                integer(&mut tensor, 1, 7);
                bytes(&mut tensor, 2, &[0x12, 0x02, 0x08, 0x01]);
                bytes(&mut tensor, 8, text.as_bytes());
                bytes(&mut out, 8, &tensor);
                // SummaryMetadata.plugin_data.plugin_name.
                let mut plugin = Vec::new();
                bytes(&mut plugin, 1, b"text");
                let mut metadata = Vec::new();
                bytes(&mut metadata, 1, &plugin);
                bytes(&mut out, 9, &metadata);
            }
            Content::Other => {}
        }
        out
    }

    fn decoded(message: ProtobufMessage<'_>) -> Result<Self> {
        let mut value = Self::default();
        for field in message {
            let field = field?;
            match field.number {
                1 => value.tag = field.text()?.to_string(),
                2 => value.content = Content::Scalar(field.float()?),
                _ => {}
            }
        }
        Ok(value)
    }
}

impl Event {
    /// Makes an event with these values.
    pub(super) fn new(wall_time: f64, step: usize, values: Vec<Value>) -> Self {
        Self { wall_time, step, version: None, values }
    }

    /// Makes the first event of a file, which names the version of the format.
    pub(super) fn version(wall_time: f64) -> Self {
        Self { wall_time, version: Some("brain.Event:2"), ..Self::default() }
    }

    /// Encodes the event.
    pub(super) fn encoded(&self) -> Vec<u8> {
        let mut out = Vec::new();
        key(&mut out, 1, 1);
        out.extend_from_slice(&self.wall_time.to_le_bytes());
        integer(&mut out, 2, self.step as u64);
        if let Some(version) = self.version {
            bytes(&mut out, 3, version.as_bytes());
        }
        if !self.values.is_empty() {
            let mut summary = Vec::new();
            for value in &self.values {
                bytes(&mut summary, 1, &value.encoded());
            }
            bytes(&mut out, 5, &summary);
        }
        out
    }

    /// Decodes an event; texts and other fields are skipped.
    ///
    /// # Errors
    /// The bytes are no event.
    pub(super) fn decoded(record: &[u8]) -> Result<Self> {
        let mut event = Self::default();
        for field in ProtobufMessage::new(record) {
            let field = field?;
            match (field.number, field.value) {
                (1, ProtobufValue::Fixed64(time)) => event.wall_time = f64::from_le_bytes(time),
                (2, _) => event.step = usize::try_from(field.int()?).unwrap_or_default(),
                (5, _) => {
                    for value in field.message()? {
                        event.values.push(Value::decoded(value?.message()?)?);
                    }
                }
                _ => {}
            }
        }
        Ok(event)
    }
}

/// Appends the key of a field: its number and wire type.
fn key(out: &mut Vec<u8>, number: u64, wire_type: u64) {
    varint(out, number << 3 | wire_type);
}

/// Appends an integer field.
fn integer(out: &mut Vec<u8>, number: u64, value: u64) {
    key(out, number, 0);
    varint(out, value);
}

/// Appends a field of bytes: a string or a message.
fn bytes(out: &mut Vec<u8>, number: u64, value: &[u8]) {
    key(out, number, 2);
    varint(out, value.len() as u64);
    out.extend_from_slice(value);
}

/// Appends an integer in groups of seven bits, the lowest first.
fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_is_decoded() -> Result<()> {
        let values = vec![Value::scalar("tune/loss", 1.5), Value::scalar("größe", f32::MIN_POSITIVE)];
        let event = Event::new(1_780_000_000.25, 70_000, values);
        assert_eq!(Event::decoded(&event.encoded())?, event);
        let text = Event::decoded(&Event::new(1.0, 0, vec![Value::text("config", "    {}")]).encoded())?;
        assert_eq!((text.values[0].tag.as_str(), text.values[0].number()), ("config", None));
        assert!(Event::decoded(&[0xff; 5]).is_err());
        Ok(())
    }

    #[test]
    fn bytes_are_those_of_the_specification() {
        // A file that TensorFlow's own writer begins has this event, apart from the time.
        let version = Event::version(0.0).encoded();
        assert_eq!(version, b"\x09\0\0\0\0\0\0\0\0\x10\0\x1a\x0dbrain.Event:2");
        let scalar = Event::new(0.0, 300, vec![Value::scalar("a", 1.0)]).encoded();
        assert_eq!(scalar, b"\x09\0\0\0\0\0\0\0\0\x10\xac\x02\x2a\x0a\x0a\x08\x0a\x01a\x15\0\0\x80\x3f");
    }
}
