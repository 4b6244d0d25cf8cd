//! AdamW and Muon with one learning rate per parameter group and clipping by the global gradient norm.

use burgess_base::{Error, Result};
use burgess_encoders::transfer;
use burn::module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor, TensorData};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::collections::hash_map::Entry;

/// The optimisation algorithm of a stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum OptimiserMethod {
    /// AdamW for every parameter, as in LLaVA and Cambrian-1.
    #[default]
    AdamW,
    /// Muon for the matrices in lists of modules (the blocks of a model, the layers of a connector), AdamW for all
    /// other parameters. Small models trained on little data need far fewer steps with it.
    Muon,
}

/// The settings of one optimiser step.
pub struct StepSettings<'a> {
    /// Learning rate of the parameter at a module path; a parameter with `None` is not updated.
    pub rate: &'a dyn Fn(&[String]) -> Option<f64>,
    /// Divisor of the accumulated gradients: the sum of the factors given to [`Optimiser::collect`].
    pub total: f64,
    /// Maximum global gradient norm, at least 0; 0 = no clipping.
    pub clip: f64,
    /// Decoupled weight decay, at least 0, on parameters with two or more axes.
    pub weight_decay: f64,
}

/// An optimiser with its state: AdamW or Muon.
///
/// AdamW (arXiv 1711.05101) is computed as in PyTorch, with epsilon 1e-8. [`OptimiserMethod::Muon`] uses Muon as in
/// PyTorch for some matrices: Nesterov momentum of 0.95, then five Newton-Schulz steps towards the nearest orthogonal
/// matrix, scaled to AdamW's learning rates (arXiv 2502.16982).
#[derive(Debug)]
pub struct Optimiser {
    method: OptimiserMethod,
    betas: [f64; 2],
    step: i32,
    moments: HashMap<ParamId, Moments>,
    /// Gradients accumulated since the last step, by parameter.
    gradients: HashMap<ParamId, Vec<f32>>,
}

/// The moments of one parameter, in row-major order.
#[derive(Debug)]
pub(crate) struct Moments {
    /// Exponential moving average of the gradients.
    pub first: Vec<f32>,
    /// Exponential moving average of the squared gradients; empty for parameters that Muon updates.
    pub second: Vec<f32>,
}

const EPSILON: f64 = 1e-8;
const MOMENTUM: f32 = 0.95;

impl Optimiser {
    /// Creates an optimiser without state; `betas` are the decay rates of AdamW's first and second moments.
    pub fn new(method: OptimiserMethod, betas: [f64; 2]) -> Self {
        Self { method, betas, step: 0, moments: HashMap::new(), gradients: HashMap::new() }
    }

    /// Returns the number of steps taken.
    pub(crate) fn steps(&self) -> i32 {
        self.step
    }

    /// Returns the moments of a parameter; `None` before its first update.
    pub(crate) fn moments(&self, id: ParamId) -> Option<&Moments> {
        self.moments.get(&id)
    }

    /// Restores the step number and the moments, to resume training.
    pub(crate) fn restore(&mut self, step: i32, moments: HashMap<ParamId, Moments>) {
        (self.step, self.moments) = (step, moments);
    }

    /// Adds `factor` times the gradients of `module`'s parameters to the accumulated gradients.
    pub fn collect<M: Module>(&mut self, module: &M, mut grads: GradientsParams, factor: f32) {
        module.visit(&mut GradientCollector { grads: &mut grads, sums: &mut self.gradients, factor });
    }

    /// Updates the parameters of `module` that have accumulated gradients; returns the module and the global gradient
    /// norm before clipping.
    ///
    /// Moments are kept on the host, and the update runs there in one pass per parameter: on the CPU this needs an
    /// eighth of the memory traffic of ten tensor operations.
    ///
    /// # Errors
    /// When the norm is not finite; the error names the first such parameter, and nothing is updated.
    pub fn step<M: Module>(&mut self, module: M, settings: &StepSettings) -> Result<(M, f64)> {
        let mut squares = SquaredNorm { values: &self.gradients, sum: 0.0, path: Vec::new(), first: None };
        module.visit(&mut squares);
        let norm = squares.sum.sqrt() / settings.total;
        if !norm.is_finite() {
            let place = squares.first.map_or(String::new(), |path| format!(" (first in `{path}`)"));
            return Err(Error::failed(format!("the global gradient norm is {norm}{place}, must be finite")));
        }
        // PyTorch's `clip_grad_norm_` adds 1e-6 to the norm.
        let scale = if settings.clip > 0.0 { (settings.clip / (norm + 1e-6)).min(1.0) } else { 1.0 };
        self.step += 1;
        let [b1, b2] = self.betas;
        let mut update = ParameterUpdate {
            method: self.method,
            values: std::mem::take(&mut self.gradients),
            moments: &mut self.moments,
            settings,
            scale: (scale / settings.total) as f32,
            betas: [b1 as f32, b2 as f32],
            corrections: [1.0 - b1.powi(self.step), 1.0 - b2.powi(self.step)],
            path: Vec::new(),
            repeated: 0,
        };
        Ok((module.map(&mut update), norm))
    }
}

