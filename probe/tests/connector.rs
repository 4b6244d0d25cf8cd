//! Connectors compared to PyTorch: image tokens, hidden states and gradients (goldens of
//! `tests/reference/connectors.py`).

mod common;
#[path = "../../tests/devices.rs"]
mod devices;

use burgess_base::{Error, Result, atomic};
use burgess_encoders::checkpoint::{self, Checkpoint};
use burgess_encoders::features::FeatureMap;
use burgess_probe::connector::{
    ChannelStatistics, Connector, ConnectorConfig, ConnectorKind, ImagePositions, ImageSize, ImageTokens,
};
use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{Device, Gradients, Tensor, TensorData};
use common::{difference, values};
use devices::limit;
use serde::Deserialize;
use std::path::{Path, PathBuf};

#[derive(Deserialize)]
struct Golden {
    config: ConnectorConfig,
    grids: Vec<usize>,
    #[serde(rename = "pictures")]
    images: Option<Vec<(usize, usize)>>,
    at: usize,
}

/// One golden case on a device.
struct Case {
    golden: Golden,
    file: Checkpoint,
    device: Device,
    connector: Connector,
}

/// Number of layers of the language model; the samplers of the goldens stand after layers 1 and 3.
const LAYERS: usize = 5;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/connectors")
}

fn names() -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder())? {
        let path = entry?.path();
        if path.extension().is_some_and(|e| e == "json") {
            names.extend(path.file_stem().and_then(|s| s.to_str()).map(String::from));
        }
    }
    names.sort();
    Ok(names)
}

impl Case {
    fn open(name: &str, device: Device) -> Result<Self> {
        let golden: Golden = atomic::read_json(&folder().join(format!("{name}.json")))?;
        let path = folder().join(format!("{name}.safetensors"));
        let weights = Checkpoint::open(&path)?.inside("param.")?;
        let connector = golden.config.init(&device)?;
        let dialect = connector.dialect();
        let (connector, _) = checkpoint::load(connector, &weights, dialect)?;
        Ok(Self { golden, file: Checkpoint::open(&path)?, device, connector })
    }

    fn tensor(&self, name: &str) -> Result<Tensor<3>> {
        let shape = self.file.shape(name).ok_or_else(|| Error::failed(format!("no {name}")))?.to_vec();
        let shape = [shape[0], shape[1], shape[2]];
        Ok(Tensor::from_data(TensorData::new(self.file.read(name)?, shape), &self.device))
    }

    fn towers(&self) -> Result<Vec<FeatureMap>> {
        let each = self.golden.grids.iter().enumerate().map(|(k, &side)| {
            let tokens = self.tensor(&format!("feature.{k}"))?;
            let tokens = if self.device.is_autodiff() { tokens.require_grad() } else { tokens };
            Ok(FeatureMap { tokens, grid: [side, side] })
        });
        each.collect()
    }

    fn sizes(&self) -> Option<Vec<ImageSize>> {
        let sizes = self.golden.images.as_ref()?;
        Some(sizes.iter().map(|&(width, height)| ImageSize { width, height }).collect())
    }

    fn encode(&self, towers: &[FeatureMap]) -> Result<ImageTokens> {
        self.connector.forward(towers, self.sizes().as_deref())
    }

    /// The positions of the images in the sequences, without left-out tokens.
    fn rows(&self, seen: &ImageTokens) -> Vec<ImagePositions> {
        let [images, n, _] = seen.tokens.dims();
        let row =
            |i| ImagePositions { row: i, image: i, positions: (0..n).map(|p| Some(self.golden.at + p)).collect() };
        (0..images).map(row).collect()
    }

    fn check(&self, what: &str, found: Tensor<3>, name: &str, limit: f64) -> Result<()> {
        let off = difference(&values(found)?, &self.file.read(name)?);
        println!("{what:42} {off:.1e}");
        assert!(off < limit, "{what} differs by {off:e}");
        Ok(())
    }
}

