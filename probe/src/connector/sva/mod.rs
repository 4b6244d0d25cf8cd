//! Cambrian-1's Spatial Vision Aggregator (arXiv 2406.16860, section 3), as in its released models.
//!
//! Each encoder's features are projected to one width. G groups of learnable queries on a grid attend, through D layers
//! of cross-attention ([`layer`]), to the window of every encoder's grid at the position of the query. The groups are
//! concatenated along the channels and projected to the language model's width, and a newline follows each row.
//! Samplers of the same structure do the same inside the language model, with its hidden states as queries.
//!
//! Parameters have the names of the released checkpoints (see [`DIALECT`]).

pub mod layer;
pub mod windows;

use super::definition::{ConnectorModule, ConnectorProperties, ConnectorShape};
use super::image_tokens::ImageTokens;
use super::limits::{COUNT, DEPTH, GRID, WIDTH, at_most, grids_at_most};
use super::token_layout::{ImageSize, TokenLayout};
use super::{EncoderShape, normal, towers_of};
use crate::released::CambrianConfig;
use burgess_base::{Error, Result};
use burgess_encoders::checkpoint::{Dialect, Rule};
use burgess_encoders::features::FeatureMap;
use burgess_encoders::operands::gelu;
use burgess_encoders::transfer;
use burn::module::{Initializer, Module, Param};
use burn::nn::{Gelu, LayerNorm, LayerNormConfig, Linear, LinearConfig};
use burn::tensor::{Device, IndexingUpdateOp, Int, Tensor, TensorData};
use layer::{SamplerShape, VisionSampler};
use serde::{Deserialize, Serialize};
use windows::{EPSILON, Windows, window_sides};

/// Options of the Spatial Vision Aggregator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct SvaOptions {
    /// Width of queries, keys and values (`vision_hidden_size`; 1024 in the released models).
    pub hidden: usize,
    /// Number of attention heads. Default 16, as in the released models.
    #[serde(default = "default_heads")]
    pub heads: usize,
    /// Number D of cross-attention layers before the language model (`connector_depth`).
    pub depth: usize,
    /// Side of the query grid of each of the G groups, in queries (√ of `query_num_list`).
    pub query_grids: Vec<usize>,
    /// Side of the grid of image tokens, in tokens (√ of `image_token_len`).
    pub grid: usize,
    /// Side of the grid to which each encoder's features are resampled, in tokens, in the order of the arm's encoders.
    /// Default: the largest multiple of all query grids that is not finer than the features, or else the smallest
    /// multiple.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub tower_grids: Vec<usize>,
    /// Samplers inside the language model; absent = none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub samplers: Option<SamplerOptions>,
    /// Whether a learnable newline follows each row and padding is masked. Default true.
    #[serde(default = "yes")]
    pub newline: bool,
}

/// The layers of the language model after which samplers stand: `start`, `start + stride`, …, `number` of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct SamplerOptions {
    /// Index of the first of these layers, counted from 0 (`start_of_vision_sampler_layers`).
    pub start: usize,
    /// Distance between two of these layers, at least 1 (`stride_of_vision_sampler_layers`).
    pub stride: usize,
    /// Number of samplers, at least 1 (`num_of_vision_sampler_layers`).
    pub number: usize,
}

impl SamplerOptions {
    /// Returns the index of the sampler after layer `layer` of the language model; `None` if none stands there.
    pub fn after(&self, layer: usize) -> Option<usize> {
        let beyond = layer.checked_sub(self.start)?;
        (self.stride > 0 && beyond % self.stride == 0).then(|| beyond / self.stride).filter(|i| *i < self.number)
    }

    /// Returns the index of the last layer with a sampler after it.
    pub fn last(&self) -> usize {
        self.start.saturating_add(self.stride.saturating_mul(self.number.saturating_sub(1)))
    }
}

/// Returns the number of attention heads in the released models.
pub(super) fn default_heads() -> usize {
    16
}

fn yes() -> bool {
    true
}