struct GradientCollector<'a> {
    grads: &'a mut GradientsParams,
    sums: &'a mut HashMap<ParamId, Vec<f32>>,
    factor: f32,
}

impl ModuleVisitor for GradientCollector<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let Some(grad) = self.grads.remove::<D>(param.id) else {
            return;
        };
        let values = to_host(grad);
        match self.sums.entry(param.id) {
            Entry::Occupied(mut sum) => {
                sum.get_mut().iter_mut().zip(&values).for_each(|(s, v)| *s += self.factor * v);
            }
            Entry::Vacant(place) if self.factor == 1.0 => {
                place.insert(values);
            }
            Entry::Vacant(place) => {
                place.insert(values.iter().map(|v| self.factor * v).collect());
            }
        }
    }
}

/// The sum of squares of all gradients, in the order of the module's parameters.
struct SquaredNorm<'a> {
    values: &'a HashMap<ParamId, Vec<f32>>,
    sum: f64,
    path: Vec<String>,
    /// Path of the first parameter at which the sum is not finite.
    first: Option<String>,
}

impl ModuleVisitor for SquaredNorm<'_> {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.push(name.to_string());
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let Some(values) = self.values.get(&param.id) else {
            return;
        };
        // Eight independent sums, so that the loop is vectorised; their total is accumulated in f64.
        let mut lanes = [0f32; 8];
        let mut total = 0f64;
        for block in values.chunks(4096) {
            let (whole, rest) = block.as_chunks::<8>();
            for c in whole {
                for (l, v) in lanes.iter_mut().zip(c) {
                    *l += v * v;
                }
            }
            total += rest.iter().map(|v| f64::from(v * v)).sum::<f64>();
            total += lanes.iter().map(|l| f64::from(*l)).sum::<f64>();
            lanes = [0.0; 8];
        }
        self.sum += total;
        if !total.is_finite() {
            self.first.get_or_insert_with(|| self.path.join("."));
        }
    }
}

/// Reads the elements of a tensor in row-major order; NaN if the device fails to return them, which the next norm or
/// loss reports.
pub(crate) fn to_host<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    let count = tensor.shape().num_elements();
    transfer::to_host(tensor).unwrap_or_else(|_| vec![f32::NAN; count])
}

struct ParameterUpdate<'a> {
    method: OptimiserMethod,
    values: HashMap<ParamId, Vec<f32>>,
    moments: &'a mut HashMap<ParamId, Moments>,
    settings: &'a StepSettings<'a>,
    scale: f32,
    betas: [f32; 2],
    corrections: [f64; 2],
    path: Vec<String>,
    /// Number of enclosing modules that are elements of a list, such as the blocks of a model or connector.
    repeated: usize,
}

impl ModuleMapper for ParameterUpdate<'_> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.push(name.to_string());
        self.repeated += usize::from(container == "Vec");
    }

    fn exit_module(&mut self, _name: &str, container: &str) {
        self.path.pop();
        self.repeated -= usize::from(container == "Vec");
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let (Some(rate), Some(grad)) = ((self.settings.rate)(&self.path), self.values.remove(&param.id)) else {
            return param;
        };
        let id = param.id;
        param.map(|tensor| {
            let device: Device = tensor.device();
            let shape: [usize; D] = tensor.dims();
            let mut values = to_host(tensor.inner());
            match (self.method, shape.as_slice()) {
                (OptimiserMethod::Muon, &[rows, columns]) if self.repeated > 0 => {
                    self.muon(id, &mut values, &grad, [rows, columns], rate);
                }
                _ => self.adamw(id, &mut values, &grad, D, rate),
            }
            transfer::to_device::<D, burn::tensor::Float>(TensorData::new(values, shape), &device).require_grad()
        })
    }
}

