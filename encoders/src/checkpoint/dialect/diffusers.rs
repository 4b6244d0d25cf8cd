//! Stable Diffusion in the layout of diffusers: one folder per part, whose name [`Checkpoint::open`] prepends to the
//! names in it. The parts that generate images (decoder, output layer) are ignored.
//!
//! Two parts have been renamed. The autoencoder's attention once was `query`, `key`, `value` and `proj_attn`, as in the
//! published files of Stable Diffusion, which diffusers still reads. From transformers 5 on, the text encoder is saved
//! without `text_model.`.
//!
//! [`Checkpoint::open`]: crate::checkpoint::Checkpoint::open

use super::{Dialect, Rule};

pub(super) const STABLE_DIFFUSION: Dialect = Dialect {
    name: "diffusers-stable-diffusion",
    rules: &[
        Rule::same("text_encoder.token_embed", &["text_encoder.text_model.embeddings.token_embedding.weight"])
            .or(&["text_encoder.embeddings.token_embedding.weight"]),
        Rule::same("text_encoder.pos_embed", &["text_encoder.text_model.embeddings.position_embedding.weight"])
            .or(&["text_encoder.embeddings.position_embedding.weight"]),
        Rule::same(
            "text_encoder.blocks.{i}.norm1.{p}",
            &["text_encoder.text_model.encoder.layers.{i}.layer_norm1.{p}"],
        )
        .or(&["text_encoder.encoder.layers.{i}.layer_norm1.{p}"]),
        Rule::stacked(
            "text_encoder.blocks.{i}.attn.qkv.{p}",
            &[
                "text_encoder.text_model.encoder.layers.{i}.self_attn.q_proj.{p}",
                "text_encoder.text_model.encoder.layers.{i}.self_attn.k_proj.{p}",
                "text_encoder.text_model.encoder.layers.{i}.self_attn.v_proj.{p}",
            ],
        )
        .or(&[
            "text_encoder.encoder.layers.{i}.self_attn.q_proj.{p}",
            "text_encoder.encoder.layers.{i}.self_attn.k_proj.{p}",
            "text_encoder.encoder.layers.{i}.self_attn.v_proj.{p}",
        ]),
        Rule::same(
            "text_encoder.blocks.{i}.attn.proj.{p}",
            &["text_encoder.text_model.encoder.layers.{i}.self_attn.out_proj.{p}"],
        )
        .or(&["text_encoder.encoder.layers.{i}.self_attn.out_proj.{p}"]),
        Rule::same(
            "text_encoder.blocks.{i}.norm2.{p}",
            &["text_encoder.text_model.encoder.layers.{i}.layer_norm2.{p}"],
        )
        .or(&["text_encoder.encoder.layers.{i}.layer_norm2.{p}"]),
        Rule::same("text_encoder.blocks.{i}.mlp.fc1.{p}", &["text_encoder.text_model.encoder.layers.{i}.mlp.fc1.{p}"])
            .or(&["text_encoder.encoder.layers.{i}.mlp.fc1.{p}"]),
        Rule::same("text_encoder.blocks.{i}.mlp.fc2.{p}", &["text_encoder.text_model.encoder.layers.{i}.mlp.fc2.{p}"])
            .or(&["text_encoder.encoder.layers.{i}.mlp.fc2.{p}"]),
        Rule::same("text_encoder.norm.{p}", &["text_encoder.text_model.final_layer_norm.{p}"])
            .or(&["text_encoder.final_layer_norm.{p}"]),
        Rule::same("vae.encoder.mid_block.attentions.{i}.to_q.{p}", &["vae.encoder.mid_block.attentions.{i}.to_q.{p}"])
            .or(&["vae.encoder.mid_block.attentions.{i}.query.{p}"]),
        Rule::same("vae.encoder.mid_block.attentions.{i}.to_k.{p}", &["vae.encoder.mid_block.attentions.{i}.to_k.{p}"])
            .or(&["vae.encoder.mid_block.attentions.{i}.key.{p}"]),
        Rule::same("vae.encoder.mid_block.attentions.{i}.to_v.{p}", &["vae.encoder.mid_block.attentions.{i}.to_v.{p}"])
            .or(&["vae.encoder.mid_block.attentions.{i}.value.{p}"]),
        Rule::same(
            "vae.encoder.mid_block.attentions.{i}.to_out.0.{p}",
            &["vae.encoder.mid_block.attentions.{i}.to_out.0.{p}"],
        )
        .or(&["vae.encoder.mid_block.attentions.{i}.proj_attn.{p}"]),
        Rule::same("{rest}", &["{rest}"]),
    ],
    ignored: &[
        "unet.conv_norm_out.{p}",
        "unet.conv_out.{p}",
        "vae.decoder.{rest}",
        "vae.post_quant_conv.{p}",
        "text_encoder.text_model.embeddings.position_ids",
        "text_encoder.embeddings.position_ids",
    ],
};
