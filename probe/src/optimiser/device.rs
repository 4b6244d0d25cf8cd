//! The update of parameters on a device, by tensor operations; nothing is copied to the host.

use super::{EPSILON, MOMENTUM, StepFactors, muon_step_size, newton_schulz};
use burgess_base::{Error, Result};
use burgess_encoders::transfer::{self, Downloads};
use burn::tensor::{Device, Tensor, TensorData};

/// The moments of one parameter on its device, in row-major order.
#[derive(Debug, Clone)]
pub(super) struct Moments {
    /// Exponential moving average of the gradients, `[elements]`.
    first: Tensor<1>,
    /// Exponential moving average of the squared gradients, `[elements]`; `None` for parameters that Muon updates.
    second: Option<Tensor<1>>,
}

impl Moments {
    /// Returns the moments before the first update of a parameter with this gradient.
    pub fn zero(grad: &Tensor<1>, muon: bool) -> Self {
        let zeros = grad.zeros_like();
        Self { first: zeros.clone(), second: (!muon).then_some(zeros) }
    }

    /// Copies moments to the device.
    pub fn of_host(moments: super::Moments, device: &Device) -> Self {
        let upload = |values: Vec<f32>| {
            let count = values.len();
            transfer::to_device(TensorData::new(values, [count]), device)
        };
        let second = (!moments.second.is_empty()).then(|| upload(moments.second));
        Self { first: upload(moments.first), second }
    }

    /// Returns the numbers of first and second moments.
    pub fn counts(&self) -> [usize; 2] {
        [self.first.dims()[0], self.second.as_ref().map_or(0, |second| second.dims()[0])]
    }

    /// Copies the moments to the host.
    ///
    /// # Errors
    /// When the device fails to copy them.
    pub fn to_host(&self) -> Result<super::Moments> {
        let mut downloads = Downloads::default().with(self.first.clone());
        if let Some(second) = &self.second {
            downloads = downloads.with(second.clone());
        }
        let mut read = downloads.read()?.into_iter().map(|data| {
            data.try_into_vec_as::<f32>().map_err(|e| Error::failed(format!("reading the optimiser's moments: {e}")))
        });
        let mut next = || read.next().transpose().map(Option::unwrap_or_default);
        Ok(super::Moments { first: next()?, second: next()? })
    }
}

/// Applies one AdamW step to a parameter with this number of axes; returns its new values, `[elements]`.
pub(super) fn adamw_step(
    values: Tensor<1>,
    grad: Tensor<1>,
    moments: &mut Moments,
    axes: usize,
    factors: &StepFactors,
    rate: f64,
) -> Tensor<1> {
    let decay = factors.decay(axes, rate);
    let [b1, b2] = factors.betas;
    let [step_size, root] = factors.adamw(rate);
    let (scale, eps) = (factors.scale, EPSILON as f32);
    // Each operation is a kernel launch, so that constant factors are multiplied on the host.
    let m = moments.first.clone().mul_scalar(b1) + grad.clone().mul_scalar(scale * (1.0 - b1));
    let v = moments.second.take().unwrap_or_else(|| grad.zeros_like());
    let v = v.mul_scalar(b2) + grad.square().mul_scalar(scale * scale * (1.0 - b2));
    moments.first = m.clone();
    moments.second = Some(v.clone());
    let values = if decay == 1.0 { values } else { values.mul_scalar(decay) };
    values - m.mul_scalar(step_size * root) / v.sqrt().add_scalar(eps * root)
}

/// Applies one Muon step to a matrix of `shape`; returns its new values, `[elements]`.
pub(super) fn muon_step(
    values: Tensor<1>,
    grad: Tensor<1>,
    moments: &mut Moments,
    shape: [usize; 2],
    factors: &StepFactors,
    rate: f64,
) -> Tensor<1> {
    let g = grad.mul_scalar(factors.scale);
    let m = moments.first.clone();
    let m = m.clone() + (g.clone() - m).mul_scalar(1.0 - MOMENTUM);
    moments.first = m.clone();
    let ahead = g.clone() + (m - g).mul_scalar(MOMENTUM);
    let direction = newton_schulz(ahead.reshape(shape)).reshape([shape[0] * shape[1]]);
    values.mul_scalar(factors.decay(2, rate)) - direction.mul_scalar(muon_step_size(shape, rate))
}