/// The keys of Cambrian-1's checkpoints, without the prefix `model.`.
pub(super) const DIALECT: Dialect = Dialect {
    name: "connector",
    rules: &[
        Rule::same("mm_projector_aux.{k}.{rest}", &["mm_projector_aux_{k}.{rest}"]),
        Rule::same(
            "vision_sampler.{g}.layers.{l}.cross_attn.k_proj.{k}.{rest}",
            &["vision_sampler_{g}.layers.{l}.cross_attn.k_proj_{k}.{rest}"],
        ),
        Rule::same(
            "vision_sampler.{g}.layers.{l}.cross_attn.v_proj.{k}.{rest}",
            &["vision_sampler_{g}.layers.{l}.cross_attn.v_proj_{k}.{rest}"],
        ),
        Rule::same("vision_sampler.{g}.layers.{l}.pos_embed.{k}", &["vision_sampler_{g}.layers.{l}.pos_embed_{k}"]),
        Rule::same("vision_sampler.{g}.{rest}", &["vision_sampler_{g}.{rest}"]),
        Rule::same(
            "vision_sampler_layers.{g}.layers.{l}.cross_attn.k_proj.{k}.{rest}",
            &["vision_sampler_layers.{g}.layers.{l}.cross_attn.k_proj_{k}.{rest}"],
        ),
        Rule::same(
            "vision_sampler_layers.{g}.layers.{l}.cross_attn.v_proj.{k}.{rest}",
            &["vision_sampler_layers.{g}.layers.{l}.cross_attn.v_proj_{k}.{rest}"],
        ),
        Rule::same(
            "vision_sampler_layers.{g}.layers.{l}.pos_embed.{k}",
            &["vision_sampler_layers.{g}.layers.{l}.pos_embed_{k}"],
        ),
        Rule::same("{rest}", &["{rest}"]),
    ],
    ignored: &[],
};

/// Projector of one encoder's features to the common width: linear, GELU, linear, layer norm.
pub type TowerProjector = (Linear, Gelu, Linear, LayerNorm);

/// MLP of two linear layers with a GELU between them.
pub type Projector = (Linear, Gelu, Linear);

/// The Spatial Vision Aggregator; see the module documentation.
#[derive(Module, Debug)]
pub struct Sva {
    /// The initial query of each group, `[groups, hidden]`; all queries of a group start equal.
    pub vision_query: Param<Tensor<2>>,
    /// Embedding of the newline token, `[llm width]`; `None` without the option `newline`.
    pub image_newline: Option<Param<Tensor<1>>>,
    /// Projector of each encoder's features to the width `hidden`.
    pub mm_projector_aux: Vec<TowerProjector>,
    /// The cross-attention layers of each group.
    pub vision_sampler: Vec<VisionSampler>,
    /// MLP from the concatenated groups to image tokens, `[groups * hidden, llm width]` and `[llm width, llm width]`.
    pub mm_projector: Projector,
    /// The samplers inside the language model, in order.
    pub vision_sampler_layers: Vec<VisionSampler>,
    #[module(skip)]
    options: SvaOptions,
    #[module(skip)]
    tower_grids: Vec<usize>,
}

/// Input of the samplers inside the language model, computed once by the connector.
#[derive(Debug, Clone)]
pub struct SvaContext {
    windows: Windows,
    layout: TokenLayout,
}

/// The positions of the tokens of one image in a batch of sequences.
#[derive(Debug, Clone)]
pub struct ImagePositions {
    /// Index of the sequence in the batch.
    pub row: usize,
    /// Index of the image in the batch of images.
    pub image: usize,
    /// Position of each image token in the sequence; `None` for tokens that were left out.
    pub positions: Vec<Option<usize>>,
}

