//! Stable Diffusion's own ways: folders of parts, two generations of names, the tap over all up blocks, noise.

#[path = "../../tests/compare_tensors.rs"]
mod compare_tensors;
#[path = "../../tests/devices.rs"]
mod devices;

use burgess_base::{Error, Result};
use burgess_encoders::arch::{ArchitectureConfig, Tap, Tokens};
use burgess_encoders::card::EncoderCard;
use burgess_encoders::checkpoint::Checkpoint;
use burgess_encoders::encoder::Encoder;
use burgess_encoders::preprocess::decode;
use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{Tensor, TensorData};
use compare_tensors::difference;
use devices::{device, limit};
use std::path::{Path, PathBuf};

const MODELS: [&str; 2] = ["stable-diffusion", "stable-diffusion-1"];

fn golden(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/encoders").join(name)
}

fn card(name: &str) -> EncoderCard {
    EncoderCard::from_file(&golden(name).join("card.toml")).unwrap()
}

fn expected(name: &str) -> Checkpoint {
    Checkpoint::open(&golden(name).join("expected.safetensors")).unwrap()
}

fn pixels(name: &str, batch: usize) -> Tensor<4> {
    let data = expected(name).read("pixels").unwrap();
    let one = Tensor::<4>::from_data(TensorData::new(data, [1, 3, 64, 64]), &device());
    one.repeat_dim(0, batch)
}

fn features(encoder: &Encoder, pixels: Tensor<4>, tap: &Tap) -> Vec<f32> {
    encoder.arch.forward(pixels, tap).unwrap().tokens.into_data().try_into_vec_as::<f32>().unwrap()
}

/// A copy of a golden model's folders, to be changed.
fn copy(name: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for part in ["unet", "vae", "text_encoder", "scheduler", "tokenizer"] {
        std::fs::create_dir(dir.path().join(part)).unwrap();
        for file in std::fs::read_dir(golden(name).join(part)).unwrap() {
            let from = file.unwrap().path();
            std::fs::copy(&from, dir.path().join(part).join(from.file_name().unwrap())).unwrap();
        }
    }
    std::fs::copy(golden(name).join("model_index.json"), dir.path().join("model_index.json")).unwrap();
    dir
}

fn load(directory: &Path) -> Result<Encoder> {
    Encoder::load(card("stable-diffusion"), Some(directory), &device())
}

fn rename(directory: &Path, from: &str, to: &str) {
    std::fs::rename(directory.join(from), directory.join(to)).unwrap();
}

/// Writes a file of safetensors again with other names, or without some tensors.
fn rewrite(path: &Path, name: impl Fn(&str) -> Option<String>, to: &Path) {
    let bytes = std::fs::read(path).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let renamed = tensors.tensors().into_iter().filter_map(|(key, view)| Some((name(&key)?, view)));
    let written = safetensors::serialize(renamed, None).unwrap();
    std::fs::write(to, written).unwrap();
}

#[test]
fn every_up_block_can_be_tapped() -> Result<()> {
    for name in MODELS {
        let encoder = Encoder::load(card(name), Some(&golden(name)), &device())?;
        let blocks = expected(name).keys().filter(|k| k.starts_with("features.block-")).count();
        for layer in 0..blocks {
            let tap = Tap { layer: i32::try_from(layer).unwrap(), ..Tap::default() };
            let key = format!("features.block-{layer}");
            let (expected, config) = (expected(name), &encoder.card.architecture);
            let error = difference(&features(&encoder, pixels(name, 1), &tap), &expected.read(&key)?);
            println!("{name:24} {key} {error:.1e}");
            assert!(error < limit(1e-4, 1e-3), "{name}: {key} differ by {error:e}");
            let [rows, columns] = config.grid(&tap)?;
            assert_eq!(expected.shape(&key), Some(&[rows * columns, config.width(&tap)?][..]), "{name}: {key}");
        }
        // The one before the last is the last up block.
        let (last, before) = (i32::try_from(blocks).unwrap(), Tap { layer: -2, ..Tap::default() });
        let tap = Tap { layer: last - 1, ..Tap::default() };
        assert_eq!(features(&encoder, pixels(name, 1), &before), features(&encoder, pixels(name, 1), &tap));
        assert_eq!(encoder.card.architecture.width(&Tap::default())?, if name == MODELS[0] { 48 } else { 32 });
    }
    Ok(())
}

#[test]
fn taps_that_it_does_not_have_are_refused() {
    let config = card("stable-diffusion").architecture;
    let say = |tap: Tap| -> Error {
        let error = config.check_tap(&tap).unwrap_err();
        assert!(error.hint_text().is_some(), "{error}");
        error
    };
    assert!(say(Tap { layer: 5, ..Tap::default() }).to_string().contains("there are 5"));
    assert!(say(Tap { norm: true, ..Tap::default() }).to_string().contains("final norm"));
    assert!(say(Tap { tokens: Tokens::PatchAndClass, ..Tap::default() }).to_string().contains("class token"));
}

