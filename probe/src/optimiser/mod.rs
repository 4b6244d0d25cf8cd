//! AdamW and Muon with one learning rate per parameter group and clipping by the global gradient norm.
//!
//! Gradients and moments stay where the parameters are. On the CPU backend, each parameter is updated in one pass over
//! host memory, which needs an eighth of the memory traffic of ten tensor operations ([`host`]). On other devices they
//! are tensors ([`device`]): a step copies to the host one number per parameter, the squared norm of its gradient, in
//! one transfer.

mod device;
mod host;

use burgess_base::{Error, Result};
use burgess_encoders::{reduce, transfer};
use burn::module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::optim::GradientsParams;
use burn::tensor::{Tensor, TensorData};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
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
    moments: HashMap<ParamId, StoredMoments>,
    /// Gradients accumulated since the last step, by parameter.
    gradients: HashMap<ParamId, Gradient>,
    /// Whether parameters of the CPU backend are updated in host memory: always, except in tests.
    in_host_memory: bool,
}

/// The moments of one parameter, in row-major order.
#[derive(Debug, Clone)]
pub(crate) struct Moments {
    /// Exponential moving average of the gradients.
    pub first: Vec<f32>,
    /// Exponential moving average of the squared gradients; empty for parameters that Muon updates.
    pub second: Vec<f32>,
}

/// The moments of one parameter where they were last used; restored ones are on the host.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "one per parameter; a tensor in a box would only add an allocation")]
enum StoredMoments {
    Host(Moments),
    Device(device::Moments),
}

/// The accumulated gradient of one parameter, in row-major order.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "one per parameter; a tensor in a box would only add an allocation")]
enum Gradient {
    Host(Vec<f32>),
    Device(Tensor<1>),
}

/// The global gradient norm of one step, with other numbers that were copied to the host in the same transfer.
#[derive(Debug, Clone)]
pub struct MeasuredGradients {
    /// The values that were given to [`Optimiser::measure`].
    pub scalars: Vec<f32>,
    /// Sum of the squares of all accumulated gradients.
    squares: f64,
    /// Path of the first parameter at which the sum is not finite.
    first: Option<String>,
}

const EPSILON: f64 = 1e-8;
const MOMENTUM: f32 = 0.95;

impl Optimiser {
    /// Creates an optimiser without state; `betas` are the decay rates of AdamW's first and second moments.
    pub fn new(method: OptimiserMethod, betas: [f64; 2]) -> Self {
        Self { method, betas, step: 0, moments: HashMap::new(), gradients: HashMap::new(), in_host_memory: true }
    }

    /// Returns the number of steps taken.
    pub(crate) fn steps(&self) -> i32 {
        self.step
    }

    /// Returns the numbers of first and second moments of a parameter; `None` before its first update.
    pub(crate) fn moment_counts(&self, id: ParamId) -> Option<[usize; 2]> {
        self.moments.get(&id).map(|moments| match moments {
            StoredMoments::Host(moments) => [moments.first.len(), moments.second.len()],
            StoredMoments::Device(moments) => moments.counts(),
        })
    }

