//! Fuzz targets for ONNX models and protocol buffers.

use crate::FuzzTarget;
use crate::mutate::MutationForm;
use burgess_field::onnx;

pub const TARGETS: &[FuzzTarget] = &[FuzzTarget {
    name: "onnx",
    about: "a backbone in ONNX",
    corpus: &["tests/golden/onnx/*.onnx"],
    words: &["Conv", "MatMul", "onnx::MatMul", "\u{7f}"],
    form: MutationForm::Binary,
    share: 15,
    run: |input, place| {
        let graph = onnx::read(input.bytes)?;
        graph.tensors.iter().for_each(|tensor| drop(tensor.floats()));
        let path = place.file("model.onnx", input.bytes)?;
        let out = place.dir().join("backbone");
        std::fs::create_dir_all(&out)?;
        burgess_field::backbone::write(&path, &out)
    },
}];
