//! The computations of the self-test. Each returns its results as one list of numbers.

use super::{BACKWARD, BFLOAT16, FORWARD};
use burgess_base::stream::{normals, stream};
use burgess_base::{Error, Result};
use burgess_encoders::attention::{Bias, attend};
use burgess_encoders::init::initialise;
use burgess_encoders::operands::gelu;
use burgess_probe::llm::{Compute, KvCache, Llm, LlmConfig, kernel};
use burgess_probe::optimiser::{Optimiser, OptimiserMethod, StepSettings};
use burn::nn::interpolate::{Interpolate2dConfig, InterpolateMode};
use burn::nn::{EmbeddingConfig, LayerNormConfig};
use burn::optim::GradientsParams;
use burn::tensor::activation::{silu, softmax};
use burn::tensor::module::conv2d;
use burn::tensor::ops::ConvOptions;
use burn::tensor::{DType, Device, Int, Tensor, TensorData};

/// A computation on a device.
type Computation = Box<dyn Fn(&Device) -> Result<Vec<f32>>>;

/// All computations with their names and the largest accepted difference. Each kind is done in a shape whose sides are
/// multiples of 16 and in one whose sides are not, because kernels have separate paths for the two.
pub fn all() -> Vec<(String, f64, Computation)> {
    let mut all: Vec<(String, f64, Computation)> = Vec::new();
    let mut add = |name: String, limit: f64, compute: Computation| all.push((name, limit, compute));
    for [m, k, n] in [[64, 96, 32], [67, 37, 53], [256, 512, 256], [1, 200, 130]] {
        add(format!("matmul {m}×{k}×{n}"), FORWARD, Box::new(move |device| matmul([m, k, n], device)));
    }
    for n in [48, 45] {
        add(format!("batched matmul of views {n}"), FORWARD, Box::new(move |device| batched(n, device)));
    }
    for [rows, columns] in [[32, 64], [7, 197]] {
        let shape = format!("{rows}×{columns}");
        add(format!("softmax {shape}"), FORWARD, Box::new(move |device| masked_softmax([rows, columns], device)));
        add(format!("layer norm {shape}"), FORWARD, Box::new(move |device| layer_norm([rows, columns], device)));
        add(format!("activations {shape}"), FORWARD, Box::new(move |device| activations([rows, columns], device)));
        add(format!("reductions {shape}"), FORWARD, Box::new(move |device| reductions([rows, columns], device)));
    }
    for [rows, width] in [[64, 32], [53, 21]] {
        let compute: Computation = Box::new(move |device| lookups([rows, width], device));
        add(format!("embedding and gather {rows}×{width}"), FORWARD, compute);
    }
    for [tokens, width] in [[32, 16], [37, 20]] {
        let compute: Computation = Box::new(move |device| masked_attention([tokens, width], device));
        add(format!("attention with a mask, {tokens} tokens of {width}"), FORWARD, compute);
    }
    add("patch convolution 14×14".into(), FORWARD, Box::new(|device| convolution([3, 42, 32, 14, 14, 0, 1], device)));
    add("convolution 3×3".into(), FORWARD, Box::new(|device| convolution([16, 32, 16, 3, 2, 1, 1], device)));
    add("depthwise convolution 7×7".into(), FORWARD, Box::new(|device| convolution([18, 13, 18, 7, 1, 3, 18], device)));
    add("bicubic interpolation 5×5 to 7×7".into(), FORWARD, Box::new(interpolation));
    for (t, width) in [(16, 64), (19, 72)] {
        let compute: Computation = Box::new(move |device| causal_with_cache(t, width, device));
        add(format!("causal attention with a cache, a window and a soft cap, {t} tokens"), FORWARD, compute);
    }
    add("decoder in bfloat16, where the device has it".into(), BFLOAT16, Box::new(bfloat16));
    add("gradients of convolution, norm and attention".into(), BACKWARD, Box::new(vision_gradients));
    for (t, width, method) in [(16, 64, OptimiserMethod::AdamW), (13, 40, OptimiserMethod::Muon)] {
        let compute: Computation = Box::new(move |device| training_steps(t, width, method, device));
        add(format!("training steps of a decoder, {method:?}, width {width}"), BACKWARD, compute);
    }
    all
}

/// Normally distributed numbers, the same on all devices.
fn numbers<const D: usize>(name: &str, shape: [usize; D], device: &Device) -> Tensor<D> {
    let values = normals(&mut stream(&format!("self-test/{name}"), 0), shape.iter().product());
    Tensor::from_data(TensorData::new(values, shape), device)
}

/// Indices below `limit`.
fn indices<const D: usize>(shape: [usize; D], limit: usize, device: &Device) -> Tensor<D, Int> {
    let count: usize = shape.iter().product();
    let values: Vec<i32> = (0..count).map(|i| ((i * 7919 + 3) % limit) as i32).collect();
    Tensor::from_data(TensorData::new(values, shape), device)
}

