//! `Dinov2Model` of Hugging Face transformers. The giant model has a gated MLP with other names.

use super::{Dialect, Rule};

pub(super) const DINOV2: Dialect = Dialect {
    name: "transformers-dinov2",
    rules: &rules(&["encoder.layer.{i}.mlp.fc1.{p}"], &["encoder.layer.{i}.mlp.fc2.{p}"]),
    ignored: &IGNORED,
};

pub(super) const SWIGLU: Dialect = Dialect {
    name: "transformers-dinov2-swiglu",
    rules: &rules(&["encoder.layer.{i}.mlp.weights_in.{p}"], &["encoder.layer.{i}.mlp.weights_out.{p}"]),
    ignored: &IGNORED,
};

// The mask token replaces masked patches in pretraining only.
const IGNORED: [&str; 2] = ["embeddings.mask_token", "layernorm.{p}"];

const fn rules(fc1: &'static [&'static str; 1], fc2: &'static [&'static str; 1]) -> [Rule; 13] {
    [
        Rule::same("cls_token", &["embeddings.cls_token"]),
        Rule::same("reg_token", &["embeddings.register_tokens"]),
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
        Rule::same("blocks.{i}.mlp.fc1.{p}", fc1),
        Rule::same("blocks.{i}.mlp.fc2.{p}", fc2),
        Rule::same("blocks.{i}.ls2.gamma", &["encoder.layer.{i}.layer_scale2.lambda1"]),
        Rule::same("norm.{p}", &["layernorm.{p}"]),
    ]
}
