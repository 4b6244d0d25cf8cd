//! Connectors that keep the feature grid: they map each feature token to one image token.
//!
//! They share their options (a newline after each row, position embeddings, standardised features) and differ only in
//! the layers between features and image tokens, which are a [`TokenProjection`].

use super::definition::{ConnectorModule, ConnectorProperties, ConnectorShape};
use super::image_tokens::ImageTokens;
use super::limits;
use super::standardise::Standardise;
use super::token_layout::{ImageSize, TokenLayout};
use super::{EncoderShape, joined, normal};
use crate::released::CambrianConfig;
use burgess_base::{Error, Result};
use burgess_encoders::features::FeatureMap;
use burn::module::{Initializer, Module, ModuleDisplay, Param};
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

/// Options of a connector that keeps the feature grid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct GridOptions {
    /// Whether a learnable newline follows each row and padding is masked. Default false, as in LLaVA-1.5.
    pub newline: bool,
    /// Whether each image token is scaled to the root mean square of word embeddings and gets a fixed two-dimensional
    /// position embedding. Default false, as in LLaVA-1.5.
    pub positions: bool,
    /// Whether features are standardised per channel, by the statistics of the first training images. Default false, as
    /// in LLaVA-1.5.
    pub standardise: bool,
    /// Width of the hidden layer in channels, for connectors that have one. Default that of the language model, as in
    /// LLaVA-1.5, where it is four times as wide as the features.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hidden: Option<usize>,
}

impl GridOptions {
    fn widths(&self, shape: &ConnectorShape<'_>) -> LayerWidths {
        let output = shape.llm_width;
        LayerWidths { input: shape.feature_width, hidden: self.hidden.unwrap_or(output), output }
    }
}

/// The widths of a connector's layers, in channels.
#[derive(Debug, Clone, Copy)]
pub struct LayerWidths {
    /// Width of the features.
    pub input: usize,
    /// Width of the hidden layer, if there is one.
    pub hidden: usize,
    /// Width of the image tokens, which is that of the language model.
    pub output: usize,
}

/// The layers of a connector that keeps the feature grid.
pub trait TokenProjection: Module + ModuleDisplay {
    /// Whether there is a hidden layer, whose width the option `hidden` sets.
    const HAS_HIDDEN: bool;

    /// Builds layers of the given widths.
    fn init(widths: LayerWidths, device: &Device) -> Self;

    /// Returns the approximate number of parameters of layers of the given widths.
    fn parameters(widths: LayerWidths) -> f64;

    /// Returns the width of the input in channels.
    fn input_width(&self) -> usize;

    /// Maps features `[images, tokens, feature width]` to image tokens `[images, tokens, llm width]`.
    ///
    /// # Errors
    /// When a layer is missing, because the module was built by hand.
    fn forward(&self, x: Tensor<3>) -> Result<Tensor<3>>;
}

/// A connector that keeps the feature grid, with the parameter names of Cambrian-1.
#[derive(Module, Debug)]
pub struct GridConnector<P: TokenProjection> {
    /// The layers from features to image tokens.
    pub mm_projector: P,
    /// Embedding of the newline token, `[llm width]`; `None` without the option `newline`.
    pub image_newline: Option<Param<Tensor<1>>>,
    /// Standardisation of the features before `mm_projector`; `None` without the option `standardise`.
    pub standardise: Option<Standardise>,
}

impl<P: TokenProjection> ConnectorModule for GridConnector<P> {
    type Options = GridOptions;

    // Cambrian-1 appends a newline to each row.
    const FROM_CAMBRIAN: Option<fn(&CambrianConfig) -> Result<GridOptions>> =
        Some(|_| Ok(GridOptions { newline: true, ..GridOptions::default() }));

    fn properties(options: &GridOptions) -> ConnectorProperties {
        ConnectorProperties {
            needs_encoder_shapes: false,
            reads_each_encoder: false,
            needs_image_sizes: options.newline,
            needs_statistics: options.standardise,
            adds_positions: options.positions,
            samplers: None,
        }
    }

    // Default options are written as the bare name, which is also the format of earlier versions.
    fn is_short(options: &GridOptions) -> bool {
        *options == GridOptions::default()
    }

