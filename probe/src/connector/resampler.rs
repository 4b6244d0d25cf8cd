//! A resampler: learnable queries attend to all tokens of all encoders. It is the cross-attention without spatial
//! windows to which Cambrian-1 compares its aggregator (Perceiver, arXiv 2103.03206; Q-Former, arXiv 2301.12597).
//!
//! Everything else equals the aggregator, so that only the windows differ: the encoders' projections, the layers with
//! the image's mean, and the projector. The image is one window, to whose tokens each layer adds position embeddings;
//! each query starts from its own embedding, because no window tells the queries apart.

use super::arrangement::{Arrangement, ImageSize};
use super::kind::ResamplerOptions;
use super::sva::layer::{SamplerShape, VisionSampler};
use super::sva::windows::Windows;
use super::sva::{Projector, TowerProjector, check_attention, project, project_towers, projector, tower_projector};
use super::{Seen, TowerShape, normal};
use burgess_base::{Error, Result};
use burgess_encoders::features::FeatureMap;
use burn::module::{Initializer, Module, Param};
use burn::tensor::{Device, Tensor};

/// The resampler; see the module documentation.
#[derive(Module, Debug)]
pub struct Resampler {
    /// Initial queries, `[queries, hidden]`.
    pub vision_query: Param<Tensor<2>>,
    /// Projector of each encoder's features to the hidden width.
    pub mm_projector_aux: Vec<TowerProjector>,
    /// The cross-attention layers; a list of one, as the aggregator's groups are, so that the parameter names agree.
    pub vision_sampler: Vec<VisionSampler>,
    /// Maps queries to image tokens of the language model's width.
    pub mm_projector: Projector,
    #[module(skip)]
    tower_grids: Vec<usize>,
}

impl ResamplerOptions {
    pub(super) fn check(&self) -> Result<()> {
        check_attention("resampler", self.hidden, self.heads, self.depth)?;
        if self.queries == 0 {
            return Err(Error::usage("connector resampler: no `queries`"));
        }
        Ok(())
    }

    pub(super) fn init(&self, towers: &[TowerShape], llm_width: usize, device: &Device) -> Result<Resampler> {
        self.check()?;
        let window: Vec<usize> = towers.iter().map(|t| t.grid * t.grid).collect();
        let shape = SamplerShape {
            query: self.hidden,
            hidden: self.hidden,
            heads: self.heads,
            depth: self.depth,
            window: &window,
        };
        let start = Initializer::Normal { mean: 0.0, std: (self.hidden as f64).powf(-0.5) };
        Ok(Resampler {
            vision_query: start.init([self.queries, self.hidden], device),
            mm_projector_aux: towers.iter().map(|t| tower_projector(t.width, self.hidden, device)).collect(),
            vision_sampler: vec![shape.init(device)],
            mm_projector: projector(self.hidden, llm_width, device),
            tower_grids: towers.iter().map(|t| t.grid).collect(),
        })
    }
}

impl Resampler {
    pub(super) fn forward(&self, towers: &[FeatureMap], images: Option<&[ImageSize]>) -> Result<Seen> {
        let (maps, context) = project_towers(towers, &self.mm_projector_aux, &self.tower_grids)?;
        let [queries, _] = self.vision_query.val().dims();
        let windows = Windows::whole(&maps, &self.tower_grids, queries, context, images)?;
        let mut x = self.vision_query.val().unsqueeze::<3>();
        for sampler in &self.vision_sampler {
            x = sampler.forward(x, &windows)?;
        }
        // A query has no position in the image, so none is padding.
        let arrangement = Arrangement { rows: 1, columns: queries, newline: false };
        Seen::new(project(x, &self.mm_projector), arrangement, None, None)
    }

    /// Draws queries and position embeddings from `seed`, as for the aggregator.
    pub(super) fn draw(mut self, seed: u64) -> Self {
        let [_, hidden] = self.vision_query.val().dims();
        self.vision_query = normal("vision_query", seed, self.vision_query, (hidden as f64).powf(-0.5));
        let samplers = std::mem::take(&mut self.vision_sampler).into_iter().enumerate();
        self.vision_sampler = samplers.map(|(i, s)| s.draw(&format!("vision_sampler.{i}"), seed)).collect();
        self
    }
}
