//! `BeitModel` of Hugging Face transformers, which is also the backbone of MiDaS 3.1 (prefix `backbone.`).

use super::{Dialect, Rule};

pub(super) const BEIT: Dialect = Dialect {
    name: "transformers-beit",
    rules: &[
        Rule::same("cls_token", &["embeddings.cls_token"]),
        Rule::same("pos_embed", &["embeddings.position_embeddings"]),
        Rule::same("patch_embed.proj.{p}", &["embeddings.patch_embeddings.projection.{p}"]),
        Rule::same("blocks.{i}.norm1.{p}", &["encoder.layer.{i}.layernorm_before.{p}"]),
        Rule::stacked(
            "blocks.{i}.attn.qkv.weight",
            &[
                "encoder.layer.{i}.attention.attention.query.weight",
                "encoder.layer.{i}.attention.attention.key.weight",
                "encoder.layer.{i}.attention.attention.value.weight",
            ],
        ),
        Rule::stacked(
            "blocks.{i}.attn.qkv.bias",
            &[
                "encoder.layer.{i}.attention.attention.query.bias",
                Rule::ZEROS,
                "encoder.layer.{i}.attention.attention.value.bias",
            ],
        ),
        Rule::same(
            "blocks.{i}.attn.relative_position_bias_table",
            &["encoder.layer.{i}.attention.attention.relative_position_bias.relative_position_bias_table"],
        ),
        Rule::same("blocks.{i}.attn.proj.{p}", &["encoder.layer.{i}.attention.output.dense.{p}"]),
        Rule::same("blocks.{i}.ls1.gamma", &["encoder.layer.{i}.lambda_1"]),
        Rule::same("blocks.{i}.norm2.{p}", &["encoder.layer.{i}.layernorm_after.{p}"]),
        Rule::same("blocks.{i}.mlp.fc1.{p}", &["encoder.layer.{i}.intermediate.dense.{p}"]),
        Rule::same("blocks.{i}.mlp.fc2.{p}", &["encoder.layer.{i}.output.dense.{p}"]),
        Rule::same("blocks.{i}.ls2.gamma", &["encoder.layer.{i}.lambda_2"]),
        Rule::same("norm.{p}", &["layernorm.{p}"]),
    ],
    // `relative_position_index` follows from the grid; files of older versions contain it.
    ignored: &[
        "layernorm.{p}",
        "pooler.layernorm.{p}",
        "embeddings.mask_token",
        "encoder.layer.{i}.attention.attention.relative_position_bias.relative_position_index",
    ],
};
