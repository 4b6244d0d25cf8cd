//! Fuzz targets for configurations: encoders of transformers, timm, open_clip and diffusers with their processors,
//! language models, released models.

use crate::input_dir::{InputDir, link};
use crate::mutate::MutationForm;
use crate::{FuzzInput, FuzzTarget};
use burgess_base::{Result, json};
use burgess_encoders::encoder::Encoder;
use burgess_encoders::{card::EncoderCard, directory};
use burgess_probe::llm::LlmConfig;
use burgess_probe::released::ReleasedModel;

/// Keys of configurations, and values from other models.
pub const KEYS: &[&str] = &[
    "\"hidden_size\"",
    "\"num_hidden_layers\"",
    "\"num_attention_heads\"",
    "\"num_key_value_heads\"",
    "\"head_dim\"",
    "\"intermediate_size\"",
    "\"vocab_size\"",
    "\"rope_scaling\"",
    "\"rope_theta\"",
    "\"rms_norm_eps\"",
    "\"llama3\"",
    "\"yarn\"",
    "\"longrope\"",
    "\"dynamic\"",
    "\"linear\"",
    "\"factor\"",
    "\"sliding_window\"",
    "\"layer_types\"",
    "\"max_position_embeddings\"",
    "\"model_type\"",
    "\"hidden_act\"",
    "\"gelu\"",
    "\"silu\"",
    "\"tie_word_embeddings\"",
    "\"image_size\"",
    "\"patch_size\"",
    "\"vision_config\"",
    "\"text_config\"",
    "\"architectures\"",
    "\"num_registers\"",
    "\"quantization_config\"",
    "\"num_experts\"",
    "\"num_experts_per_tok\"",
    "\"partial_rotary_factor\"",
];

const PROCESSOR: &[&str] = &[
    "\"do_resize\"",
    "\"do_center_crop\"",
    "\"do_normalize\"",
    "\"do_rescale\"",
    "\"size\"",
    "\"shortest_edge\"",
    "\"longest_edge\"",
    "\"height\"",
    "\"width\"",
    "\"crop_size\"",
    "\"crop_pct\"",
    "\"resample\"",
    "\"image_mean\"",
    "\"image_std\"",
    "\"rescale_factor\"",
    "\"image_processor_type\"",
    "\"feature_extractor_type\"",
    "\"image_processor\"",
    "\"CLIPImageProcessor\"",
    "\"ViTImageProcessor\"",
    "\"SiglipImageProcessor\"",
    "\"ConvNextImageProcessor\"",
    "\"BitImageProcessor\"",
    "\"DPTImageProcessor\"",
    "\"SamImageProcessor\"",
    "\"do_pad\"",
    "\"pad_size\"",
    "\"keep_aspect_ratio\"",
    "\"ensure_multiple_of\"",
];

pub const TARGETS: &[FuzzTarget] = &[
    FuzzTarget {
        name: "encoder-config",
        about: "config.json of an encoder of transformers or timm beside its weights",
        corpus: &["tests/golden/directories/*/config.json", "tests/golden/towers/*/config.json"],
        words: KEYS,
        form: MutationForm::Json,
        share: 8,
        run: encoder,
    },
    FuzzTarget {
        name: "open-clip-config",
        about: "open_clip_config.json of an encoder beside its weights",
        corpus: &["tests/golden/directories/*/open_clip_config.json"],
        words: &[
            "\"embed_dim\"",
            "\"vision_cfg\"",
            "\"timm_model_name\"",
            "\"pool_type\"",
            "\"preprocess_cfg\"",
            "\"squash\"",
        ],
        form: MutationForm::Json,
        share: 8,
        run: encoder,
    },
    FuzzTarget {
        name: "processor-config",
        about: "preprocessor_config.json or processor_config.json of an encoder",
        corpus: &[
            "tests/golden/directories/transformers-*/preprocessor_config.json",
            "tests/golden/towers/*/processor_config.json",
            "tests/golden/towers/*/preprocessor_config.json",
        ],
        words: PROCESSOR,
        form: MutationForm::Json,
        share: 8,
        run: encoder,
    },
    FuzzTarget {
        name: "diffusers-config",
        about: "config.json of the U-Net of a Stable Diffusion",
        corpus: &["tests/golden/encoders/stable-diffusion*/unet/config.json"],
        words: &["\"sample_size\"", "\"block_out_channels\"", "\"attention_head_dim\"", "\"down_block_types\""],
        form: MutationForm::Json,
        share: 3,
        run: |input, place| {
            let part = input.origin.parent().unwrap_or(input.origin);
            let unet = place.beside(input.origin, input.bytes)?;
            let pipeline = place.mirror(part.parent().unwrap_or(part), "unet".as_ref())?;
            if !pipeline.join("unet").is_dir() {
                link(&unet, &pipeline.join("unet"))?;
            }
            described(&pipeline, place)
        },
    },
    FuzzTarget {
        name: "llm-config",
        about: "config.json of a language model, alone",
        corpus: &["tests/golden/llm/*/config.json", "tests/golden/llm-v4/*.json"],
        words: KEYS,
        form: MutationForm::Json,
        share: 250,
        run: |input, _| {
            let config: LlmConfig = json::from_slice(input.bytes)?;
            config.check()?;
            let (_, _) = (config.parameters(), config.forward_flops(100));
            Ok(())
        },
    },
    FuzzTarget {
        name: "released-config",
        about: "config.json of a released Cambrian model",
        corpus: &["tests/golden/released/*/config.json"],
        words: &["\"mm_vision_tower_aux_list\"", "\"connector_depth\"", "\"image_token_len\"", "\"query_num_list\""],
        form: MutationForm::Json,
        share: 20,
        run: |input, place| {
            let file = place.file("released/config.json", input.bytes)?;
            ReleasedModel::open(file.parent().unwrap_or(&file)).map(drop)
        },
    },
    FuzzTarget {
        name: "encoder-card",
        about: "the card of an encoder (TOML)",
        corpus: &["encoders/zoo/*.toml", "tests/golden/encoders/*/card.toml"],
        words: &[
            "[tap]",
            "[grid]",
            "[preprocess]",
            "\"mean\"",
            "layer = ",
            "size = ",
            "inf",
            "nan",
            "[[",
            "[preprocess-cambrian-1]",
        ],
        form: MutationForm::Text,
        share: 100,
        run: |input, place| match std::str::from_utf8(input.bytes) {
            Ok(text) => EncoderCard::parse(text, "card.toml").map(drop),
            Err(_) => EncoderCard::from_file(&place.file("card.toml", input.bytes)?).map(drop),
        },
    },
];

fn encoder(input: &FuzzInput<'_>, place: &InputDir) -> Result<()> {
    described(&place.beside(input.origin, input.bytes)?, place)
}

fn described(dir: &std::path::Path, place: &InputDir) -> Result<()> {
    let card = directory::card(dir)?;
    card.notes.iter().for_each(|note| place.tell(note));
    Encoder::check(&card, None)
}
