//! `CLIPModel` / `CLIPVisionModel` of Hugging Face transformers. The misspelt `pre_layrnorm` is the upstream name.

use super::{Dialect, Rule};

pub(super) const CLIP: Dialect = Dialect {
    name: "transformers-clip",
    rules: &[
        Rule::squeezed("cls_token", &["vision_model.embeddings.class_embedding"], 2),
        Rule::squeezed("pos_embed", &["vision_model.embeddings.position_embedding.weight"], 1),
        Rule::same("patch_embed.proj.{p}", &["vision_model.embeddings.patch_embedding.{p}"]),
        Rule::same("norm_pre.{p}", &["vision_model.pre_layrnorm.{p}"]),
        Rule::same("blocks.{i}.norm1.{p}", &["vision_model.encoder.layers.{i}.layer_norm1.{p}"]),
        Rule::stacked(
            "blocks.{i}.attn.qkv.{p}",
            &[
                "vision_model.encoder.layers.{i}.self_attn.q_proj.{p}",
                "vision_model.encoder.layers.{i}.self_attn.k_proj.{p}",
                "vision_model.encoder.layers.{i}.self_attn.v_proj.{p}",
            ],
        ),
        Rule::same("blocks.{i}.attn.proj.{p}", &["vision_model.encoder.layers.{i}.self_attn.out_proj.{p}"]),
        Rule::same("blocks.{i}.norm2.{p}", &["vision_model.encoder.layers.{i}.layer_norm2.{p}"]),
        Rule::same("blocks.{i}.mlp.{rest}", &["vision_model.encoder.layers.{i}.mlp.{rest}"]),
        Rule::same("norm.{p}", &["vision_model.post_layernorm.{p}"]),
    ],
    ignored: &[
        "text_model.{rest}",
        "text_projection.{p}",
        "visual_projection.{p}",
        "logit_scale",
        "vision_model.embeddings.position_ids",
        // This norm is applied to the pooled class token only, so an encoder that taps patch tokens does not have it.
        "vision_model.post_layernorm.{p}",
    ],
};
