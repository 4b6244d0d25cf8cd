//! `SiglipModel` / `SiglipVisionModel` of Hugging Face transformers. There is no class token and no norm before the
//! blocks; the attention-pooling head is ignored.

use super::{Dialect, Rule};

pub(super) const SIGLIP: Dialect = Dialect {
    name: "transformers-siglip",
    rules: &[
        Rule::squeezed("pos_embed", &["vision_model.embeddings.position_embedding.weight"], 1),
        Rule::same("patch_embed.proj.{p}", &["vision_model.embeddings.patch_embedding.{p}"]),
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
        "logit_scale",
        "logit_bias",
        "vision_model.head.{rest}",
        "vision_model.embeddings.position_ids",
        "vision_model.post_layernorm.{p}",
    ],
};
