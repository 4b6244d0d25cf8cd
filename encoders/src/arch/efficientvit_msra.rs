//! EfficientViT of Microsoft (Liu et al. 2023, arXiv:2305.07027): cascaded group attention within windows. Parameter
//! paths are those of timm's `EfficientVitMsra`.

use super::drop_path::DropPathMask;
use super::limits::check_pixels;
use super::parts::{
    Around, ConvBn, ConvSpec, Merge, NormedLayer, PointMlp, Slot, Trace, from_windows, offset_bias, per_stage,
    positive, to_windows,
};
use super::staged::{LayerShape, StagedConfig, StagedNetwork};
use crate::timm::{IGNORED, TimmArguments, TimmModel, TimmNetwork};
use burgess_base::{Error, Result};
use burn::module::{Initializer, Module, Param};
use burn::tensor::activation::{relu, softmax};
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

/// Stride of the stem.
const STRIDE: usize = 16;

/// Hyper-parameters of an EfficientViT of Microsoft.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct EfficientVitMsraConfig {
    /// Side of the square input images, in pixels; other sizes cannot be processed.
    pub image_size: usize,
    /// Channels of each stage.
    pub channels: Vec<usize>,
    /// Number of blocks of each stage.
    pub depths: Vec<usize>,
    /// Number of attention heads of each stage.
    pub heads: Vec<usize>,
    /// Channels of queries and keys per head, of each stage.
    pub key_dims: Vec<usize>,
    /// Side of the attention windows of each stage.
    pub windows: Vec<usize>,
    /// Side of the depthwise kernels of the queries, of each head.
    pub kernels: Vec<usize>,
}

/// An EfficientViT; see the module documentation.
#[derive(Module, Debug)]
pub struct EfficientVitMsra {
    /// Stem of stride 16.
    pub patch_embed: MsraStem,
    /// The stages, in order of depth.
    pub stages: Vec<MsraStage>,
    #[module(skip)]
    config: EfficientVitMsraConfig,
}

/// Four convolutions of stride 2 with activations between them.
#[derive(Module, Debug)]
pub struct MsraStem {
    /// First convolution.
    pub conv1: ConvBn,
    /// Second convolution.
    pub conv2: ConvBn,
    /// Third convolution.
    pub conv3: ConvBn,
    /// Fourth convolution.
    pub conv4: ConvBn,
}

/// A stage: layers that halve the grid (absent in the first stage), then blocks.
#[derive(Module, Debug)]
pub struct MsraStage {
    /// Halves the grid.
    pub downsample: Option<MsraDownsample>,
    /// The blocks.
    pub blocks: Vec<MsraBlock>,
}

/// Residual convolution and MLP, reduction of the grid, residual convolution and MLP.
#[derive(Module, Debug)]
pub struct MsraDownsample {
    /// Before the reduction.
    pub res1: (Around<ConvBn>, Around<PointMlp<ConvBn>>),
    /// Reduction of the grid.
    pub patchmerge: Merge<ConvBn>,
    /// After the reduction.
    pub res2: (Around<ConvBn>, Around<PointMlp<ConvBn>>),
}

/// Residual convolution, MLP, attention, convolution and MLP.
#[derive(Module, Debug)]
pub struct MsraBlock {
    /// Depthwise convolution.
    pub dw0: Around<ConvBn>,
    /// MLP.
    pub ffn0: Around<PointMlp<ConvBn>>,
    /// Attention within windows.
    pub mixer: Around<WindowMixer>,
    /// Depthwise convolution.
    pub dw1: Around<ConvBn>,
    /// MLP.
    pub ffn1: Around<PointMlp<ConvBn>>,
}

/// Attention within windows.
#[derive(Module, Debug)]
pub struct WindowMixer {
    /// Attention.
    pub attn: CascadedAttention,
}

/// Attention whose heads take a part of the channels each; the output of a head is added to the input of the next.
#[derive(Module, Debug)]
pub struct CascadedAttention {
    /// Queries, keys and values of each head.
    pub qkvs: Vec<ConvBn>,
    /// Depthwise convolution of the queries of each head.
    pub dws: Vec<ConvBn>,
    /// Activation and output projection.
    pub proj: (Slot, ConvBn),
    /// Bias per head and distance, `[heads, positions of a window]`.
    pub attention_biases: Param<Tensor<2>>,
    key_dim: usize,
    window: usize,
}

