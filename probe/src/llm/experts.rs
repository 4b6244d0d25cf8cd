//! Mixture of experts: a router selects some of several MLPs for each token (arXiv 1701.06538; `MixtralSparseMoeBlock`
//! and `Qwen2MoeSparseMoeBlock` in `transformers`).

use super::activation::Activation;
use super::config::MoeConfig;
use super::linear::Linear;
use super::mlp::Mlp;
use super::precision::cast;
use burgess_base::Result;
use burgess_encoders::transfer;
use burn::module::Module;
use burn::tensor::activation::{sigmoid, softmax};
use burn::tensor::{DType, IndexingUpdateOp, Int, Tensor, TensorData};

/// The router and the experts of one layer.
#[derive(Module, Debug)]
pub struct Moe {
    /// The router: one score per expert, `[hidden, experts]`.
    pub gate: Linear,
    /// The routed experts.
    pub experts: Vec<Mlp>,
    /// The shared expert, which processes every token.
    pub shared_expert: Option<Mlp>,
    /// The sigmoid gate on the shared expert's output, `[hidden, 1]`.
    pub shared_expert_gate: Option<Linear>,
}

impl Moe {
    /// Returns all MLPs, each with the prefix of its projections' names (`experts.0.`, `shared_expert.`).
    pub(super) fn mlps(&mut self) -> impl Iterator<Item = (String, &mut Mlp)> {
        let shared = self.shared_expert.iter_mut().map(|mlp| ("shared_expert.".to_string(), mlp));
        self.experts.iter_mut().enumerate().map(|(i, mlp)| (format!("experts.{i}."), mlp)).chain(shared)
    }

    /// Applies to each row the experts with the highest router probabilities (top-k) and sums their outputs, weighted
    /// by these probabilities: `[rows, d]` → `[rows, d]`.
    pub(super) fn forward(&self, x: Tensor<2>, activation: Activation, experts: &MoeConfig) -> Result<Tensor<2>> {
        let (device, [rows, _]) = (x.device(), x.dims());
        let scores = cast(self.gate.forward(x.clone()), DType::F32);
        let probabilities = softmax(scores, 1);
        let values: Vec<f32> = transfer::to_host(probabilities.clone().detach())?;
        let mut chosen = vec![0f32; values.len()];
        let mut rows_of = vec![Vec::<i32>::new(); experts.count];
        for (row, values) in values.chunks(experts.count).enumerate() {
            let mut order: Vec<usize> = (0..values.len()).collect();
            // Ties are broken by the lower index.
            order.sort_by(|a, b| values[*b].total_cmp(&values[*a]).then(a.cmp(b)));
            for expert in order.into_iter().take(experts.active) {
                chosen[row * experts.count + expert] = 1.0;
                rows_of[expert].push(row as i32);
            }
        }
        let chosen = transfer::to_device::<2, _>(TensorData::new(chosen, [rows, experts.count]), &device);
        let mut weights = probabilities * chosen;
        if experts.normalised {
            weights = weights.clone() / weights.sum_dim(1);
        }
        let mut out = x.zeros_like();
        for (number, (mlp, rows)) in self.experts.iter().zip(rows_of).enumerate() {
            if rows.is_empty() {
                continue;
            }
            let index = transfer::to_device::<1, Int>(TensorData::new(rows.clone(), [rows.len()]), &device);
            let part = mlp.forward(x.clone().select(0, index.clone()), activation);
            let weight = weights.clone().narrow(1, number, 1).select(0, index.clone());
            let part = part.clone() * cast(weight, part.dtype());
            out = out.select_assign(0, index, part, IndexingUpdateOp::Add);
        }
        if let (Some(mlp), Some(gate)) = (&self.shared_expert, &self.shared_expert_gate) {
            out = out + sigmoid(gate.forward(x.clone())) * mlp.forward(x, activation);
        }
        Ok(out)
    }
}
