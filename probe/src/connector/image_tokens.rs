//! The output of a connector: image tokens and their layout in a sequence.

use super::sva::SvaContext;
use super::token_layout::{ImageSize, TokenLayout};
use burgess_base::Result;
use burn::tensor::Tensor;

/// The image tokens of a batch of images: the output of a connector.
#[derive(Debug, Clone)]
pub struct ImageTokens {
    /// Image tokens, `[images, tokens, llm width]`.
    pub tokens: Tensor<3>,
    /// The layout of the tokens of an image: grid and newlines.
    pub layout: TokenLayout,
    /// For each image and token, whether the token covers a part of the image, `[images][tokens]`; `None` if all do.
    /// The others are padding: generation leaves them out of the sequence, `Mllm::splice` masks them and gives each the
    /// position of the token before it.
    pub visible: Option<Vec<Vec<bool>>>,
    /// Input of the samplers inside the language model; `None` if the connector has none.
    pub context: Option<SvaContext>,
}

impl ImageTokens {
    /// Wraps embeddings `[images, tokens, llm width]` as one row of tokens without newlines and padding.
    pub fn plain(tokens: Tensor<3>) -> Self {
        let layout = TokenLayout { rows: 1, columns: tokens.dims()[1], newline: false };
        Self { tokens, layout, visible: None, context: None }
    }

    /// Returns the number of images.
    pub fn images(&self) -> usize {
        self.tokens.dims()[0]
    }

    /// Returns the number of tokens per image, padding included.
    pub fn tokens_per_image(&self) -> usize {
        self.tokens.dims()[1]
    }

    /// Returns the indices of the tokens of one image that are not padding, in `0..tokens_per_image()`.
    pub fn visible_tokens(&self, image: usize) -> Vec<usize> {
        let visible = self.visible.as_ref().and_then(|v| v.get(image));
        (0..self.tokens_per_image()).filter(|p| visible.is_none_or(|v| v.get(*p) == Some(&true))).collect()
    }

    /// Wraps `tokens` `[images, tokens, llm width]` of this layout. `image_sizes` determine which tokens are padding;
    /// without them none is.
    ///
    /// # Errors
    /// When an image or the layout has size 0.
    pub(super) fn new(
        tokens: Tensor<3>,
        layout: TokenLayout,
        image_sizes: Option<&[ImageSize]>,
        context: Option<SvaContext>,
    ) -> Result<Self> {
        let visible: Vec<Vec<bool>> =
            image_sizes.unwrap_or_default().iter().map(|size| layout.visible(*size)).collect::<Result<_>>()?;
        let all_visible = visible.iter().flatten().all(|v| *v);
        Ok(Self { tokens, layout, visible: (!all_visible).then_some(visible), context })
    }
}
