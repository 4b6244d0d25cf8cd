//! A linear layer with optional low-rank adaptation (LoRA, arXiv 2106.09685).

use super::precision::cast;
use crate::llm::kernel;
use burgess_base::stream::{stream, uniform};
use burn::module::{Initializer, Module, Param};
use burn::tensor::module::linear;
use burn::tensor::{Device, Tensor, TensorData};

/// Computes `x · weight + bias`, and with LoRA also `+ scale · (x · a) · b`.
#[derive(Module, Debug)]
pub struct Linear {
    /// Weight, `[in, out]` (the transpose of PyTorch's).
    pub weight: Param<Tensor<2>>,
    /// Bias, `[out]`; `None` in a layer without bias.
    pub bias: Option<Param<Tensor<1>>>,
    /// The LoRA factors; `None` without LoRA.
    pub lora: Option<Lora>,
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
}

impl Linear {
    /// Builds a layer with weights drawn from `init` and a bias of zeros.
    pub fn new(inputs: usize, outputs: usize, bias: bool, init: &Initializer, device: &Device) -> Self {
        Self {
            weight: init.init([inputs, outputs], device),
            bias: bias.then(|| Initializer::Zeros.init([outputs], device)),
            lora: None,
        }
    }

    /// Applies the layer to each row, `[rows, in]` → `[rows, out]`.
    pub fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let plain = kernel::linear(x.clone(), self.weight.val(), self.bias.as_ref().map(Param::val));
        match &self.lora {
            Some(lora) => plain + lora.forward(x),
            None => plain,
        }
    }

    /// Returns this layer with new LoRA factors: `a` uniform in ±1/√in as in PEFT, `b` zero, so that the output is
    /// unchanged.
    #[must_use]
    pub fn with_lora(mut self, rank: usize, alpha: f64, name: &str, seed: u64) -> Self {
        let [inputs, outputs] = self.weight.lazy_shape().dims();
        let device = self.weight.lazy_device();
        let mut random = stream(&format!("lora/{name}"), seed);
        let bound = 1.0 / (inputs as f64).sqrt();
        let draw = |_| ((2.0 * uniform(&mut random) - 1.0) * bound) as f32;
        let a: Vec<f32> = (0..inputs * rank).map(draw).collect();
        self.lora = Some(Lora {
            a: Param::from_tensor(Tensor::from_data(TensorData::new(a, [inputs, rank]), &device)),
            b: Param::from_tensor(Tensor::zeros([rank, outputs], &device)),
            scale: alpha / rank as f64,
        });
        self
    }

    /// Returns this layer with the LoRA product added to the weight.
    #[must_use]
    pub fn merge_lora(mut self) -> Self {
        if let Some(lora) = self.lora.take() {
            let change = lora.a.val().matmul(lora.b.val()).mul_scalar(lora.scale);
            self.weight = self.weight.map(|w| w + change);
        }
        self
    }
}

impl Lora {
    /// Computes the scaled product, `[rows, in]` → `[rows, out]`.
    fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let [a, b] = [&self.a, &self.b].map(|p| cast(p.val(), x.dtype()));
        linear(linear(x, a, None), b, None).mul_scalar(self.scale)
    }
}

/// Applies several layers to the same input and concatenates their outputs along the columns.
///
/// One product with the concatenated weights reads `x` once, and its gradient is one product too, but concatenation
/// copies the weights; with fewer rows than inputs it is cheaper to copy the outputs.
pub fn concat_linear<const N: usize>(layers: [&Linear; N], x: Tensor<2>) -> Tensor<2> {
    let [rows, inputs] = x.dims();
    if layers.iter().all(|l| l.lora.is_none()) {
        let parts = layers.map(|l| (l.weight.val(), l.bias.as_ref().map(Param::val)));
        if let Some(out) = kernel::fused_linear(&x, &parts) {
            return out;
        }
        if rows >= inputs && parts.iter().all(|(_, bias)| bias.is_none()) {
            return kernel::linear(x, Tensor::cat(parts.into_iter().map(|(weight, _)| weight).collect(), 1), None);
        }
    }
    Tensor::cat(layers.iter().map(|l| l.forward(x.clone())).collect(), 1)
}
