//! Converts the parameters of a Burn module to PyTorch's conventions: paths with dots, `weight`/`bias`, linear weights
//! as `[out, in]`.
//!
//! Burn stores a linear weight as `[in, out]` and calls the affine parameters of norms `gamma`/`beta`. All code outside
//! this file uses PyTorch's conventions only.

use burgess_base::{Context, Error, Result};
use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Bool, Int, Tensor, TensorData};
use rayon::prelude::*;

/// A floating-point parameter of a module, in PyTorch's conventions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameter {
    /// Path from the root of the module, such as `blocks.0.attn.qkv.weight`.
    pub path: String,
    /// Shape, `[out, in]` for linear weights.
    pub shape: Vec<usize>,
}

/// Lists all parameters of `module` in the order of its fields. Lazy parameters are not initialised.
///
/// # Errors
/// The module has an integer or boolean parameter, which no checkpoint can fill.
pub fn parameters<M: Module>(module: &M) -> Result<Vec<Parameter>> {
    let mut visitor = Lister { trail: Trail::default(), found: Vec::new(), foreign: None };
    module.visit(&mut visitor);
    match visitor.foreign {
        Some(path) => Err(Error::failed(format!("parameter `{path}` is not floating-point"))),
        None => Ok(visitor.found),
    }
}

/// Replaces every parameter of `module` by the values that `values` returns for it (row-major, in the shape of the
/// [`Parameter`]). Devices, and whether parameters are trainable, do not change.
///
/// # Errors
/// An error of `values`, or a vector of the wrong length.
pub fn fill<M: Module>(module: M, mut values: impl FnMut(&Parameter) -> Result<Vec<f32>>) -> Result<M> {
    fill_some(module, |parameter| values(parameter).map(Some))
}

/// As [`fill`], but leaves those parameters unchanged for which `values` returns `None`; lazy ones stay uninitialised.
///
/// # Errors
/// As [`fill`].
pub fn fill_some<M: Module>(module: M, values: impl FnMut(&Parameter) -> Result<Option<Vec<f32>>>) -> Result<M> {
    let mut mapper = Filler { trail: Trail::default(), values, outcome: Ok(()) };
    let module = module.map(&mut mapper);
    mapper.outcome.map(|()| module)
}

/// Calls `take` with every parameter and its values (row-major, in the shape of the [`Parameter`]).
///
/// # Errors
/// An error of `take`, or the device fails to copy its data to the host.
pub fn visit_parameters<M: Module>(module: &M, take: impl FnMut(Parameter, Vec<f32>) -> Result<()>) -> Result<()> {
    let mut visitor = Collector { trail: Trail::default(), take, outcome: Ok(()) };
    module.visit(&mut visitor);
    visitor.outcome
}

/// The path from the root to the current module of a traversal.
#[derive(Default)]
struct Trail {
    names: Vec<String>,
    containers: Vec<String>,
}

impl Trail {
    fn enter(&mut self, name: &str, container: &str) {
        self.containers.push(container.to_string());
        // Variants of an enum are not part of PyTorch's names.
        if !container.starts_with("Enum:") {
            self.names.push(name.to_string());
        }
    }

    fn exit(&mut self, container: &str) {
        self.containers.pop();
        if !container.starts_with("Enum:") {
            self.names.pop();
        }
    }

    /// Returns the parameter at the current path, and whether its two dimensions are swapped between Burn and PyTorch.
    fn parameter(&self, shape: &[usize]) -> (Parameter, bool) {
        let mut names: Vec<&str> = self.names.iter().map(String::as_str).collect();
        let owner = self.containers.last().map(|c| c.trim_start_matches("Struct:")).unwrap_or_default();
        let norm = matches!(owner, "LayerNorm" | "RmsNorm" | "GroupNorm" | "BatchNorm" | "InstanceNorm");
        if let (true, Some(last)) = (norm, names.last_mut()) {
            *last = match *last {
                "gamma" => "weight",
                "beta" => "bias",
                other => other,
            };
        }
        let swapped = owner == "Linear" && names.last() == Some(&"weight") && shape.len() == 2;
        let mut shape = shape.to_vec();
        if swapped {
            shape.reverse();
        }
        (Parameter { path: names.join("."), shape }, swapped)
    }
}

