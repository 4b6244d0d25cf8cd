//! `ViTModel` of Hugging Face transformers, and models with the same names: `DeiTModel`, `ViTMAEModel`, `IJepaModel`
//! and the encoder of `DPTForDepthEstimation` (MiDaS 3.0). In a model with a head, the names have the prefix `vit.`,
//! `deit.`, `ijepa.` or `dpt.`, which the card states.

use super::{Dialect, Rule};

pub(super) const VIT: Dialect = Dialect {
    name: "transformers-vit",
    rules: &[
        Rule::same("cls_token", &["embeddings.cls_token"]),
        Rule::same("dist_token", &["embeddings.distillation_token"]),
        Rule::same("pos_embed", &["embeddings.position_embeddings"]),
        Rule::same("patch_embed.proj.{p}", &["embeddings.patch_embeddings.projection.{p}"]),
        Rule::same("blocks.{i}.norm1.{p}", &["encoder.layer.{i}.layernorm_before.{p}"]),
        Rule::stacked(
            "blocks.{i}.attn.qkv.{p}",
            &[
                "encoder.layer.{i}.attention.attention.query.{p}",
                "encoder.layer.{i}.attention.attention.key.{p}",
                "encoder.layer.{i}.attention.attention.value.{p}",
            ],
        ),
        Rule::same("blocks.{i}.attn.proj.{p}", &["encoder.layer.{i}.attention.output.dense.{p}"]),
        Rule::same("blocks.{i}.norm2.{p}", &["encoder.layer.{i}.layernorm_after.{p}"]),
        Rule::same("blocks.{i}.mlp.fc1.{p}", &["encoder.layer.{i}.intermediate.dense.{p}"]),
        Rule::same("blocks.{i}.mlp.fc2.{p}", &["encoder.layer.{i}.output.dense.{p}"]),
        Rule::same("norm.{p}", &["layernorm.{p}"]),
    ],
    // The final norm (if the tap is before it, as in DPT), the classifier's pooling, and the mask token of pretraining.
    ignored: &["layernorm.{p}", "pooler.dense.{p}", "embeddings.mask_token"],
};
