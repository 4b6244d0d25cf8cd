//! Cambrian-1's Spatial Vision Aggregator (arXiv 2406.16860, section 3), as in its released models.
//!
//! Each encoder's features are projected to one width. G groups of learnable queries on a grid attend, through D
//! layers of cross-attention ([`layer`]), to the window of every encoder's grid that lies under them. The groups are
//! concatenated along the channels and projected to the language model's width, and a newline follows each row.
//! Samplers of the same structure repeat this inside the language model, with its hidden states as queries.
//!
//! Parameters have the names of the released checkpoints (see [`super::NAMES`]).

pub mod layer;
pub mod windows;

use super::arrangement::{Arrangement, ImageSize};
use super::kind::{SamplerOptions, SvaOptions};
use super::{Seen, TowerShape, normal, towers_of};
use burgess_base::{Error, Result};
use burgess_encoders::features::FeatureMap;
use burn::module::{Initializer, Module, Param};
use burn::nn::{Gelu, LayerNorm, LayerNormConfig, Linear, LinearConfig};
use burn::tensor::{Device, IndexingUpdateOp, Int, Tensor, TensorData};
use layer::{SamplerShape, VisionSampler};
use windows::{EPSILON, Windows, multiples};

/// Projector of one encoder's features to the common width: linear, GELU, linear, layer norm.
pub type TowerProjector = (Linear, Gelu, Linear, LayerNorm);

/// An MLP: two linear layers with a GELU between them.
pub type Projector = (Linear, Gelu, Linear);

/// The aggregator; see the module documentation.
#[derive(Module, Debug)]
pub struct Sva {
    /// The initial query of each group, `[groups, hidden]`; all queries of a group start equal.
    pub vision_query: Param<Tensor<2>>,
    /// The newline token's embedding, `[llm width]`.
    pub image_newline: Option<Param<Tensor<1>>>,
    /// Projector of each encoder's features to the common width.
    pub mm_projector_aux: Vec<TowerProjector>,
    /// The cross-attention layers of each group.
    pub vision_sampler: Vec<VisionSampler>,
    /// Maps the concatenated groups to image tokens of the language model's width.
    pub mm_projector: Projector,
    /// The samplers inside the language model, in order.
    pub vision_sampler_layers: Vec<VisionSampler>,
    #[module(skip)]
    options: SvaOptions,
    #[module(skip)]
    tower_grids: Vec<usize>,
}

/// Input of the samplers inside the language model: computed once by the connector and used after many layers.
#[derive(Debug, Clone)]
pub struct SvaContext {
    windows: Windows,
    arrangement: Arrangement,
}

/// The location of one image's tokens in a batch of sequences.
#[derive(Debug, Clone)]
pub struct VisualRow {
    /// Index of the sequence in the batch.
    pub row: usize,
    /// Index of the image.
    pub image: usize,
    /// Position in the sequence of each image token; `None` for those that were left out.
    pub positions: Vec<Option<usize>>,
}

/// A [`SvaContext`] bound to the positions of the images in a batch.
#[derive(Debug, Clone)]
pub struct PlacedContext {
    windows: Windows,
    /// Index into rows × positions of each query.
    places: Tensor<1, Int>,
    count: usize,
}

pub(super) fn tower_projector(from: usize, hidden: usize, device: &Device) -> TowerProjector {
    (
        LinearConfig::new(from, hidden).init(device),
        Gelu::new(),
        LinearConfig::new(hidden, hidden).init(device),
        LayerNormConfig::new(hidden).with_epsilon(EPSILON).init(device),
    )
}

pub(super) fn projector(from: usize, to: usize, device: &Device) -> Projector {
    (LinearConfig::new(from, to).init(device), Gelu::new(), LinearConfig::new(to, to).init(device))
}

/// Applies an MLP to `x` `[a, b, width]`, as rows of one matrix.
pub(super) fn project(x: Tensor<3>, (first, gelu, second): &Projector) -> Tensor<3> {
    let [a, b, width] = x.dims();
    let y = second.forward(gelu.forward(first.forward(x.reshape([a * b, width]))));
    let to = y.dims()[1];
    y.reshape([a, b, to])
}

/// Projects every encoder's features to the common width; also gives the first one's mean, `[images, hidden]`.
///
/// # Errors
/// When the features have other widths or grids than the connector's encoders.
pub(super) fn project_towers(
    towers: &[FeatureMap],
    projectors: &[TowerProjector],
    grids: &[usize],
) -> Result<(Vec<Tensor<3>>, Tensor<2>)> {
    let towers = towers_of(towers, projectors.iter().map(|p| p.0.weight.dims()[0]), grids)?;
    let maps: Vec<Tensor<3>> = towers
        .into_iter()
        .zip(projectors)
        .map(|(tower, (first, gelu, second, norm))| {
            let [images, tokens, width] = tower.tokens.dims();
            let x = tower.tokens.reshape([images * tokens, width]);
            let y = norm.forward(second.forward(gelu.forward(first.forward(x))));
            let hidden = y.dims()[1];
            y.reshape([images, tokens, hidden])
        })
        .collect();
    let first = maps.first().ok_or_else(|| Error::failed("a connector without encoders"))?;
    let context = first.clone().mean_dim(1).squeeze_dim(1);
    Ok((maps, context))
}