fn values<const D: usize>(tensor: Tensor<D>) -> Result<Vec<f32>> {
    tensor.into_data().try_into_vec_as::<f32>().map_err(|e| Error::failed(format!("reading a result: {e:?}")))
}

fn integers<const D: usize>(tensor: Tensor<D, Int>) -> Result<Vec<f32>> {
    let read = tensor.into_data().try_into_vec_as::<i32>();
    let read = read.map_err(|e| Error::failed(format!("reading a result: {e:?}")))?;
    Ok(read.into_iter().map(|v| v as f32).collect())
}

fn matmul([m, k, n]: [usize; 3], device: &Device) -> Result<Vec<f32>> {
    values(numbers("left", [m, k], device).matmul(numbers("right", [k, n], device)))
}

/// Products of tensors that are views in another order, as queries and keys are.
fn batched(n: usize, device: &Device) -> Result<Vec<f32>> {
    let q = numbers("queries", [2, n, 3, 20], device).swap_dims(1, 2);
    let k = numbers("keys", [2, n, 3, 20], device).swap_dims(1, 2);
    values(q.matmul(k.transpose()))
}

fn masked_softmax(shape: [usize; 2], device: &Device) -> Result<Vec<f32>> {
    let x = numbers("scores", shape, device).mul_scalar(4.0);
    let hidden = indices(shape, 5, device).equal_elem(0);
    values(softmax(x.mask_fill(hidden, -1e9), 1))
}

fn layer_norm(shape: [usize; 2], device: &Device) -> Result<Vec<f32>> {
    let x = numbers("rows", shape, device).mul_scalar(3.0).add_scalar(10.0);
    let norm = initialise(LayerNormConfig::new(shape[1]).with_epsilon(1e-6).init(device), "self-test/norm", 0);
    let weight = numbers("scale", [shape[1]], device);
    let mut out = values(norm.forward(x.clone()))?;
    out.extend(values(kernel::rms_norm(x, weight, 1e-6))?);
    Ok(out)
}

fn activations(shape: [usize; 2], device: &Device) -> Result<Vec<f32>> {
    let x = numbers("rows", shape, device).mul_scalar(2.0);
    values(Tensor::cat(
        vec![gelu(x.clone()), silu(x.clone()), x.clone().tanh(), x.clone().exp(), x.powf_scalar(2.0)],
        0,
    ))
}

/// Sums, maxima and their indices over both axes.
fn reductions(shape: [usize; 2], device: &Device) -> Result<Vec<f32>> {
    let x = numbers("rows", shape, device);
    let mut out = values(x.clone().sum_dim(1))?;
    out.extend(values(x.clone().mean_dim(0))?);
    out.extend(values(x.clone().max_dim(1))?);
    out.extend(integers(x.argmax(1))?);
    Ok(out)
}

fn lookups([rows, width]: [usize; 2], device: &Device) -> Result<Vec<f32>> {
    let table = initialise(EmbeddingConfig::new(rows, width).init(device), "self-test/table", 0);
    let mut out = values(table.forward(indices([2, 9], rows, device)))?;
    let x = numbers("rows", [rows, width], device);
    out.extend(values(x.clone().select(0, indices([rows / 2], rows, device)))?);
    out.extend(values(x.clone().gather(1, indices([rows, 3], width, device)))?);
    out.extend(values(x.narrow(1, 3, width - 5))?);
    Ok(out)
}

/// Attention of the encoders with an additive mask that hides keys, and without a mask.
fn masked_attention([tokens, width]: [usize; 2], device: &Device) -> Result<Vec<f32>> {
    let [q, k, v] = operands(tokens, width, device);
    let hidden: Vec<f32> =
        (0..tokens * tokens).map(|i| if (i % tokens + i / tokens) % 3 == 0 { -1e9 } else { 0.1 }).collect();
    let mask = Tensor::from_data(TensorData::new(hidden, [1, 1, tokens, tokens]), device);
    let mut out = values(attend(q.clone(), k.clone(), v.clone(), Bias::Full(mask), None))?;
    out.extend(values(attend(q, k, v, Bias::None, None))?);
    Ok(out)
}

/// Queries, keys and values of three heads as views of one projection.
fn operands(tokens: usize, width: usize, device: &Device) -> [Tensor<4>; 3] {
    let qkv = numbers("projection", [2, tokens, 9 * width], device);
    [0, 1, 2].map(|i| qkv.clone().narrow(2, 3 * i * width, 3 * width).reshape([2, tokens, 3, width]).swap_dims(1, 2))
}

/// A convolution with `[inputs, image side, outputs, kernel, stride, padding, groups]`.
fn convolution([inputs, side, outputs, k, stride, padding, groups]: [usize; 7], device: &Device) -> Result<Vec<f32>> {
    let x = numbers("image", [2, inputs, side, side], device);
    let weight = numbers("kernel", [outputs, inputs / groups, k, k], device);
    let bias = numbers("bias", [outputs], device);
    values(conv2d(x, weight, Some(bias), ConvOptions::new([stride; 2], [padding; 2], [1, 1], groups)))
}

