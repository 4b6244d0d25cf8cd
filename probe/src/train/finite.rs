//! Detects divergence: reports values that are not finite where they arise, and before they are saved.

use super::{FeatureSource, read_batch};
use crate::data::Example;
use crate::mllm::Mllm;
use burgess_base::{Error, Result};
use burgess_encoders::transfer;
use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Device, Tensor};

/// Adds a hint on divergence to an error.
pub(crate) fn diverged(e: Error) -> Error {
    e.hint("the training diverged: lower the learning rates (and `lora.alpha`), or raise `warmup`")
}

/// Checks the parameters at the module paths that `checked` selects, with one reduction each on the device and one
/// read.
///
/// # Errors
/// When a value is NaN or infinite; the error names the parameter.
pub(crate) fn finite_weights<M: Module>(module: &M, checked: &dyn Fn(&[String]) -> bool) -> Result<()> {
    let mut sums = Sums { checked, path: Vec::new(), names: Vec::new(), sums: Vec::new() };
    module.visit(&mut sums);
    let Sums { names, sums, .. } = sums;
    if sums.is_empty() {
        return Ok(());
    }
    let values: Vec<f32> = transfer::to_host(Tensor::cat(sums, 0))?;
    let bad: Vec<&str> = names.iter().zip(&values).filter(|(_, v)| !v.is_finite()).map(|(n, _)| n.as_str()).collect();
    match bad.as_slice() {
        [] => Ok(()),
        [one] => Err(Error::failed(format!("the weights `{one}` are not finite"))),
        [first, rest @ ..] => {
            Err(Error::failed(format!("the weights `{first}` and {} other parameters are not finite", rest.len())))
        }
    }
}

/// Multiplies every parameter by zero and sums it: the sum is zero unless a value is not finite.
struct Sums<'a> {
    checked: &'a dyn Fn(&[String]) -> bool,
    path: Vec<String>,
    names: Vec<String>,
    sums: Vec<Tensor<1>>,
}

impl ModuleVisitor for Sums<'_> {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.push(name.to_string());
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if (self.checked)(&self.path) {
            self.names.push(self.path.join("."));
            self.sums.push(param.val().mul_scalar(0.0).sum());
        }
    }
}

/// Checks the loss of `part`, examples of the last step, with the final weights, which no later step would check.
///
/// # Errors
/// When the loss is not finite; also as [`read_batch`].
pub(super) fn last_loss(
    model: &Mllm,
    part: &[Example],
    features: &dyn FeatureSource,
    max_length: Option<usize>,
    device: &Device,
) -> Result<()> {
    let part: Vec<&Example> = part.iter().collect();
    let Some(batch) = read_batch(model, &part, features, max_length, None, device)? else { return Ok(()) };
    let loss = transfer::scalar(batch.loss(model)?)?;
    match loss.is_finite() {
        true => Ok(()),
        false => Err(diverged(Error::failed(format!(
            "the loss with the weights after the last step is {loss}, must be finite"
        )))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::nn::LinearConfig;
    use burn::tensor::TensorData;

    #[test]
    fn weights_that_are_not_finite_are_named() -> Result<()> {
        let device = Device::flex();
        let whole = LinearConfig::new(3, 2).init(&device);
        finite_weights(&whole, &|_| true)?;
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut broken = whole.clone();
            broken.bias =
                broken.bias.map(|b| b.map(|_| Tensor::from_data(TensorData::new(vec![1.0, bad], [2]), &device)));
            let e = finite_weights(&broken, &|_| true).unwrap_err();
            assert!(e.to_string().contains("`bias`"), "{e}");
            finite_weights(&broken, &|path| path.iter().any(|n| n == "weight"))?;
        }
        Ok(())
    }
}
