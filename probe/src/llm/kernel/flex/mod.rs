//! Fused implementations of [`super::portable`] for the `flex` backend: one pass over memory, with their own gradients.
//!
//! Composed of tensor operations, a norm or a softmax reads and writes its whole input once per operation, and again
//! for each in the backward pass; on one core that is most of a training step of a small decoder. Here each step is
//! one node of the autodiff graph. Every function returns `None` if a tensor is not an f32 tensor of this backend;
//! the caller then uses the portable implementation.

mod attention;
mod bf16;
mod cached;
mod product;
mod rows;
mod stored;

pub use attention::causal_attention;
pub use bf16::Bf16Copies;
pub use bf16::{
    linear as bf16_linear, linear_transposed as bf16_linear_transposed, stored_linear as bf16_stored_linear,
};
pub(crate) use cached::CachedRows;
pub use product::{fused_linear, linear_transposed};
pub use rows::{cross_entropy, rms_norm, swiglu};
pub use stored::stored_linear;

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::NoCheckpointing;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, NodeGuard, Ops, OpsKind};
use burn::backend::flex::{FlexTensor, Layout};
use burn::backend::{Autodiff, AutodiffBackend, Flex};
use burn::tensor::{Bytes, DType, Shape, Tensor};
use std::fmt;
use std::sync::Arc;

/// The autodiff backend that these kernels support (without gradient checkpointing).
type Tracking = Autodiff<Flex, NoCheckpointing>;
type Tracked = <Tracking as burn::backend::BackendTypes>::FloatTensorPrimitive;

/// An input tensor, with or without autodiff.
enum Input {
    Plain(FlexTensor),
    Tracked(Tracked),
}

impl Input {
    /// Unwraps the backend's tensor; `None` if it belongs to another backend or is not f32.
    fn of<const D: usize>(tensor: &Tensor<D>) -> Option<Self> {
        if tensor.dtype() != DType::F32 {
            return None;
        }
        if let Ok(plain) = tensor.clone().try_into_primitive::<Flex>() {
            return Some(Self::Plain(plain));
        }
        tensor.clone().try_into_primitive::<Tracking>().ok().map(Self::Tracked)
    }

    /// The values as a contiguous tensor, copied only if needed.
    fn values(&self) -> FlexTensor {
        match self {
            Self::Plain(t) => t.to_contiguous(),
            Self::Tracked(t) => t.primitive().to_contiguous(),
        }
    }

    /// Whether a gradient of this tensor is computed.
    fn is_tracked(&self) -> bool {
        matches!(self, Self::Tracked(t) if t.is_tracked())
    }

    /// The tensor without autodiff, and its node in the graph.
    fn into_parts(self) -> (FlexTensor, Option<NodeGuard>) {
        match self {
            Self::Plain(t) => (t, None),
            Self::Tracked(t) => {
                let (values, node) = t.into_parts();
                (values, Some(node))
            }
        }
    }

    fn tracked(self) -> Tracked {
        match self {
            Self::Plain(t) => <Tracking as AutodiffBackend>::from_inner(t),
            Self::Tracked(t) => t,
        }
    }
}

/// The elements of a contiguous f32 tensor.
fn slice(tensor: &FlexTensor) -> &[f32] {
    tensor.as_slice::<f32>().unwrap_or_default()
}

/// Builds a tensor from its elements in row-major order.
fn tensor<const D: usize>(values: Vec<f32>, shape: [usize; D]) -> FlexTensor {
    FlexTensor::new(Bytes::from_elems(values), Layout::contiguous(Shape::new(shape)), DType::F32)
}

/// The gradient function of a step: output gradient and which inputs are tracked → input gradients.
type BackwardFn<const N: usize> = dyn Fn(&[f32], [bool; N]) -> [Option<FlexTensor>; N] + Send + Sync;

#[derive(Clone)]
struct BackwardState<const N: usize>(Arc<BackwardFn<N>>);

impl<const N: usize> fmt::Debug for BackwardState<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BackwardState")
    }
}

/// A graph node that holds only the gradient function of a fused step.
#[derive(Debug)]
struct Fused<const N: usize>;

impl<const N: usize> Backward<Flex, N> for Fused<N> {
    type State = BackwardState<N>;

    fn backward(self, ops: Ops<Self::State, N>, grads: &mut Gradients, _checkpointer: &mut Checkpointer) {
        let grad = grads.consume::<Flex>(&ops.node).to_contiguous();
        let wanted = ops.parents.each_ref().map(Option::is_some);
        let pulled = (ops.state.0)(slice(&grad), wanted);
        for (parent, grad) in ops.parents.into_iter().zip(pulled) {
            if let (Some(parent), Some(grad)) = (parent, grad) {
                grads.register::<Flex>(parent.id, grad);
            }
        }
    }
}

/// Registers an output in the autodiff graph; `pull` is called only if an input is tracked.
fn record<const N: usize, const D: usize>(
    inputs: [Input; N],
    output: FlexTensor,
    pull: impl FnOnce() -> Arc<BackwardFn<N>>,
) -> Tensor<D> {
    if inputs.iter().all(|i| matches!(i, Input::Plain(_))) {
        return Tensor::from_primitive::<Flex>(output);
    }
    let inputs = inputs.map(Input::tracked);
    record_nodes(inputs.each_ref().map(Tracked::node), output, pull)
}

/// As [`record`], for inputs of which only the nodes in the graph are left.
fn record_nodes<const N: usize, const D: usize>(
    nodes: [NodeGuard; N],
    output: FlexTensor,
    pull: impl FnOnce() -> Arc<BackwardFn<N>>,
) -> Tensor<D> {
    let out = match Fused::<N>.prepare::<NoCheckpointing>(nodes).compute_bound().stateful() {
        OpsKind::Tracked(prep) => prep.finish(BackwardState(pull()), output),
        OpsKind::UnTracked(prep) => prep.finish(output),
    };
    Tensor::from_primitive::<Tracking>(out)
}