    /// Returns the moments of a parameter in host memory; `None` before its first update.
    ///
    /// # Errors
    /// When the device fails to copy them.
    pub(crate) fn moments(&self, id: ParamId) -> Result<Option<Cow<'_, Moments>>> {
        self.moments
            .get(&id)
            .map(|moments| match moments {
                StoredMoments::Host(moments) => Ok(Cow::Borrowed(moments)),
                StoredMoments::Device(moments) => moments.to_host().map(Cow::Owned),
            })
            .transpose()
    }

    /// Restores the step number and the moments, to resume training.
    pub(crate) fn restore(&mut self, step: i32, moments: HashMap<ParamId, Moments>) {
        self.step = step;
        self.moments = moments.into_iter().map(|(id, moments)| (id, StoredMoments::Host(moments))).collect();
    }

    /// Adds `factor` times the gradients of `module`'s parameters to the accumulated gradients.
    pub fn collect<M: Module>(&mut self, module: &M, mut grads: GradientsParams, factor: f32) {
        let in_host_memory = self.in_host_memory;
        module.visit(&mut GradientCollector { grads: &mut grads, sums: &mut self.gradients, factor, in_host_memory });
    }

    /// Computes the global norm of the accumulated gradients of `module`'s parameters, and copies it to the host
    /// together with `scalars` of one element each, such as losses: the host waits once for all of them.
    ///
    /// # Errors
    /// When the device fails to compute or copy the numbers.
    pub fn measure<M: Module>(&self, module: &M, scalars: Vec<Tensor<1>>) -> Result<MeasuredGradients> {
        let count = scalars.len();
        let mut squares = SquaredNorm { gradients: &self.gradients, sums: Vec::new(), read: scalars, path: Vec::new() };
        module.visit(&mut squares);
        let SquaredNorm { sums, read, .. } = squares;
        let mut values: Vec<f32> = match read.is_empty() {
            true => Vec::new(),
            false => transfer::to_host(Tensor::cat(read, 0))?,
        };
        let mut on_device = values.split_off(count.min(values.len())).into_iter().map(f64::from);
        let mut measured = MeasuredGradients { scalars: values, squares: 0.0, first: None };
        for (path, sum) in sums {
            let sum = sum.or_else(|| on_device.next()).unwrap_or(f64::NAN);
            measured.squares += sum;
            if !sum.is_finite() {
                measured.first.get_or_insert(path);
            }
        }
        Ok(measured)
    }

    /// Updates the parameters of `module` that have accumulated gradients; returns the module and the global gradient
    /// norm before clipping.
    ///
    /// # Errors
    /// When the norm is not finite; the error names the first such parameter, and nothing is updated.
    pub fn step<M: Module>(&mut self, module: M, settings: &StepSettings) -> Result<(M, f64)> {
        let measured = self.measure(&module, Vec::new())?;
        self.step_measured(module, settings, &measured)
    }

    /// As [`Optimiser::step`], with the result of [`Optimiser::measure`] for the same gradients.
    ///
    /// # Errors
    /// As [`Optimiser::step`].
    pub fn step_measured<M: Module>(
        &mut self,
        module: M,
        settings: &StepSettings,
        measured: &MeasuredGradients,
    ) -> Result<(M, f64)> {
        let norm = measured.squares.sqrt() / settings.total;
        if !norm.is_finite() {
            let place = measured.first.as_ref().map_or(String::new(), |path| format!(" (first in `{path}`)"));
            return Err(Error::failed(format!("the global gradient norm is {norm}{place}, must be finite")));
        }
        // PyTorch's `clip_grad_norm_` adds 1e-6 to the norm.
        let scale = if settings.clip > 0.0 { (settings.clip / (norm + 1e-6)).min(1.0) } else { 1.0 };
        self.step += 1;
        let [b1, b2] = self.betas;
        let mut update = ParameterUpdate {
            method: self.method,
            gradients: std::mem::take(&mut self.gradients),
            moments: &mut self.moments,
            settings,
            factors: StepFactors {
                scale: (scale / settings.total) as f32,
                betas: [b1 as f32, b2 as f32],
                corrections: [1.0 - b1.powi(self.step), 1.0 - b2.powi(self.step)],
                weight_decay: settings.weight_decay,
            },
            path: Vec::new(),
            repeated: 0,
        };
        Ok((module.map(&mut update), norm))
    }
}

/// The numbers of one step that all parameters share.
#[derive(Debug, Clone, Copy)]
struct StepFactors {
    /// Factor on the accumulated gradients: clipping and averaging.
    scale: f32,
    betas: [f32; 2],
    /// AdamW's corrections of the moments' bias towards zero.
    corrections: [f64; 2],
    weight_decay: f64,
}

impl StepFactors {
    /// Returns the factor of decoupled weight decay on a parameter with this number of axes.
    fn decay(&self, axes: usize, rate: f64) -> f32 {
        if axes >= 2 { (1.0 - rate * self.weight_decay) as f32 } else { 1.0 }
    }

    /// Returns AdamW's step size and the root of the second moment's correction.
    fn adamw(&self, rate: f64) -> [f32; 2] {
        [(rate / self.corrections[0]) as f32, self.corrections[1].sqrt() as f32]
    }
}

/// Returns Muon's step size for a matrix, scaled to AdamW's learning rates.
fn muon_step_size(shape: [usize; 2], rate: f64) -> f32 {
    let longest = shape[0].max(shape[1]) as f64;
    (rate * 0.2 * longest.sqrt()) as f32
}

struct GradientCollector<'a> {
    grads: &'a mut GradientsParams,
    sums: &'a mut HashMap<ParamId, Gradient>,
    factor: f32,
    in_host_memory: bool,
}

