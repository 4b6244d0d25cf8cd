//! `SamModel` / `SamVisionModel` of Hugging Face transformers: the image encoder under `vision_encoder.`; prompt
//! encoder and mask decoder are ignored.

use super::{Dialect, Rule};

pub(super) const SAM: Dialect = Dialect {
    name: "transformers-sam",
    rules: &[
        Rule::same("pos_embed", &["vision_encoder.pos_embed"]),
        Rule::same("patch_embed.proj.{p}", &["vision_encoder.patch_embed.projection.{p}"]),
        Rule::same("blocks.{i}.norm1.{p}", &["vision_encoder.layers.{i}.layer_norm1.{p}"]),
        Rule::same("blocks.{i}.attn.{rest}", &["vision_encoder.layers.{i}.attn.{rest}"]),
        Rule::same("blocks.{i}.norm2.{p}", &["vision_encoder.layers.{i}.layer_norm2.{p}"]),
        Rule::same("blocks.{i}.mlp.fc1.{p}", &["vision_encoder.layers.{i}.mlp.lin1.{p}"]),
        Rule::same("blocks.{i}.mlp.fc2.{p}", &["vision_encoder.layers.{i}.mlp.lin2.{p}"]),
    ],
    ignored: &[
        "vision_encoder.neck.{rest}",
        "shared_image_embedding.positional_embedding",
        "prompt_encoder.{rest}",
        "mask_decoder.{rest}",
    ],
};
