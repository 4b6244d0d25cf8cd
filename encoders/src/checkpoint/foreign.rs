//! Detects files of other formats and files without weights, so that an error can name what they are.

use burgess_base::text::excerpt;
use burgess_base::{Error, Result};

/// A hint: how to save a PyTorch model in a format that is read.
pub(super) const SAVE_STATE_DICT: &str = "load the model with the library that wrote it and save its weights for PyTorch: \
     torch.save(model.state_dict(), \"model.pth\"), or safetensors.torch.save_file(model.state_dict(), \"model.safetensors\")";

/// A hint: how to convert a TorchScript archive.
pub(super) const CONVERT_SCRIPT: &str = "save its state dict with these two lines of Python: \
     model = torch.jit.load(\"FILE\", map_location=\"cpu\"); torch.save(model.state_dict(), \"model.pth\")";

/// A hint: how to convert a pickled module.
pub(super) const CONVERT_OBJECT: &str = "save its state dict with these two lines of Python, where its code is installed: \
     model = torch.load(\"FILE\", map_location=\"cpu\", weights_only=False); torch.save(model.state_dict(), \"model.pth\")";

const TRUNCATED: &str = "the download went wrong: delete the file and get it again";

/// The first bytes of a foreign file, its description, and a hint.
const MAGIC: [(&[u8], &str, &str); 17] = [
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file (Keras or TensorFlow weights)", SAVE_STATE_DICT),
    (b"\x93NUMPY", "an array of NumPy", SAVE_STATE_DICT),
    (b"\x1f\x8b", "a gzip archive", "unpack it and name the file of weights in it"),
    (b"\x28\xb5\x2f\xfd", "a zstd archive", "unpack it and name the file of weights in it"),
    (b"\xfd7zXZ\x00", "an xz archive", "unpack it and name the file of weights in it"),
    (b"BZh", "a bzip2 archive", "unpack it and name the file of weights in it"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", "unpack it and name the file of weights in it"),
    (b"Rar!", "a rar archive", "unpack it and name the file of weights in it"),
    (b"\x89PNG", "a PNG image", "name a file of weights"),
    (b"\xff\xd8\xff", "a JPEG image", "name a file of weights"),
    (b"%PDF", "a PDF document", "name a file of weights"),
    (b"PAR1", "a Parquet table", "name a file of weights"),
    (b"ggjt", "a GGML file from before GGUF", "convert it to GGUF with llama.cpp"),
    (b"ggml", "a GGML file from before GGUF", "convert it to GGUF with llama.cpp"),
    (b"lmgg", "a GGML file from before GGUF", "convert it to GGUF with llama.cpp"),
    (b"\x7fELF", "a program or library", "name a file of weights"),
    (b"<?xml", "an XML document", TRUNCATED),
];

/// Returns an error that names the foreign format of `file`; `None` if the format is not detected.
pub(super) fn unsupported(file: &[u8]) -> Option<Error> {
    // The first eight bytes are the length of a safetensors header, so they can be any, but its JSON follows.
    if matches!(file, [_, _, _, _, 0, 0, 0, 0, b'{', ..]) {
        return None;
    }
    let known = MAGIC.iter().find(|(magic, ..)| file.starts_with(magic)).map(|(_, what, hint)| (*what, *hint));
    let (what, hint) = known.or_else(|| by_structure(file))?;
    Some(Error::failed(format!("this is {what}, not weights that can be read")).hint(hint))
}

fn by_structure(file: &[u8]) -> Option<(&'static str, &'static str)> {
    let head = file.get(..file.len().min(512)).unwrap_or_default();
    let text = head.trim_ascii_start().to_ascii_lowercase();
    if text.starts_with(b"<!doctype html") || text.starts_with(b"<html") {
        return Some(("a web page", TRUNCATED));
    }
    if file.get(4..8) == Some(b"TFL3") {
        return Some(("a TensorFlow Lite model", SAVE_STATE_DICT));
    }
    if file.get(257..262) == Some(b"ustar") {
        return Some(("a tar archive", "unpack it and name the file of weights in it"));
    }
    // A safetensors header also begins with `{`, but after its length.
    if matches!(head.first(), Some(b'{' | b'[')) && file.get(8) != Some(&b'{') && is_text(head) {
        return Some(("a JSON text", "name the file with the weights, or the directory that holds it"));
    }
    if is_onnx(file) {
        return Some(("an ONNX model", SAVE_STATE_DICT));
    }
    if is_msgpack(file) {
        return Some(("a msgpack file (Flax or JAX weights)", SAVE_STATE_DICT));
    }
    None
}

fn is_text(bytes: &[u8]) -> bool {
    bytes.iter().all(|b| *b >= 0x20 || b.is_ascii_whitespace())
}

/// Whether a file is a protobuf that begins with a small version number, followed by the producer's name or a later
/// field (`ModelProto`: fields 1, 2, 3 …).
fn is_onnx(file: &[u8]) -> bool {
    matches!(file, [0x08, 1..=20, 0x12 | 0x1a | 0x22 | 0x2a | 0x32 | 0x3a | 0x42, ..])
}

/// Whether a file is a msgpack map whose first key is a string.
fn is_msgpack(file: &[u8]) -> bool {
    let key = |at: usize| file.get(at).is_some_and(|b| matches!(b, 0xa1..=0xbf | 0xd9));
    match file.first() {
        Some(0x81..=0x8f) => key(1) && file.get(8) != Some(&b'{'),
        Some(0xde) => key(3),
        Some(0xdf) => key(5),
        _ => false,
    }
}

/// Describes a file that is not read by the ending of its name.
pub(super) fn by_ending(name: &str) -> Option<&'static str> {
    let name = name.to_ascii_lowercase();
    let ends = |endings: &[&str]| endings.iter().any(|ending| name.ends_with(ending));
    if ends(&[".onnx", ".onnx_data"]) {
        Some("an ONNX model")
    } else if ends(&[".h5", ".keras", ".hdf5"]) {
        Some("a file of Keras or TensorFlow")
    } else if ends(&[".msgpack"]) {
        Some("a file of Flax")
    } else if ends(&[".pb", ".tflite", ".ckpt.index", ".ckpt.meta"]) {
        Some("a file of TensorFlow")
    } else if ends(&[".npz", ".npy"]) {
        Some("a file of NumPy")
    } else if ends(&[".mlmodel", ".mlpackage"]) {
        Some("a model of Core ML")
    } else if ends(&[".ckpt", ".pkl", ".pickle"]) {
        Some("not named like weights: name the file itself if it is one of torch.save")
    } else {
        None
    }
}

