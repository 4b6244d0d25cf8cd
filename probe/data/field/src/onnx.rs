//! A minimal reader of ONNX models: names of nodes and their inputs, and the values of initialisers.
//!
//! The file is a protocol buffer, `ModelProto` of `onnx.proto3`. The fields that are read are
//!
//! ```text
//! ModelProto  7 graph
//! GraphProto  1 node*  5 initializer*
//! NodeProto   1 input*  3 name  4 op_type
//! TensorProto 1 dims*  2 data_type (1 = float)  8 name  9 raw_data  14 data_location (0 = in this file)
//! ```
//!
//! Values are borrowed from the memory-mapped file. Lengths are checked against the available bytes.

use std::fs::File;
use std::path::Path;

use burgess_base::protobuf::ProtobufMessage;
use burgess_base::{Context, Error, Result};
use memmap2::Mmap;

/// Code of `float` in `TensorProto.DataType`.
const FLOAT: i64 = 1;

/// A memory-mapped model file.
pub struct OnnxModel {
    map: Mmap,
}

/// The parts of a model's graph that are read.
#[derive(Debug, Default)]
pub struct OnnxGraph<'a> {
    /// The nodes, in the order of the file, which is topological.
    pub nodes: Vec<OnnxNode<'a>>,
    /// The constant tensors (initialisers).
    pub tensors: Vec<OnnxTensor<'a>>,
}

/// A node: an operation with its inputs.
#[derive(Debug, Default)]
pub struct OnnxNode<'a> {
    /// Name of the node, such as "/backbone/encoder/layer.0/mlp/fc1/MatMul".
    pub name: &'a str,
    /// Type of the operation, such as "MatMul".
    pub operation: &'a str,
    /// Names of the input tensors.
    pub inputs: Vec<&'a str>,
}

/// A constant tensor (initialiser).
#[derive(Debug, Default)]
pub struct OnnxTensor<'a> {
    /// Name of the tensor.
    pub name: &'a str,
    /// Shape of the tensor.
    pub shape: Vec<usize>,
    /// Element type, as in `TensorProto.DataType`.
    kind: i64,
    raw: &'a [u8],
    elsewhere: bool,
}

impl OnnxModel {
    /// Maps a model file into memory.
    pub fn open(path: &Path) -> Result<Self> {
        let step = || format!("opening {}", path.display());
        let file = File::open(path).with_context(step)?;
        // SAFETY: the file is from a package that was unpacked for this purpose and is only read. If another program
        // truncated it meanwhile, the process would be killed, as with any memory-mapped weights.
        #[allow(unsafe_code, reason = "the file is not changed while it is mapped")]
        let map = unsafe { Mmap::map(&file) }.with_context(step)?;
        Ok(Self { map })
    }

    /// Parses the graph of the model.
    pub fn graph(&self) -> Result<OnnxGraph<'_>> {
        read(&self.map)
    }
}

/// Parses the graph of the model in `bytes`.
pub fn read(bytes: &[u8]) -> Result<OnnxGraph<'_>> {
    let mut graph = None;
    for field in ProtobufMessage::new(bytes) {
        let field = field.context("reading the ONNX model")?;
        if field.number == 7 {
            graph = Some(field.message()?);
        }
    }
    let message = graph.ok_or_else(|| Error::failed("not an ONNX model: it has no graph"))?;
    let mut graph = OnnxGraph::default();
    for field in message {
        let field = field.context("reading the ONNX graph")?;
        match field.number {
            1 => graph.nodes.push(node(field.message()?).context("reading a node of the ONNX graph")?),
            5 => graph.tensors.push(tensor(field.message()?).context("reading a tensor of the ONNX graph")?),
            _ => {}
        }
    }
    Ok(graph)
}

fn node(message: ProtobufMessage<'_>) -> Result<OnnxNode<'_>> {
    let mut node = OnnxNode::default();
    for field in message {
        let field = field?;
        match field.number {
            1 => node.inputs.push(field.text()?),
            3 => node.name = field.text()?,
            4 => node.operation = field.text()?,
            _ => {}
        }
    }
    Ok(node)
}

fn tensor(message: ProtobufMessage<'_>) -> Result<OnnxTensor<'_>> {
    let mut tensor = OnnxTensor::default();
    let mut dims = Vec::new();
    for field in message {
        let field = field?;
        match field.number {
            1 => field.ints_into(&mut dims)?,
            2 => tensor.kind = field.int()?,
            8 => tensor.name = field.text()?,
            9 => tensor.raw = field.bytes()?,
            14 => tensor.elsewhere = field.int()? != 0,
            _ => {}
        }
    }
    let axis = |n: &i64| {
        usize::try_from(*n).map_err(|_| {
            Error::failed(format!("tensor {}: found an axis of length {n}, expected 0 or more", tensor.name))
        })
    };
    tensor.shape = dims.iter().map(axis).collect::<Result<_>>()?;
    Ok(tensor)
}

impl OnnxTensor<'_> {
    /// Returns the values as f32, in row-major order.
    ///
    /// # Errors
    /// An error is returned if the values have another type, are not in the file, or do not match the shape in number.
    pub fn floats(&self) -> Result<Vec<f32>> {
        let refused = |why: String| Error::failed(format!("tensor {} {why}", self.name));
        if self.elsewhere {
            return Err(refused("has its values in another file, which is not supported".into()));
        }
        if self.kind != FLOAT {
            return Err(refused(format!("has values of type {}, expected float (1)", self.kind)));
        }
        let bytes = self.shape.iter().try_fold(4usize, |n, axis| n.checked_mul(*axis));
        if bytes != Some(self.raw.len()) {
            return Err(refused(format!(
                "has {} bytes, which do not match the shape {:?} of f32 values",
                self.raw.len(),
                self.shape
            )));
        }
        Ok(self.raw.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect())
    }
}
