//! The decoder against `transformers` (goldens of `tests/reference/llama.py`), and its ways of decoding against each
//! other.

mod common;
#[path = "../../tests/devices.rs"]
mod devices;

use burgess_base::stream::stream;
use burgess_base::{Error, Result, atomic};
use burgess_encoders::arch::{ArchitectureConfig, Tap};
use burgess_encoders::checkpoint::{self, Checkpoint, IDENTITY};
use burgess_encoders::init::initialise;
use burgess_probe::connector::{ConnectorConfig, ConnectorKind, ImageTokens};
use burgess_probe::generate::{Decoding, Prompt, Sampling, answer, score_options};
use burgess_probe::llm::{ChatTemplate, KvCache, Llm, LlmConfig};
use burgess_probe::mllm::{EncoderConfig, ImageBatch, Mllm, MllmConfig, Sequence};
use burn::tensor::activation::log_softmax;
use burn::tensor::{Tensor, TensorData};
use common::{difference, values};
use devices::{device, limit};
use safetensors::SafeTensors;
use std::path::{Path, PathBuf};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/llama").join(name)
}

fn load(name: &str) -> Result<Llm> {
    let config: LlmConfig = atomic::read_json(&golden(name).join("config.json"))?;
    let weights = Checkpoint::open(&golden(name).join("model.safetensors"))?;
    Ok(checkpoint::load(config.init(&device())?, &weights, &IDENTITY)?.0)
}

struct Golden {
    ids: Vec<Vec<u32>>,
    logits: Vec<f32>,
    greedy: Vec<u32>,
}

fn expected(name: &str) -> Result<Golden> {
    let bytes = std::fs::read(golden(name).join("golden.safetensors"))?;
    let file = SafeTensors::deserialize(&bytes).map_err(|e| Error::failed(e.to_string()))?;
    let words = |key: &str| -> Result<Vec<[u8; 4]>> {
        let data = file.tensor(key).map_err(|e| Error::failed(e.to_string()))?;
        Ok(data.data().as_chunks::<4>().0.to_vec())
    };
    let ids: Vec<u32> = words("ids")?.into_iter().map(u32::from_le_bytes).collect();
    Ok(Golden {
        ids: ids.chunks(11).map(<[u32]>::to_vec).collect(),
        logits: words("logits")?.into_iter().map(f32::from_le_bytes).collect(),
        greedy: words("greedy")?.into_iter().map(u32::from_le_bytes).collect(),
    })
}

fn logits_of(llm: &Llm, rows: &[&[u32]]) -> Result<Vec<f32>> {
    let hidden = llm.hidden(llm.embed_rows(rows, &device())?)?;
    let [b, t, d] = hidden.dims();
    values(llm.logits(hidden.reshape([b * t, d])))
}

/// A model with this language model behind a connector for features of width 6.
fn mllm(name: &str) -> Result<Mllm> {
    let llm = load(name)?;
    let config = MllmConfig {
        connector: ConnectorConfig {
            kind: ConnectorKind::default(),
            feature_width: 6,
            llm_width: 32,
            towers: Vec::new(),
        },
        llm: llm.config().clone(),
        chat: ChatTemplate::nano(),
        encoders: Vec::new(),
        grid: None,
    };
    Mllm::assemble(config, Vec::new(), llm, 5, &device())
}

fn images(n: usize) -> Tensor<3> {
    let values: Vec<f32> = (0..n * 4 * 6).map(|i| ((i * 37 % 23) as f32 - 11.0) / 4.0).collect();
    Tensor::from_data(TensorData::new(values, [n, 4, 6]), &device())
}

#[test]
fn encoders_leave_branches_out_in_training_only() -> Result<()> {
    let device = device();
    let numbers = "image_size = 16\npatch = 8\nwidth = 6\ndepth = 3\nheads = 2\nmlp_hidden = 12\ndrop_path = 0.9";
    let see = |numbers: &str, seed: Option<u64>| -> Result<Vec<f32>> {
        let architecture: ArchitectureConfig = toml::from_str(&format!("architecture = \"vit\"\n{numbers}")).unwrap();
        let encoder = initialise(architecture.init(&device)?, "init", 3);
        let encoders = vec![EncoderConfig { id: "small".into(), architecture, tap: Tap::default(), normalise: None }];
        let config = MllmConfig { encoders, ..mllm("tied")?.config().clone() };
        let model = Mllm::assemble(config, vec![encoder], load("tied")?, 5, &device)?;
        let pixels =
            Tensor::<1>::from_data(TensorData::new((0..768).map(|i| (i % 37) as f32 / 9.0).collect(), [768]), &device);
        let visual = ImageBatch::Pixels(vec![pixels.reshape([1, 3, 16, 16]).repeat_dim(0, 4)]);
        values(match seed {
            Some(seed) => model.encode_images_with(visual, None, Some(&mut stream("drop-path", seed)))?.tokens,
            None => model.encode_images(visual)?.tokens,
        })
    };
    let still = numbers.replace("drop_path = 0.9", "");
    let plain = see(&still, None)?;
    assert_eq!(plain, see(numbers, None)?);
    assert_eq!(plain, see(&still, Some(1))?);
    let training = see(numbers, Some(1))?;
    assert!(difference(&training, &plain) > 1e-3);
    assert_eq!(training, see(numbers, Some(1))?);
    assert_ne!(training, see(numbers, Some(2))?);
    Ok(())
}

