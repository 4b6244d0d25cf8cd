//! Weights that stay in memory as their file stores them: 16-bit floats or quantised blocks.
//!
//! A model of 7 B parameters takes 28 GB as f32 and 4 GB as blocks of 4 bits. Such a weight is not a parameter of the
//! module: it is never trained, and no optimiser, copy or conversion of the module reads its values. Clones share it.

use super::config::LlmConfig;
use super::decoder::Llm;
use super::kernel::{self, Bf16Copies};
use super::linear::Linear;
use super::parts::Block;
use burgess_base::{Error, Result};
use burgess_encoders::kernel::stored::StoredMatrix;
use burgess_encoders::number_format::NumberFormat;
use burgess_encoders::{reduce, transfer};
use burn::module::{
    Content, Initializer, Module, ModuleDisplay, ModuleDisplayDefault, ModuleMapper, ModuleVisitor, Param,
};
use burn::tensor::module::embedding;
use burn::tensor::{Device, Int, Tensor, TensorData};
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

pub use burgess_encoders::kernel::stored::Activations;

/// How the matrices of a language model are held in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WeightStorage {
    /// As f32 parameters, which can be trained.
    F32,
    /// Matrices that the file stores as 16-bit floats or quantised blocks stay so; all other weights are f32. On the CPU
    /// backend only.
    AsStored,
}

/// Models below this size in f32, in bytes, are held as f32: memory is no concern there, and products with f32 weights
/// need no unpacking.
const SMALLEST: usize = 256 << 20;

impl WeightStorage {
    /// Returns how a model is held whose weights are not trained, or only by LoRA: [`Self::AsStored`] on the CPU backend,
    /// except for models below 256 MiB in f32; [`Self::F32`] on other devices.
    pub fn of_frozen(config: &LlmConfig, device: &Device) -> Self {
        match transfer::is_host(device) && config.parameters() >= SMALLEST / size_of::<f32>() {
            true => Self::AsStored,
            false => Self::F32,
        }
    }
}

/// A matrix in the number format of its file, `[out, in]`.
#[derive(Debug, Clone)]
pub struct StoredWeight {
    matrix: Arc<StoredMatrix>,
    activations: Activations,
    bf16: Option<Arc<Bf16Copies>>,
}

impl StoredWeight {
    /// Wraps a matrix; activations are f32.
    pub fn new(matrix: StoredMatrix) -> Self {
        Self { matrix: Arc::new(matrix), activations: Activations::F32, bf16: None }
    }

    /// The matrix.
    pub fn matrix(&self) -> &Arc<StoredMatrix> {
        &self.matrix
    }

    /// Number of inputs and outputs, as the shape of an f32 weight.
    pub fn shape(&self) -> [usize; 2] {
        let [outputs, inputs] = self.matrix.shape();
        [inputs, outputs]
    }

    /// Whether the weights are quantised blocks.
    pub fn is_quantised(&self) -> bool {
        matches!(self.matrix.format(), NumberFormat::Block(_))
    }

    /// The precision of activations.
    pub(super) fn activations(&self) -> Activations {
        self.activations
    }

    /// Packed copies of the matrix, if products with it are computed in bf16.
    pub(super) fn bf16(&self) -> Option<&Arc<Bf16Copies>> {
        self.bf16.as_ref()
    }

    /// Unpacks the matrix as a tensor, `[out, in]`.
    pub(super) fn unpacked(&self, device: &Device) -> Tensor<2> {
        transfer::to_device(TensorData::new(self.matrix.unpack(), self.matrix.shape()), device)
    }
}

/// A weight of the decoder: a parameter, or a matrix that stays as its file stores it.
///
/// In a module, a parameter has the path of the field; a stored matrix is no parameter.
#[derive(Debug, Clone)]
pub enum Weight {
    /// A parameter in f32, in the layout of its layer.
    Parameter(Param<Tensor<2>>),
    /// A matrix in the number format of its file, with one row per output or token.
    Stored(StoredWeight),
}

impl Weight {
    /// Returns the parameter.
    ///
    /// # Errors
    /// When the weight is stored as in its file.
    pub fn parameter(&self) -> Result<&Param<Tensor<2>>> {
        match self {
            Self::Parameter(parameter) => Ok(parameter),
            Self::Stored(_) => Err(Error::failed(
                "the weights of the language model stay as their file stores them and are no parameters",
            )
            .hint("load the language model in f32 for this")),
        }
    }

    /// Sets whether products with a stored matrix are computed in bf16.
    pub(super) fn set_bf16(&mut self, bf16: bool) {
        if let Self::Stored(stored) = self {
            stored.bf16 = bf16.then(Arc::default);
        }
    }