impl ModuleVisitor for GradientCollector<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let Some(grad) = self.grads.remove::<D>(param.id) else {
            return;
        };
        let factor = self.factor;
        if !(self.in_host_memory && transfer::is_host(&grad.device())) {
            let count = grad.shape().num_elements();
            let grad = grad.reshape([count]);
            let grad = if factor == 1.0 { grad } else { grad.mul_scalar(factor) };
            let sum = match self.sums.remove(&param.id) {
                Some(Gradient::Device(sum)) => sum + grad,
                _ => grad,
            };
            self.sums.insert(param.id, Gradient::Device(sum));
            return;
        }
        let values = host::values(grad);
        match self.sums.entry(param.id) {
            Entry::Occupied(mut sum) => {
                if let Gradient::Host(sum) = sum.get_mut() {
                    sum.iter_mut().zip(&values).for_each(|(s, v)| *s += factor * v);
                }
            }
            Entry::Vacant(place) if factor == 1.0 => {
                place.insert(Gradient::Host(values));
            }
            Entry::Vacant(place) => {
                place.insert(Gradient::Host(values.iter().map(|v| factor * v).collect()));
            }
        }
    }
}

/// The sums of squares of all gradients, in the order of the module's parameters.
struct SquaredNorm<'a> {
    gradients: &'a HashMap<ParamId, Gradient>,
    /// Path of each parameter, and its sum unless it is to be read from the device.
    sums: Vec<(String, Option<f64>)>,
    /// What is read from the device, `[1]` each.
    read: Vec<Tensor<1>>,
    path: Vec<String>,
}

impl ModuleVisitor for SquaredNorm<'_> {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.push(name.to_string());
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let sum = match self.gradients.get(&param.id) {
            None => return,
            Some(Gradient::Host(values)) => Some(host::sum_of_squares(values)),
            Some(Gradient::Device(values)) => {
                // Flattened above; the shape of the parameter gives the order of the sum.
                let shape: [usize; D] = param.shape().dims();
                self.read.push(reduce::sum(values.clone().square().reshape(shape)));
                None
            }
        };
        self.sums.push((self.path.join("."), sum));
    }
}