#[test]
fn logits_are_those_of_transformers() -> Result<()> {
    for name in ["tied", "untied"] {
        let (llm, golden) = (load(name)?, expected(name)?);
        let rows: Vec<&[u32]> = golden.ids.iter().map(Vec::as_slice).collect();
        let d = difference(&logits_of(&llm, &rows)?, &golden.logits);
        println!("{name:<20} {d:.1e}");
        assert!(d < limit(1e-5, 1e-4), "{name}: relative difference {d}");
    }
    Ok(())
}

#[test]
fn right_padding_changes_no_real_token() -> Result<()> {
    let (llm, golden) = (load("tied")?, expected("tied")?);
    let long = golden.ids[0].as_slice();
    let mut short = golden.ids[1][..6].to_vec();
    let alone = logits_of(&llm, &[&short])?;
    short.resize(11, 0);
    let together = logits_of(&llm, &[long, &short])?;
    let v = llm.config().vocab_size;
    assert!(difference(&together[11 * v..17 * v], &alone) < limit(1e-6, 1e-5));
    Ok(())
}

#[test]
fn the_cache_equals_the_full_pass() -> Result<()> {
    for name in ["tied", "untied"] {
        let (llm, golden) = (load(name)?, expected(name)?);
        let device = device();
        let rows: Vec<&[u32]> = golden.ids.iter().map(Vec::as_slice).collect();
        let full = values(llm.hidden(llm.embed_rows(&rows, &device)?)?)?;
        let mut cache = KvCache::new();
        let mut parts = Vec::new();
        // Five tokens in one step, then one per step.
        for (from, to) in [(0, 5), (5, 6), (6, 7), (7, 8), (8, 9), (9, 10), (10, 11)] {
            let piece: Vec<&[u32]> = rows.iter().map(|r| &r[from..to]).collect();
            parts.push(llm.extend(llm.embed_rows(&piece, &device)?, &[to - from; 3], &mut cache, None)?);
        }
        assert_eq!(cache.lengths(), [11; 3]);
        assert!(difference(&values(Tensor::cat(parts, 1))?, &full) < limit(1e-6, 1e-5));
    }
    Ok(())
}

#[test]
fn greedy_tokens_are_those_of_transformers() -> Result<()> {
    for name in ["tied", "untied"] {
        let golden = expected(name)?;
        let prompt = Prompt::text(&golden.ids[0]);
        let how = Decoding { max_new_tokens: 32, stop: &[], sampling: None };
        let out = answer(&mllm(name)?, None, &[prompt], &how, &device())?;
        assert_eq!(out, [golden.greedy], "{name}");
    }
    Ok(())
}

