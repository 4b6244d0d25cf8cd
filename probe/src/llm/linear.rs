//! A linear layer with optional low-rank adaptation (LoRA, arXiv 2106.09685).

use super::kernel::{Bf16Copies, LinearLayer};
use super::precision::cast;
use super::stored::{StoredWeight, Weight};
use crate::llm::kernel;
use burgess_base::stream::{stream, uniform};
use burn::module::{Initializer, Module, Param};
use burn::tensor::module::linear;
use burn::tensor::{Device, Tensor, TensorData};
use std::sync::Arc;

/// Computes `x · weight + bias`, and with LoRA also `+ scale · (x · a) · b`.
#[derive(Module, Debug)]
pub struct Linear {
    /// Weight, as a parameter `[in, out]` (the transpose of PyTorch's).
    pub weight: Weight,
    /// Bias, `[out]`; `None` in a layer without bias.
    pub bias: Option<Param<Tensor<1>>>,
    /// The LoRA factors; `None` without LoRA.
    pub lora: Option<Lora>,
    /// Packed copies of the weight, if products are computed in bf16 on the CPU backend.
    #[module(skip)]
    bf16: Option<Arc<Bf16Copies>>,
}

/// Trainable low-rank factors, whose product is added to a frozen weight.
#[derive(Module, Debug)]
pub struct Lora {
    /// Down projection, `[in, rank]`.
    pub a: Param<Tensor<2>>,
    /// Up projection, `[rank, out]`.
    pub b: Param<Tensor<2>>,
    /// Factor on the product of both, alpha / rank.
    #[module(skip)]
    scale: f64,
    /// Packed copies of both, as those of the layer.
    #[module(skip)]
    bf16: Option<[Arc<Bf16Copies>; 2]>,
}

impl Linear {
    /// Builds a layer with weights drawn from `init` and a bias of zeros.
    pub fn new(inputs: usize, outputs: usize, bias: bool, init: &Initializer, device: &Device) -> Self {
        Self {
            weight: Weight::Parameter(init.init([inputs, outputs], device)),
            bias: bias.then(|| Initializer::Zeros.init([outputs], device)),
            lora: None,
            bf16: None,
        }
    }

    /// Applies the layer to each row, `[rows, in]` → `[rows, out]`.
    pub fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let bias = self.bias.as_ref().map(Param::val);
        let plain = match &self.weight {
            Weight::Parameter(weight) => {
                kernel::linear(x.clone(), LinearLayer { weight: weight.val(), bias, bf16: self.bf16.as_ref() })
            }
            Weight::Stored(weight) => kernel::stored_linear(x.clone(), &[(weight, bias)]),
        };
        match &self.lora {
            Some(lora) => plain + lora.forward(x),
            None => plain,
        }
    }

    /// Sets whether products with the weight and the LoRA factors are computed in bf16 by the CPU backend.
    pub(super) fn set_bf16(&mut self, bf16: bool) {
        self.weight.set_bf16(bf16);
        self.bf16 = bf16.then(Arc::default);
        if let Some(lora) = &mut self.lora {
            lora.bf16 = bf16.then(<[Arc<Bf16Copies>; 2]>::default);
        }
    }

    /// Returns the number of inputs and of outputs.
    pub fn shape(&self) -> [usize; 2] {
        match &self.weight {
            Weight::Parameter(weight) => weight.lazy_shape().dims(),
            Weight::Stored(weight) => weight.shape(),
        }
    }

    /// The weight as its file stores it; `None` for a parameter.
    pub fn stored(&self) -> Option<&StoredWeight> {
        match &self.weight {
            Weight::Parameter(_) => None,
            Weight::Stored(weight) => Some(weight),
        }
    }

    /// Returns this layer with new LoRA factors: `a` uniform in ±1/√in as in PEFT, `b` zero, so that the output is
    /// unchanged.
    #[must_use]
    pub fn with_lora(mut self, rank: usize, alpha: f64, name: &str, seed: u64) -> Self {
        let [inputs, outputs] = self.shape();
        let device = match &self.weight {
            Weight::Parameter(weight) => weight.lazy_device(),
            Weight::Stored(_) => Device::flex(),
        };
        let mut random = stream(&format!("lora/{name}"), seed);
        let bound = 1.0 / (inputs as f64).sqrt();
        let draw = |_| ((2.0 * uniform(&mut random) - 1.0) * bound) as f32;
        let a: Vec<f32> = (0..inputs * rank).map(draw).collect();
        self.lora = Some(Lora {
            a: Param::from_tensor(Tensor::from_data(TensorData::new(a, [inputs, rank]), &device)),
            b: Param::from_tensor(Tensor::zeros([rank, outputs], &device)),
            scale: alpha / rank as f64,
            bf16: self.bf16.is_some().then(<[Arc<Bf16Copies>; 2]>::default),
        });
        self
    }

    /// Returns this layer with the LoRA product added to the weight; one whose weight is stored as in its file keeps its
    /// LoRA factors.
    #[must_use]
    pub fn merge_lora(mut self) -> Self {
        if self.stored().is_none()
            && let Some(lora) = self.lora.take()
        {
            self.weight = self.weight.map_parameter(|w| w + lora.change());
        }
        self
    }
}