/// Checks the members of a zip archive: only archives of `torch.save` pass, other than TorchScript.
///
/// # Errors
/// The archive is not one of `torch.save`; the message says what it is.
pub(super) fn check_zip<'a>(names: impl Iterator<Item = &'a str> + Clone) -> Result<()> {
    let any = |test: &dyn Fn(&str) -> bool| names.clone().any(test);
    let part = |name: &str, wanted: &str| name.split('/').any(|part| part == wanted);
    if any(&|name| name.ends_with("constants.pkl") || part(name, "code") && name.ends_with(".py")) {
        return Err(Error::failed("this is a TorchScript archive, which holds a program beside the weights")
            .hint(CONVERT_SCRIPT));
    }
    if any(&|name| name.ends_with("data.pkl") && name.matches('/').count() <= 1) {
        return Ok(());
    }
    let (what, hint) = if any(&|name| name.ends_with("model.weights.h5")) {
        ("a model of Keras", SAVE_STATE_DICT)
    } else if any(&|name| name.ends_with(".npy")) {
        ("a file of several arrays of NumPy (.npz)", SAVE_STATE_DICT)
    } else if any(&|name| name.ends_with("archive_format") || name.contains("serialized_exported_program")) {
        (
            "a program that torch.export saved",
            "save the state dict instead: torch.save(program.state_dict, \"model.pth\")",
        )
    } else if let Some(inner) = names.clone().find(|name| name.ends_with(".safetensors") || name.ends_with("data.pkl"))
    {
        return Err(Error::failed(format!("this zip archive holds `{}`", excerpt(inner, 200)))
            .hint("unpack it and name the file of weights in it"));
    } else {
        (
            "a zip archive without data.pkl, not one of torch.save",
            "if weights are packed in it, unpack it and name the file with the weights",
        )
    };
    Err(Error::failed(format!("this is {what}")).hint(hint))
}
