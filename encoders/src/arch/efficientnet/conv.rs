//! Convolutions of mobile networks: plain, with several kernels (MixConv), or made from experts (CondConv).

use crate::arch::parts::Trace;
use crate::arch::parts::{Conv, ConvSpec};
use burn::module::{Initializer, Module, Param};
use burn::tensor::module::conv2d;
use burn::tensor::ops::{ConvOptions, PadMode};
use burn::tensor::{Device, Tensor};

/// A convolution of a mobile network.
#[derive(Module, Debug)]
pub enum MobileConv {
    /// A plain convolution.
    Plain(Conv),
    /// The channels are divided among convolutions of different kernels (Tan & Le 2019, arXiv:1907.09595).
    Mixed(Vec<Conv>),
    /// Every image has its own kernel, a weighted sum of experts (Yang et al. 2019, arXiv:1904.04971).
    Experts(ExpertConv),
}

/// A convolution whose kernel is a weighted sum of experts.
#[derive(Module, Debug)]
pub struct ExpertConv {
    /// The kernels of all experts, flattened, `[experts, output · input / groups · kernel · kernel]`.
    pub weight: Param<Tensor<2>>,
    #[module(skip)]
    spec: ConvSpec,
}

/// Divides `channels` into `parts` equal shares; the first takes what is left over.
fn shares(channels: usize, parts: usize) -> Vec<usize> {
    let mut shares = vec![channels / parts; parts];
    if let Some(first) = shares.first_mut() {
        *first += channels % parts;
    }
    shares
}

impl MobileConv {
    /// Builds a convolution like `spec` for each of `kernels`, with placeholder weights. `groups` divides the channels
    /// of a plain convolution; mixed ones are depthwise if it equals their channels.
    pub(super) fn init(
        [from, to]: [usize; 2],
        kernels: &[usize],
        groups: usize,
        experts: usize,
        spec: impl Fn(usize, usize, usize) -> ConvSpec,
        device: &Device,
    ) -> Self {
        if let [kernel] = kernels {
            let spec = spec(from, to, *kernel).groups(groups);
            return match experts {
                0 => Self::Plain(spec.init(device)),
                _ => Self::Experts(ExpertConv {
                    weight: Initializer::Normal { mean: 0.0, std: 0.02 }
                        .init([experts, shape(&spec).iter().product()], device),
                    spec,
                }),
            };
        }
        let depthwise = groups == from;
        let parts = shares(from, kernels.len()).into_iter().zip(shares(to, kernels.len())).zip(kernels);
        let convs = parts
            .map(|((from, to), kernel)| spec(from, to, *kernel).groups(if depthwise { from } else { 1 }).init(device));
        Self::Mixed(convs.collect())
    }

    /// Convolves `[batch, channels, rows, columns]`; `routing` are the weights of the experts, `[batch, experts]`.
    pub(super) fn forward(&self, x: Tensor<4>, routing: Option<&Tensor<2>>) -> Tensor<4> {
        match (self, routing) {
            (Self::Plain(conv), _) => conv.forward(x),
            (Self::Mixed(convs), _) => {
                let mut start = 0;
                let parts = convs.iter().map(|conv| {
                    let from = conv.spec().from;
                    start += from;
                    conv.forward(x.clone().narrow(1, start - from, from))
                });
                Tensor::cat(parts.collect(), 1)
            }
            (Self::Experts(conv), Some(routing)) => conv.forward(x, routing.clone()),
            // Without routing weights, which the network always computes, the experts have equal weights.
            (Self::Experts(conv), None) => {
                let [experts, _] = conv.weight.lazy_shape().dims();
                let equal = Tensor::full([x.dims()[0], experts], 1.0 / experts as f64, &x.device());
                conv.forward(x, equal)
            }
        }
    }

    /// Follows shape and cost.
    pub(super) fn trace(&self, trace: &mut Trace) {
        match self {
            Self::Plain(conv) => trace.conv(conv),
            Self::Mixed(convs) => {
                let before = trace.clone();
                let mut channels = 0;
                for conv in convs {
                    let mut part = before.clone();
                    part.multiply_adds = trace.multiply_adds;
                    part.conv(conv);
                    channels += part.channels;
                    (trace.multiply_adds, trace.side) = (part.multiply_adds, part.side);
                }
                trace.channels = channels;
            }
            Self::Experts(conv) => {
                let [experts, weights] = conv.weight.lazy_shape().dims();
                trace.multiply_adds += (experts * weights) as u64;
                trace.spec(&conv.spec);
            }
        }
    }
}

/// Shape of a convolution's kernel, `[out, in / groups, kernel, kernel]`.
fn shape(spec: &ConvSpec) -> [usize; 4] {
    [spec.to, spec.from / spec.groups.max(1), spec.kernel, spec.kernel]
}

impl ExpertConv {
    fn forward(&self, x: Tensor<4>, routing: Tensor<2>) -> Tensor<4> {
        let ConvSpec { kernel, stride, dilation, groups, padding, .. } = self.spec;
        let [batch, channels, rows, columns] = x.dims();
        let [to, from, ..] = shape(&self.spec);
        let weight: Tensor<4> = routing.matmul(self.weight.val()).reshape([batch * to, from, kernel, kernel]);
        let (top, bottom) = padding.edges(rows, kernel, stride, dilation);
        let (left, right) = padding.edges(columns, kernel, stride, dilation);
        let x = x.pad((left, right, top, bottom), PadMode::Constant(0.0));
        // The images of the batch are the groups of one convolution.
        let x: Tensor<4> = x.reshape([1, batch * channels, rows + top + bottom, columns + left + right]);
        let options = ConvOptions::new([stride; 2], [0; 2], [dilation; 2], groups * batch);
        let out = conv2d(x, weight, None, options);
        let [_, _, rows, columns] = out.dims();
        out.reshape([batch, to, rows, columns])
    }
}