/// Builds a convolution with a batch norm.
fn normed(spec: ConvSpec, device: &Device) -> ConvBn {
    ConvBn::new(spec.bias(false), device)
}

fn depthwise(channels: usize, device: &Device) -> Around<ConvBn> {
    Around { m: normed(ConvSpec::depthwise(channels, 3), device) }
}

fn mlp(channels: usize, device: &Device) -> Around<PointMlp<ConvBn>> {
    let hidden = 2 * channels;
    let pw1 = normed(ConvSpec::new(channels, hidden, 1), device);
    Around { m: PointMlp { pw1, pw2: normed(ConvSpec::new(hidden, channels, 1), device) } }
}

impl EfficientVitMsraConfig {
    /// Side of the grid of a stage.
    fn side(&self, stage: usize) -> usize {
        (0..stage).fold(self.image_size / STRIDE, |side, _| side.div_ceil(2))
    }

    fn at(list: &[usize], stage: usize) -> usize {
        list.get(stage).copied().unwrap_or(1)
    }

    /// Channels of the values of a head.
    fn value_dim(&self, stage: usize) -> usize {
        Self::at(&self.channels, stage) / Self::at(&self.heads, stage).max(1)
    }

    fn attention(&self, stage: usize, device: &Device) -> CascadedAttention {
        let (heads, key) = (Self::at(&self.heads, stage), Self::at(&self.key_dims, stage));
        let (channels, value) = (Self::at(&self.channels, stage), self.value_dim(stage));
        let window = Self::at(&self.windows, stage).min(self.side(stage));
        let query = |head| normed(ConvSpec::depthwise(key, Self::at(&self.kernels, head)), device);
        CascadedAttention {
            qkvs: (0..heads).map(|_| normed(ConvSpec::new(value, 2 * key + value, 1), device)).collect(),
            dws: (0..heads).map(query).collect(),
            proj: (Slot {}, normed(ConvSpec::new(value * heads, channels, 1), device)),
            attention_biases: Initializer::Zeros.init([heads, window * window], device),
            key_dim: key,
            window,
        }
    }

    /// Builds a network with placeholder weights; the configuration must be valid.
    pub fn init(&self, device: &Device) -> EfficientVitMsra {
        let first = self.channels.first().copied().unwrap_or_default();
        let conv = |from, to| normed(ConvSpec::new(from, to, 3).stride(2), device);
        let mut before = first;
        let mut stages = Vec::with_capacity(self.channels.len());
        for (stage, (channels, depth)) in self.channels.iter().zip(&self.depths).enumerate() {
            let pair = |channels| (depthwise(channels, device), mlp(channels, device));
            let hidden = 4 * before;
            let downsample = (stage > 0).then(|| MsraDownsample {
                res1: pair(before),
                patchmerge: Merge::new(
                    normed(ConvSpec::new(before, hidden, 1), device),
                    normed(ConvSpec::depthwise(hidden, 3).stride(2), device),
                    normed(ConvSpec::new(hidden, *channels, 1), device),
                    hidden,
                    device,
                ),
                res2: pair(*channels),
            });
            let block = |_| {
                let ((dw0, ffn0), (dw1, ffn1)) = (pair(*channels), pair(*channels));
                let attn = self.attention(stage, device);
                MsraBlock { dw0, ffn0, mixer: Around { m: WindowMixer { attn } }, dw1, ffn1 }
            };
            stages.push(MsraStage { downsample, blocks: (0..*depth).map(block).collect() });
            before = *channels;
        }
        EfficientVitMsra {
            patch_embed: MsraStem {
                conv1: conv(3, first / 8),
                conv2: conv(first / 8, first / 4),
                conv3: conv(first / 4, first / 2),
                conv4: conv(first / 2, first),
            },
            stages,
            config: self.clone(),
        }
    }
}

