//! Packed weights of linear layers in a module.

use super::PackedMatrix;
use crate::kernel::{Matrix, Strides};
use burn::module::{Module, ModuleVisitor, Param, Reparameterization, Reparameterizer};
use burn::tensor::{Tensor, TensorData};
use std::collections::HashSet;
use std::sync::Arc;

/// The packed weight of a linear layer, attached to its parameter. The parameter itself is unpacked (to rounded f32
/// values) only if something reads it.
#[derive(Module, Debug)]
pub struct PackedWeight {
    #[module(skip)]
    matrix: Arc<PackedMatrix>,
}

impl PackedWeight {
    /// The packed matrix of a linear layer's weight, if it has one.
    pub(super) fn of(weight: &Param<Tensor<2>>) -> Option<&PackedMatrix> {
        weight.reparameterization::<Self>().map(|packed| &*packed.matrix)
    }
}

impl Reparameterization for PackedWeight {
    const NAME: &'static str = "bf16";

    fn apply<const D: usize>(&self, base: Tensor<D>) -> Tensor<D> {
        base
    }
}

/// Returns `module` with the weights of all its linear layers held as packed bf16 only.
pub fn pack_weights<M: Module>(module: M) -> M {
    let mut found = LinearWeights::default();
    module.visit(&mut found);
    module.apply_reparameterization(Packer { linear: found.paths })
}

/// Lists the paths of the weights of all linear layers.
#[derive(Default)]
struct LinearWeights {
    names: Vec<String>,
    containers: Vec<String>,
    paths: HashSet<String>,
}

impl ModuleVisitor for LinearWeights {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.names.push(name.to_string());
        self.containers.push(container.to_string());
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.names.pop();
        self.containers.pop();
    }

    fn visit_float<const D: usize>(&mut self, _param: &Param<Tensor<D>>) {
        let linear = self.containers.last().is_some_and(|container| container == "Struct:Linear");
        if D == 2 && linear && self.names.last().is_some_and(|name| name == "weight") {
            self.paths.insert(self.names.join("."));
        }
    }
}

/// Packs the weights at the given paths.
struct Packer {
    linear: HashSet<String>,
}

impl Reparameterizer for Packer {
    type Reparam = PackedWeight;

    fn reparameterize<const D: usize>(
        &mut self,
        path: &str,
        param: Param<Tensor<D>>,
    ) -> (Param<Tensor<D>>, Option<PackedWeight>) {
        if !self.linear.contains(path) {
            return (param, None);
        }
        let (id, device, shape) = (param.id, param.lazy_device(), param.lazy_shape());
        let &[inputs, outputs] = shape.as_slice() else { return (param, None) };
        let Ok(values) = param.val().into_data().try_into_vec_as::<f32>() else { return (param, None) };
        drop(param);
        let matrix = Arc::new(PackedMatrix::new(Matrix(&values, Strides::row_major(outputs)), [inputs, outputs]));
        let packed = Arc::clone(&matrix);
        let unpack = move |device: &burn::tensor::Device, _: bool| {
            Tensor::from_data(TensorData::new(packed.unpack(), [inputs, outputs]), device)
        };
        (Param::uninitialized(id, unpack, device, false, shape), Some(PackedWeight { matrix }))
    }
}
