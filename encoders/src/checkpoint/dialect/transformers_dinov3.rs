//! `DINOv3ViTModel` of Hugging Face transformers. Keys have no bias. The plus and 7B models have a gated MLP.

use super::{Dialect, Rule};

pub(super) const DINOV3: Dialect = Dialect {
    name: "transformers-dinov3",
    rules: &rules(Rule::same("blocks.{i}.mlp.fc1.{p}", &["layer.{i}.mlp.up_proj.{p}"])),
    ignored: &IGNORED,
};

pub(super) const GATED: Dialect = Dialect {
    name: "transformers-dinov3-gated",
    rules: &rules(Rule::stacked(
        "blocks.{i}.mlp.fc1.{p}",
        &["layer.{i}.mlp.gate_proj.{p}", "layer.{i}.mlp.up_proj.{p}"],
    )),
    ignored: &IGNORED,
};

// The mask token replaces masked patches in pretraining only; the frequencies follow from the configuration.
const IGNORED: [&str; 3] = ["embeddings.mask_token", "rope_embeddings.inv_freq", "norm.{p}"];

const fn rules(fc1: Rule) -> [Rule; 13] {
    [
        Rule::same("cls_token", &["embeddings.cls_token"]),
        Rule::same("reg_token", &["embeddings.register_tokens"]),
        Rule::same("patch_embed.proj.{p}", &["embeddings.patch_embeddings.{p}"]),
        Rule::same("blocks.{i}.norm1.{p}", &["layer.{i}.norm1.{p}"]),
        Rule::stacked(
            "blocks.{i}.attn.qkv.weight",
            &[
                "layer.{i}.attention.q_proj.weight",
                "layer.{i}.attention.k_proj.weight",
                "layer.{i}.attention.v_proj.weight",
            ],
        ),
        Rule::stacked(
            "blocks.{i}.attn.qkv.bias",
            &["layer.{i}.attention.q_proj.bias", Rule::ZEROS, "layer.{i}.attention.v_proj.bias"],
        ),
        Rule::same("blocks.{i}.attn.proj.{p}", &["layer.{i}.attention.o_proj.{p}"]),
        Rule::same("blocks.{i}.ls1.gamma", &["layer.{i}.layer_scale1.lambda1"]),
        Rule::same("blocks.{i}.norm2.{p}", &["layer.{i}.norm2.{p}"]),
        fc1,
        Rule::same("blocks.{i}.mlp.fc2.{p}", &["layer.{i}.mlp.down_proj.{p}"]),
        Rule::same("blocks.{i}.ls2.gamma", &["layer.{i}.layer_scale2.lambda1"]),
        Rule::same("norm.{p}", &["norm.{p}"]),
    ]
}
