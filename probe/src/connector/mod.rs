//! Connectors: map patch features to image tokens of the language model's width. There is one file per connector.

mod arrangement;
mod c_abstractor;
mod config;
mod kind;
mod limits;
mod linear;
mod mlp2x_gelu;
pub(crate) mod positions;
mod resampler;
mod se_mlp;
mod standardise;
mod sva;

pub use arrangement::{Arrangement, ImageSize, Region};
pub use c_abstractor::CAbstractor;
pub use config::{ConnectorConfig, TowerShape};
pub use kind::{CAbstractorOptions, ConnectorKind, ResamplerOptions, RowOptions, SamplerOptions, SvaOptions};
pub use linear::LinearConnector;
pub use mlp2x_gelu::Mlp2xGelu;
pub use resampler::Resampler;
pub use se_mlp::SeMlp;
pub use standardise::{ChannelStatistics, Standardise};
pub use sva::{PlacedContext, Sva, SvaContext, VisualRow};

use burgess_base::{Error, Result};
use burgess_encoders::checkpoint::{Dialect, Rule};
use burgess_encoders::features::FeatureMap;
use burgess_encoders::init;
use burn::module::{Module, Param};
use burn::tensor::Tensor;

/// The connectors' parameter names in checkpoints of Cambrian-1, LLaVA and Honeybee, without the prefix `model.`.
pub const NAMES: Dialect = Dialect {
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
        Rule::same("net.{s}.{i}.conv2.conv.weight", &["net.{s}.b{i}.conv2.conv.weight"]),
        Rule::pointwise("net.{s}.{i}.conv{c}.conv.weight", &["net.{s}.b{i}.conv{c}.conv.weight"], 2),
        Rule::pointwise("net.{s}.{i}.downsample.conv.weight", &["net.{s}.b{i}.downsample.conv.weight"], 2),
        Rule::pointwise("net.{s}.{i}.se.fc{c}.weight", &["net.{s}.b{i}.se.fc{c}.weight"], 2),
        Rule::same("net.{s}.{i}.{rest}", &["net.{s}.b{i}.{rest}"]),
        Rule::same("{rest}", &["{rest}"]),
    ],
    ignored: &[],
};

/// A connector of any kind.
// A model has one connector, so the variants' sizes do not matter.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant)]
pub enum Connector {
    /// One linear layer.
    Linear(LinearConnector),
    /// Two linear layers with a GELU between them.
    Mlp2xGelu(Mlp2xGelu),
    /// A gate over the channels (squeeze-and-excitation), then two linear layers with a GELU between them.
    SeMlp(SeMlp),
    /// Honeybee's C-Abstractor.
    CAbstractor(CAbstractor),
    /// Cross-attention of learnable queries to all tokens.
    Resampler(Resampler),
    /// The Spatial Vision Aggregator.
    Sva(Sva),
}

/// A batch of images encoded as image tokens.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Image tokens, `[images, positions, llm width]`.
    pub tokens: Tensor<3>,
    /// The layout of the positions on the grid.
    pub arrangement: Arrangement,
    /// For each image, which positions cover a part of it; `None` if all do. The others are padding: a sequence
    /// leaves them out, or masks them so that they take no position of their own.
    pub visible: Option<Vec<Vec<bool>>>,
    /// Input of the samplers inside the language model, if the connector has any.
    pub context: Option<SvaContext>,
}

impl Seen {
    /// Wraps embeddings `[images, positions, llm width]` without rows and padding.
    pub fn plain(tokens: Tensor<3>) -> Self {
        let arrangement = Arrangement { rows: 1, columns: tokens.dims()[1], newline: false };
        Self { tokens, arrangement, visible: None, context: None }
    }

    /// Number of images.
    pub fn images(&self) -> usize {
        self.tokens.dims()[0]
    }

    /// Number of image tokens per image, padding included.
    pub fn positions(&self) -> usize {
        self.tokens.dims()[1]
    }

    /// The positions of one image that are not padding.
    pub fn shown(&self, image: usize) -> Vec<usize> {
        let visible = self.visible.as_ref().and_then(|v| v.get(image));
        (0..self.positions()).filter(|p| visible.is_none_or(|v| v.get(*p) == Some(&true))).collect()
    }