impl CascadedAttention {
    /// Runs the layer on windows, `[windows, channels, side, side]`.
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let [batch, channels, rows, columns] = x.dims();
        let positions = rows * columns;
        let (heads, key) = (self.qkvs.len(), self.key_dim);
        let width = channels / heads.max(1);
        let bias = offset_bias(&self.attention_biases, self.window, 1);
        let mut outputs: Vec<Tensor<4>> = Vec::with_capacity(heads);
        for (head, (qkv, conv)) in self.qkvs.iter().zip(&self.dws).enumerate() {
            let part = x.clone().narrow(1, head * width, width);
            let input = match outputs.last() {
                Some(before) => before.clone() + part,
                None => part,
            };
            let qkv = qkv.forward(input);
            let flat = |x: Tensor<4>| {
                let channels = x.dims()[1];
                x.reshape([batch, channels, positions])
            };
            let q: Tensor<3> = flat(conv.forward(qkv.clone().narrow(1, 0, key)));
            let k: Tensor<3> = flat(qkv.clone().narrow(1, key, key));
            let v: Tensor<3> = flat(qkv.narrow(1, 2 * key, width));
            let scores = q.mul_scalar((key as f64).powf(-0.5)).transpose().matmul(k);
            let scores = scores + bias.clone().narrow(1, head, 1).reshape([1, positions, positions]);
            let mixed = v.matmul(softmax(scores, 2).transpose());
            outputs.push(mixed.reshape([batch, width, rows, columns]));
        }
        self.proj.1.forward(relu(Tensor::cat(outputs, 1)))
    }

    fn trace(&self, trace: &mut Trace) {
        let (positions, keys) = (trace.positions(), self.window * self.window);
        for (qkv, conv) in self.qkvs.iter().zip(&self.dws) {
            trace.beside(&qkv.conv);
            trace.beside(&conv.conv);
            trace.attention(positions, keys, self.key_dim, qkv.conv.spec().from);
        }
        self.proj.1.trace(trace);
    }
}

impl NormedLayer for WindowMixer {
    fn apply(&self, x: Tensor<4>) -> Tensor<4> {
        let shape @ [_, channels, rows, columns] = x.dims();
        let side = self.attn.window;
        if rows <= side && columns <= side {
            return self.attn.forward(x);
        }
        let windows = to_windows(x.permute([0, 2, 3, 1]), side);
        let count = windows.dims()[0];
        let maps = windows.swap_dims(1, 2).reshape([count, channels, side, side]);
        let mixed: Tensor<3> = self.attn.forward(maps).reshape([count, channels, side * side]);
        let [batch, ..] = shape;
        from_windows(mixed.swap_dims(1, 2), side, [batch, rows, columns, channels]).permute([0, 3, 1, 2])
    }

    fn follow(&self, trace: &mut Trace) {
        let side = trace.side;
        trace.side = side.next_multiple_of(self.attn.window);
        self.attn.trace(trace);
        trace.side = side;
    }
}

impl MsraBlock {
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let x = self.ffn0.forward(self.dw0.forward(x));
        let x = self.mixer.forward(x);
        self.ffn1.forward(self.dw1.forward(x))
    }

    fn trace(&self, trace: &mut Trace) {
        self.dw0.trace(trace);
        self.ffn0.trace(trace);
        self.mixer.trace(trace);
        self.dw1.trace(trace);
        self.ffn1.trace(trace);
    }
}

impl EfficientVitMsra {
    /// Returns the configuration that this network was built from.
    pub fn config(&self) -> &EfficientVitMsraConfig {
        &self.config
    }
}

impl StagedConfig for EfficientVitMsraConfig {
    fn check(&self) -> Result<()> {
        let name = "EfficientViT";
        let count = self.channels.len();
        let lengths = [&self.depths, &self.heads, &self.key_dims, &self.windows].map(Vec::len);
        per_stage(name, "depths, heads, key_dims and windows", count, &lengths)?;
        positive(name, "an eighth of the channels", &self.channels.iter().map(|n| n / 8).collect::<Vec<_>>())?;
        for list in [&self.depths, &self.heads, &self.key_dims, &self.windows, &self.kernels] {
            positive(name, "depths, heads, key_dims, windows or kernels", list)?;
        }
        let heads = self.heads.iter().max().copied().unwrap_or_default();
        if self.kernels.len() < heads || self.kernels.iter().any(|kernel| kernel % 2 == 0) {
            return Err(Error::usage(format!("invalid {name}: kernels are {:?}", self.kernels))
                .hint(format!("give odd kernels for {heads} heads")));
        }
        if let Some(stage) = (0..count).find(|stage| {
            Self::at(&self.channels, *stage) % Self::at(&self.heads, *stage).max(1) != 0 || self.side(*stage) == 0
        }) {
            return Err(Error::usage(format!("invalid {name}: heads of stage {stage} do not divide its channels"))
                .hint("heads must divide channels, and image_size must be at least 16"));
        }
        if !self.image_size.is_multiple_of(STRIDE) || self.image_size > 256 * STRIDE {
            return Err(Error::usage(format!("invalid {name}: image_size = {}", self.image_size))
                .hint(format!("it must be a multiple of {STRIDE}, at most {}", 256 * STRIDE)));
        }
        if self.windows.iter().any(|window| *window > 64) {
            return Err(Error::usage(format!("invalid {name}: windows are {:?}", self.windows)).hint("at most 64"));
        }
        Ok(())
    }