/// Transposes a row-major matrix of `rows` × `columns`, in blocks that stay in the cache.
fn transposed(values: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    const BLOCK: usize = 32;
    let mut out = vec![0.0; values.len()];
    if rows == 0 {
        return out;
    }
    out.par_chunks_mut(BLOCK * rows).enumerate().for_each(|(strip, out)| {
        let left = strip * BLOCK;
        for top in (0..rows).step_by(BLOCK) {
            for r in top..(top + BLOCK).min(rows) {
                for c in left..(left + BLOCK).min(columns) {
                    out[(c - left) * rows + r] = values[r * columns + c];
                }
            }
        }
    });
    out
}

struct Lister {
    trail: Trail,
    found: Vec<Parameter>,
    foreign: Option<String>,
}

impl ModuleVisitor for Lister {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.trail.enter(name, container);
    }

    fn exit_module(&mut self, _name: &str, container: &str) {
        self.trail.exit(container);
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.found.push(self.trail.parameter(&param.lazy_shape()).0);
    }

    fn visit_int<const D: usize>(&mut self, _param: &Param<Tensor<D, Int>>) {
        self.foreign.get_or_insert_with(|| self.trail.names.join("."));
    }

    fn visit_bool<const D: usize>(&mut self, _param: &Param<Tensor<D, Bool>>) {
        self.foreign.get_or_insert_with(|| self.trail.names.join("."));
    }
}

struct Filler<F> {
    trail: Trail,
    values: F,
    outcome: Result<()>,
}

impl<F: FnMut(&Parameter) -> Result<Option<Vec<f32>>>> ModuleMapper for Filler<F> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.trail.enter(name, container);
    }

    fn exit_module(&mut self, _name: &str, container: &str) {
        self.trail.exit(container);
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        if self.outcome.is_err() {
            return param;
        }
        let shape = param.lazy_shape();
        let (parameter, swapped) = self.trail.parameter(&shape);
        let values = (self.values)(&parameter).and_then(|values| {
            let expected: usize = shape.iter().product();
            if values.as_ref().is_none_or(|values| values.len() == expected) {
                return Ok(values);
            }
            let found = values.map_or(0, |values| values.len());
            Err(Error::failed(format!("parameter `{}` has {expected} values, found {found}", parameter.path)))
        });
        match values {
            Ok(None) => param,
            Ok(Some(values)) => {
                let values = match parameter.shape.as_slice() {
                    &[rows, columns] if swapped => transposed(&values, rows, columns),
                    _ => values,
                };
                let tensor = Tensor::from_data(TensorData::new(values, shape), &param.lazy_device());
                let id = param.id;
                param.transform_for_load(tensor, id)
            }
            Err(e) => {
                self.outcome = Err(e);
                param
            }
        }
    }
}

struct Collector<F> {
    trail: Trail,
    take: F,
    outcome: Result<()>,
}

impl<F: FnMut(Parameter, Vec<f32>) -> Result<()>> ModuleVisitor for Collector<F> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.trail.enter(name, container);
    }

    fn exit_module(&mut self, _name: &str, container: &str) {
        self.trail.exit(container);
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if self.outcome.is_err() {
            return;
        }
        let tensor = param.transform_for_save().val();
        let (parameter, swapped) = self.trail.parameter(&tensor.dims());
        let path = parameter.path.clone();
        let read = tensor.try_into_data().map_err(|e| Error::failed(e.to_string()));
        let values = read.and_then(|data| data.try_into_vec_as::<f32>().map_err(|e| Error::failed(e.to_string())));
        self.outcome = values.with_context(|| format!("reading parameter `{path}`")).and_then(|values| {
            let values = match parameter.shape.as_slice() {
                // In Burn's layout the matrix has as many rows as PyTorch's has columns.
                &[rows, columns] if swapped => transposed(&values, columns, rows),
                _ => values,
            };
            (self.take)(parameter, values)
        });
    }
}
