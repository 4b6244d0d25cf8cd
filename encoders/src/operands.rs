//! Operands of layers that the fused loops in [`kernel`](crate::kernel) and the ordinary tensor operations share:
//! activations, attention biases and rotary angles.

use burn::tensor::{DType, Device, FloatDType, Tensor, activation};
use serde::{Deserialize, Serialize};

/// The activation function between the two layers of a block's MLP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// Exact GELU, x·Φ(x).
    #[default]
    Gelu,
    /// SiLU, x·σ(x).
    Silu,
    /// QuickGELU, x·σ(1.702 x), used by OpenAI's CLIP.
    QuickGelu,
    /// The tanh approximation of GELU, used by SigLIP.
    GeluTanh,
    /// SwiGLU, SiLU(first half) · second half of the first layer's output, which is twice as wide (Shazeer 2020,
    /// arXiv:2002.05202); used by DINOv2-giant and EVA-02.
    Swiglu,
}

impl Activation {
    /// Applies the activation to every element; SwiGLU instead halves the last axis.
    pub fn forward<const D: usize>(self, x: Tensor<D>) -> Tensor<D> {
        match self {
            Self::Gelu => gelu(x),
            Self::Silu => activation::silu(x),
            Self::QuickGelu => x.clone() * activation::sigmoid(x.mul_scalar(1.702)),
            Self::GeluTanh => activation::gelu_approximate(x),
            Self::Swiglu => {
                let half = x.dims()[D - 1] / 2;
                activation::silu(x.clone().narrow(D - 1, 0, half)) * x.narrow(D - 1, half, half)
            }
        }
    }

    /// The number of output columns of the first layer per hidden channel: 2 for SwiGLU, otherwise 1.
    pub fn columns(self) -> usize {
        match self {
            Self::Swiglu => 2,
            Self::Gelu | Self::Silu | Self::QuickGelu | Self::GeluTanh => 1,
        }
    }
}

/// Computes exact GELU, x·Φ(x), element by element, with its exact gradient on every device.
///
/// Where a backend has no gradient of its own, Burn 0.22 takes that of the tanh approximation with rounded constants:
/// gradients through a layer are then off by up to 1e-3. The CPU backend has the exact one; on other devices the error
/// function is differentiated.
pub fn gelu<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    if !x.is_autodiff() || x.device() == Device::flex() {
        return activation::gelu(x);
    }
    let dtype = x.dtype();
    let x = if dtype == DType::F32 { x } else { x.cast(FloatDType::F32) };
    let twice = x.clone().mul_scalar(std::f32::consts::FRAC_1_SQRT_2).erf().add_scalar(1.0);
    let out = x.mul_scalar(0.5) * twice;
    match dtype {
        DType::BF16 => out.cast(FloatDType::BF16),
        DType::F16 => out.cast(FloatDType::F16),
        _ => out,
    }
}

/// A bias added to the attention scores.
#[derive(Debug, Clone, Default)]
#[expect(clippy::large_enum_variant, reason = "made once for each block and handed on")]
pub enum Bias {
    /// No bias is added.
    #[default]
    None,
    /// A bias per query and key, `[1 or batch, 1 or heads, queries, keys]`.
    Full(Tensor<4>),
    /// A bias by axis for keys on a row-major grid: `down` for a key's row plus `across` for its column.
    ByAxis {
        /// Bias per key row, `[batch, heads, queries, rows]`.
        down: Tensor<4>,
        /// Bias per key column, `[batch, heads, queries, columns]`.
        across: Tensor<4>,
    },
}

impl Bias {
    /// The bias as one tensor `[1 or batch, 1 or heads, queries, keys]`; `None` if there is no bias.
    pub(crate) fn whole(self) -> Option<Tensor<4>> {
        match self {
            Self::None => None,
            Self::Full(bias) => Some(bias),
            Self::ByAxis { down, across } => {
                let ([batch, heads, queries, rows], [_, _, _, columns]) = (down.dims(), across.dims());
                let sum = down.unsqueeze_dim::<5>(4) + across.unsqueeze_dim::<5>(3);
                Some(sum.reshape([batch, heads, queries, rows * columns]))
            }
        }
    }
}

/// Angles of the rotary position embedding, which rotates pairs of neighbouring channels of queries and keys. Both
/// channels of a pair have the same angle. `D` is 3 if heads have angles of their own.
#[derive(Debug, Clone)]
pub struct Rotation<const D: usize = 2> {
    /// Cosines of the angles, `[tokens, head_dim]` or `[heads, tokens, head_dim]`.
    pub cos: Tensor<D>,
    /// Sines of the angles, of the same shape.
    pub sin: Tensor<D>,
}

impl<const D: usize> Rotation<D> {
    /// Rotates `x` of shape `[batch, heads, tokens, head_dim]`.
    pub(crate) fn apply(&self, x: Tensor<4>) -> Tensor<4> {
        let [batch, heads, tokens, head_dim] = x.dims();
        let pairs: Tensor<5> = x.clone().reshape([batch, heads, tokens, head_dim / 2, 2]);
        let turned = Tensor::cat(vec![pairs.clone().narrow(4, 1, 1).neg(), pairs.narrow(4, 0, 1)], 4);
        let turned: Tensor<4> = turned.reshape([batch, heads, tokens, head_dim]);
        x * self.cos.clone().unsqueeze() + turned * self.sin.clone().unsqueeze()
    }
}
