//! Linear layers whose products have operands rounded to bf16 and sums in f32, with gradients in the same precision.
//!
//! Weights stay f32 parameters, as under PyTorch's `autocast`, or 16-bit numbers in their file. The products need them
//! rounded and packed: for the output in one order, for the gradient of the input in the other. Both copies are made on
//! first use and kept until the weight changes, so that a frozen weight is packed once, and a trained one once per
//! optimiser step.

use super::product::column_sums;
use super::{Input, record, slice, tensor};
use crate::llm::stored::StoredWeight;
use burgess_encoders::kernel::bf16::{Bf16Rows, Bf16Transposed, PackedMatrix, products, sum_of_products};
use burgess_encoders::kernel::stored::StoredMatrix;
use burgess_encoders::kernel::{Matrix, Strides};
use burn::backend::flex::{FlexTensor, Layout};
use burn::tensor::{Bytes, Tensor};
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// The packed bf16 copies of a weight, which clones of its layer share.
#[derive(Debug, Default)]
pub struct Bf16Copies(Mutex<Option<Copies>>);

/// The copies of one state of a weight.
#[derive(Debug)]
struct Copies {
    of: Identity,
    /// The right operand of the product with the layer's input, and of that with the gradient of its output.
    packed: [Option<Arc<PackedMatrix>>; 2],
}

/// Identifies the values of a weight.
#[derive(Debug)]
enum Identity {
    /// Those of a parameter. The weak reference does not keep an optimiser from updating them in place: as long as it
    /// exists, no other values, nor changed ones, have the same identity.
    Parameter(Weak<Bytes>, Layout),
    /// Those of a file, which never change.
    Stored,
}

impl PartialEq for Identity {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Parameter(a, layout), Self::Parameter(b, other)) => Weak::ptr_eq(a, b) && layout == other,
            (Self::Stored, Self::Stored) => true,
            _ => false,
        }
    }
}

/// The weight of a layer.
#[derive(Clone)]
enum LayerWeight {
    /// `[inputs, outputs]`.
    Parameter(FlexTensor),
    /// A parameter `[outputs, inputs]`: an embedding table.
    Table(FlexTensor),
    /// A matrix `[outputs, inputs]` in the number format of its file.
    Stored(Arc<StoredMatrix>),
}

impl LayerWeight {
    fn identity(&self) -> Identity {
        match self {
            Self::Parameter(weight) | Self::Table(weight) => {
                Identity::Parameter(Arc::downgrade(&weight.data_arc()), weight.layout().clone())
            }
            Self::Stored(_) => Identity::Stored,
        }
    }

    /// Packs the weight as the right operand of a product `[rows, inputs] → [rows, outputs]` or, `backward`, of one `[rows,
    /// outputs] → [rows, inputs]`.
    fn pack(&self, [inputs, outputs]: [usize; 2], backward: bool) -> PackedMatrix {
        let unpacked;
        let by_input = match self {
            Self::Parameter(weight) => Matrix(slice(weight), Strides::row_major(outputs)),
            Self::Table(weight) => Matrix(slice(weight), Strides::row_major(inputs).transposed()),
            Self::Stored(matrix) => {
                unpacked = matrix.unpack();
                Matrix(&unpacked, Strides::row_major(inputs).transposed())
            }
        };
        match backward {
            false => PackedMatrix::new(by_input, [inputs, outputs]),
            true => PackedMatrix::new(Matrix(by_input.0, by_input.1.transposed()), [outputs, inputs]),
        }
    }
}

impl Bf16Copies {
    /// Returns a packed form of a weight, as [`LayerWeight::pack`].
    fn packed(&self, weight: &LayerWeight, shape: [usize; 2], backward: bool) -> Arc<PackedMatrix> {
        let lock = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (of, index) = (weight.identity(), usize::from(backward));
        {
            let mut copies = lock();
            match copies.as_ref().filter(|copies| copies.of == of) {
                Some(known) => {
                    if let Some(packed) = &known.packed[index] {
                        return Arc::clone(packed);
                    }
                }
                // Outdated copies make room before new ones are made.
                None => *copies = None,
            }
        }
        // Without the lock, since a thread that waits for tasks may meanwhile do work that needs the copies.
        let made = Arc::new(weight.pack(shape, backward));
        let mut copies = lock();
        let known = copies.take().filter(|copies| copies.of == of);
        let copies = copies.insert(known.unwrap_or(Copies { of, packed: [None, None] }));
        copies.packed[index] = Some(Arc::clone(&made));
        made
    }
}