    fn new(
        tokens: Tensor<3>,
        arrangement: Arrangement,
        images: Option<&[ImageSize]>,
        context: Option<SvaContext>,
    ) -> Result<Self> {
        let visible: Vec<Vec<bool>> =
            images.unwrap_or_default().iter().map(|size| arrangement.visible(*size)).collect::<Result<_>>()?;
        let all = visible.iter().flatten().all(|v| *v);
        Ok(Self { tokens, arrangement, visible: (!all).then_some(visible), context })
    }
}

impl Connector {
    /// Maps the features of each encoder, `[images, tokens, width]`, to image tokens.
    ///
    /// Connectors that read concatenated features concatenate them here if they share a grid. `images` holds the
    /// image sizes before padding to squares; without it nothing counts as padding.
    ///
    /// # Errors
    /// When the features do not have the widths and grids that the connector expects.
    pub fn forward(&self, towers: &[FeatureMap], images: Option<&[ImageSize]>) -> Result<Seen> {
        let count = towers.first().map_or(0, |t| t.tokens.dims()[0]);
        config::check_sizes(images, count)?;
        match self {
            Self::Linear(c) => {
                self.by_token(towers, images, c.image_newline.as_ref(), |x| rows(x, |x| Ok(c.forward(x))))
            }
            Self::Mlp2xGelu(c) => {
                self.by_token(towers, images, c.image_newline.as_ref(), |x| rows(x, |x| c.forward(x)))
            }
            Self::SeMlp(c) => self.by_token(towers, images, c.image_newline.as_ref(), |x| Ok(c.forward(x))),
            Self::CAbstractor(c) => c.forward(self.joined(towers)?, images),
            Self::Resampler(c) => c.forward(towers, images),
            Self::Sva(c) => c.forward(towers, images),
        }
    }

    /// A connector that keeps the grid: applies `map` to all tokens, then inserts newlines.
    fn by_token(
        &self,
        towers: &[FeatureMap],
        images: Option<&[ImageSize]>,
        newline: Option<&Param<Tensor<1>>>,
        map: impl FnOnce(Tensor<3>) -> Result<Tensor<3>>,
    ) -> Result<Seen> {
        let joined = self.joined(towers)?;
        let prefix = joined.prefix();
        let [rows, columns] = joined.grid;
        if newline.is_some() && prefix > 0 {
            return Err(Error::failed("a connector with newlines was given features with a class token")
                .hint("leave the class token out of the features"));
        }
        let tokens = match self.standardise() {
            Some(standardise) => standardise.forward(joined.tokens),
            None => joined.tokens,
        };
        let tokens = map(tokens)?;
        let arrangement = match newline {
            Some(_) => Arrangement { rows, columns, newline: true },
            // Without newlines there are no rows, and padding is kept as in LLaVA.
            None => Arrangement { rows: 1, columns: prefix + rows * columns, newline: false },
        };
        let images = images.filter(|_| newline.is_some());
        let tokens = arrangement.arrange(tokens, newline.map(Param::val));
        Seen::new(tokens, arrangement, images, None)
    }

    /// Concatenates the features of all encoders to the width that the connector reads.
    fn joined(&self, towers: &[FeatureMap]) -> Result<FeatureMap> {
        let joined = match towers {
            [one] => one.clone(),
            several => FeatureMap::concat(several)?,
        };
        let (width, expected) = (joined.tokens.dims()[2], self.feature_width());
        if width != expected {
            return Err(Error::failed(format!(
                "the connector reads features of width {expected}, the encoder gave {width}"
            ))
            .hint("the model was trained with another encoder"));
        }
        Ok(joined)
    }

    /// Sets the statistics by which a connector with `standardise` standardises its features.
    ///
    /// # Errors
    /// When it does not standardise, or they are of another width.
    pub fn set_statistics(&mut self, statistics: ChannelStatistics) -> Result<()> {
        let width = self.feature_width();
        let slot = match self {
            Self::Linear(c) => &mut c.standardise,
            Self::Mlp2xGelu(c) => &mut c.standardise,
            Self::SeMlp(c) => &mut c.standardise,
            _ => &mut None,
        };
        let Some(own) = slot else {
            return Err(Error::failed("this connector does not standardise features"));
        };
        let (mean, deviation) = statistics.finish();
        if mean.len() != width {
            return Err(Error::failed(format!("statistics of {} channels for features of width {width}", mean.len())));
        }
        own.mean = standardise::with(own.mean.clone(), mean);
        own.deviation = standardise::with(own.deviation.clone(), deviation);
        Ok(())
    }

