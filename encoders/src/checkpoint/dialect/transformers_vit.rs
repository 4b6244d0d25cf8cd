//! `ViTModel` of Hugging Face transformers, and models with the same names: `DeiTModel`, `ViTMAEModel`, `IJepaModel`
//! and the encoder of `DPTForDepthEstimation` (MiDaS 3.0); `PixioModel` names its norms otherwise. In a model with a
//! head, the names have the prefix `vit.`, `deit.`, `ijepa.` or `dpt.`, which the card states.

use super::{Dialect, Rule};

pub(super) const VIT: Dialect = Dialect {
    name: "transformers-vit",
    rules: &rules(&["encoder.layer.{i}.layernorm_before.{p}"], &["encoder.layer.{i}.layernorm_after.{p}"]),
    ignored: &IGNORED,
};

pub(super) const PIXIO: Dialect = Dialect {
    name: "transformers-pixio",
    rules: &rules(&["encoder.layer.{i}.norm1.{p}"], &["encoder.layer.{i}.norm2.{p}"]),
    ignored: &IGNORED,
};

const fn rules(norm1: &'static [&'static str; 1], norm2: &'static [&'static str; 1]) -> [Rule; 11] {
    [
        Rule::same("cls_token", &["embeddings.cls_token"]),
        Rule::same("dist_token", &["embeddings.distillation_token"]),
        Rule::same("pos_embed", &["embeddings.position_embeddings"]),
        Rule::same("patch_embed.proj.{p}", &["embeddings.patch_embeddings.projection.{p}"]),
        Rule::same("blocks.{i}.norm1.{p}", norm1),
        Rule::stacked(
            "blocks.{i}.attn.qkv.{p}",
            &[
                "encoder.layer.{i}.attention.attention.query.{p}",
                "encoder.layer.{i}.attention.attention.key.{p}",
                "encoder.layer.{i}.attention.attention.value.{p}",
            ],
        ),
        Rule::same("blocks.{i}.attn.proj.{p}", &["encoder.layer.{i}.attention.output.dense.{p}"]),
        Rule::same("blocks.{i}.norm2.{p}", norm2),
        Rule::same("blocks.{i}.mlp.fc1.{p}", &["encoder.layer.{i}.intermediate.dense.{p}"]),
        Rule::same("blocks.{i}.mlp.fc2.{p}", &["encoder.layer.{i}.output.dense.{p}"]),
        Rule::same("norm.{p}", &["layernorm.{p}"]),
    ]
}

// The final norm (if the tap is before it, as in DPT), the classifier's pooling, and the mask token of pretraining.
const IGNORED: [&str; 3] = ["layernorm.{p}", "pooler.dense.{p}", "embeddings.mask_token"];
