//! The Hiera of SAM 2 in Hugging Face transformers. Its neck, and all that prompts, decodes or remembers masks, is left
//! out.

use super::{Dialect, Rule};

pub(super) const SAM2: Dialect = Dialect {
    name: "transformers-sam2",
    rules: &[
        Rule::same("patch_embed.proj.{p}", &["backbone.patch_embed.projection.{p}"]),
        Rule::same("blocks.{i}.norm{k}.{p}", &["backbone.blocks.{i}.layer_norm{k}.{p}"]),
        Rule::same("blocks.{i}.mlp.fc1.{p}", &["backbone.blocks.{i}.mlp.proj_in.{p}"]),
        Rule::same("blocks.{i}.mlp.fc2.{p}", &["backbone.blocks.{i}.mlp.proj_out.{p}"]),
        Rule::same("{rest}", &["backbone.{rest}"]),
    ],
    ignored: &[
        "neck.{rest}",
        "mask_decoder.{rest}",
        "mask_downsample.{rest}",
        "memory_attention.{rest}",
        "memory_encoder.{rest}",
        "memory_temporal_positional_encoding",
        "no_memory_embedding",
        "no_memory_positional_encoding",
        "no_object_pointer",
        "object_pointer_proj.{rest}",
        "occlusion_spatial_embedding_parameter",
        "prompt_encoder.{rest}",
        "shared_image_embedding.{rest}",
        "temporal_positional_encoding_projection_layer.{rest}",
        "vision_encoder.neck.{rest}",
    ],
};
