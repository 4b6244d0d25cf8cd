//! TIPSv2, whose published files keep the names of its makers: the image encoder under `vision_encoder.`.

use super::{Dialect, Rule};

pub(super) const TIPSV2: Dialect = Dialect {
    name: "tipsv2",
    rules: &[
        Rule::same("reg_token", &["vision_encoder.register_tokens"]),
        Rule::same("blocks.{i}.mlp.fc1.{p}", &["vision_encoder.blocks.{i}.mlp.c_fc.{p}"])
            .or(&["vision_encoder.blocks.{i}.mlp.fc1.{p}"]),
        Rule::same("blocks.{i}.mlp.fc2.{p}", &["vision_encoder.blocks.{i}.mlp.c_proj.{p}"])
            .or(&["vision_encoder.blocks.{i}.mlp.fc2.{p}"]),
        Rule::same("{rest}", &["vision_encoder.{rest}"]),
    ],
    ignored: &IGNORED,
};

pub(super) const TIPSV2_SWIGLU: Dialect = Dialect {
    name: "tipsv2-swiglu",
    rules: &[
        Rule::same("reg_token", &["vision_encoder.register_tokens"]),
        Rule::same("blocks.{i}.mlp.fc1.{p}", &["vision_encoder.blocks.{i}.mlp.w12.{p}"]),
        Rule::same("blocks.{i}.mlp.fc2.{p}", &["vision_encoder.blocks.{i}.mlp.w3.{p}"]),
        Rule::same("{rest}", &["vision_encoder.{rest}"]),
    ],
    ignored: &IGNORED,
};

const IGNORED: [&str; 3] = ["vision_encoder.mask_token", "text_encoder.{rest}", "temperature"];