#[test]
fn embeddings_and_hidden_states_are_the_reference_ones() -> Result<()> {
    let names = names()?;
    assert!(names.len() >= 6, "{names:?}");
    for name in names {
        for device in [devices::device(), devices::device().autodiff()] {
            let case = Case::open(&name, device)?;
            let seen = case.encode(&case.towers()?)?;
            case.check(&format!("{name} embeddings"), seen.tokens.clone(), "tokens", limit(1e-4, 1e-3))?;
            let Some(context) = &seen.context else { continue };
            let mut hidden = case.tensor("hidden")?;
            let placed = context.bind(&case.rows(&seen), hidden.dims()[1])?;
            let mut sampler = 0;
            for layer in 0..LAYERS {
                let before = values(hidden.clone())?;
                hidden = case.connector.after_layer(layer, hidden, Some(&placed))?;
                if layer % 2 == 0 {
                    assert_eq!(before, values(hidden.clone())?, "no sampler stands after layer {layer}");
                } else {
                    case.check(
                        &format!("{name} hidden states after layer {layer}"),
                        hidden.clone(),
                        &format!("after.{sampler}"),
                        limit(1e-4, 1e-3),
                    )?;
                    sampler += 1;
                }
            }
            assert_eq!(sampler, 2);
        }
    }
    Ok(())
}

/// Replaces each parameter by its gradient, and by NaN if it has none.
struct InPlace<'a>(&'a Gradients);

impl ModuleMapper for InPlace<'_> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let device = param.val().device().inner();
        let gradient = param.val().grad(self.0).unwrap_or_else(|| Tensor::full(param.dims(), f32::NAN, &device));
        Param::initialized(param.id, gradient)
    }
}

#[test]
fn gradients_are_the_reference_ones() -> Result<()> {
    for name in names()? {
        let case = Case::open(&name, devices::device().autodiff())?;
        let towers = case.towers()?;
        let seen = case.encode(&towers)?;
        let mut loss = (seen.tokens.clone() * case.tensor("toward.tokens")?).sum();
        let hidden = match &seen.context {
            None => None,
            Some(context) => {
                let start = case.tensor("hidden")?.require_grad();
                let placed = context.bind(&case.rows(&seen), start.dims()[1])?;
                let mut hidden = start.clone();
                for layer in 0..LAYERS {
                    hidden = case.connector.after_layer(layer, hidden, Some(&placed))?;
                }
                loss = loss + (hidden * case.tensor("toward.hidden")?).sum();
                Some(start)
            }
        };
        let gradients = loss.backward();
        let gradient = |x: &Tensor<3>| x.grad(&gradients).ok_or_else(|| Error::failed("no gradient"));
        for (k, tower) in towers.iter().enumerate() {
            let what = format!("{name} gradient of encoder {k}");
            case.check(&what, gradient(&tower.tokens)?, &format!("feature_grad.{k}"), 1e-3)?;
        }
        if let Some(hidden) = hidden {
            case.check(&format!("{name} gradient of hidden states"), gradient(&hidden)?, "hidden_grad", 1e-3)?;
        }
        let (mut worst, mut count) = ((0f64, String::new()), 0);
        let expected = Checkpoint::open(&folder().join(format!("{name}.safetensors")))?.inside("grad.")?;
        let in_place = case.connector.clone().map(&mut InPlace(&gradients));
        let (found, dir) = (in_place, tempfile::tempdir()?);
        let file = dir.path().join("gradients.safetensors");
        checkpoint::save(&found, found.dialect(), "", checkpoint::Precision::F32, &file)?;
        let found = Checkpoint::open(&file)?;
        for key in expected.keys() {
            let off = difference(&found.read(key)?, &expected.read(key)?);
            count += 1;
            if off.is_nan() || off > worst.0 {
                worst = (off, key.to_string());
            }
        }
        assert_eq!(count, found.keys().count());
        println!("{name:42} {count} parameters, worst gradient {:.1e} ({})", worst.0, worst.1);
        assert!(worst.0 < 1e-3, "{name}: the gradient of {} differs by {:e}", worst.1, worst.0);
    }
    Ok(())
}