/// The same noise for every image: features depend neither on the batch nor on what was encoded before.
#[test]
fn an_image_has_the_same_features_in_every_batch() -> Result<()> {
    let encoder = Encoder::load(card(MODELS[0]), Some(&golden(MODELS[0])), &device())?;
    let one = features(&encoder, pixels(MODELS[0], 1), &Tap::default());
    let other = pixels(MODELS[0], 1).flip([3]);
    let both = features(&encoder, Tensor::cat(vec![other.clone(), pixels(MODELS[0], 1)], 0), &Tap::default());
    let (first, second) = both.split_at(one.len());
    assert!(difference(second, &one) < limit(1e-6, 1e-5) && difference(first, &one) > 1e-3);
    let mut reseeded = card(MODELS[0]);
    if let ArchitectureConfig::StableDiffusion(config) = &mut reseeded.architecture {
        config.noise_seed = 1;
    }
    let encoder = Encoder::load(reseeded, Some(&golden(MODELS[0])), &device())?;
    assert!(difference(&features(&encoder, pixels(MODELS[0], 1), &Tap::default()), &one) > 1e-3);
    Ok(())
}

/// What the text encoder said is not kept for other weights.
#[test]
fn the_prompt_follows_its_weights() -> Result<()> {
    struct Double;
    impl ModuleMapper for Double {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            Param::initialized(param.id, param.val().mul_scalar(2.0))
        }
    }
    let mut encoder = Encoder::load(card(MODELS[0]), Some(&golden(MODELS[0])), &device())?;
    let before = features(&encoder, pixels(MODELS[0], 1), &Tap::default());
    if let burgess_encoders::arch::Architecture::StableDiffusion(mut model) = encoder.arch {
        model.text_encoder = model.text_encoder.map(&mut Double);
        encoder.arch = burgess_encoders::arch::Architecture::StableDiffusion(model);
    }
    assert!(difference(&features(&encoder, pixels(MODELS[0], 1), &Tap::default()), &before) > 1e-3);
    Ok(())
}

#[test]
fn a_directory_needs_no_card() -> Result<()> {
    let image = decode(&golden("picture.png"))?;
    for name in MODELS {
        let mut found = EncoderCard::open(&golden(name).display().to_string())?;
        assert_eq!(found.architecture, card(name).architecture, "{name}");
        assert_eq!((found.tap.layer, found.preprocess.size), (-1, 64));
        // Its own padding is the mean colour, the golden's is Cambrian-1's.
        found.preprocess.pad = card(name).preprocess.pad;
        let encoder = Encoder::load(found, None, &device())?;
        let error =
            difference(&encoder.encode(std::slice::from_ref(&image), 1)?.values, &expected(name).read("features")?);
        assert!(error < limit(1e-4, 1e-3), "{name}: {error:e}");
    }
    Ok(())
}

#[test]
fn variants_and_shards_are_found() -> Result<()> {
    let dir = copy(MODELS[0]);
    let path = dir.path();
    let plain = Checkpoint::open(path)?.digest()?;
    rename(path, "unet/diffusion_pytorch_model.safetensors", "unet/diffusion_pytorch_model.fp16.safetensors");
    rename(path, "text_encoder/model.safetensors", "text_encoder/model.fp16.safetensors");
    std::fs::write(path.join("text_encoder/pytorch_model.fp16.bin"), "of the same variant, and not read").unwrap();
    load(path)?;
    assert_eq!(Checkpoint::open(path)?.digest()?, plain);

    // Two variants: neither is chosen, and no other file with them.
    std::fs::copy(
        path.join("unet/diffusion_pytorch_model.fp16.safetensors"),
        path.join("unet/diffusion_pytorch_model.non_ema.safetensors"),
    )
    .unwrap();
    let error = load(path).unwrap_err();
    assert!(error.to_string().contains("2 files of weights") && error.hint_text().is_some(), "{error}");
    std::fs::remove_file(path.join("unet/diffusion_pytorch_model.non_ema.safetensors")).unwrap();

    // The variant in two shards, with diffusers' name for its index.
    let whole = path.join("unet/diffusion_pytorch_model.fp16.safetensors");
    let in_first = |key: &str| key.starts_with("down_blocks");
    let mut places = serde_json::Map::new();
    for key in Checkpoint::open(&whole)?.keys() {
        let shard =
            format!("diffusion_pytorch_model.fp16-0000{}-of-00002.safetensors", if in_first(key) { 1 } else { 2 });
        places.insert(key.into(), shard.into());
    }
    for (number, wanted) in [(1, true), (2, false)] {
        let shard = path.join(format!("unet/diffusion_pytorch_model.fp16-0000{number}-of-00002.safetensors"));
        rewrite(&whole, |key| (in_first(key) == wanted).then(|| key.to_string()), &shard);
    }
    std::fs::remove_file(&whole).unwrap();
    let index = serde_json::json!({ "weight_map": places });
    std::fs::write(path.join("unet/diffusion_pytorch_model.safetensors.index.fp16.json"), index.to_string()).unwrap();
    load(path)?;
    Ok(())
}