#[test]
fn batching_changes_no_answer() -> Result<()> {
    let device = device();
    let model = mllm("tied")?;
    let golden = expected("tied")?;
    let token = 5;
    let images = model.encode_images(ImageBatch::Features(images(3)))?;
    // Prompts of different lengths, with shared images, with text before the image, and without an image.
    type Asked = (Vec<u32>, Option<(usize, usize)>);
    let mut ids: Vec<Asked> = Vec::new();
    for (k, (length, image)) in [(3, 0), (9, 1), (5, 0), (1, 2), (10, 1)].into_iter().enumerate() {
        let mut row = vec![token];
        row.extend(golden.ids[k % 3].iter().take(length));
        ids.push((row, Some((image, 0))));
    }
    ids.push((vec![7, 8, token, 9, 10], Some((1, 2))));
    ids.push((golden.ids[2][..7].to_vec(), None));
    let prompts: Vec<Prompt> =
        ids.iter().map(|(row, at)| Prompt { ids: row, images: at.iter().copied().collect() }).collect();
    let stop = [28, 44];
    let how = Decoding { max_new_tokens: 12, stop: &stop, sampling: None };
    let drawn = Decoding { sampling: Some(Sampling { temperature: 2.0, top_p: 0.9, top_k: None, seed: 3 }), ..how };
    let together = answer(&model, Some(&images), &prompts, &how, &device)?;
    let drawn_together = answer(&model, Some(&images), &prompts, &drawn, &device)?;
    assert_ne!(together, drawn_together);
    let reversed: Vec<Prompt> = prompts.iter().rev().cloned().collect();
    for (how, made) in [(&how, &together), (&drawn, &drawn_together)] {
        let mut again = answer(&model, Some(&images), &reversed, how, &device)?;
        again.reverse();
        assert_eq!(&again, made);
    }
    let options: Vec<Vec<Vec<u32>>> = prompts.iter().map(|_| vec![vec![11], vec![12, 13, 14], vec![13, 2]]).collect();
    let scores = score_options(&model, Some(&images), &prompts, &options, &device)?;
    for (i, prompt) in prompts.iter().enumerate() {
        for (how, made) in [(&how, &together), (&drawn, &drawn_together)] {
            let alone = answer(&model, Some(&images), std::slice::from_ref(prompt), how, &device)?;
            assert_eq!(alone[0], made[i], "prompt {i}");
        }
        // The reference: the whole sequence with its image tokens is recomputed for each new token, without a cache.
        let mut row = prompt.ids.to_vec();
        let start = row.len();
        let full = |row: &[u32]| -> Result<Tensor<2>> {
            let image = prompt.images.first().map(|&(p, _)| ImageTokens::plain(images.tokens.clone().narrow(0, p, 1)));
            let sequence = Sequence { ids: row, image_at: prompt.images.first().map(|&(_, at)| at) };
            let hidden = model.hidden(model.splice(&[sequence], image, &device)?)?;
            let [_, t, d] = hidden.dims();
            Ok(log_softmax(model.llm.logits(hidden.reshape([t, d])), 1))
        };
        for _ in 0..12 {
            let log = full(&row)?;
            let t = log.dims()[0];
            let last: u32 = log.narrow(0, t - 1, 1).argmax(1).into_scalar();
            if stop.contains(&last) {
                break;
            }
            row.push(last);
        }
        assert_eq!(row[start..], together[i], "prompt {i} without cache");
        for (o, option) in options[i].iter().enumerate() {
            let mut row = prompt.ids.to_vec();
            row.extend(option);
            let log = full(&row)?;
            let t = log.dims()[0];
            let sum: f64 = option
                .iter()
                .enumerate()
                .map(|(k, &id)| {
                    let at = t - option.len() + k - 1;
                    let id = id as usize;
                    f64::from(log.clone().slice([at..at + 1, id..id + 1]).into_scalar::<f32>())
                })
                .sum();
            assert!((sum - scores[i][o]).abs() < 1e-4, "prompt {i} option {o}: {sum} {}", scores[i][o]);
        }
    }
    Ok(())
}

#[test]
fn errors_name_what_is_wrong() -> Result<()> {
    let device = device();
    let model = mllm("tied")?;
    assert!(model.llm.embed_rows(&[&[61]], &device).unwrap_err().to_string().contains("61"));
    let long = vec![1; 65];
    assert!(model.llm.hidden(model.llm.embed_rows(&[&long], &device)?).unwrap_err().hint_text().is_some());
    let ids = [5, 1, 2];
    let missing = Prompt { ids: &ids, images: vec![(3, 0)] };
    let images = model.encode_images(ImageBatch::Features(images(2)))?;
    let e =
        answer(&model, Some(&images), &[missing], &Decoding { max_new_tokens: 4, stop: &[], sampling: None }, &device)
            .unwrap_err();
    assert!(e.to_string().contains("image 3"), "{e}");
    let narrow = Tensor::<3>::zeros([1, 4, 5], &device);
    assert!(model.encode_images(ImageBatch::Features(narrow)).unwrap_err().to_string().contains("width 6"));
    Ok(())
}

#[test]
fn a_model_directory_comes_back() -> Result<()> {
    use burgess_encoders::checkpoint::Precision;
    use burgess_probe::llm::Tokenizer;
    use burgess_probe::llm::tokenizer::SPECIALS;
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("model");
    let model = mllm("untied")?;
    let tokenizer = Tokenizer::train(["a cup", "a dog"].iter(), 262, &SPECIALS)?;
    model.save(&tokenizer, &path, Precision::F32)?;
    let (again, _) = Mllm::load(&path, &device())?;
    assert_eq!(again.config(), model.config());
    let see = |m: &Mllm| values(m.encode_images(ImageBatch::Features(images(2)))?.tokens);
    assert_eq!(see(&model)?, see(&again)?);
    let golden = expected("untied")?;
    let rows: Vec<&[u32]> = golden.ids.iter().map(Vec::as_slice).collect();
    assert_eq!(logits_of(&model.llm, &rows)?, logits_of(&again.llm, &rows)?);
    std::fs::write(path.join("connector.safetensors"), "cut")?;
    assert!(Mllm::load(&path, &device()).is_err());
    Ok(())
}