fn interpolation(device: &Device) -> Result<Vec<f32>> {
    let resize = Interpolate2dConfig::new()
        .with_output_size(Some([7, 7]))
        .with_mode(InterpolateMode::Cubic)
        .with_align_corners(false)
        .init();
    values(resize.forward(numbers("grid", [1, 6, 5, 5], device)))
}

/// A decoder with random weights.
fn decoder(config: &LlmConfig, device: &Device) -> Result<Llm> {
    Ok(initialise(config.init(device)?, "self-test/decoder", 0))
}

/// Logits of a decoder in bfloat16 on a device that computes in it, in f32 on others and on flex, the reference.
fn bfloat16(device: &Device) -> Result<Vec<f32>> {
    let precise = *device == Device::flex() || !device.supports_dtype(Compute::Bf16.dtype());
    let compute = if precise { Compute::F32 } else { Compute::Bf16 };
    let model = decoder(&LlmConfig::nano(64, 2, 53), device)?.with_compute(compute)?;
    let hidden = model.hidden(numbers("embeddings", [2, 16, 64], device))?.reshape([32, 64]);
    values(model.logits(hidden).cast(DType::F32))
}

/// Logits of a decoder with grouped queries, a sliding window and soft caps: of two whole sequences, and of the same
/// tokens read in three parts through a cache.
fn causal_with_cache(t: usize, width: usize, device: &Device) -> Result<Vec<f32>> {
    let config = serde_json::json!({
        "model_type": "gemma2", "hidden_size": width, "intermediate_size": 2 * width, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": width / 4, "vocab_size": 53,
        "max_position_embeddings": 64, "sliding_window": 6, "query_pre_attn_scalar": width / 4,
        "attn_logit_softcapping": 2.0, "final_logit_softcapping": 3.0,
    });
    let model = decoder(&serde_json::from_value(config)?, device)?;
    let x = numbers("embeddings", [2, t, width], device);
    let mut out = values(model.logits(model.hidden(x.clone())?.reshape([2 * t, width])))?;
    let mut cache = KvCache::new();
    for [from, count] in [[0, t - 2], [t - 2, 1], [t - 1, 1]] {
        let read = model.extend(x.clone().narrow(1, from, count), &[count; 2], &mut cache, None)?;
        out.extend(values(model.logits(read.reshape([2 * count, width])))?);
    }
    Ok(out)
}

/// Gradients of what encoders consist of, for training them.
fn vision_gradients(device: &Device) -> Result<Vec<f32>> {
    let device = device.clone().autodiff();
    let image = numbers("image", [2, 3, 21, 21], &device).require_grad();
    let kernel = numbers("kernel", [18, 3, 7, 7], &device).mul_scalar(0.1).require_grad();
    let norm = initialise(LayerNormConfig::new(18).init(&device), "self-test/norm", 0);
    let patches = conv2d(image.clone(), kernel.clone(), None, ConvOptions::new([7, 7], [0, 0], [1, 1], 1));
    let tokens = norm.forward(patches.flatten::<3>(2, 3).swap_dims(1, 2));
    let heads = tokens.clone().reshape([2, 9, 3, 6]).swap_dims(1, 2);
    let mixed = attend(heads.clone(), heads.clone(), heads, Bias::None, None);
    let out = gelu(mixed + tokens);
    let weights = numbers("weights", out.dims(), &device);
    let gradients = (out * weights).sum().backward();
    let missing = || Error::failed("the backward pass returned no gradient");
    let mut found = values(image.grad(&gradients).ok_or_else(missing)?)?;
    found.extend(values(kernel.grad(&gradients).ok_or_else(missing)?)?);
    Ok(found)
}

/// Two steps of an optimiser on a tiny LLaMA: losses, gradient norms, and the logits afterwards.
fn training_steps(t: usize, width: usize, method: OptimiserMethod, device: &Device) -> Result<Vec<f32>> {
    let device = device.clone().autodiff();
    let mut model = decoder(&LlmConfig::nano(width, 2, 53), &device)?;
    let mut optimiser = Optimiser::new(method, [0.9, 0.95]);
    let settings = StepSettings { rate: &|_| Some(1e-2), total: 1.0, clip: 1.0, weight_decay: 0.1 };
    let (ids, targets) = (indices([2, t], 53, &device), indices([2 * t], 50, &device));
    let mut out = Vec::new();
    for _ in 0..2 {
        let hidden = model.hidden(model.embed(ids.clone()))?.reshape([2 * t, width]);
        let loss = kernel::cross_entropy(model.logits(hidden), targets.clone());
        let gradients = GradientsParams::from_grads(loss.backward(), &model);
        out.extend(values(loss.inner())?);
        optimiser.collect(&model, gradients, 1.0);
        let (moved, norm) = optimiser.step(model, &settings)?;
        model = moved;
        out.push(norm as f32);
    }
    let hidden = model.hidden(model.embed(ids))?.reshape([2 * t, width]);
    out.extend(values(model.logits(hidden))?);
    Ok(out)
}