#[test]
fn both_generations_of_names_are_read_but_not_a_mixture() -> Result<()> {
    let dir = copy(MODELS[0]);
    let (path, vae) = (dir.path(), dir.path().join("vae/diffusion_pytorch_model.safetensors"));
    let former = |key: &str| {
        let pairs = [(".to_q.", ".query."), (".to_k.", ".key."), (".to_v.", ".value."), (".to_out.0.", ".proj_attn.")];
        pairs.iter().fold(key.to_string(), |key, (new, old)| key.replace(new, old))
    };
    rewrite(&vae, |key| Some(former(key)), &vae);
    let text = path.join("text_encoder/model.safetensors");
    // As transformers 5 saves it.
    rewrite(&text, |key| key.strip_prefix("text_model.").map(str::to_string), &text);
    let encoder = load(path)?;
    let error =
        difference(&features(&encoder, pixels(MODELS[0], 1), &Tap::default()), &expected(MODELS[0]).read("features")?);
    assert!(error < limit(1e-4, 1e-3), "{error:e}");

    let bias = "encoder.mid_block.attentions.0.query.bias";
    rewrite(&vae, |key| (key != bias).then(|| key.to_string()), &vae);
    let error = load(path).unwrap_err().to_string();
    assert!(error.contains("1 tensor missing in the file: vae.encoder.mid_block.attentions.0.to_q.bias"), "{error}");
    rewrite(
        &vae,
        |key| {
            Some(if key.ends_with("encoder.mid_block.attentions.0.key.bias") { format!("{key}2") } else { key.into() })
        },
        &vae,
    );
    let error = load(path).unwrap_err().to_string();
    assert!(error.contains("not used by the module: vae.encoder.mid_block.attentions.0.key.bias2"), "{error}");
    Ok(())
}

#[test]
fn what_is_not_stable_diffusion_is_refused_with_a_hint() {
    let dir = copy(MODELS[0]);
    let path = dir.path();
    let say = |file: &str, from: &str, to: &str| -> String {
        let before = std::fs::read_to_string(path.join(file)).unwrap();
        assert!(before.contains(from), "{file}: {before}");
        std::fs::write(path.join(file), before.replace(from, to)).unwrap();
        let error = EncoderCard::open(&path.display().to_string()).unwrap_err();
        std::fs::write(path.join(file), before).unwrap();
        assert!(error.hint_text().is_some(), "{error}");
        error.to_string()
    };
    let unet = "unet/config.json";
    assert!(say(unet, r#""class_embed_type": null"#, r#""class_embed_type": "timestep""#).contains("class_embed_type"));
    assert!(say(unet, r#""in_channels": 4"#, r#""in_channels": 9"#).contains("9 channels"));
    assert!(say(unet, r#""cross_attention_dim": 12"#, r#""cross_attention_dim": 13"#).contains("width 13"));
    assert!(say(unet, r#""UpBlock2D""#, r#""CrossAttnUpBlock2D""#).contains("up_block_types"));
    assert!(say(unet, r#""UpBlock2D""#, r#""AttnUpBlock2D""#).contains("up_block_types"));
    assert!(say(unet, r#""sample_size": 16"#, r#""sample_size": 15"#).contains("image_size 60"));
    assert!(say(unet, r#""norm_num_groups": 4"#, r#""norm_num_groups": 3"#).contains("unet"));
    assert!(say("vae/config.json", r#""norm_num_groups": 2"#, r#""norm_num_groups": "x""#).contains("norm_num_groups"));
    assert!(
        say("vae/config.json", r#""use_quant_conv": true"#, r#""use_quant_conv": false"#).contains("use_quant_conv")
    );
    let scheduler = "scheduler/scheduler_config.json";
    assert!(say(scheduler, "scaled_linear", "squaredcos_cap_v2").contains("squaredcos_cap_v2"));
    assert!(say("text_encoder/config.json", r#""gelu""#, r#""relu""#).contains("relu"));
    assert!(say("tokenizer/special_tokens_map.json", r#""pad_token": "!""#, r#""pad_token": "?""#).contains("\"?\""));
    std::fs::remove_dir_all(path.join("vae")).unwrap();
    let error = load(path).unwrap_err().to_string();
    assert!(error.contains("vae"), "{error}");
}