    fn check_limits(name: &str, options: &GridOptions) -> Result<()> {
        if options.newline && options.positions {
            return Err(Error::usage(format!(
                "connector {name}: `newline` and `positions` are both true and cannot be combined"
            ))
            .hint("set one of them to false: each tells rows apart"));
        }
        match options.hidden {
            Some(_) if !P::HAS_HIDDEN => {
                Err(Error::usage(format!("connector {name}: `hidden` is given, but there is no hidden layer"))
                    .hint("leave `hidden` out, or choose the connector `mlp2x_gelu`"))
            }
            Some(0) => Err(Error::usage(format!("connector {name}: `hidden` is 0, must be at least 1"))),
            Some(hidden) => limits::at_most(name, "hidden", hidden, limits::WIDTH),
            None => Ok(()),
        }
    }

    fn check(_name: &str, _options: &GridOptions, _encoders: &[EncoderShape]) -> Result<()> {
        Ok(())
    }

    fn encoder_shapes(_name: &str, _options: &GridOptions, _encoders: &[EncoderShape]) -> Result<Vec<EncoderShape>> {
        Ok(Vec::new())
    }

    fn image_tokens(options: &GridOptions, grids: &[[usize; 2]]) -> usize {
        let finest = grids.iter().max_by_key(|g| g[0] * g[1]).copied().unwrap_or_default();
        finest[0] * (finest[1] + usize::from(options.newline))
    }

    fn parameters(options: &GridOptions, shape: ConnectorShape<'_>) -> f64 {
        P::parameters(options.widths(&shape))
    }

    fn init(options: &GridOptions, shape: ConnectorShape<'_>, device: &Device) -> Result<Self> {
        let widths = options.widths(&shape);
        Ok(Self {
            mm_projector: P::init(widths, device),
            image_newline: options.newline.then(|| Initializer::Zeros.init([widths.output], device)),
            standardise: options.standardise.then(|| Standardise::new(widths.input, device)),
        })
    }

    fn redraw(mut self, llm_width: usize, seed: u64) -> Self {
        let deviation = (llm_width as f64).powf(-0.5);
        self.image_newline = self.image_newline.map(|p| normal("image_newline", seed, p, deviation));
        self
    }

    fn feature_width(&self) -> usize {
        self.mm_projector.input_width()
    }

    fn forward(&self, encoders: &[FeatureMap], images: Option<&[ImageSize]>) -> Result<ImageTokens> {
        let joined = joined(encoders, self.feature_width())?;
        let newline = self.image_newline.as_ref();
        let prefix = joined.prefix();
        let [rows, columns] = joined.grid;
        if newline.is_some() && prefix > 0 {
            return Err(Error::failed(format!(
                "a connector with `newline` was given features with {prefix} tokens before the patches, needs none"
            ))
            .hint("choose a feature tap without the class token"));
        }
        let tokens = match &self.standardise {
            Some(standardise) => standardise.forward(joined.tokens),
            None => joined.tokens,
        };
        let tokens = self.mm_projector.forward(tokens)?;
        let layout = match newline {
            Some(_) => TokenLayout { rows, columns, newline: true },
            // Without newlines the sequence has no rows, and padding is not masked, as in LLaVA.
            None => TokenLayout { rows: 1, columns: prefix + rows * columns, newline: false },
        };
        let images = images.filter(|_| newline.is_some());
        let tokens = layout.arrange(tokens, newline.map(Param::val));
        ImageTokens::new(tokens, layout, images, None)
    }

    fn standardise_mut(&mut self) -> Option<&mut Standardise> {
        self.standardise.as_mut()
    }
}

/// Applies a map of rows `[n, width]` to `x` `[images, tokens, width]`.
pub(super) fn by_row(x: Tensor<3>, map: impl FnOnce(Tensor<2>) -> Result<Tensor<2>>) -> Result<Tensor<3>> {
    let [images, tokens, width] = x.dims();
    let y = map(x.reshape([images * tokens, width]))?;
    let to = y.dims()[1];
    Ok(y.reshape([images, tokens, to]))
}