/// One of the layers of a graph node.
struct Layer {
    weight: LayerWeight,
    bias: Option<FlexTensor>,
    copies: Arc<Bf16Copies>,
    /// First column of the layer's output in the joint output.
    first: usize,
    /// Number of outputs.
    columns: usize,
    /// Indices of a weight and of a bias among the inputs of the graph node.
    nodes: [Option<usize>; 2],
}

/// The inputs of a graph node and the layers that it applies side by side.
struct Joint {
    nodes: Vec<Input>,
    layers: Vec<Layer>,
    /// Number of rows, inputs and, so far, outputs.
    shape: [usize; 3],
}

impl Joint {
    /// Begins with the input of the layers.
    fn new(x: &Tensor<2>) -> Option<Self> {
        let [rows, inputs] = x.dims();
        Some(Self { nodes: vec![Input::of(x)?], layers: Vec::new(), shape: [rows, inputs, 0] })
    }

    /// Adds a graph input and returns its index.
    fn push(&mut self, node: Input) -> usize {
        self.nodes.push(node);
        self.nodes.len() - 1
    }

    /// Adds a layer whose weight is `[inputs, outputs]`; `None` if its shapes do not fit.
    fn add(
        &mut self,
        [inputs, columns]: [usize; 2],
        weight: (LayerWeight, Option<usize>),
        bias: Option<&Tensor<1>>,
        copies: &Arc<Bf16Copies>,
    ) -> Option<()> {
        let [_, wanted, first] = self.shape;
        if inputs != wanted || columns == 0 || bias.is_some_and(|bias| bias.dims() != [columns]) {
            return None;
        }
        let bias = bias.map(|bias| Input::of(bias).ok_or(())).transpose().ok()?;
        let values = bias.as_ref().map(Input::values);
        let nodes = [weight.1, bias.map(|bias| self.push(bias))];
        let (weight, copies) = (weight.0, Arc::clone(copies));
        self.layers.push(Layer { weight, bias: values, copies, first, columns, nodes });
        self.shape[2] += columns;
        Some(())
    }

    /// Computes the outputs of all layers side by side; `None` if there are none, or too many inputs.
    fn output(self) -> Option<Tensor<2>> {
        if self.shape.contains(&0) {
            return None;
        }
        match self.nodes.len() {
            1 => joint_layers::<1>(self),
            2 => joint_layers::<2>(self),
            3 => joint_layers::<3>(self),
            4 => joint_layers::<4>(self),
            5 => joint_layers::<5>(self),
            6 => joint_layers::<6>(self),
            7 => joint_layers::<7>(self),
            _ => None,
        }
    }
}

/// A linear layer: weight `[inputs, columns]`, bias `[columns]`, and the copies of the weight.
pub type Bf16Layer<'a> = (&'a Tensor<2>, Option<&'a Tensor<1>>, &'a Arc<Bf16Copies>);

