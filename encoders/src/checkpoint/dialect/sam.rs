//! `segment_anything`'s own checkpoints (`sam_vit_h_4b8939.pth`): the image encoder under `image_encoder.`, beside the
//! prompt encoder and the mask decoder.

use super::{Dialect, Rule};

pub(super) const SAM: Dialect = Dialect {
    name: "sam",
    rules: &[
        Rule::same("blocks.{i}.mlp.fc1.{p}", &["image_encoder.blocks.{i}.mlp.lin1.{p}"]),
        Rule::same("blocks.{i}.mlp.fc2.{p}", &["image_encoder.blocks.{i}.mlp.lin2.{p}"]),
        Rule::same("{rest}", &["image_encoder.{rest}"]),
    ],
    ignored: &["image_encoder.neck.{rest}", "prompt_encoder.{rest}", "mask_decoder.{rest}", "pixel_mean", "pixel_std"],
};