#[test]
fn padding_tokens_may_be_left_out() -> Result<()> {
    let case = Case::open("sva", devices::device())?;
    let seen = case.encode(&case.towers()?)?;
    let visible = seen.visible.clone().ok_or_else(|| Error::failed("nothing is padding"))?;
    let context = seen.context.as_ref().ok_or_else(|| Error::failed("no context"))?;
    assert_eq!(visible.iter().map(|v| v.iter().filter(|v| **v).count()).collect::<Vec<_>>(), [20, 10, 12]);
    let whole = case.tensor("hidden")?;
    let [rows, t, width] = whole.dims();
    // The same sequences without the padding tokens, padded at their ends to equal length.
    let (mut kept, mut places) = (Vec::new(), Vec::new());
    for (i, visible) in visible.iter().enumerate() {
        let row = whole.clone().narrow(0, i, 1);
        let (mut parts, mut positions, mut next) = (Vec::new(), Vec::new(), case.golden.at);
        for (p, v) in visible.iter().enumerate() {
            positions.push(v.then_some(next));
            if *v {
                parts.push(row.clone().narrow(1, case.golden.at + p, 1));
                next += 1;
            }
        }
        let left = t - case.golden.at - parts.len();
        let before = row.clone().narrow(1, 0, case.golden.at);
        let row = Tensor::cat([vec![before], parts, vec![Tensor::zeros([1, left, width], &case.device)]].concat(), 1);
        kept.push(row);
        places.push(ImagePositions { row: i, image: i, positions });
    }
    let kept = Tensor::cat(kept, 0);
    let apply = |hidden: Tensor<3>, rows: &[ImagePositions]| -> Result<Tensor<3>> {
        let placed = context.bind(rows, hidden.dims()[1])?;
        case.connector.after_layer(1, hidden, Some(&placed))
    };
    let (all, some) = (apply(whole, &case.rows(&seen))?, apply(kept, &places)?);
    assert_eq!(places.len(), rows);
    for ImagePositions { row, positions, .. } in places {
        for (p, place) in positions.iter().enumerate() {
            if let Some(place) = place {
                let one = |x: &Tensor<3>, at: usize| values(x.clone().slice([row..row + 1, at..at + 1]));
                let off = difference(&one(&some, *place)?, &one(&all, case.golden.at + p)?);
                assert!(off < limit(1e-5, 1e-4), "image {row} position {p}: {off:e}");
            }
        }
    }
    Ok(())
}

fn kind(text: &str) -> ConnectorKind {
    serde_json::from_str(text).unwrap()
}