    /// Changes the parameter; a stored matrix stays as it is.
    #[must_use]
    pub fn map_parameter(self, change: impl FnOnce(Tensor<2>) -> Tensor<2>) -> Self {
        match self {
            Self::Parameter(parameter) => Self::Parameter(parameter.map(change)),
            stored @ Self::Stored(_) => stored,
        }
    }
}

impl Module for Weight {
    fn collect_devices(&self, devices: Vec<Device>) -> Vec<Device> {
        match self {
            Self::Parameter(parameter) => parameter.collect_devices(devices),
            Self::Stored(_) => devices,
        }
    }

    fn fork(self, device: &Device) -> Self {
        match self {
            Self::Parameter(parameter) => Self::Parameter(parameter.fork(device)),
            stored @ Self::Stored(_) => stored,
        }
    }

    fn to_device(self, device: &Device) -> Self {
        match self {
            Self::Parameter(parameter) => Self::Parameter(parameter.to_device(device)),
            stored @ Self::Stored(_) => stored,
        }
    }

    fn train(self) -> Self {
        match self {
            Self::Parameter(parameter) => Self::Parameter(Module::train(parameter)),
            stored @ Self::Stored(_) => stored,
        }
    }

    fn valid(&self) -> Self {
        match self {
            Self::Parameter(parameter) => Self::Parameter(Module::valid(parameter)),
            Self::Stored(stored) => Self::Stored(stored.clone()),
        }
    }

    fn materialize(self) -> Self {
        match self {
            Self::Parameter(parameter) => Self::Parameter(Module::materialize(parameter)),
            stored @ Self::Stored(_) => stored,
        }
    }

    fn visit<V: ModuleVisitor>(&self, visitor: &mut V) {
        if let Self::Parameter(parameter) = self {
            Module::visit(parameter, visitor);
        }
    }

    fn map<M: ModuleMapper>(self, mapper: &mut M) -> Self {
        match self {
            Self::Parameter(parameter) => Self::Parameter(Module::map(parameter, mapper)),
            stored @ Self::Stored(_) => stored,
        }
    }
}

impl ModuleDisplayDefault for Weight {
    fn content(&self, content: Content) -> Option<Content> {
        match self {
            Self::Parameter(parameter) => content.add_single(parameter).optional(),
            Self::Stored(stored) => content.add_single(&format!("{:?}", stored.matrix.format())).optional(),
        }
    }
}

impl ModuleDisplay for Weight {}

/// The token embedding table, which may also be the output head.
#[derive(Module, Debug)]
pub struct TokenTable {
    /// The embeddings, `[vocab_size, hidden_size]`.
    pub weight: Weight,
    /// Root mean square of all values of a stored table, which is computed on first use.
    #[module(skip)]
    stored_rms: Arc<OnceLock<f32>>,
    /// Packed copies of the table, if products with it are computed in bf16 on the CPU backend.
    #[module(skip)]
    bf16: Option<Arc<Bf16Copies>>,
}

impl TokenTable {
    /// Makes a table with embeddings drawn from `init`.
    pub fn new(vocabulary: usize, width: usize, init: &Initializer, device: &Device) -> Self {
        Self {
            weight: Weight::Parameter(init.init([vocabulary, width], device)),
            stored_rms: Arc::default(),
            bf16: None,
        }
    }

    /// Sets whether products with the table are computed in bf16 by the CPU backend.
    pub(super) fn set_bf16(&mut self, bf16: bool) {
        self.weight.set_bf16(bf16);
        self.bf16 = bf16.then(Arc::default);
    }

    /// Looks embeddings up, `[b, t]` → `[b, t, hidden_size]`. The ids must be below the vocabulary's size.
    pub fn forward(&self, ids: Tensor<2, Int>) -> Tensor<3> {
        match &self.weight {
            Weight::Parameter(weight) => embedding(weight.val(), ids),
            Weight::Stored(table) => kernel::stored_rows(table, ids),
        }
    }

    /// Computes `x · tableᵀ`, `[rows, hidden_size]` → `[rows, vocab_size]`.
    pub(super) fn head(&self, x: Tensor<2>) -> Tensor<2> {
        match &self.weight {
            Weight::Parameter(weight) => kernel::linear_transposed(x, weight.val(), self.bf16.as_ref()),
            Weight::Stored(table) => kernel::stored_linear(x, &[(table, None)]),
        }
    }

