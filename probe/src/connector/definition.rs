//! The trait that a connector implements, and the properties that it states.

use super::encoder_shape::EncoderShape;
use super::image_tokens::ImageTokens;
use super::standardise::Standardise;
use super::sva::{BoundSvaContext, SamplerOptions};
use super::token_layout::ImageSize;
use crate::released::CambrianConfig;
use burgess_base::{Error, Result};
use burgess_encoders::checkpoint::{Dialect, Rule};
use burgess_encoders::features::FeatureMap;
use burn::module::Module;
use burn::tensor::{Device, Tensor};

/// The key translation of connectors whose published checkpoints have the module's own parameter paths.
const SAME_KEYS: Dialect = Dialect { name: "connector", rules: &[Rule::same("{rest}", &["{rest}"])], ignored: &[] };

/// The inputs of a connector besides the features, and what it adds to the model.
///
/// There are no defaults: a new connector has to state every field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectorProperties {
    /// Whether parameters depend on the encoders' grids, so that a saved model must contain the shapes of their
    /// features.
    pub needs_encoder_shapes: bool,
    /// Whether the connector reads each encoder's features separately, on their own grid, instead of concatenated.
    pub reads_each_encoder: bool,
    /// Whether the connector masks padding, and so needs the image sizes.
    pub needs_image_sizes: bool,
    /// Whether the connector standardises features, and so needs their statistics before it is trained.
    pub needs_statistics: bool,
    /// Whether a fixed two-dimensional position embedding is added to each image token.
    pub adds_positions: bool,
    /// The layers of the language model after which samplers stand; `None` if there are no samplers.
    pub samplers: Option<SamplerOptions>,
}

impl ConnectorProperties {
    /// Whether the connector needs the grid `[rows, columns]` of the features.
    pub fn needs_grid(&self) -> bool {
        self.needs_encoder_shapes || self.needs_image_sizes || self.adds_positions
    }
}

/// The shapes of the input and output of a connector.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ConnectorShape<'a> {
    /// Width of the input features in channels, summed over all encoders.
    pub feature_width: usize,
    /// Width of the language model, which is that of the image tokens.
    pub llm_width: usize,
    /// The shape of each encoder's features, from [`ConnectorModule::encoder_shapes`].
    pub encoders: &'a [EncoderShape],
}

/// Reads the options of a connector from the configuration of a released Cambrian-1 model.
pub(crate) type FromCambrian<O> = fn(&CambrianConfig) -> Result<O>;

/// The module of a connector, with all functions in which connectors differ.
///
/// Functions without `self` work on the options alone, before anything is allocated; `name` is the connector's name
/// for messages.
pub(crate) trait ConnectorModule: Module {
    /// The options, as written in studies and saved models.
    type Options;

    /// The translation between the module's parameter paths and the keys of published checkpoints.
    const DIALECT: &'static Dialect = &SAME_KEYS;

    /// Translates the configuration of a released Cambrian-1 model; `None` if no released model has this connector.
    const FROM_CAMBRIAN: Option<FromCambrian<Self::Options>> = None;

    /// Returns the inputs of the connector besides the features, and what it adds to the model.
    fn properties(options: &Self::Options) -> ConnectorProperties;

    /// Whether the options are written as the bare name of the connector, which is read as its default options.
    fn is_short(_options: &Self::Options) -> bool {
        false
    }

    /// Checks that each option is at most its maximum in `limits.rs`.
    ///
    /// # Errors
    /// When an option is too large; the error gives its value and the maximum.
    fn check_limits(name: &str, options: &Self::Options) -> Result<()>;

    /// Checks that the options are consistent with each other and with the encoders.
    ///
    /// # Errors
    /// When they are not; the error names the option.
    fn check(name: &str, options: &Self::Options, encoders: &[EncoderShape]) -> Result<()>;

    /// Returns the shapes to which the features of `encoders` are resampled; empty if
    /// [`ConnectorProperties::needs_encoder_shapes`] is false.
    ///
    /// # Errors
    /// When the options belong to another number of encoders.
    fn encoder_shapes(name: &str, options: &Self::Options, encoders: &[EncoderShape]) -> Result<Vec<EncoderShape>>;

    /// Returns the number of tokens of one image, newlines included, for encoders with these grids `[rows, columns]`.
    fn image_tokens(options: &Self::Options, grids: &[[usize; 2]]) -> usize;

    /// Returns the approximate number of parameters: those of the large matrices.
    fn parameters(options: &Self::Options, shape: ConnectorShape<'_>) -> f64;

    /// Builds the module with weights from Burn's own generator, to be replaced by those of a checkpoint.
    ///
    /// # Errors
    /// When the options do not fit the encoders.
    fn init(options: &Self::Options, shape: ConnectorShape<'_>, device: &Device) -> Result<Self>;

    /// Draws the parameters whose distribution is not that of [`burgess_encoders::init::initialise`].
    fn redraw(self, _llm_width: usize, _seed: u64) -> Self {
        self
    }

    /// Returns the width of the input features in channels, summed over all encoders.
    fn feature_width(&self) -> usize;

    /// Maps the features of each encoder, `[images, tokens, width]`, to image tokens
    /// `[images, image tokens, llm width]`.
    ///
    /// `images` holds the image sizes before padding to squares; without it no token counts as padding.
    ///
    /// # Errors
    /// When the features do not have the widths and grids that the connector expects.
    fn forward(&self, encoders: &[FeatureMap], images: Option<&[ImageSize]>) -> Result<ImageTokens>;

    /// Returns the statistics by which features are standardised; `None` if they are not.
    fn standardise_mut(&mut self) -> Option<&mut Standardise> {
        None
    }

    /// Updates the hidden states `[rows, t, llm width]` after a layer of the language model.
    ///
    /// # Errors
    /// When the connector has no samplers, or the context belongs to another batch.
    fn after_layer(&self, layer: usize, _hidden: Tensor<3>, _context: &BoundSvaContext) -> Result<Tensor<3>> {
        Err(Error::failed(format!(
            "layer {layer} of the language model was given a sampler context, but this connector has no samplers"
        )))
    }
}
