//! A reader of TensorBoard event files, written from their specification and independent of the writer.

use burgess_base::protobuf::{ProtobufMessage, ProtobufValue};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// Tag, step and value of a point.
pub type Point = (String, i64, f32);

/// The event files in a directory.
pub fn files(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).expect("a directory").flatten().map(|e| e.path());
    let name = |path: &PathBuf| path.file_name().is_some_and(|n| n.to_string_lossy().contains(".tfevents."));
    entries.filter(name).collect()
}

/// The points of a run's only event file, after checking every checksum and that nothing is cut off.
pub fn points(dir: &Path) -> Vec<Point> {
    let files = files(dir);
    assert_eq!(files.len(), 1, "{files:?}");
    let bytes = std::fs::read(&files[0]).expect("an event file");
    let (mut left, mut points) = (bytes.as_slice(), Vec::new());
    while !left.is_empty() {
        let length = u64::from_le_bytes(left[..8].try_into().expect("a length")) as usize;
        let (record, rest) = left.split_at(length + 16);
        let data = &record[12..12 + length];
        for (part, sum) in [(&record[..8], &record[8..12]), (data, &record[12 + length..])] {
            assert_eq!(masked_crc(part).to_le_bytes(), sum, "a checksum");
        }
        points.extend(event(data));
        left = rest;
    }
    points
}

/// The points that the lines of `train.jsonl` demand, without measured ones.
pub fn expected(dir: &Path) -> Vec<Point> {
    let text = std::fs::read_to_string(dir.join("train.jsonl")).expect("a log");
    let of_line = |line: &str| {
        let step: Value = serde_json::from_str(line).expect("JSON");
        let (stage, number) =
            (step["stage"].as_str().expect("a stage").to_string(), step["step"].as_i64().expect("a step"));
        let point = |name: &str| (format!("{stage}/{name}"), number, step[name].as_f64().expect("a number") as f32);
        ["loss", "lr", "grad_norm"].map(point)
    };
    text.lines().flat_map(of_line).collect()
}

/// The points of losses, learning rates and gradient norms among `points`.
pub fn logged(points: &[Point]) -> Vec<Point> {
    let is = |p: &&Point| ["/loss", "/lr", "/grad_norm"].iter().any(|end| p.0.ends_with(end));
    points.iter().filter(is).cloned().collect()
}

fn event(data: &[u8]) -> Vec<Point> {
    let (mut step, mut points) = (0, Vec::new());
    for field in ProtobufMessage::new(data) {
        let field = field.expect("a field");
        match field.number {
            2 => step = field.int().expect("a step"),
            5 => {
                for value in field.message().expect("a summary") {
                    let (mut tag, mut number) = (String::new(), None);
                    for field in value.expect("a value").message().expect("a message") {
                        let field = field.expect("a field");
                        match (field.number, field.value) {
                            (1, _) => tag = field.text().expect("a tag").to_string(),
                            (2, ProtobufValue::Fixed32(bytes)) => number = Some(f32::from_le_bytes(bytes)),
                            _ => {}
                        }
                    }
                    points.extend(number.map(|number| (tag, 0, number)));
                }
            }
            _ => {}
        }
    }
    points.iter_mut().for_each(|point| point.1 = step);
    points
}

/// CRC-32C, bit by bit, masked as in TFRecord files.
fn masked_crc(data: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in data {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0x82f6_3b78 * (crc & 1));
        }
    }
    (!crc).rotate_right(15).wrapping_add(0xa282_ead8)
}