    /// Returns the root mean square of all embeddings, `[1]`, without gradient, on the device of a parameter or on
    /// `device`.
    pub fn rms(&self, device: &Device) -> Tensor<1> {
        match &self.weight {
            Weight::Parameter(weight) => reduce::mean(weight.val().detach().square()).sqrt(),
            Weight::Stored(table) => Tensor::from_data([*self.stored_rms.get_or_init(|| rms(&table.matrix))], device),
        }
    }
}

/// Root mean square of all values of a matrix.
fn rms(matrix: &StoredMatrix) -> f32 {
    let [rows, columns] = matrix.shape();
    let squares = (0..rows).into_par_iter().map_init(
        || vec![0f32; columns],
        |row, i| {
            matrix.unpack_row(i, row);
            row.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>()
        },
    );
    // Collected, so that threads do not change the order of the sum.
    let squares: Vec<f64> = squares.collect();
    (squares.iter().sum::<f64>() / (rows * columns).max(1) as f64).sqrt() as f32
}

impl Llm {
    /// Whether some weights stay as their file stores them.
    pub fn has_stored_weights(&self) -> bool {
        self.stored_weights().next().is_some()
    }

    /// All weights that stay as their file stores them.
    fn stored_weights(&self) -> impl Iterator<Item = &StoredWeight> {
        let layers = self.model.layers.iter().flat_map(Block::layers).chain(&self.lm_head).map(|layer| &layer.weight);
        layers.chain([&self.model.embed_tokens.weight]).filter_map(|weight| match weight {
            Weight::Stored(stored) => Some(stored),
            Weight::Parameter(_) => None,
        })
    }

    /// Whether some weights stay as quantised blocks.
    pub(super) fn has_quantised_weights(&self) -> bool {
        self.stored_weights().any(StoredWeight::is_quantised)
    }

    /// Number of elements of all weights that stay as their file stores them, which are no parameters of the module.
    pub fn stored_elements(&self) -> usize {
        self.stored_weights().map(|weight| weight.shape().iter().product::<usize>()).sum()
    }

    /// The projections of all blocks, with their module paths (`model.layers.0.self_attn.q_proj`).
    pub(super) fn projections(&mut self) -> impl Iterator<Item = (String, &mut Linear)> {
        self.model.layers.iter_mut().enumerate().flat_map(|(i, block)| {
            let layers = block.projection_paths().into_iter();
            layers.map(move |(path, layer)| (format!("model.layers.{i}.{path}"), layer))
        })
    }

    /// Whether the parameter at a module path can be replaced by a stored matrix: the projections of the blocks, the
    /// token table and the output head.
    pub(super) fn can_store(path: &str) -> bool {
        path.ends_with("_proj.weight") || [TABLE, HEAD].contains(&path)
    }

    /// Replaces parameters by matrices in the number format of their file, by module path.
    pub(super) fn set_stored(&mut self, mut matrices: BTreeMap<String, StoredMatrix>) {
        if let Some(matrix) = matrices.remove(TABLE) {
            self.model.embed_tokens.weight = Weight::Stored(StoredWeight::new(matrix));
            self.model.embed_tokens.stored_rms = Arc::default();
        }
        if let (Some(matrix), Some(head)) = (matrices.remove(HEAD), &mut self.lm_head) {
            head.weight = Weight::Stored(StoredWeight::new(matrix));
        }
        for (path, layer) in self.projections() {
            if let Some(matrix) = matrices.remove(&format!("{path}.weight")) {
                layer.weight = Weight::Stored(StoredWeight::new(matrix));
            }
        }
    }

    /// Returns this model with activations of this precision in products with quantised weights.
    ///
    /// # Errors
    /// When activations are integers and no weight is quantised.
    pub fn with_activations(mut self, activations: Activations) -> Result<Self> {
        if !activations.is_f32() && !self.has_quantised_weights() {
            return Err(Error::usage(
                "activations as integers need a language model with quantised weights on the CPU",
            )
            .hint("use a GGUF file in a type such as Q4_K or Q8_0, on the device flex, or activations in f32"));
        }
        let mut weights: Vec<&mut Weight> = Vec::new();
        let Self { model, lm_head, .. } = &mut self;
        weights.push(&mut model.embed_tokens.weight);
        weights.extend(lm_head.iter_mut().map(|head| &mut head.weight));
        let layers = model.layers.iter_mut().flat_map(Block::projections);
        weights.extend(layers.map(|(_, layer)| &mut layer.weight));
        for weight in weights {
            if let Weight::Stored(stored) = weight {
                stored.activations = activations;
            }
        }
        Ok(self)
    }
}

/// Module path of the token table.
const TABLE: &str = "model.embed_tokens.weight";
/// Module path of the output head.
const HEAD: &str = "lm_head.weight";