impl ParameterUpdate<'_> {
    fn adamw(&mut self, id: ParamId, values: &mut [f32], grad: &[f32], axes: usize, rate: f64) {
        let decay = if axes >= 2 { (1.0 - rate * self.settings.weight_decay) as f32 } else { 1.0 };
        let moments = self
            .moments
            .entry(id)
            .or_insert_with(|| Moments { first: vec![0.0; grad.len()], second: vec![0.0; grad.len()] });
        let [b1, b2] = self.betas;
        let step_size = (rate / self.corrections[0]) as f32;
        let root = self.corrections[1].sqrt() as f32;
        let (scale, eps) = (self.scale, EPSILON as f32);
        let all = values.iter_mut().zip(grad).zip(moments.first.iter_mut().zip(moments.second.iter_mut()));
        for ((p, g), (m, v)) in all {
            let g = g * scale;
            *m += (1.0 - b1) * (g - *m);
            *v = b2 * *v + (1.0 - b2) * g * g;
            *p = *p * decay - step_size * *m / (v.sqrt() / root + eps);
        }
    }

    fn muon(&mut self, id: ParamId, values: &mut [f32], grad: &[f32], shape: [usize; 2], rate: f64) {
        let moments =
            self.moments.entry(id).or_insert_with(|| Moments { first: vec![0.0; grad.len()], second: Vec::new() });
        let grad: Vec<f32> = grad.iter().map(|g| g * self.scale).collect();
        muon(values, &grad, &mut moments.first, shape, rate, self.settings.weight_decay);
    }
}

/// Applies one Muon step to a matrix of `shape`, in PyTorch's order of operations.
fn muon(values: &mut [f32], grad: &[f32], momentum: &mut [f32], shape: [usize; 2], rate: f64, weight_decay: f64) {
    let ahead: Vec<f32> = (momentum.iter_mut().zip(grad))
        .map(|(m, g)| {
            *m += (1.0 - MOMENTUM) * (g - *m);
            g + MOMENTUM * (*m - g)
        })
        .collect();
    // Always computed on the CPU, because the moments are there.
    let ahead = Tensor::<2>::from_data(TensorData::new(ahead, shape), &Device::flex());
    let direction = to_host(newton_schulz(ahead));
    let decay = (1.0 - rate * weight_decay) as f32;
    let longest = shape[0].max(shape[1]) as f64;
    let step_size = (rate * 0.2 * longest.sqrt()) as f32;
    for (p, d) in values.iter_mut().zip(direction) {
        *p = *p * decay - step_size * d;
    }
}

/// Applies five steps of a quintic Newton-Schulz iteration (Keller Jordan 2024), which brings all singular values close
/// to one.
fn newton_schulz(x: Tensor<2>) -> Tensor<2> {
    const A: f32 = 3.4445;
    const B: f32 = -4.775;
    const C: f32 = 2.0315;
    let [rows, columns] = x.dims();
    let tall = rows > columns;
    let x = if tall { x.transpose() } else { x };
    let norm = x.clone().square().sum().sqrt().clamp_min(1e-7).reshape([1, 1]);
    let mut x = x / norm;
    for _ in 0..5 {
        let gram = x.clone().matmul(x.clone().transpose());
        let polynomial = gram.clone().mul_scalar(B) + gram.clone().matmul(gram).mul_scalar(C);
        x = x.clone().mul_scalar(A) + polynomial.matmul(x);
    }
    if tall { x.transpose() } else { x }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burgess_base::atomic;
    use std::path::Path;

    #[derive(Deserialize)]
    struct Golden {
        lr: f64,
        weight_decay: f64,
        cases: Vec<Case>,
    }

    #[derive(Deserialize)]
    struct Case {
        shape: [usize; 2],
        start: Vec<f32>,
        steps: Vec<Step>,
    }

    #[derive(Deserialize)]
    struct Step {
        gradient: Vec<f32>,
        after: Vec<f32>,
    }

    #[test]
    fn muon_steps_as_pytorch_does() -> Result<()> {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/train/muon.json");
        let golden: Golden = atomic::read_json(&file)?;
        for case in &golden.cases {
            let (mut values, mut momentum) = (case.start.clone(), vec![0.0; case.start.len()]);
            for (n, step) in case.steps.iter().enumerate() {
                muon(&mut values, &step.gradient, &mut momentum, case.shape, golden.lr, golden.weight_decay);
                let worst = values.iter().zip(&step.after).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                assert!(worst < 1e-5, "{:?} step {n}: {worst}", case.shape);
            }
        }
        Ok(())
    }
}