    fn standardise(&self) -> Option<&Standardise> {
        match self {
            Self::Linear(c) => c.standardise.as_ref(),
            Self::Mlp2xGelu(c) => c.standardise.as_ref(),
            Self::SeMlp(c) => c.standardise.as_ref(),
            Self::CAbstractor(_) | Self::Resampler(_) | Self::Sva(_) => None,
        }
    }

    /// Width of the input features, summed over all encoders.
    pub fn feature_width(&self) -> usize {
        let towers = |each: &[sva::TowerProjector]| each.iter().map(|t| t.0.weight.dims()[0]).sum();
        match self {
            Self::Linear(c) => c.mm_projector.weight.dims()[0],
            Self::Mlp2xGelu(c) => c.mm_projector.first().and_then(Option::as_ref).map_or(0, |l| l.weight.dims()[0]),
            Self::SeMlp(c) => c.mm_projector.proj.0.weight.dims()[0],
            Self::CAbstractor(c) => {
                let first = c.net.iter().flatten().flatten().flatten().next();
                first.map_or(0, |block| block.conv1.conv.weight.dims()[0])
            }
            Self::Resampler(c) => towers(&c.mm_projector_aux),
            Self::Sva(c) => towers(&c.mm_projector_aux),
        }
    }

    /// Updates the hidden states after a layer of the language model; see [`Sva::apply`]. Others change nothing.
    ///
    /// # Errors
    /// As [`Sva::apply`].
    pub fn after_layer(&self, layer: usize, hidden: Tensor<3>, context: Option<&PlacedContext>) -> Result<Tensor<3>> {
        match (self, context) {
            (Self::Sva(sva), Some(context)) => sva.apply(layer, hidden, context),
            _ => Ok(hidden),
        }
    }
}

/// Applies a map of rows to `[b, n, width]`.
fn rows(x: Tensor<3>, map: impl FnOnce(Tensor<2>) -> Result<Tensor<2>>) -> Result<Tensor<3>> {
    let [b, n, width] = x.dims();
    let y = map(x.reshape([b * n, width]))?;
    let to = y.dims()[1];
    Ok(y.reshape([b, n, to]))
}

/// Checks the encoders' widths and resamples their features to the given grids.
///
/// # Errors
/// When the number of encoders or a width differs.
fn towers_of(
    towers: &[FeatureMap],
    widths: impl ExactSizeIterator<Item = usize>,
    grids: &[usize],
) -> Result<Vec<FeatureMap>> {
    if towers.len() != widths.len() || towers.len() != grids.len() {
        return Err(Error::failed(format!(
            "the connector reads the features of {} encoders, got those of {}",
            widths.len(),
            towers.len()
        )));
    }
    let images = towers.first().map_or(0, |t| t.tokens.dims()[0]);
    let each = towers.iter().zip(widths.zip(grids)).enumerate().map(|(i, (tower, (width, &side)))| {
        let [count, _, given] = tower.tokens.dims();
        if given != width {
            return Err(Error::failed(format!(
                "the connector reads features of width {width} from encoder {}, got {given}",
                i + 1
            ))
            .hint("the model was trained with another encoder"));
        }
        if tower.prefix() > 0 || count != images {
            return Err(Error::failed(format!(
                "encoder {} gave {count} images with {} tokens before the patches; expected {images} and none",
                i + 1,
                tower.prefix()
            ))
            .hint("leave the class token out of the features"));
        }
        tower.clone().resample([side, side])
    });
    each.collect()
}

/// Replaces a parameter by one drawn from a normal distribution with mean 0 and the given standard deviation.
fn normal<const D: usize>(name: &str, seed: u64, param: Param<Tensor<D>>, deviation: f64) -> Param<Tensor<D>> {
    init::normal(&format!("connector/{name}"), seed, param, deviation)
}