/// A [`SvaContext`] bound to the positions of the images in a batch.
#[derive(Debug, Clone)]
pub struct BoundSvaContext {
    windows: Windows,
    /// Index of each query into rows × positions, `[count]`.
    flat_positions: Tensor<1, Int>,
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

pub(super) fn projector(from: usize, hidden: usize, to: usize, device: &Device) -> Projector {
    (LinearConfig::new(from, hidden).init(device), Gelu::new(), LinearConfig::new(hidden, to).init(device))
}

/// Applies an MLP to `x` `[a, b, width]`, as rows of one matrix.
pub(super) fn project(x: Tensor<3>, (first, _, second): &Projector) -> Tensor<3> {
    let [a, b, width] = x.dims();
    let y = second.forward(gelu(first.forward(x.reshape([a * b, width]))));
    let to = y.dims()[1];
    y.reshape([a, b, to])
}

/// Projects every encoder's features to the common width, `[images, tokens, hidden]` each; also returns the mean of the
/// first encoder's, `[images, hidden]`.
///
/// # Errors
/// When the number of encoders or a width differs from the connector's.
pub(super) fn project_towers(
    towers: &[FeatureMap],
    projectors: &[TowerProjector],
    grids: &[usize],
) -> Result<(Vec<Tensor<3>>, Tensor<2>)> {
    let towers = towers_of(towers, projectors.iter().map(|p| p.0.weight.dims()[0]), grids)?;
    let maps: Vec<Tensor<3>> = towers
        .into_iter()
        .zip(projectors)
        .map(|(tower, (first, _, second, norm))| {
            let [images, tokens, width] = tower.tokens.dims();
            let x = tower.tokens.reshape([images * tokens, width]);
            let y = norm.forward(second.forward(gelu(first.forward(x))));
            let hidden = y.dims()[1];
            y.reshape([images, tokens, hidden])
        })
        .collect();
    let first =
        maps.first().ok_or_else(|| Error::failed("a connector has no encoders: `mm_projector_aux` is empty"))?;
    let context = first.clone().mean_dim(1).squeeze_dim(1);
    Ok((maps, context))
}

impl ConnectorModule for Sva {
    type Options = SvaOptions;

    const DIALECT: &'static Dialect = &DIALECT;

    const FROM_CAMBRIAN: Option<fn(&CambrianConfig) -> Result<SvaOptions>> = Some(SvaOptions::from_cambrian);

    fn properties(options: &SvaOptions) -> ConnectorProperties {
        ConnectorProperties {
            needs_encoder_shapes: true,
            reads_each_encoder: true,
            needs_image_sizes: true,
            needs_statistics: false,
            adds_positions: false,
            samplers: options.samplers,
        }
    }

    fn check_limits(name: &str, options: &SvaOptions) -> Result<()> {
        at_most(name, "hidden", options.hidden, WIDTH)?;
        at_most(name, "depth", options.depth, DEPTH)?;
        at_most(name, "grid", options.grid, GRID)?;
        grids_at_most(name, "query_grids", &options.query_grids)?;
        grids_at_most(name, "tower_grids", &options.tower_grids)?;
        let Some(samplers) = options.samplers else { return Ok(()) };
        at_most(name, "samplers.start", samplers.start, COUNT)?;
        at_most(name, "samplers.stride", samplers.stride, COUNT)?;
        at_most(name, "samplers.number", samplers.number, DEPTH)
    }

    fn check(name: &str, options: &SvaOptions, encoders: &[EncoderShape]) -> Result<()> {
        let tower_grids: Vec<usize> = encoders.iter().map(|e| e.grid).collect();
        check_attention(name, options.hidden, options.heads, options.depth)?;
        if options.query_grids.is_empty() || options.grid == 0 {
            return Err(Error::usage(format!(
                "connector {name}: `query_grids` = {:?} and `grid` = {}; there must be at least one query grid, and \
                     `grid` must be at least 1",
                options.query_grids, options.grid
            )));
        }
        for &grid in &options.query_grids {
            window_sides(&tower_grids, grid)?;
        }
        if let Some(samplers) = &options.samplers {
            if samplers.stride == 0 || samplers.number == 0 {
                return Err(Error::usage(format!(
                    "connector {name}: `samplers` has `stride` = {} and `number` = {}, both must be at least 1",
                    samplers.stride, samplers.number
                ))
                .hint("leave `samplers` out for a connector without samplers"));
            }
            window_sides(&tower_grids, options.grid)?;
        }
        Ok(())
    }