impl SvaOptions {
    /// Checks the options for encoders on these grids.
    pub(super) fn check(&self, tower_grids: &[usize]) -> Result<()> {
        check_attention("sva", self.hidden, self.heads, self.depth)?;
        if self.query_grids.is_empty() || self.grid == 0 {
            return Err(Error::usage("connector sva: `query_grids` and `grid` must not be empty"));
        }
        for &grid in &self.query_grids {
            multiples(tower_grids, grid)?;
        }
        if let Some(samplers) = &self.samplers {
            if samplers.stride == 0 || samplers.number == 0 {
                return Err(Error::usage("connector sva: `samplers` needs a stride and a number of at least 1")
                    .hint("leave `samplers` out for none"));
            }
            multiples(tower_grids, self.grid)?;
        }
        Ok(())
    }

    pub(super) fn init(&self, towers: &[TowerShape], llm_width: usize, device: &Device) -> Result<Sva> {
        let tower_grids: Vec<usize> = towers.iter().map(|t| t.grid).collect();
        self.check(&tower_grids)?;
        let sampler = |query: usize, depth: usize, grid: usize| -> Result<VisionSampler> {
            let window: Vec<usize> = multiples(&tower_grids, grid)?.into_iter().map(|m| m * m).collect();
            let shape = SamplerShape { query, hidden: self.hidden, heads: self.heads, depth, window: &window };
            Ok(shape.init(device))
        };
        let number = self.samplers.map_or(0, |s| s.number);
        let start = Initializer::Normal { mean: 0.0, std: (llm_width as f64).powf(-0.5) };
        Ok(Sva {
            vision_query: start.init([self.query_grids.len(), self.hidden], device),
            image_newline: self.newline.then(|| start.init([llm_width], device)),
            mm_projector_aux: towers.iter().map(|t| tower_projector(t.width, self.hidden, device)).collect(),
            vision_sampler: self
                .query_grids
                .iter()
                .map(|&grid| sampler(self.hidden, self.depth, grid))
                .collect::<Result<_>>()?,
            mm_projector: projector(self.query_grids.len() * self.hidden, llm_width, device),
            vision_sampler_layers: (0..number).map(|_| sampler(llm_width, 1, self.grid)).collect::<Result<_>>()?,
            options: self.clone(),
            tower_grids,
        })
    }
}

/// Checks the sizes that every attention layer has.
pub(super) fn check_attention(name: &str, hidden: usize, heads: usize, depth: usize) -> Result<()> {
    if heads == 0 || hidden == 0 || !hidden.is_multiple_of(heads) || depth == 0 {
        return Err(Error::usage(format!(
            "connector {name}: width {hidden} in {heads} heads and {depth} layers; the width must be a multiple of the heads, and none may be 0"
        )));
    }
    Ok(())
}

impl Sva {
    pub(super) fn forward(&self, towers: &[FeatureMap], images: Option<&[ImageSize]>) -> Result<Seen> {
        let (maps, context) = project_towers(towers, &self.mm_projector_aux, &self.tower_grids)?;
        let windows = |grid: usize| Windows::cells(&maps, &self.tower_grids, grid, context.clone(), images);
        let grid = self.options.grid;
        // Groups on one grid, and the samplers of the language model, share their windows.
        let mut made: Vec<(usize, Windows)> = Vec::new();
        let mut groups = Vec::with_capacity(self.vision_sampler.len());
        for (g, (sampler, &side)) in self.vision_sampler.iter().zip(&self.options.query_grids).enumerate() {
            let windows = match made.iter().find(|(s, _)| *s == side) {
                Some((_, windows)) => windows.clone(),
                None => {
                    let new = windows(side)?;
                    made.push((side, new.clone()));
                    new
                }
            };
            let query = self.vision_query.val().narrow(0, g, 1).unsqueeze_dim::<3>(1);
            let tokens = sampler.forward(query, &windows)?;
            groups.push(FeatureMap { tokens, grid: [side, side] }.resample([grid, grid])?.tokens);
        }
        let cells = project(Tensor::cat(groups, 2), &self.mm_projector);
        let arrangement = Arrangement { rows: grid, columns: grid, newline: self.image_newline.is_some() };
        let tokens = arrangement.arrange(cells, self.image_newline.as_ref().map(Param::val));
        let context = match self.vision_sampler_layers.is_empty() {
            true => None,
            false => {
                let ready = made.into_iter().find(|(side, _)| *side == grid).map(|(_, w)| w);
                let windows = match ready {
                    Some(windows) => windows,
                    None => windows(grid)?,
                };
                Some(SvaContext { windows, arrangement })
            }
        };
        Seen::new(tokens, arrangement, images, context)
    }

