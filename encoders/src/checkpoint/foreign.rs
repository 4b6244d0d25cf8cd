//! Detects unsupported formats and files without weights, so that an error can name the format.

use burgess_base::text::excerpt;
use burgess_base::{Error, Result};

/// Hint on how to save a PyTorch model in a supported format.
pub(super) const SAVE_STATE_DICT: &str = "load the model with the library that wrote it and save its weights: \
     torch.save(model.state_dict(), \"model.pth\"), \
     or safetensors.torch.save_file(model.state_dict(), \"model.safetensors\")";

/// Hint on how to convert a TorchScript archive.
pub(super) const CONVERT_SCRIPT: &str = "save its state dict with these two lines of Python: \
     model = torch.jit.load(\"FILE\", map_location=\"cpu\"); torch.save(model.state_dict(), \"model.pth\")";

/// Hint on how to convert a pickled module.
pub(super) const CONVERT_OBJECT: &str = "save its state dict with these two lines of Python, where its code is \
     installed: model = torch.load(\"FILE\", map_location=\"cpu\", weights_only=False); \
     torch.save(model.state_dict(), \"model.pth\")";

const DOWNLOAD_AGAIN: &str = "delete the file and download it again: the download failed";

/// The first bytes of an unsupported format, its description, and a hint.
const MAGIC: [(&[u8], &str, &str); 17] = [
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file (Keras or TensorFlow weights)", SAVE_STATE_DICT),
    (b"\x93NUMPY", "an array of NumPy", SAVE_STATE_DICT),
    (b"\x1f\x8b", "a gzip archive", "unpack it and give the path of the file with weights in it"),
    (b"\x28\xb5\x2f\xfd", "a zstd archive", "unpack it and give the path of the file with weights in it"),
    (b"\xfd7zXZ\x00", "an xz archive", "unpack it and give the path of the file with weights in it"),
    (b"BZh", "a bzip2 archive", "unpack it and give the path of the file with weights in it"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", "unpack it and give the path of the file with weights in it"),
    (b"Rar!", "a rar archive", "unpack it and give the path of the file with weights in it"),
    (b"\x89PNG", "a PNG image", "give the path of a file with weights"),
    (b"\xff\xd8\xff", "a JPEG image", "give the path of a file with weights"),
    (b"%PDF", "a PDF document", "give the path of a file with weights"),
    (b"PAR1", "a Parquet table", "give the path of a file with weights"),
    (b"ggjt", "a GGML file from before GGUF", "convert it to GGUF with llama.cpp"),
    (b"ggml", "a GGML file from before GGUF", "convert it to GGUF with llama.cpp"),
    (b"lmgg", "a GGML file from before GGUF", "convert it to GGUF with llama.cpp"),
    (b"\x7fELF", "a program or library", "give the path of a file with weights"),
    (b"<?xml", "an XML document", DOWNLOAD_AGAIN),
];

/// Returns an error that names the unsupported format of `file`; `None` if no such format is detected.
pub(super) fn unsupported(file: &[u8]) -> Option<Error> {
    // A safetensors file starts with the length of its header, which can be any eight bytes, followed by JSON.
    if matches!(file, [_, _, _, _, 0, 0, 0, 0, b'{', ..]) {
        return None;
    }
    let known = MAGIC.iter().find(|(magic, ..)| file.starts_with(magic)).map(|(_, what, hint)| (*what, *hint));
    let (what, hint) = known.or_else(|| by_structure(file))?;
    Some(Error::failed(format!("the file is {what}, expected safetensors, torch.save or GGUF")).hint(hint))
}

fn by_structure(file: &[u8]) -> Option<(&'static str, &'static str)> {
    let head = file.get(..file.len().min(512)).unwrap_or_default();
    let text = head.trim_ascii_start().to_ascii_lowercase();
    if text.starts_with(b"<!doctype html") || text.starts_with(b"<html") {
        return Some(("a web page", DOWNLOAD_AGAIN));
    }
    if file.get(4..8) == Some(b"TFL3") {
        return Some(("a TensorFlow Lite model", SAVE_STATE_DICT));
    }
    if file.get(257..262) == Some(b"ustar") {
        return Some(("a tar archive", "unpack it and give the path of the file with weights in it"));
    }
    // A safetensors header also begins with `{`, but after its length.
    if matches!(head.first(), Some(b'{' | b'[')) && file.get(8) != Some(&b'{') && is_text(head) {
        return Some(("a JSON text", "give the path of the file with the weights, or of its directory"));
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

/// Describes an unsupported file by the ending of its name; `None` if the ending is unknown.
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
        Some("not named like weights: give its path if it is a file of torch.save")
    } else {
        None
    }
}

/// Checks the members of a zip archive: only archives of `torch.save` pass, other than TorchScript.
///
/// # Errors
/// The archive was not written by `torch.save`; the message names its format.
pub(super) fn check_zip<'a>(names: impl Iterator<Item = &'a str> + Clone) -> Result<()> {
    let any = |test: &dyn Fn(&str) -> bool| names.clone().any(test);
    let part = |name: &str, wanted: &str| name.split('/').any(|part| part == wanted);
    if any(&|name| name.ends_with("constants.pkl") || part(name, "code") && name.ends_with(".py")) {
        return Err(Error::failed("the file is a TorchScript archive, which contains a program besides the weights")
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
        return Err(Error::failed(format!("the zip archive contains `{}`, expected data.pkl", excerpt(inner, 200)))
            .hint("unpack it and give the path of the file with weights in it"));
    } else {
        (
            "a zip archive that was not written by torch.save: it has no data.pkl",
            "if it contains weights, unpack it and give the path of their file",
        )
    };
    Err(Error::failed(format!("the file is {what}")).hint(hint))
}
