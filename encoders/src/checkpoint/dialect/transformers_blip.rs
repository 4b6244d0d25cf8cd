//! The image encoder of BLIP, BLIP-2 and InstructBLIP of Hugging Face transformers, under `vision_model.`.

use super::{Dialect, Rule};

pub(super) const BLIP: Dialect = Dialect {
    name: "transformers-blip",
    rules: &[
        Rule::same("cls_token", &["vision_model.embeddings.class_embedding"]),
        Rule::same("pos_embed", &["vision_model.embeddings.position_embedding"]),
        Rule::same("patch_embed.proj.{p}", &["vision_model.embeddings.patch_embedding.{p}"]),
        Rule::same("blocks.{i}.norm1.{p}", &["vision_model.encoder.layers.{i}.layer_norm1.{p}"]),
        Rule::same("blocks.{i}.attn.qkv.{p}", &["vision_model.encoder.layers.{i}.self_attn.qkv.{p}"]),
        Rule::same("blocks.{i}.attn.proj.{p}", &["vision_model.encoder.layers.{i}.self_attn.projection.{p}"]),
        Rule::same("blocks.{i}.norm2.{p}", &["vision_model.encoder.layers.{i}.layer_norm2.{p}"]),
        Rule::same("blocks.{i}.mlp.{rest}", &["vision_model.encoder.layers.{i}.mlp.{rest}"]),
        Rule::same("norm.{p}", &["vision_model.post_layernorm.{p}"]),
    ],
    ignored: &[
        "text_model.{rest}",
        "text_encoder.{rest}",
        "text_decoder.{rest}",
        "text_projection.{p}",
        "text_proj.{p}",
        "visual_projection.{p}",
        "vision_proj.{p}",
        "itm_head.{p}",
        "logit_scale",
        "qformer.{rest}",
        "query_tokens",
        "language_model.{rest}",
        "language_projection.{p}",
        "vision_model.post_layernorm.{p}",
    ],
};