    /// Updates the hidden states after a layer of the language model, `[rows, t, llm width]`: if a sampler follows
    /// the layer, it replaces those of the image tokens.
    ///
    /// # Errors
    /// When hidden states and context belong to different batches.
    pub fn apply(&self, layer: usize, hidden: Tensor<3>, context: &PlacedContext) -> Result<Tensor<3>> {
        let sampler = self.samplers().and_then(|s| s.after(layer)).and_then(|i| self.vision_sampler_layers.get(i));
        let Some(sampler) = sampler.filter(|_| context.count > 0) else {
            return Ok(hidden);
        };
        let [rows, t, width] = hidden.dims();
        let mut all = hidden.reshape([rows * t, width]);
        let (groups, each) = (context.windows.groups, context.windows.queries);
        for layer in &sampler.layers {
            let queries = all.clone().select(0, context.places.clone()).reshape([groups, each, width]);
            let change = layer.change(queries, &context.windows)?.reshape([context.count, width]);
            all = all.select_assign(0, context.places.clone(), change, IndexingUpdateOp::Add);
        }
        Ok(all.reshape([rows, t, width]))
    }

    /// The positions of its samplers in the language model.
    pub fn samplers(&self) -> Option<&SamplerOptions> {
        self.options.samplers.as_ref()
    }

    /// Draws the parameters that Cambrian-1 initialises from its own normal distributions: queries and newline with
    /// standard deviation 1/√width of the language model, position embeddings with 1.
    pub(super) fn draw(mut self, llm_width: usize, seed: u64) -> Self {
        let deviation = (llm_width as f64).powf(-0.5);
        self.vision_query = normal("vision_query", seed, self.vision_query, deviation);
        self.image_newline = self.image_newline.map(|p| normal("image_newline", seed, p, deviation));
        let each = |name: &str, samplers: Vec<VisionSampler>| -> Vec<VisionSampler> {
            samplers.into_iter().enumerate().map(|(i, s)| s.draw(&format!("{name}.{i}"), seed)).collect()
        };
        self.vision_sampler = each("vision_sampler", self.vision_sampler);
        self.vision_sampler_layers = each("vision_sampler_layers", self.vision_sampler_layers);
        self
    }
}

impl VisionSampler {
    /// Draws the position embeddings anew.
    pub(super) fn draw(mut self, name: &str, seed: u64) -> Self {
        for (l, layer) in self.layers.iter_mut().enumerate() {
            let drawn = std::mem::take(&mut layer.pos_embed)
                .into_iter()
                .enumerate()
                .map(|(k, p)| p.map(|p| normal(&format!("{name}.layers.{l}.pos_embed.{k}"), seed, p, 1.0)));
            layer.pos_embed = drawn.collect();
        }
        self
    }
}

impl SvaContext {
    /// Binds the context to images at these positions of a batch of sequences of `t` positions.
    ///
    /// # Errors
    /// When a row names an image outside the context.
    pub fn place(&self, rows: &[VisualRow], t: usize) -> Result<PlacedContext> {
        let device = self.windows.context.device();
        let (mut places, mut cells) = (Vec::new(), Vec::new());
        for row in rows {
            if row.image >= self.windows.groups || row.positions.len() != self.arrangement.positions() {
                return Err(Error::failed(format!(
                    "image {} with {} positions, but {} images of {} positions were seen",
                    row.image,
                    row.positions.len(),
                    self.windows.groups,
                    self.arrangement.positions()
                )));
            }
            for (p, place) in row.positions.iter().enumerate() {
                if let (Some(cell), Some(place)) = (self.arrangement.cell(p), place.filter(|p| *p < t)) {
                    places.push((row.row * t + place) as i32);
                    cells.push(row.image * self.windows.queries + cell);
                }
            }
        }
        let count = places.len();
        // Usually every cell of every image is present in order, so that nothing has to be selected.
        let whole =
            cells.len() == self.windows.groups * self.windows.queries && cells.iter().enumerate().all(|(i, c)| i == *c);
        let windows = if whole { self.windows.clone() } else { self.windows.select(&cells, &device) };
        let places = Tensor::from_data(TensorData::new(places, [count]), &device);
        Ok(PlacedContext { windows, places, count })
    }
}
