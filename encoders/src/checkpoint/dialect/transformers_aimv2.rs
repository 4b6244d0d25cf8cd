//! `Aimv2Model` / `Aimv2VisionModel` of Hugging Face transformers, and the names of Apple's first files. The gate is
//! the first half of our first MLP layer.

use super::{Dialect, Rule};

pub(super) const AIMV2: Dialect = Dialect {
    name: "transformers-aimv2",
    rules: &[
        Rule::squeezed("pos_embed", &["vision_model.embeddings.position_embedding.weight"], 1),
        Rule::same("patch_embed.proj.{p}", &["vision_model.embeddings.patch_embed.{p}"]),
        Rule::same("patch_embed.norm.{p}", &["vision_model.embeddings.rms_norm.{p}"]),
        Rule::same("blocks.{i}.norm1.{p}", &["vision_model.encoder.layers.{i}.rms_norm1.{p}"]),
        Rule::stacked(
            "blocks.{i}.attn.qkv.{p}",
            &[
                "vision_model.encoder.layers.{i}.attention.q_proj.{p}",
                "vision_model.encoder.layers.{i}.attention.k_proj.{p}",
                "vision_model.encoder.layers.{i}.attention.v_proj.{p}",
            ],
        ),
        Rule::same("blocks.{i}.attn.proj.{p}", &["vision_model.encoder.layers.{i}.attention.out_proj.{p}"]),
        Rule::same("blocks.{i}.norm2.{p}", &["vision_model.encoder.layers.{i}.rms_norm2.{p}"]),
        Rule::stacked(
            "blocks.{i}.mlp.fc1.{p}",
            &["vision_model.encoder.layers.{i}.ffn.gate_proj.{p}", "vision_model.encoder.layers.{i}.ffn.up_proj.{p}"],
        ),
        Rule::same("blocks.{i}.mlp.fc2.{p}", &["vision_model.encoder.layers.{i}.ffn.down_proj.{p}"]),
        Rule::same("norm.{p}", &["vision_model.rms_norm.{p}"]),
    ],
    ignored: &[
        "text_model.{rest}",
        "text_projection.{p}",
        "visual_projection.{p}",
        "logit_scale",
        "vision_model.head.{rest}",
        "vision_model.rms_norm.{p}",
        "vision_model.embeddings.position_ids",
    ],
};

/// Apple's own names, in files from before transformers 4.54.
pub(super) const ORIGINAL: Dialect = Dialect {
    name: "aimv2",
    rules: &[
        Rule::same("pos_embed", &["preprocessor.pos_embed"]),
        Rule::same("patch_embed.{rest}", &["preprocessor.patchifier.{rest}"]),
        Rule::same("blocks.{i}.norm1.{p}", &["trunk.blocks.{i}.norm_1.{p}"]),
        Rule::same("blocks.{i}.norm2.{p}", &["trunk.blocks.{i}.norm_2.{p}"]),
        Rule::stacked("blocks.{i}.mlp.fc1.{p}", &["trunk.blocks.{i}.mlp.fc1.{p}", "trunk.blocks.{i}.mlp.fc3.{p}"]),
        Rule::same("blocks.{rest}", &["trunk.blocks.{rest}"]),
        Rule::same("norm.{p}", &["trunk.post_trunk_norm.{p}"]),
    ],
    ignored: &["head.{rest}", "trunk.post_trunk_norm.{p}"],
};
