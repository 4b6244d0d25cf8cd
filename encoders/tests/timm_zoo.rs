//! timm's architectures by directory: names and shapes of the tensors, features, gradients and cost equal timm's (made
//! by `tests/reference/timm_zoo.py`). Weights are made here by the same rule as there.
//!
//! `BURGESS_CASE=regnet` restricts the tests to the cases whose names begin so.

#[path = "../../tests/compare_tensors.rs"]
mod compare_tensors;
#[path = "../../tests/devices.rs"]
mod devices;

use burgess_base::Result;
use burgess_encoders::arch::Tap;
use burgess_encoders::card::EncoderCard;
use burgess_encoders::checkpoint::{Checkpoint, Precision};
use burgess_encoders::encoder::Encoder;
use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};
use compare_tensors::{Gradients, difference};
use devices::{cases, device, limit};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

type Shapes = BTreeMap<String, Vec<usize>>;

/// The files of all cases, sorted by name.
fn all() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/timm-zoo");
    let prefix = std::env::var("BURGESS_CASE").unwrap_or_default();
    let files = std::fs::read_dir(folder).unwrap().map(|item| item.unwrap().path());
    let mut files: Vec<PathBuf> = files.filter(|path| name(path).starts_with(&prefix)).collect();
    files.sort();
    assert!(!files.is_empty(), "there is no case `{prefix}…`");
    files
}

