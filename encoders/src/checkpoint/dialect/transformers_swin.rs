//! Swin Transformer V1 and V2 of Hugging Face transformers. Its patch merging belongs to the stage before it. Since
//! version 5, the library uses other names for V1 in memory; files have those of version 4.

use super::{Dialect, Rule};

macro_rules! merging {
    ($own:literal, $theirs:literal) => {
        Rule::same(
            concat!("layers.", $own, ".downsample.{rest}"),
            &[concat!("encoder.layers.", $theirs, ".downsample.{rest}")],
        )
    };
}

macro_rules! block {
    ($own:literal, $theirs:literal) => {
        Rule::same(concat!("layers.{i}.blocks.{j}.", $own), &[concat!("encoder.layers.{i}.blocks.{j}.", $theirs)])
    };
    ($own:literal, $theirs:literal, $new:literal) => {
        block!($own, $theirs).or(&[concat!("encoder.layers.{i}.blocks.{j}.", $new)])
    };
}

pub(super) const SWIN: Dialect = Dialect {
    name: "transformers-swin",
    rules: &[
        Rule::same("patch_embed.proj.{p}", &["embeddings.patch_embeddings.projection.{p}"]),
        Rule::same("patch_embed.norm.{p}", &["embeddings.norm.{p}"]),
        merging!("1", "0"),
        merging!("2", "1"),
        merging!("3", "2"),
        merging!("4", "3"),
        merging!("5", "4"),
        merging!("6", "5"),
        merging!("7", "6"),
        block!("norm1.{p}", "layernorm_before.{p}"),
        block!("norm2.{p}", "layernorm_after.{p}"),
        Rule::stacked(
            "layers.{i}.blocks.{j}.attn.qkv.{p}",
            &[
                "encoder.layers.{i}.blocks.{j}.attention.self.query.{p}",
                "encoder.layers.{i}.blocks.{j}.attention.self.key.{p}",
                "encoder.layers.{i}.blocks.{j}.attention.self.value.{p}",
            ],
        )
        .or(&[
            "encoder.layers.{i}.blocks.{j}.attention.q_proj.{p}",
            "encoder.layers.{i}.blocks.{j}.attention.k_proj.{p}",
            "encoder.layers.{i}.blocks.{j}.attention.v_proj.{p}",
        ]),
        block!("attn.proj.{p}", "attention.output.dense.{p}", "attention.o_proj.{p}"),
        block!(
            "attn.relative_position_bias_table",
            "attention.self.relative_position_bias_table",
            "attention.relative_position_bias.relative_position_bias_table"
        ),
        block!("mlp.fc1.{p}", "intermediate.dense.{p}", "mlp.fc1.{p}"),
        block!("mlp.fc2.{p}", "output.dense.{p}", "mlp.fc2.{p}"),
        Rule::same("norm.{p}", &["layernorm.{p}"]),
    ],
    ignored: &["{rest}.relative_position_index", "embeddings.mask_token"],
};

pub(super) const SWIN_V2: Dialect = Dialect {
    name: "transformers-swinv2",
    rules: &[
        Rule::same("patch_embed.proj.{p}", &["embeddings.patch_embeddings.projection.{p}"]),
        Rule::same("patch_embed.norm.{p}", &["embeddings.norm.{p}"]),
        merging!("1", "0"),
        merging!("2", "1"),
        merging!("3", "2"),
        merging!("4", "3"),
        merging!("5", "4"),
        merging!("6", "5"),
        merging!("7", "6"),
        block!("norm1.{p}", "layernorm_before.{p}"),
        block!("norm2.{p}", "layernorm_after.{p}"),
        Rule::stacked(
            "layers.{i}.blocks.{j}.attn.qkv.weight",
            &[
                "encoder.layers.{i}.blocks.{j}.attention.self.query.weight",
                "encoder.layers.{i}.blocks.{j}.attention.self.key.weight",
                "encoder.layers.{i}.blocks.{j}.attention.self.value.weight",
            ],
        ),
        block!("attn.q_bias", "attention.self.query.bias"),
        block!("attn.v_bias", "attention.self.value.bias"),
        Rule::pointwise(
            "layers.{i}.blocks.{j}.attn.logit_scale",
            &["encoder.layers.{i}.blocks.{j}.attention.self.logit_scale"],
            2,
        ),
        block!("attn.cpb_mlp.{k}.{p}", "attention.self.continuous_position_bias_mlp.{k}.{p}"),
        block!("attn.proj.{p}", "attention.output.dense.{p}"),
        block!("mlp.fc1.{p}", "intermediate.dense.{p}"),
        block!("mlp.fc2.{p}", "output.dense.{p}"),
        Rule::same("norm.{p}", &["layernorm.{p}"]),
    ],
    ignored: &["{rest}.relative_position_index", "{rest}.relative_coords_table", "embeddings.mask_token"],
};
