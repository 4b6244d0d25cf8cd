//! C-RADIO, whose published files keep the names of its makers. Patches are embedded by a linear layer; class tokens
//! and registers are one tensor. The normalisation of pixels inside the model is a part of the preprocessing here.

use super::{Dialect, Rule};

pub(super) const RADIO: Dialect = Dialect {
    name: "radio",
    rules: &rules(
        Rule::same("blocks.{i}.mlp.fc1.{p}", &["radio_model.model.blocks.{i}.mlp.fc1.{p}"])
            .or(&["radio_model.model.blocks.{i}.mlp.w12.{p}"]),
        Rule::same("blocks.{i}.mlp.fc2.{p}", &["radio_model.model.blocks.{i}.mlp.fc2.{p}"])
            .or(&["radio_model.model.blocks.{i}.mlp.w3.{p}"]),
    ),
    ignored: &IGNORED,
};

pub(super) const SWIGLU: Dialect = Dialect {
    name: "radio-swiglu",
    rules: &rules(
        Rule::stacked(
            "blocks.{i}.mlp.fc1.{p}",
            &["radio_model.model.blocks.{i}.mlp.gate_proj.{p}", "radio_model.model.blocks.{i}.mlp.up_proj.{p}"],
        ),
        Rule::same("blocks.{i}.mlp.fc2.{p}", &["radio_model.model.blocks.{i}.mlp.down_proj.{p}"]),
    ),
    ignored: &IGNORED,
};

const IGNORED: [&str; 5] = [
    "radio_model.adaptors.{rest}",
    "radio_model.model.mask_token",
    "radio_model.input_conditioner.norm_mean",
    "radio_model.input_conditioner.norm_std",
    "radio_model.summary_idxs",
];

const fn rules(fc1: Rule, fc2: Rule) -> [Rule; 8] {
    [
        Rule::fused_squeezed(&["cls_token", "reg_token"], &["radio_model.model.patch_generator.cls_token.token"]),
        Rule::same("pos_embed", &["radio_model.model.patch_generator.pos_embed"]),
        Rule::flattened("patch_embed.proj.weight", &["radio_model.model.patch_generator.embedder.weight"]),
        Rule::same("blocks.{i}.ls1.gamma", &["radio_model.model.blocks.{i}.layer_scale1.lambda1"])
            .or(&["radio_model.model.blocks.{i}.ls1.gamma"]),
        Rule::same("blocks.{i}.ls2.gamma", &["radio_model.model.blocks.{i}.layer_scale2.lambda1"])
            .or(&["radio_model.model.blocks.{i}.ls2.gamma"]),
        fc1,
        fc2,
        Rule::same("blocks.{rest}", &["radio_model.model.blocks.{rest}"]),
    ]
}