    fn encoder_shapes(name: &str, options: &SvaOptions, encoders: &[EncoderShape]) -> Result<Vec<EncoderShape>> {
        chosen_grids(name, &options.tower_grids, encoders, |own| options.nearest(own))
    }

    fn image_tokens(options: &SvaOptions, _grids: &[[usize; 2]]) -> usize {
        options.grid * (options.grid + usize::from(options.newline))
    }

    fn parameters(options: &SvaOptions, shape: ConnectorShape<'_>) -> f64 {
        let (from, to) = (shape.feature_width as f64, shape.llm_width as f64);
        let (hidden, groups) = (options.hidden as f64, options.query_grids.len() as f64);
        let layers = groups * options.depth as f64 * attention_parameters(hidden, hidden, shape.encoders);
        let samplers = options.samplers.map_or(0.0, |s| s.number as f64);
        let samplers = samplers * attention_parameters(to, hidden, shape.encoders);
        layers + samplers + from * hidden + groups * hidden * to + to * to
    }

    fn init(options: &SvaOptions, shape: ConnectorShape<'_>, device: &Device) -> Result<Self> {
        let tower_grids: Vec<usize> = shape.encoders.iter().map(|e| e.grid).collect();
        let (hidden, llm_width) = (options.hidden, shape.llm_width);
        let sampler = |query: usize, depth: usize, grid: usize| -> Result<VisionSampler> {
            let window: Vec<usize> = window_sides(&tower_grids, grid)?.into_iter().map(|m| m * m).collect();
            Ok(SamplerShape { query, hidden, heads: options.heads, depth, window: &window }.init(device))
        };
        let number = options.samplers.map_or(0, |s| s.number);
        let start = Initializer::Normal { mean: 0.0, std: (llm_width as f64).powf(-0.5) };
        let groups = options.query_grids.len();
        Ok(Sva {
            vision_query: start.init([groups, hidden], device),
            image_newline: options.newline.then(|| start.init([llm_width], device)),
            mm_projector_aux: shape.encoders.iter().map(|e| tower_projector(e.width, hidden, device)).collect(),
            vision_sampler: options
                .query_grids
                .iter()
                .map(|&grid| sampler(hidden, options.depth, grid))
                .collect::<Result<_>>()?,
            mm_projector: projector(groups * hidden, llm_width, llm_width, device),
            vision_sampler_layers: (0..number).map(|_| sampler(llm_width, 1, options.grid)).collect::<Result<_>>()?,
            options: options.clone(),
            tower_grids,
        })
    }