/// Outputs of several layers side by side, as [`super::fused_linear`], with products in bf16.
pub fn linear(x: &Tensor<2>, layers: &[Bf16Layer<'_>]) -> Option<Tensor<2>> {
    let mut joint = Joint::new(x)?;
    for (weight, bias, copies) in layers {
        let node = Input::of(weight)?;
        let values = LayerWeight::Parameter(node.values());
        let node = joint.push(node);
        joint.add(weight.dims(), (values, Some(node)), *bias, copies)?;
    }
    joint.output()
}

/// Computes `x · tableᵀ` as [`super::linear_transposed`], for a table `[outputs, inputs]`, in bf16.
pub fn linear_transposed(x: &Tensor<2>, table: &Tensor<2>, copies: &Arc<Bf16Copies>) -> Option<Tensor<2>> {
    let mut joint = Joint::new(x)?;
    let node = Input::of(table)?;
    let values = LayerWeight::Table(node.values());
    let (node, [outputs, inputs]) = (joint.push(node), table.dims());
    joint.add([inputs, outputs], (values, Some(node)), None, copies)?;
    joint.output()
}

/// As [`super::stored_linear`], with biases, in bf16 instead of the number formats of the files.
pub fn stored_linear(x: &Tensor<2>, layers: &[(&StoredWeight, Option<Tensor<1>>)]) -> Option<Tensor<2>> {
    let mut joint = Joint::new(x)?;
    for (weight, bias) in layers {
        let values = LayerWeight::Stored(Arc::clone(weight.matrix()));
        joint.add(weight.shape(), (values, None), bias.as_ref(), weight.bf16()?)?;
    }
    joint.output()
}

/// The layers as a graph node with `N` inputs: the input of the layers, then their weights and biases.
fn joint_layers<const N: usize>(Joint { nodes, layers, shape: [rows, inputs, total] }: Joint) -> Option<Tensor<2>> {
    let nodes: [Input; N] = nodes.try_into().ok()?;
    let x = nodes.first()?.values();
    let weights: Vec<_> = layers.iter().map(|l| l.copies.packed(&l.weight, [inputs, l.columns], false)).collect();
    let parts = weights.iter().zip(&layers).map(|(weight, l)| (&**weight, l.bias.as_ref().map(slice)));
    let out = products(&Bf16Rows::new(slice(&x), inputs), &parts.collect::<Vec<_>>());
    let tracked = nodes.each_ref().map(Input::is_tracked);
    let trains = |layer: &Layer| layer.nodes[0].and_then(|node| tracked.get(node)).copied().unwrap_or(false);
    // The input is needed only by the gradients of weights, and in bf16 only: as the left operand for `[inputs, outputs]`,
    // as the right one for an embedding table.
    let is_table = |layer: &Layer| matches!(layer.weight, LayerWeight::Table(_));
    let left =
        (layers.iter().any(|layer| trains(layer) && !is_table(layer))).then(|| Bf16Transposed::new(slice(&x), inputs));
    let right = (layers.iter().any(|layer| trains(layer) && is_table(layer)))
        .then(|| PackedMatrix::new(Matrix(slice(&x), Strides::row_major(inputs)), [rows, inputs]));
    Some(record(nodes, tensor(out, [rows, total]), move || {
        Arc::new(move |grad, wanted: [bool; N]| {
            let is_wanted = |node: Option<usize>| node.filter(|node| wanted.get(*node).copied().unwrap_or(false));
            let mut pulled = [const { None }; N];
            if wanted.first().copied().unwrap_or(false) {
                let terms = layers.iter().map(|l| {
                    let grad = Bf16Rows::of_columns(grad, total, l.first..l.first + l.columns);
                    (grad, l.copies.packed(&l.weight, [inputs, l.columns], true))
                });
                let terms: Vec<_> = terms.collect();
                let terms: Vec<_> = terms.iter().map(|(grad, weight)| (grad, &**weight)).collect();
                pulled[0] = Some(tensor(sum_of_products(&terms), [rows, inputs]));
            }
            for layer in &layers {
                let Layer { first, columns, .. } = *layer;
                if let Some(node) = is_wanted(layer.nodes[0]) {
                    pulled[node] = match (&layer.weight, &left, &right) {
                        (LayerWeight::Parameter(_), Some(x), _) => {
                            let grad = Matrix(&grad[first..], Strides::row_major(total));
                            let grad = PackedMatrix::new(grad, [rows, columns]);
                            Some(tensor(sum_of_products(&[(x, &grad)]), [inputs, columns]))
                        }
                        // A table is the only layer of its node.
                        (LayerWeight::Table(_), _, Some(x)) => {
                            let grad = Bf16Transposed::new(grad, columns);
                            Some(tensor(sum_of_products(&[(&grad, x)]), [columns, inputs]))
                        }
                        _ => None,
                    };
                }
                if let Some(node) = is_wanted(layer.nodes[1]) {
                    pulled[node] = Some(tensor(column_sums(grad, total, first..first + columns), [columns]));
                }
            }
            pulled
        })
    }))
}