#[test]
fn encoders_that_do_not_fit_are_refused() -> Result<()> {
    let case = Case::open("sva", devices::device())?;
    let towers = case.towers()?;
    let e = case.encode(&towers[1..]).unwrap_err();
    assert!(e.to_string().contains("4 encoders, got those of 3"), "{e}");
    let mut swapped = towers.clone();
    swapped.swap(0, 1);
    let e = case.encode(&swapped).unwrap_err();
    assert!(e.to_string().contains("width 9 from encoder 1, got 6"), "{e}");
    let two = [ImageSize { width: 1, height: 1 }; 2];
    assert!(case.connector.forward(&towers, Some(&two)).unwrap_err().to_string().contains("2 image sizes"));

    let sva =
        |more: &str| kind(&format!(r#"{{"sva": {{"hidden": 32, "depth": 1, "query_grids": [4], "grid": 4{more}}}}}"#));
    let e = ConnectorConfig::new(sva(r#", "tower_grids": [6]"#), &[(5, [6, 6])], 8).unwrap_err();
    assert!(
        e.to_string().contains("6x6, which is not a multiple of the query grid of 4x4") && e.hint_text().is_some(),
        "{e}"
    );
    let e = ConnectorConfig::new(sva(r#", "tower_grids": [4, 8]"#), &[(5, [6, 6])], 8).unwrap_err();
    assert!(e.to_string().contains("2 grids for 1 encoders, must have one for each"), "{e}");
    assert!(ConnectorConfig::new(sva(r#", "heads": 5"#), &[(5, [6, 6])], 8).is_err());
    // Without `tower_grids` the grid is the largest multiple that is not finer than the features.
    let config = ConnectorConfig::new(sva(""), &[(5, [6, 6]), (6, [9, 9]), (7, [2, 2])], 8)?;
    assert_eq!(config.towers.iter().map(|t| t.grid).collect::<Vec<_>>(), [4, 8, 4]);
    let released: ConnectorKind = kind(r#"{"sva": {"hidden": 32, "depth": 3, "query_grids": [24], "grid": 24}}"#);
    let config = ConnectorConfig::new(released, &[(5, [27, 27]), (6, [24, 24]), (7, [37, 37]), (8, [96, 96])], 8)?;
    assert_eq!(config.towers.iter().map(|t| t.grid).collect::<Vec<_>>(), [24, 24, 24, 96]);
    Ok(())
}

#[test]
fn drawn_weights_follow_the_seed_and_survive_saving() -> Result<()> {
    let device = devices::device();
    for name in names()? {
        let case = Case::open(&name, device.clone())?;
        let encode =
            |connector: &Connector| values(connector.forward(&case.towers()?, case.sizes().as_deref())?.tokens);
        let draw = |seed| case.golden.config.draw(seed, &device);
        let one = draw(1)?;
        assert_eq!(encode(&one)?, encode(&draw(1)?)?, "{name}");
        assert_ne!(encode(&one)?, encode(&draw(2)?)?, "{name}");
        assert!(encode(&one)?.iter().all(|v| v.is_finite()), "{name}");
        let dir = tempfile::tempdir()?;
        let file = dir.path().join("connector.safetensors");
        checkpoint::save(&one, one.dialect(), "", checkpoint::Precision::F32, &file)?;
        let (again, _) = checkpoint::load(draw(2)?, &Checkpoint::open(&file)?, one.dialect())?;
        assert_eq!(encode(&one)?, encode(&again)?, "{name}");
    }
    Ok(())
}

#[test]
fn standardised_features_do_not_depend_on_the_scale_and_the_statistics_survive_saving() -> Result<()> {
    let device = devices::device();
    for (name, options) in [
        ("linear", r#"{"standardise": true}"#),
        ("mlp2x_gelu", r#"{"standardise": true}"#),
        ("mlp2x_gelu", r#"{"standardise": true, "hidden": 20}"#),
        ("se_mlp", r#"{"standardise": true, "hidden": 5}"#),
    ] {
        let kind = kind(&format!(r#"{{"{name}": {options}}}"#));
        let config = ConnectorConfig::new(kind, &[(6, [4, 4])], 8)?;
        let draws: Vec<f32> = (0..3 * 16 * 6).map(|i| (i * 37 % 101) as f32 / 101.0).collect();
        let map = |scale: f32, shift: f32| {
            let values: Vec<f32> = draws.iter().map(|v| v * scale + shift).collect();
            FeatureMap { tokens: Tensor::from_data(TensorData::new(values, [3, 16, 6]), &device), grid: [4, 4] }
        };
        let of = |map: &FeatureMap| -> Result<Connector> {
            let mut statistics = ChannelStatistics::default();
            statistics.add(map.tokens.clone())?;
            let mut connector = config.draw(1, &device)?;
            connector.set_statistics(statistics)?;
            Ok(connector)
        };
        let encode = |connector: &Connector, map: &FeatureMap| {
            values(connector.forward(std::slice::from_ref(map), None)?.tokens)
        };
        let (small, large) = (map(0.01, -3.0), map(100.0, 40.0));
        let connector = of(&small)?;
        let seen = encode(&connector, &small)?;
        for (a, b) in seen.iter().zip(encode(&of(&large)?, &large)?) {
            assert!((a - b).abs() < 1e-3, "{name}: {a} {b}");
        }
        let dir = tempfile::tempdir()?;
        let file = dir.path().join("connector.safetensors");
        checkpoint::save(&connector, connector.dialect(), "", checkpoint::Precision::F32, &file)?;
        let (again, _) = checkpoint::load(config.init(&device)?, &Checkpoint::open(&file)?, connector.dialect())?;
        assert_eq!(encode(&again, &small)?, seen, "{name}");
    }
    let mut plain = ConnectorConfig::new(ConnectorKind::default(), &[(6, [4, 4])], 8)?.draw(1, &device)?;
    assert!(plain.set_statistics(ChannelStatistics::default()).is_err());
    Ok(())
}