impl Lora {
    /// Makes LoRA factors of `a` `[in, rank]` and `b` `[rank, out]`, whose product is multiplied by `scale`.
    pub fn new(a: Tensor<2>, b: Tensor<2>, scale: f64) -> Self {
        Self { a: Param::from_tensor(a), b: Param::from_tensor(b), scale, bf16: None }
    }

    /// The scaled product of the factors, `[in, out]`, which is added to the weight.
    pub fn change(&self) -> Tensor<2> {
        self.a.val().matmul(self.b.val()).mul_scalar(self.scale)
    }

    /// Rank, and `alpha` such that the product is multiplied by alpha / rank.
    pub fn rank_and_alpha(&self) -> (usize, f64) {
        let [_, rank] = self.a.lazy_shape().dims();
        (rank, self.scale * rank as f64)
    }

    /// Computes the scaled product, `[rows, in]` → `[rows, out]`.
    fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let out = match &self.bf16 {
            Some([a, b]) => {
                let layer = |x, weight: &Param<Tensor<2>>, copies| {
                    kernel::linear(x, LinearLayer { weight: weight.val(), bias: None, bf16: Some(copies) })
                };
                layer(layer(x, &self.a, a), &self.b, b)
            }
            None => {
                let [a, b] = [&self.a, &self.b].map(|p| cast(p.val(), x.dtype()));
                linear(linear(x, a, None), b, None)
            }
        };
        out.mul_scalar(self.scale)
    }
}

/// Applies several layers to the same input and concatenates their outputs along the columns.
///
/// One product with the concatenated weights reads `x` once, and its gradient is one product too, but concatenation
/// copies the weights; with fewer rows than inputs it is cheaper to copy the outputs.
pub fn concat_linear<const N: usize>(layers: [&Linear; N], x: Tensor<2>) -> Tensor<2> {
    let [rows, inputs] = x.dims();
    let bias = |layer: &Linear| layer.bias.as_ref().map(Param::val);
    if layers.iter().all(|l| l.lora.is_none()) {
        let stored: Vec<_> = layers.iter().filter_map(|l| Some((l.stored()?, bias(l)))).collect();
        if stored.len() == N {
            return kernel::stored_linear(x, &stored);
        }
        let parts = layers.iter().filter_map(|l| {
            let weight = l.weight.parameter().ok()?.val();
            Some(LinearLayer { weight, bias: bias(l), bf16: l.bf16.as_ref() })
        });
        let parts: Vec<_> = parts.collect();
        if parts.len() == N {
            if let Some(out) = kernel::fused_linear(&x, &parts) {
                return out;
            }
            if rows >= inputs && parts.iter().all(|part| part.bias.is_none()) {
                let weight = Tensor::cat(parts.into_iter().map(|part| part.weight).collect(), 1);
                return kernel::linear(x, LinearLayer { weight, bias: None, bf16: None });
            }
        }
    }
    Tensor::cat(layers.iter().map(|l| l.forward(x.clone())).collect(), 1)
}
