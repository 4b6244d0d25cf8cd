//! InternViT, both sizes: `InternVLVisionModel` of Hugging Face transformers (under `vision_tower.` in a multimodal
//! model), and the names of OpenGVLab's own files.

use super::{Dialect, Rule};

pub(super) const INTERNVL: Dialect = Dialect {
    name: "transformers-internvl",
    rules: &[
        Rule::same("cls_token", &["embeddings.cls_token"]),
        Rule::same("pos_embed", &["embeddings.position_embeddings"]),
        Rule::same("patch_embed.proj.{p}", &["embeddings.patch_embeddings.projection.{p}"]),
        Rule::same("blocks.{i}.norm1.{p}", &["encoder.layer.{i}.layernorm_before.{p}"]),
        Rule::stacked(
            "blocks.{i}.attn.qkv.{p}",
            &[
                "encoder.layer.{i}.attention.q_proj.{p}",
                "encoder.layer.{i}.attention.k_proj.{p}",
                "encoder.layer.{i}.attention.v_proj.{p}",
            ],
        ),
        Rule::same("blocks.{i}.attn.q_norm.{p}", &["encoder.layer.{i}.attention.q_norm.{p}"]),
        Rule::same("blocks.{i}.attn.k_norm.{p}", &["encoder.layer.{i}.attention.k_norm.{p}"]),
        Rule::same("blocks.{i}.attn.proj.{p}", &["encoder.layer.{i}.attention.projection_layer.{p}"]),
        Rule::same("blocks.{i}.ls1.gamma", &["encoder.layer.{i}.lambda_1"]),
        Rule::same("blocks.{i}.norm2.{p}", &["encoder.layer.{i}.layernorm_after.{p}"]),
        Rule::same("blocks.{i}.mlp.{rest}", &["encoder.layer.{i}.mlp.{rest}"]),
        Rule::same("blocks.{i}.ls2.gamma", &["encoder.layer.{i}.lambda_2"]),
        Rule::same("norm.{p}", &["layernorm.{p}"]),
    ],
    ignored: &["layernorm.{p}", "embeddings.mask_token"],
};

/// OpenGVLab's own names (`model_type` `intern_vit_6b`, also of the model of 300M parameters).
pub(super) const ORIGINAL: Dialect = Dialect {
    name: "intern-vit",
    rules: &[
        Rule::same("cls_token", &["embeddings.class_embedding"]),
        Rule::same("pos_embed", &["embeddings.position_embedding"]),
        Rule::same("patch_embed.proj.{p}", &["embeddings.patch_embedding.{p}"]),
        Rule::same("blocks.{i}.ls1.gamma", &["encoder.layers.{i}.ls1"]),
        Rule::same("blocks.{i}.ls2.gamma", &["encoder.layers.{i}.ls2"]),
        Rule::same("blocks.{i}.{rest}", &["encoder.layers.{i}.{rest}"]),
    ],
    ignored: &[],
};