    /// Draws the parameters that Cambrian-1 initialises from its own normal distributions: queries and newline with
    /// standard deviation 1/√width of the language model, position embeddings with 1.
    fn redraw(mut self, llm_width: usize, seed: u64) -> Self {
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

    fn feature_width(&self) -> usize {
        self.mm_projector_aux.iter().map(|t| t.0.weight.dims()[0]).sum()
    }

    fn forward(&self, encoders: &[FeatureMap], images: Option<&[ImageSize]>) -> Result<ImageTokens> {
        let (maps, context) = project_towers(encoders, &self.mm_projector_aux, &self.tower_grids)?;
        let windows = |grid: usize| Windows::cells(&maps, &self.tower_grids, grid, context.clone(), images);
        let grid = self.options.grid;
        // Groups on one grid, and the samplers of the language model, share their windows.
        let mut by_grid: Vec<(usize, Windows)> = Vec::new();
        let mut groups = Vec::with_capacity(self.vision_sampler.len());
        for (g, (sampler, &side)) in self.vision_sampler.iter().zip(&self.options.query_grids).enumerate() {
            let windows = match by_grid.iter().find(|(s, _)| *s == side) {
                Some((_, windows)) => windows.clone(),
                None => {
                    let new = windows(side)?;
                    by_grid.push((side, new.clone()));
                    new
                }
            };
            let query = self.vision_query.val().narrow(0, g, 1).unsqueeze_dim::<3>(1);
            let tokens = sampler.forward(query, &windows)?;
            groups.push(FeatureMap { tokens, grid: [side, side] }.resample([grid, grid])?.tokens);
        }
        let cells = project(Tensor::cat(groups, 2), &self.mm_projector);
        let layout = TokenLayout { rows: grid, columns: grid, newline: self.image_newline.is_some() };
        let tokens = layout.arrange(cells, self.image_newline.as_ref().map(Param::val));
        let context = match self.vision_sampler_layers.is_empty() {
            true => None,
            false => {
                let ready = by_grid.into_iter().find(|(side, _)| *side == grid).map(|(_, w)| w);
                let windows = match ready {
                    Some(windows) => windows,
                    None => windows(grid)?,
                };
                Some(SvaContext { windows, layout })
            }
        };
        ImageTokens::new(tokens, layout, images, context)
    }

    fn after_layer(&self, layer: usize, hidden: Tensor<3>, context: &BoundSvaContext) -> Result<Tensor<3>> {
        self.apply(layer, hidden, context)
    }
}

impl SvaOptions {
    fn from_cambrian(config: &CambrianConfig) -> Result<Self> {
        let query_grids = config.query_grids()?;
        if config.num_query_group.is_some_and(|groups| groups != query_grids.len()) {
            return Err(Error::failed("`query_num_list` and `num_query_group` give different numbers of query groups"));
        }
        let needed = |key: &str, value: Option<usize>| {
            value.ok_or_else(|| Error::failed(format!("`{key}` is missing: the connector sva needs it")))
        };
        let only = config.connector_only.map(usize::from);
        let samplers = match needed("connector_only", only)? {
            0 => Some(SamplerOptions {
                start: needed("start_of_vision_sampler_layers", config.start_of_vision_sampler_layers)?,
                stride: needed("stride_of_vision_sampler_layers", config.stride_of_vision_sampler_layers)?,
                number: needed("num_of_vision_sampler_layers", config.num_of_vision_sampler_layers)?,
            }),
            _ => None,
        };
        Ok(Self {
            hidden: needed("vision_hidden_size", config.vision_hidden_size)?,
            // Upstream's configuration does not contain the number of heads.
            heads: default_heads(),
            depth: needed("connector_depth", config.connector_depth)?,
            query_grids,
            grid: config.image_grid()?,
            tower_grids: config.encoder_grids()?,
            samplers,
            newline: true,
        })
    }

