//! AdamW with one learning rate per part of the model and clipping by the norm of the whole gradient.

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor, TensorData};
use std::collections::HashMap;

/// What one step uses.
#[derive(Debug, Clone)]
pub struct StepSettings<'a> {
    /// Learning rate by the first name of a parameter's path (`connector`, `llm`, `encoders`); a part that is not
    /// named does not move.
    pub rates: &'a [(&'a str, f64)],
    /// Largest norm of the whole gradient; 0 = never clipped.
    pub clip: f64,
    /// Decoupled weight decay, on parameters of two or more axes.
    pub weight_decay: f64,
}

/// AdamW (arXiv 1711.05101) as PyTorch computes it; epsilon 1e-8.
#[derive(Debug)]
pub struct AdamW {
    betas: [f64; 2],
    step: i32,
    moments: HashMap<ParamId, Moments>,
}

/// Running means of the gradient and its square, in the parameter's order.
#[derive(Debug)]
struct Moments {
    first: Vec<f32>,
    second: Vec<f32>,
}

const EPSILON: f64 = 1e-8;

impl AdamW {
    /// An optimiser that has seen nothing.
    pub fn new(betas: [f64; 2]) -> Self {
        Self { betas, step: 0, moments: HashMap::new() }
    }

    /// Moves the parameters of `module` that have a gradient in `grads`; returns the module and the norm of the
    /// whole gradient before clipping.
    ///
    /// Moments live on the host and the update runs there in one pass per parameter: on the CPU that is an
    /// eighth of the memory traffic of ten tensor operations.
    pub fn step<M: Module>(&mut self, module: M, mut grads: GradientsParams, settings: &StepSettings) -> (M, f64) {
        let mut taken = Taken { grads: &mut grads, values: HashMap::new(), square: 0.0 };
        module.visit(&mut taken);
        let norm = taken.square.sqrt();
        // PyTorch's clip_grad_norm_ adds 1e-6 to the norm.
        let scale = if settings.clip > 0.0 { (settings.clip / (norm + 1e-6)).min(1.0) } else { 1.0 };
        let values = taken.values;
        self.step += 1;
        let [b1, b2] = self.betas;
        let mut update = Update {
            values,
            moments: &mut self.moments,
            settings,
            scale: scale as f32,
            betas: [b1 as f32, b2 as f32],
            corrections: [1.0 - b1.powi(self.step), 1.0 - b2.powi(self.step)],
            path: Vec::new(),
        };
        (module.map(&mut update), norm)
    }
}

struct Taken<'a> {
    grads: &'a mut GradientsParams,
    values: HashMap<ParamId, Vec<f32>>,
    square: f64,
}

impl ModuleVisitor for Taken<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let Some(grad) = self.grads.remove::<D>(param.id) else {
            return;
        };
        let values = host(grad);
        // Eight independent sums: vectorised, and exact enough to be summed in f64 afterwards.
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
        self.square += total;
        self.values.insert(param.id, values);
    }
}

/// The numbers of a tensor; NaN where a device fails to hand them out, which the next loss reports.
fn host<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    let count = tensor.shape().num_elements();
    tensor.try_into_vec_as::<f32>().unwrap_or_else(|_| vec![f32::NAN; count])
}

struct Update<'a> {
    values: HashMap<ParamId, Vec<f32>>,
    moments: &'a mut HashMap<ParamId, Moments>,
    settings: &'a StepSettings<'a>,
    scale: f32,
    betas: [f32; 2],
    corrections: [f64; 2],
    path: Vec<String>,
}

impl ModuleMapper for Update<'_> {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.push(name.to_string());
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let part = self.path.first().map_or("", String::as_str);
        let rate = self.settings.rates.iter().find(|(name, _)| *name == part).map(|(_, r)| *r);
        let (Some(rate), Some(grad)) = (rate, self.values.remove(&param.id)) else {
            return param;
        };
        let id = param.id;
        let decay = if D >= 2 { (1.0 - rate * self.settings.weight_decay) as f32 } else { 1.0 };
        param.map(|tensor| {
            let device: Device = tensor.device();
            let shape: [usize; D] = tensor.dims();
            let mut values = host(tensor.inner());
            let moments = self
                .moments
                .entry(id)
                .or_insert_with(|| Moments { first: vec![0.0; grad.len()], second: vec![0.0; grad.len()] });
            let [b1, b2] = self.betas;
            let step_size = (rate / self.corrections[0]) as f32;
            let root = self.corrections[1].sqrt() as f32;
            let (scale, eps) = (self.scale, EPSILON as f32);
            let all = values.iter_mut().zip(&grad).zip(moments.first.iter_mut().zip(moments.second.iter_mut()));
            for ((p, g), (m, v)) in all {
                let g = g * scale;
                *m += (1.0 - b1) * (g - *m);
                *v = b2 * *v + (1.0 - b2) * g * g;
                *p = *p * decay - step_size * *m / (v.sqrt() / root + eps);
            }
            Tensor::from_data(TensorData::new(values, shape), &device).require_grad()
        })
    }
}