struct ParameterUpdate<'a> {
    method: OptimiserMethod,
    gradients: HashMap<ParamId, Gradient>,
    moments: &'a mut HashMap<ParamId, StoredMoments>,
    settings: &'a StepSettings<'a>,
    factors: StepFactors,
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
        let (Some(rate), Some(gradient)) = ((self.settings.rate)(&self.path), self.gradients.remove(&param.id)) else {
            return param;
        };
        let id = param.id;
        let moments = self.moments.remove(&id);
        param.map(|tensor| {
            let (device, shape) = (tensor.device(), tensor.dims());
            let matrix = match (self.method, shape.as_slice()) {
                (OptimiserMethod::Muon, &[rows, columns]) if self.repeated > 0 => Some([rows, columns]),
                _ => None,
            };
            let (updated, moments) = match gradient {
                Gradient::Host(grad) => {
                    let mut moments = match moments {
                        Some(StoredMoments::Host(moments)) => moments,
                        _ => host::no_moments(grad.len(), matrix.is_some()),
                    };
                    let mut values = host::values(tensor.inner());
                    match matrix {
                        Some(matrix) => host::muon_step(&mut values, &grad, &mut moments, matrix, &self.factors, rate),
                        None => host::adamw_step(&mut values, &grad, &mut moments, D, &self.factors, rate),
                    }
                    let updated = Tensor::from_data(TensorData::new(values, shape), &device).require_grad();
                    (updated, StoredMoments::Host(moments))
                }
                Gradient::Device(grad) => {
                    let mut moments = match moments {
                        Some(StoredMoments::Device(moments)) => moments,
                        Some(StoredMoments::Host(moments)) => device::Moments::of_host(moments, &grad.device()),
                        None => device::Moments::zero(&grad, matrix.is_some()),
                    };
                    let values = tensor.inner().reshape([shape.iter().product::<usize>()]);
                    let updated = match matrix {
                        Some(matrix) => device::muon_step(values, grad, &mut moments, matrix, &self.factors, rate),
                        None => device::adamw_step(values, grad, &mut moments, D, &self.factors, rate),
                    };
                    (Tensor::from_inner(updated.reshape(shape)).require_grad(), StoredMoments::Device(moments))
                }
            };
            self.moments.insert(id, moments);
            updated
        })
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
    let norm = reduce::sum(x.clone().square()).sqrt().clamp_min(1e-7).reshape([1, 1]);
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
    use burgess_encoders::init::initialise;
    use burn::nn::{Linear, LinearConfig};
    use burn::tensor::Device;
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
                host::muon(&mut values, &step.gradient, &mut momentum, case.shape, golden.lr, golden.weight_decay);
                let worst = values.iter().zip(&step.after).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                assert!(worst < 1e-5, "{:?} step {n}: {worst}", case.shape);
            }
        }
        Ok(())
    }

    #[derive(Module, Debug)]
    struct Small {
        blocks: Vec<Linear>,
        head: Linear,
    }

    /// Trains a small model for some steps, with the moments saved and restored once; returns its weights and the
    /// norms.
    fn trained(method: OptimiserMethod, in_host_memory: bool) -> Result<(Vec<f32>, Vec<f64>)> {
        let device = Device::flex().autodiff();
        let linear = |inputs, outputs| LinearConfig::new(inputs, outputs).init(&device);
        let model = Small { blocks: vec![linear(6, 5), linear(5, 6)], head: linear(6, 3) };
        let mut model = initialise(model, "test", 0);
        let mut optimiser = Optimiser { in_host_memory, ..Optimiser::new(method, [0.9, 0.99]) };
        let mut norms = Vec::new();
        for step in 0..6 {
            for part in 0..2 {
                let values: Vec<f32> = (0..24).map(|i| ((i * 7 + step * 5 + part) % 11) as f32 / 5.0 - 1.0).collect();
                let x = Tensor::<2>::from_data(TensorData::new(values, [4, 6]), &device);
                let x = model.blocks.iter().fold(x, |x, block| block.forward(x).tanh());
                let grads = model.head.forward(x).square().mean().backward();
                optimiser.collect(&model, GradientsParams::from_grads(grads, &model), 1.0 + part as f32);
            }
            let settings = StepSettings { rate: &|_| Some(0.03), total: 3.0, clip: 0.05, weight_decay: 0.1 };
            let one = Tensor::<1>::ones([1], &Device::flex());
            let measured = optimiser.measure(&model, vec![one.clone() * 2.0, one])?;
            assert_eq!(measured.scalars, [2.0, 1.0]);
            let (moved, norm) = optimiser.step_measured(model, &settings, &measured)?;
            (model, norms) = (moved, [norms, vec![norm]].concat());
            if step == 2 {
                let mut saved = HashMap::new();
                for id in optimiser.moments.keys() {
                    let moments = optimiser.moments(*id)?.map(Cow::into_owned);
                    let counts = moments.as_ref().map(|m| [m.first.len(), m.second.len()]);
                    assert_eq!(optimiser.moment_counts(*id), counts);
                    saved.extend(moments.map(|moments| (*id, moments)));
                }
                optimiser.restore(optimiser.steps(), saved);
            }
        }
        let mut weights = Weights(Vec::new());
        model.visit(&mut weights);
        Ok((weights.0, norms))
    }

    struct Weights(Vec<f32>);

    impl ModuleVisitor for Weights {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.0.extend(host::values(param.val().inner()));
        }
    }

    #[test]
    fn updates_on_a_device_are_those_in_host_memory() -> Result<()> {
        for method in [OptimiserMethod::AdamW, OptimiserMethod::Muon] {
            let ((host, norms), (device, others)) = (trained(method, true)?, trained(method, false)?);
            let worst = host.iter().zip(&device).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(host.len() == device.len() && worst < 2e-5, "{method:?}: {worst}");
            for (a, b) in norms.iter().zip(&others) {
                assert!((a - b).abs() < 1e-5 * a, "{method:?}: {a} {b}");
            }
        }
        Ok(())
    }

    #[test]
    fn a_gradient_that_is_not_finite_is_named() {
        let device = Device::flex().autodiff();
        for in_host_memory in [true, false] {
            let model = Small {
                blocks: vec![LinearConfig::new(2, 2).init(&device)],
                head: LinearConfig::new(2, 2).with_bias(false).init(&device),
            };
            let mut optimiser = Optimiser { in_host_memory, ..Optimiser::new(OptimiserMethod::AdamW, [0.9, 0.99]) };
            let x = model.blocks[0].forward(Tensor::<2>::ones([1, 2], &device));
            let loss = model.head.forward(x).mul_scalar(f32::INFINITY).sum();
            optimiser.collect(&model, GradientsParams::from_grads(loss.backward(), &model), 1.0);
            let settings = StepSettings { rate: &|_| Some(0.1), total: 1.0, clip: 1.0, weight_decay: 0.0 };
            let e = optimiser.step(model, &settings).unwrap_err();
            assert!(e.to_string().contains("first in `blocks.0.weight`"), "{e}");
        }
    }
}