    /// Returns the default of [`SvaOptions::tower_grids`] for features on a grid of side `own`.
    fn nearest(&self, own: usize) -> usize {
        let grids = self.query_grids.iter().chain(self.samplers.iter().map(|_| &self.grid));
        let step = grids.fold(1, |a, &b| lcm(a, b.max(1)));
        (own / step).max(1).saturating_mul(step)
    }
}

/// Least common multiple of two positive numbers.
fn lcm(a: usize, b: usize) -> usize {
    let (mut x, mut y) = (a, b);
    while y != 0 {
        (x, y) = (y, x % y);
    }
    (a / x).saturating_mul(b)
}

/// Returns the shapes of the encoders' features on the grids of the option `tower_grids`, or if it is empty on grids of
/// side `default(own side)`.
///
/// # Errors
/// When the option names another number of grids than there are encoders.
pub(super) fn chosen_grids(
    name: &str,
    tower_grids: &[usize],
    encoders: &[EncoderShape],
    default: impl Fn(usize) -> usize,
) -> Result<Vec<EncoderShape>> {
    if !tower_grids.is_empty() && tower_grids.len() != encoders.len() {
        return Err(Error::usage(format!(
            "connector {name}: `tower_grids` has {} grids for {} encoders, must have one for each",
            tower_grids.len(),
            encoders.len()
        )));
    }
    let shapes = encoders.iter().enumerate().map(|(i, e)| {
        let grid = tower_grids.get(i).copied().unwrap_or_else(|| default(e.grid));
        EncoderShape { width: e.width, grid }
    });
    Ok(shapes.collect())
}

/// Returns the approximate number of parameters of one layer of cross-attention from queries of width `query`: queries,
/// keys and values of each encoder, output projection, MLP, and position embeddings of all tokens.
pub(super) fn attention_parameters(query: f64, hidden: f64, encoders: &[EncoderShape]) -> f64 {
    let window: f64 = encoders.iter().map(EncoderShape::tokens).sum();
    let layer = hidden * (2.0 * query + 2.0 * hidden * encoders.len() as f64 + 4.0 * hidden);
    layer + window * hidden
}

/// Checks the sizes of attention layers: width, number of heads, and number of layers.
pub(super) fn check_attention(name: &str, hidden: usize, heads: usize, depth: usize) -> Result<()> {
    if heads == 0 || hidden == 0 || !hidden.is_multiple_of(heads) || depth == 0 {
        return Err(Error::usage(format!(
            "connector {name}: `hidden` = {hidden}, `heads` = {heads}, `depth` = {depth}; all must be at least 1, and \
                 `hidden` a multiple of `heads`"
        )));
    }
    Ok(())
}

impl Sva {
    /// Updates the hidden states after a layer of the language model, `[rows, t, llm width]`: if a sampler stands after
    /// the layer, its output is added to the hidden states of the image tokens.
    ///
    /// # Errors
    /// When hidden states and context belong to different batches.
    pub fn apply(&self, layer: usize, hidden: Tensor<3>, context: &BoundSvaContext) -> Result<Tensor<3>> {
        let sampler = self.samplers().and_then(|s| s.after(layer)).and_then(|i| self.vision_sampler_layers.get(i));
        let Some(sampler) = sampler.filter(|_| context.count > 0) else {
            return Ok(hidden);
        };
        let [rows, t, width] = hidden.dims();
        let mut all = hidden.reshape([rows * t, width]);
        let (groups, each) = (context.windows.groups, context.windows.queries);
        for layer in &sampler.layers {
            let queries = all.clone().select(0, context.flat_positions.clone()).reshape([groups, each, width]);
            let residual = layer.residual(queries, &context.windows)?.reshape([context.count, width]);
            all = all.select_assign(0, context.flat_positions.clone(), residual, IndexingUpdateOp::Add);
        }
        Ok(all.reshape([rows, t, width]))
    }

    /// Returns the layers of the language model after which its samplers stand; `None` if it has none.
    pub fn samplers(&self) -> Option<&SamplerOptions> {
        self.options.samplers.as_ref()
    }
}

impl VisionSampler {
    /// Draws the position embeddings from the stream of their name, with standard deviation 1.
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
    /// Binds the context to a batch of sequences of `t` positions, in which the images are at the positions in `rows`.
    ///
    /// # Errors
    /// When a row names an image outside the context, or has another number of positions than an image has tokens.
    pub fn bind(&self, rows: &[ImagePositions], t: usize) -> Result<BoundSvaContext> {
        let device = self.windows.context.device();
        let (mut flat_positions, mut cells) = (Vec::new(), Vec::new());
        for row in rows {
            if row.image >= self.windows.groups || row.positions.len() != self.layout.token_count() {
                return Err(Error::failed(format!(
                    "image {} has {} positions, but the connector encoded {} images of {} tokens",
                    row.image,
                    row.positions.len(),
                    self.windows.groups,
                    self.layout.token_count()
                )));
            }
            for (p, place) in row.positions.iter().enumerate() {
                if let (Some(cell), Some(place)) = (self.layout.cell(p), place.filter(|p| *p < t)) {
                    flat_positions.push((row.row * t + place) as i32);
                    cells.push(row.image * self.windows.queries + cell);
                }
            }
        }
        let count = flat_positions.len();
        // Usually every cell of every image is present in order; then the windows are used as they are.
        let whole =
            cells.len() == self.windows.groups * self.windows.queries && cells.iter().enumerate().all(|(i, c)| i == *c);
        let windows = if whole { self.windows.clone() } else { self.windows.select(&cells, &device) };
        let flat_positions = transfer::to_device(TensorData::new(flat_positions, [count]), &device);
        Ok(BoundSvaContext { windows, flat_positions, count })
    }
}
