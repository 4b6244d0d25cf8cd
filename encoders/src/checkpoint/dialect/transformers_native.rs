//! Vision towers for images of any size in the names of their published files, which transformers reads: `siglip2`,
//! `qwen2_5_vl`, `qwen3_vl`, MoonViT (`kimi_vl`, `kimi_k25`) and `vjepa2`. A tower inside a multimodal model has a
//! prefix, such as `visual.` or `vision_tower.`.

use super::{Dialect, Rule};

pub(super) const SIGLIP2: Dialect = Dialect {
    name: "transformers-siglip2",
    rules: &[
        Rule::table("pos_embed", &["vision_model.embeddings.position_embedding.weight"]),
        Rule::same("patch_embed.proj.{p}", &["vision_model.embeddings.patch_embedding.{p}"]),
        Rule::same("blocks.{i}.norm1.{p}", &["vision_model.encoder.layers.{i}.layer_norm1.{p}"]),
        Rule::stacked(
            "blocks.{i}.attn.qkv.{p}",
            &[
                "vision_model.encoder.layers.{i}.self_attn.q_proj.{p}",
                "vision_model.encoder.layers.{i}.self_attn.k_proj.{p}",
                "vision_model.encoder.layers.{i}.self_attn.v_proj.{p}",
            ],
        ),
        Rule::same("blocks.{i}.attn.proj.{p}", &["vision_model.encoder.layers.{i}.self_attn.out_proj.{p}"]),
        Rule::same("blocks.{i}.norm2.{p}", &["vision_model.encoder.layers.{i}.layer_norm2.{p}"]),
        Rule::same("blocks.{i}.mlp.{rest}", &["vision_model.encoder.layers.{i}.mlp.{rest}"]),
        Rule::same("norm.{p}", &["vision_model.post_layernorm.{p}"]),
    ],
    ignored: &["text_model.{rest}", "logit_scale", "logit_bias", "vision_model.head.{rest}"],
};

pub(super) const QWEN2_5_VL: Dialect = Dialect {
    name: "transformers-qwen2.5-vl",
    rules: &[
        Rule::same("patch_embed.proj.{p}", &["patch_embed.proj.{p}"]),
        Rule::stacked("blocks.{i}.mlp.fc1.{p}", &["blocks.{i}.mlp.gate_proj.{p}", "blocks.{i}.mlp.up_proj.{p}"]),
        Rule::same("blocks.{i}.mlp.fc2.{p}", &["blocks.{i}.mlp.down_proj.{p}"]),
        Rule::same("blocks.{rest}", &["blocks.{rest}"]),
        Rule::same("merger.norm.{p}", &["merger.ln_q.{p}"]),
        Rule::same("merger.fc1.{p}", &["merger.mlp.0.{p}"]),
        Rule::same("merger.fc2.{p}", &["merger.mlp.2.{p}"]),
    ],
    ignored: &[],
};

pub(super) const QWEN3_VL: Dialect = Dialect {
    name: "transformers-qwen3-vl",
    rules: &[
        Rule::table("pos_embed", &["pos_embed.weight"]),
        Rule::same("patch_embed.proj.{p}", &["patch_embed.proj.{p}"]),
        Rule::same("blocks.{i}.mlp.fc1.{p}", &["blocks.{i}.mlp.linear_fc1.{p}"]),
        Rule::same("blocks.{i}.mlp.fc2.{p}", &["blocks.{i}.mlp.linear_fc2.{p}"]),
        Rule::same("blocks.{rest}", &["blocks.{rest}"]),
        Rule::same("merger.norm.{p}", &["merger.norm.{p}"]),
        Rule::same("merger.fc1.{p}", &["merger.linear_fc1.{p}"]),
        Rule::same("merger.fc2.{p}", &["merger.linear_fc2.{p}"]),
        Rule::same("deepstack_mergers.{i}.norm.{p}", &["deepstack_merger_list.{i}.norm.{p}"]),
        Rule::same("deepstack_mergers.{i}.fc1.{p}", &["deepstack_merger_list.{i}.linear_fc1.{p}"]),
        Rule::same("deepstack_mergers.{i}.fc2.{p}", &["deepstack_merger_list.{i}.linear_fc2.{p}"]),
    ],
    ignored: &[],
};

pub(super) const MOONVIT: Dialect = Dialect {
    name: "moonvit",
    rules: &[
        Rule::same("pos_embed", &["patch_embed.pos_emb.weight"]),
        Rule::same("patch_embed.proj.{p}", &["patch_embed.proj.{p}"]),
        Rule::same("blocks.{i}.norm1.{p}", &["encoder.blocks.{i}.norm0.{p}"]),
        Rule::same("blocks.{i}.attn.qkv.{p}", &["encoder.blocks.{i}.wqkv.{p}"]),
        Rule::same("blocks.{i}.attn.proj.{p}", &["encoder.blocks.{i}.wo.{p}"]),
        Rule::same("blocks.{i}.norm2.{p}", &["encoder.blocks.{i}.norm1.{p}"]),
        Rule::same("blocks.{i}.mlp.fc1.{p}", &["encoder.blocks.{i}.mlp.fc0.{p}"]),
        Rule::same("blocks.{i}.mlp.fc2.{p}", &["encoder.blocks.{i}.mlp.fc1.{p}"]),
        Rule::same("norm.{p}", &["encoder.final_layernorm.{p}"]),
    ],
    ignored: &[],
};

pub(super) const VJEPA2: Dialect = Dialect {
    name: "transformers-vjepa2",
    rules: &[
        Rule::same("patch_embed.proj.{p}", &["encoder.embeddings.patch_embeddings.proj.{p}"]),
        Rule::same("blocks.{i}.norm1.{p}", &["encoder.layer.{i}.norm1.{p}"]),
        Rule::stacked(
            "blocks.{i}.attn.qkv.{p}",
            &[
                "encoder.layer.{i}.attention.query.{p}",
                "encoder.layer.{i}.attention.key.{p}",
                "encoder.layer.{i}.attention.value.{p}",
            ],
        ),
        Rule::same("blocks.{i}.attn.proj.{p}", &["encoder.layer.{i}.attention.proj.{p}"]),
        Rule::same("blocks.{i}.norm2.{p}", &["encoder.layer.{i}.norm2.{p}"]),
        Rule::same("blocks.{i}.mlp.{rest}", &["encoder.layer.{i}.mlp.{rest}"]),
        Rule::same("norm.{p}", &["encoder.layernorm.{p}"]),
    ],
    ignored: &["predictor.{rest}"],
};
