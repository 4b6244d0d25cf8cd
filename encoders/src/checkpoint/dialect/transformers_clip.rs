//! `CLIPModel` / `CLIPVisionModel` of Hugging Face transformers, and models with the same names: MetaCLIP 2, Chinese
//! CLIP, CLIPSeg (under `clip.`) and MLCD. The misspelt `pre_layrnorm` is the upstream name; OWL-ViT and OWLv2 spell it
//! otherwise. AltCLIP as transformers 5.24 saves it has `layer` instead of `layers`.

use super::{Dialect, Rule};

pub(super) const CLIP: Dialect =
    Dialect { name: "transformers-clip", rules: &rules(&["vision_model.pre_layrnorm.{p}"]), ignored: &IGNORED };

pub(super) const OWLVIT: Dialect =
    Dialect { name: "transformers-owlvit", rules: &rules(&["vision_model.pre_layernorm.{p}"]), ignored: &IGNORED };

const fn rules(norm_pre: &'static [&'static str; 1]) -> [Rule; 11] {
    [
        Rule::squeezed("cls_token", &["vision_model.embeddings.class_embedding"], 2),
        Rule::squeezed("pos_embed", &["vision_model.embeddings.position_embedding.weight"], 1),
        Rule::same("class_pos_emb", &["vision_model.class_pos_emb"]),
        Rule::same("patch_embed.proj.{p}", &["vision_model.embeddings.patch_embedding.{p}"]),
        Rule::same("norm_pre.{p}", norm_pre),
        Rule::same("blocks.{i}.norm1.{p}", &["vision_model.encoder.layers.{i}.layer_norm1.{p}"])
            .or(&["vision_model.encoder.layer.{i}.layer_norm1.{p}"]),
        Rule::stacked(
            "blocks.{i}.attn.qkv.{p}",
            &[
                "vision_model.encoder.layers.{i}.self_attn.q_proj.{p}",
                "vision_model.encoder.layers.{i}.self_attn.k_proj.{p}",
                "vision_model.encoder.layers.{i}.self_attn.v_proj.{p}",
            ],
        )
        .or(&[
            "vision_model.encoder.layer.{i}.self_attn.q_proj.{p}",
            "vision_model.encoder.layer.{i}.self_attn.k_proj.{p}",
            "vision_model.encoder.layer.{i}.self_attn.v_proj.{p}",
        ]),
        Rule::same("blocks.{i}.attn.proj.{p}", &["vision_model.encoder.layers.{i}.self_attn.out_proj.{p}"])
            .or(&["vision_model.encoder.layer.{i}.self_attn.out_proj.{p}"]),
        Rule::same("blocks.{i}.norm2.{p}", &["vision_model.encoder.layers.{i}.layer_norm2.{p}"])
            .or(&["vision_model.encoder.layer.{i}.layer_norm2.{p}"]),
        Rule::same("blocks.{i}.mlp.{rest}", &["vision_model.encoder.layers.{i}.mlp.{rest}"])
            .or(&["vision_model.encoder.layer.{i}.mlp.{rest}"]),
        Rule::same("norm.{p}", &["vision_model.post_layernorm.{p}"]),
    ]
}

const IGNORED: [&str; 7] = [
    "text_model.{rest}",
    "text_projection.{p}",
    "visual_projection.{p}",
    "logit_scale",
    "vision_model.embeddings.position_ids",
    // Follows from the size of the heads.
    "vision_model.vision_rotary_embedding.inv_freq",
    // This norm is applied to the pooled class token only, so an encoder that taps patch tokens does not have it.
    "vision_model.post_layernorm.{p}",
];