fn name(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

/// `count` numbers in [-1, 1), which follow from the name.
fn uniform(name: &str, count: usize) -> impl Iterator<Item = f64> {
    let seed = name
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    (1..=count as u64).map(move |i| {
        let z = seed.wrapping_add(i.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 40) as f64 / f64::from(1 << 23) - 1.0
    })
}

/// The tensor `name`: kernels are scaled by their inputs, scales are near 1, variances are positive.
fn values(name: &str, shape: &[usize], variance: f64) -> Vec<f32> {
    let leaf = name.rsplit('.').next().unwrap_or_default();
    let (base, scale) = match (leaf, shape) {
        ("running_var", _) => (variance, 0.5 * variance),
        // The kernels of all experts, flattened.
        ("weight", [_, _]) if name.contains(".conv_") => (0.0, 0.3),
        ("gain", _) => (1.0, 0.3),
        ("weight", [_, rest @ ..]) if !rest.is_empty() => {
            let gain = if rest.len() == 1 { 3.0 } else { 6.0 };
            (0.0, (gain / rest.iter().product::<usize>() as f64).sqrt())
        }
        (_, [_, _, ..]) => (0.0, 0.5),
        ("weight", _) | (_, []) => (1.0, 0.3),
        _ if name.ends_with(".lab.scale") => (1.0, 0.3),
        ("bias" | "running_mean", _) => (0.0, 0.2),
        _ => (0.5, 0.3),
    };
    uniform(name, shape.iter().product()).map(|u| (base + scale * u) as f32).collect()
}

/// The tensors of a golden file: shape and values by name. A [`Checkpoint`] would take `blocks.1.0.` for a chunk.
struct Golden(BTreeMap<String, (Vec<usize>, Vec<f32>)>);

impl Golden {
    fn open(bytes: &[u8]) -> Self {
        let read = |tensor: TensorView| {
            let values = tensor.data().as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
            (tensor.shape().to_vec(), values)
        };
        Self(SafeTensors::deserialize(bytes).unwrap().iter().map(|(name, t)| (name.to_string(), read(t))).collect())
    }

    fn keys(&self) -> impl Iterator<Item = &String> {
        self.0.keys()
    }
}

/// A case with its directory of weights in `dir`.
struct Case {
    name: String,
    expected: Golden,
    card: EncoderCard,
    multiply_adds: u64,
}

impl Case {
    /// Writes `config.json` and the weights, and derives the card.
    fn open(path: &Path, dir: &Path) -> Result<Self> {
        let bytes = std::fs::read(path).unwrap();
        let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
        let metadata: &HashMap<String, String> = header.metadata().as_ref().unwrap();
        let dir = dir.join(name(path));
        std::fs::create_dir(&dir).unwrap();
        let file = metadata.get("file").map_or("config.json", String::as_str);
        std::fs::write(dir.join(file), &metadata["config"]).unwrap();
        let floats: Shapes = serde_json::from_str(&metadata["floats"]).unwrap();
        let variance = metadata.get("variance").map_or(1.0, |text| text.parse().unwrap());
        let others: Shapes = serde_json::from_str(&metadata["others"]).unwrap();
        let mut tensors: Vec<(&String, Dtype, &[usize], Vec<u8>)> = Vec::new();
        for (key, shape) in &floats {
            let bytes = values(key, shape, variance).into_iter().flat_map(f32::to_le_bytes).collect();
            tensors.push((key, Dtype::F32, shape, bytes));
        }
        for (key, shape) in &others {
            tensors.push((key, Dtype::I64, shape, vec![0; 8 * shape.iter().product::<usize>()]));
        }
        let views = tensors
            .iter()
            .map(|(key, dtype, shape, bytes)| (key, TensorView::new(*dtype, shape.to_vec(), bytes).unwrap()));
        safetensors::serialize_to_file(views, None, &dir.join("model.safetensors")).unwrap();
        Ok(Self {
            name: name(path),
            expected: Golden::open(&bytes),
            card: EncoderCard::open(&dir.display().to_string())?,
            multiply_adds: metadata["multiply_adds"].parse().unwrap(),
        })
    }

    /// The images of the reference and its mirror image, `[2, 3, size, size]`: the features of the first must not
    /// depend on the second.
    fn pixels(&self, device: &Device) -> Tensor<4> {
        let size = self.card.preprocess.size;
        let one: Vec<f32> = uniform("pixels", 3 * size * size).map(|u| 2.0 * u as f32).collect();
        let one = Tensor::<4>::from_data(TensorData::new(one, [1, 3, size, size]), device);
        Tensor::cat(vec![one.clone(), one.flip([3])], 0)
    }

    fn difference(&self, key: &str, found: &[f32]) -> f64 {
        let (shape, reference) = &self.expected.0[key];
        assert_eq!(found.len(), reference.len(), "{}: {key} should have the shape {shape:?}", self.name);
        difference(found, reference)
    }
}

#[test]
fn features_and_costs_equal_timms() -> Result<()> {
    let (dir, device, mut wrong) = (tempfile::tempdir().unwrap(), device(), Vec::new());
    for path in cases(&all(), &[0]) {
        let case = Case::open(&path, dir.path())?;
        let encoder = Encoder::load(case.card.clone(), None, &device).map_err(|e| e.context(case.name.clone()))?;
        let layers = case.expected.keys().filter_map(|key| key.strip_prefix("features."));
        let layers: Vec<i32> = layers.map(|layer| layer.parse().unwrap()).collect();
        let taps = layers.iter().map(|&layer| (format!("features.{layer}"), Tap { layer, ..Tap::default() }));
        for (key, tap) in taps.chain([("features".to_string(), case.card.tap.clone())]) {
            let found = encoder.arch.forward(case.pixels(&device), &tap)?;
            assert_eq!(found.grid, case.card.architecture.grid(&tap)?, "{}: grid of {key}", case.name);
            assert_eq!(found.tokens.dims()[2], case.card.architecture.width(&tap)?, "{}: width of {key}", case.name);
            let first = found.tokens.narrow(0, 0, 1).into_data().try_into_vec_as::<f32>().unwrap();
            let error = case.difference(&key, &first);
            println!("{:32} {key} {error:.1e}", case.name);
            if error.is_nan() || error >= limit(1e-4, 1e-3) {
                wrong.push(format!("{}: {key} differ by {error:e}", case.name));
            }
        }
        let counted = case.card.architecture.flops(&case.card.tap)? / 2;
        if counted.abs_diff(case.multiply_adds) * 200 > case.multiply_adds {
            wrong.push(format!("{}: {counted} multiply-adds instead of {}", case.name, case.multiply_adds));
        }
        let parameters: usize = encoder.arch.num_params();
        assert_eq!(parameters as u64, case.card.source.parameters, "{}", case.name);
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    Ok(())
}

#[test]
fn gradients_equal_timms() -> Result<()> {
    let (dir, device, mut wrong) = (tempfile::tempdir().unwrap(), device().autodiff(), Vec::new());
    for path in cases(&all(), &[0]) {
        let case = Case::open(&path, dir.path())?;
        let mut encoder = Encoder::load(case.card.clone(), None, &device)?;
        let features = encoder.arch.forward(case.pixels(&device).narrow(0, 0, 1), &case.card.tap)?.tokens;
        let [_, tokens, width] = features.dims();
        let projection: Vec<f32> = uniform("projection", tokens * width).map(|u| u as f32).collect();
        let projection = Tensor::<3>::from_data(TensorData::new(projection, [1, tokens, width]), &device);
        let gradients = (features * projection).sum().backward();
        encoder.arch = encoder.arch.map(&mut Gradients(gradients));
        let path = dir.path().join(format!("{}.safetensors", case.name));
        encoder.save(Precision::F32, &path)?;
        let found = Checkpoint::open(&path)?;
        for key in case.expected.keys().filter_map(|key| key.strip_prefix("gradient.")) {
            let error = case.difference(&format!("gradient.{key}"), &found.read(key)?);
            println!("{:32} gradient {error:.1e} {key}", case.name);
            if error.is_nan() || error >= 1e-3 {
                wrong.push(format!("{}: the gradient of {key} differs by {error:e}", case.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    Ok(())
}
