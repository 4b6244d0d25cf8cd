//! A resampler: learnable queries attend to all tokens of all encoders (Perceiver, arXiv 2103.03206; Q-Former, arXiv
//! 2301.12597). Cambrian-1 compares its Spatial Vision Aggregator to this cross-attention without spatial windows.
//!
//! The projections of the encoders, the cross-attention layers with the image's mean feature, and the projector are
//! those of the aggregator, so that only the windows differ: here the whole image is one window, to whose tokens each
//! layer adds position embeddings, and each query has its own initial embedding, because no window distinguishes the
//! queries.

use super::definition::{ConnectorModule, ConnectorProperties, ConnectorShape};
use super::image_tokens::ImageTokens;
use super::limits::{COUNT, DEPTH, WIDTH, at_most, grids_at_most};
use super::sva::layer::{SamplerShape, VisionSampler};
use super::sva::windows::Windows;
use super::sva::{
    DIALECT, Projector, TowerProjector, attention_parameters, check_attention, chosen_grids, default_heads, project,
    project_towers, projector, tower_projector,
};
use super::token_layout::{ImageSize, TokenLayout};
use super::{EncoderShape, normal};
use burgess_base::{Error, Result};
use burgess_encoders::checkpoint::Dialect;
use burgess_encoders::features::FeatureMap;
use burn::module::{Initializer, Module, Param};
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

/// Options of the resampler.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ResamplerOptions {
    /// Width of queries, keys and values, in channels.
    pub hidden: usize,
    /// Number of attention heads. Default 16.
    #[serde(default = "default_heads")]
    pub heads: usize,
    /// Number of cross-attention layers.
    pub depth: usize,
    /// Number of queries, which is the number of tokens per image.
    pub queries: usize,
    /// Side of the grid to which each encoder's features are resampled, in tokens, in the order of the arm's encoders.
    /// Default: their own grids.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub tower_grids: Vec<usize>,
}

/// The resampler; see the module documentation.
#[derive(Module, Debug)]
pub struct Resampler {
    /// Initial queries, `[queries, hidden]`.
    pub vision_query: Param<Tensor<2>>,
    /// Projector of each encoder's features to the width `hidden`.
    pub mm_projector_aux: Vec<TowerProjector>,
    /// The cross-attention layers, in a list of length 1 so that the parameter names are those of the aggregator.
    pub vision_sampler: Vec<VisionSampler>,
    /// MLP from queries to image tokens, `[hidden, llm width]` and `[llm width, llm width]`.
    pub mm_projector: Projector,
    #[module(skip)]
    tower_grids: Vec<usize>,
}

impl ConnectorModule for Resampler {
    type Options = ResamplerOptions;

    const DIALECT: &'static Dialect = &DIALECT;

    fn properties(_options: &ResamplerOptions) -> ConnectorProperties {
        ConnectorProperties {
            needs_encoder_shapes: true,
            reads_each_encoder: true,
            needs_image_sizes: true,
            needs_statistics: false,
            adds_positions: false,
            samplers: None,
        }
    }

    fn check_limits(name: &str, options: &ResamplerOptions) -> Result<()> {
        at_most(name, "hidden", options.hidden, WIDTH)?;
        at_most(name, "depth", options.depth, DEPTH)?;
        at_most(name, "queries", options.queries, COUNT)?;
        grids_at_most(name, "tower_grids", &options.tower_grids)
    }

    fn check(name: &str, options: &ResamplerOptions, _encoders: &[EncoderShape]) -> Result<()> {
        check_attention(name, options.hidden, options.heads, options.depth)?;
        match options.queries {
            0 => Err(Error::usage(format!("connector {name}: `queries` is 0, must be at least 1"))),
            _ => Ok(()),
        }
    }

    fn encoder_shapes(name: &str, options: &ResamplerOptions, encoders: &[EncoderShape]) -> Result<Vec<EncoderShape>> {
        chosen_grids(name, &options.tower_grids, encoders, |own| own)
    }

    fn image_tokens(options: &ResamplerOptions, _grids: &[[usize; 2]]) -> usize {
        options.queries
    }

    fn parameters(options: &ResamplerOptions, shape: ConnectorShape<'_>) -> f64 {
        let (from, to, hidden) = (shape.feature_width as f64, shape.llm_width as f64, options.hidden as f64);
        let layers = options.depth as f64 * attention_parameters(hidden, hidden, shape.encoders);
        layers + options.queries as f64 * hidden + from * hidden + hidden * to + to * to
    }

    fn init(options: &ResamplerOptions, shape: ConnectorShape<'_>, device: &Device) -> Result<Self> {
        let hidden = options.hidden;
        let window: Vec<usize> = shape.encoders.iter().map(|e| e.grid * e.grid).collect();
        let sampler =
            SamplerShape { query: hidden, hidden, heads: options.heads, depth: options.depth, window: &window };
        let start = Initializer::Normal { mean: 0.0, std: (hidden as f64).powf(-0.5) };
        Ok(Resampler {
            vision_query: start.init([options.queries, hidden], device),
            mm_projector_aux: shape.encoders.iter().map(|e| tower_projector(e.width, hidden, device)).collect(),
            vision_sampler: vec![sampler.init(device)],
            mm_projector: projector(hidden, shape.llm_width, shape.llm_width, device),
            tower_grids: shape.encoders.iter().map(|e| e.grid).collect(),
        })
    }

    /// Draws queries and position embeddings from `seed`, as for the aggregator.
    fn redraw(mut self, _llm_width: usize, seed: u64) -> Self {
        let [_, hidden] = self.vision_query.val().dims();
        self.vision_query = normal("vision_query", seed, self.vision_query, (hidden as f64).powf(-0.5));
        let samplers = std::mem::take(&mut self.vision_sampler).into_iter().enumerate();
        self.vision_sampler = samplers.map(|(i, s)| s.draw(&format!("vision_sampler.{i}"), seed)).collect();
        self
    }

    fn feature_width(&self) -> usize {
        self.mm_projector_aux.iter().map(|t| t.0.weight.dims()[0]).sum()
    }

    fn forward(&self, encoders: &[FeatureMap], images: Option<&[ImageSize]>) -> Result<ImageTokens> {
        let (maps, context) = project_towers(encoders, &self.mm_projector_aux, &self.tower_grids)?;
        let [queries, _] = self.vision_query.val().dims();
        let windows = Windows::whole(&maps, &self.tower_grids, queries, context, images)?;
        let mut x = self.vision_query.val().unsqueeze::<3>();
        for sampler in &self.vision_sampler {
            x = sampler.forward(x, &windows)?;
        }
        // A query has no position in the image, so no token is padding.
        let layout = TokenLayout { rows: 1, columns: queries, newline: false };
        ImageTokens::new(project(x, &self.mm_projector), layout, None, None)
    }
}