    fn input_side(&self) -> usize {
        self.image_size
    }

    fn layer_count(&self) -> usize {
        self.depths.iter().fold(0, |sum, n| sum.saturating_add(*n))
    }

    fn layers(&self) -> Vec<LayerShape> {
        let network = self.init(&Device::flex());
        let mut trace = Trace::image(self.image_size);
        let stem = &network.patch_embed;
        [&stem.conv1, &stem.conv2, &stem.conv3, &stem.conv4].into_iter().for_each(|conv| conv.trace(&mut trace));
        for stage in &network.stages {
            if let Some(layer) = &stage.downsample {
                layer.res1.0.trace(&mut trace);
                layer.res1.1.trace(&mut trace);
                layer.patchmerge.trace(&mut trace);
                layer.res2.0.trace(&mut trace);
                layer.res2.1.trace(&mut trace);
            }
            stage.blocks.iter().for_each(|block| block.trace(&mut trace));
            trace.end_layer();
        }
        trace.layers()
    }
}

impl StagedNetwork for EfficientVitMsra {
    fn depth(&self) -> usize {
        self.stages.len()
    }

    fn outputs(&self, pixels: Tensor<4>, count: usize, _: &DropPathMask) -> Result<Vec<Tensor<4>>> {
        check_pixels(&pixels, 1)?;
        let [_, _, height, width] = pixels.dims();
        if [height, width] != [self.config.image_size; 2] {
            return Err(Error::failed(format!(
                "images of {height}x{width} pixels, but this EfficientViT takes {0}x{0}",
                self.config.image_size
            ))
            .hint("resize the images to the size on the encoder's card"));
        }
        let stem = &self.patch_embed;
        let x = relu(stem.conv2.forward(relu(stem.conv1.forward(pixels))));
        let mut x = stem.conv4.forward(relu(stem.conv3.forward(x)));
        let mut outputs = Vec::with_capacity(count);
        for stage in self.stages.iter().take(count) {
            if let Some(layer) = &stage.downsample {
                x = layer.res1.1.forward(layer.res1.0.forward(x));
                x = layer.patchmerge.forward(x);
                x = layer.res2.1.forward(layer.res2.0.forward(x));
            }
            for block in &stage.blocks {
                x = block.forward(x);
            }
            outputs.push(x.clone());
        }
        Ok(outputs)
    }
}

impl TimmModel for EfficientVitMsraConfig {
    const CLASSES: &'static [&'static str] = &["EfficientVitMsra"];

    fn from_timm(arguments: &mut TimmArguments, image_size: usize) -> Result<TimmNetwork<Self>> {
        arguments.only(&[("in_chans", "3"), ("down_ops", "[[\"\",1],[\"subsample\",2],[\"subsample\",2]]")])?;
        arguments.without(IGNORED);
        arguments.without(&["global_pool", "img_size"]);
        let mut list = |key, usual: &[usize]| -> Result<Vec<usize>> {
            Ok(arguments.numbers(key)?.unwrap_or_else(|| usual.to_vec()))
        };
        Ok(TimmNetwork::new(Self {
            image_size,
            channels: list("embed_dim", &[64, 128, 192])?,
            depths: list("depth", &[1, 2, 3])?,
            heads: list("num_heads", &[4, 4, 4])?,
            key_dims: list("key_dim", &[16, 16, 16])?,
            windows: list("window_size", &[7, 7, 7])?,
            kernels: list("kernels", &[5, 5, 5, 5])?,
        })
        .with_dialect("timm-pooled-head"))
    }
}
