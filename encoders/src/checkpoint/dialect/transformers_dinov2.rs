//! `Dinov2Model` of Hugging Face transformers.

use super::{Dialect, Rule};

pub(super) const DINOV2: Dialect = Dialect {
    name: "transformers-dinov2",
    rules: &[
        Rule::same("cls_token", &["embeddings.cls_token"]),
        Rule::same("pos_embed", &["embeddings.position_embeddings"]),
        Rule::same("patch_embed.proj.{p}", &["embeddings.patch_embeddings.projection.{p}"]),
        Rule::same("blocks.{i}.norm1.{p}", &["encoder.layer.{i}.norm1.{p}"]),
        Rule::stacked(
            "blocks.{i}.attn.qkv.{p}",
            &[
                "encoder.layer.{i}.attention.attention.query.{p}",
                "encoder.layer.{i}.attention.attention.key.{p}",
                "encoder.layer.{i}.attention.attention.value.{p}",
            ],
        ),
        Rule::same("blocks.{i}.attn.proj.{p}", &["encoder.layer.{i}.attention.output.dense.{p}"]),
        Rule::same("blocks.{i}.ls1.gamma", &["encoder.layer.{i}.layer_scale1.lambda1"]),
        Rule::same("blocks.{i}.norm2.{p}", &["encoder.layer.{i}.norm2.{p}"]),
        Rule::same("blocks.{i}.mlp.{rest}", &["encoder.layer.{i}.mlp.{rest}"]),
        Rule::same("blocks.{i}.ls2.gamma", &["encoder.layer.{i}.layer_scale2.lambda1"]),
        Rule::same("norm.{p}", &["layernorm.{p}"]),
    ],
    // The mask token replaces hidden patches in pretraining only.
    ignored: &["embeddings.mask_token", "layernorm.{p}"],
};
