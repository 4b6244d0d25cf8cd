//! Compares losses with PyTorch (`tests/reference/objectives.py`), and tests that every objective has gradients for all
//! parameters, learns, and gives the same bits for the same seed.

use super::*;
use crate::pretrain::{PretrainRecipe, pretrain};
use burgess_base::stream::{stream, uniform};
use burn::module::{ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::{TensorData, Tolerance};
use safetensors::SafeTensors;

/// The goldens, as tensors on a differentiating device.
struct Goldens(Vec<u8>);

impl Goldens {
    fn open() -> Self {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/objectives/losses.safetensors");
        Self(std::fs::read(path).unwrap_or_else(|e| panic!("{path}: {e}")))
    }

    fn get<const D: usize>(&self, name: &str) -> Tensor<D> {
        let file = SafeTensors::deserialize(&self.0).unwrap();
        let view = file.tensor(name).unwrap();
        let values: Vec<f32> =
            view.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
        Tensor::from_data(TensorData::new(values, view.shape().to_vec()), &Device::flex().autodiff())
    }

    fn equal<const D: usize>(&self, name: &str, ours: Tensor<D>) {
        let theirs = self.get::<D>(name).inner().into_data();
        ours.inner().into_data().assert_approx_eq::<f32>(&theirs, Tolerance::absolute(2e-5));
    }

    /// The gradient of `loss` with respect to each tensor must be the golden of that name.
    fn gradients<const D: usize>(&self, loss: Tensor<1>, leaves: &[(&str, &Tensor<D>)]) {
        let grads = loss.backward();
        for (name, x) in leaves {
            self.equal(name, x.grad(&grads).unwrap());
        }
    }
}

fn constant(value: f32) -> Tensor<1> {
    Tensor::from_data([value], &Device::flex().autodiff())
}

#[test]
fn contrastive_losses_equal_open_clip() {
    let g = Goldens::open();
    let leaves = || (g.get::<2>("images").require_grad(), g.get::<2>("texts").require_grad());
    let (images, texts) = leaves();
    let loss = clip::clip_loss(cosine_similarities(images.clone(), texts.clone()), constant(14.0));
    g.equal("clip.loss", loss.clone());
    g.gradients(loss, &[("clip.images.grad", &images), ("clip.texts.grad", &texts)]);

    let (images, texts) = leaves();
    let loss = siglip::sigmoid_loss(cosine_similarities(images.clone(), texts.clone()), constant(10.0), constant(-9.0));
    g.equal("siglip.loss", loss.clone());
    g.gradients(loss, &[("siglip.images.grad", &images), ("siglip.texts.grad", &texts)]);
}

#[test]
fn late_interaction_and_the_soft_maximum_equal_pytorch() {
    let g = Goldens::open();
    let (patches, tokens) = (g.get::<3>("late.patches").require_grad(), g.get::<3>("late.tokens").require_grad());
    let lengths = Tensor::<1, Int>::from_data([5, 2, 3], &patches.device());
    let similarities = late_interaction::token_similarities(patches.clone(), tokens.clone(), lengths);
    g.equal("late.similarities", similarities.clone());
    let leaves = [("late.patches.grad", &patches), ("late.tokens.grad", &tokens)];
    g.gradients(similarities.square().sum(), &leaves);

    let scores = g.get::<3>("soft_maximum.scores").require_grad();
    let pooled = supervised::log_mean_exp(scores.clone());
    g.equal("soft_maximum.pooled", pooled.clone());
    g.gradients(pooled.square().sum(), &[("soft_maximum.grad", &scores)]);
}

#[test]
fn self_distillation_losses_equal_pytorch() {
    let g = Goldens::open();
    let targets = dinov2::sinkhorn_knopp(g.get("dino.teacher"), 0.05, 3);
    g.equal("dino.targets", targets.clone());
    let student = g.get::<2>("dino.student").require_grad();
    let loss = dinov2::cross_entropy(targets, student.clone(), 0.1);
    g.equal("dino.loss", loss.clone());
    g.gradients(loss.mean(), &[("dino.student.grad", &student)]);

    let rows = g.get::<2>("koleo.rows").require_grad();
    let loss = dinov2::koleo_loss(rows.clone());
    g.equal("koleo.loss", loss.clone());
    g.gradients(loss, &[("koleo.grad", &rows)]);
}

#[test]
fn reconstruction_and_label_losses_equal_pytorch() {
    let g = Goldens::open();
    let target = mae::normalised_patches(g.get("mae.pixels"), 4);
    g.equal("mae.target", target.clone());
    let painted = g.get::<3>("mae.painted").require_grad();
    let loss = mae::mae_loss(painted.clone(), target, g.get("mae.hidden"));
    g.equal("mae.loss", loss.clone());
    g.gradients(loss, &[("mae.painted.grad", &painted)]);

    let logits = g.get::<2>("bce.logits").require_grad();
    let loss = supervised::binary_cross_entropy(logits.clone(), g.get("bce.labels"));
    g.equal("bce.loss", loss.clone());
    g.gradients(loss, &[("bce.logits.grad", &logits)]);
}

#[test]
fn contrast_and_prediction_of_features_equal_pytorch() {
    let g = Goldens::open();
    let queries = g.get::<2>("moco.queries").require_grad();
    let loss = mocov3::info_nce(queries.clone(), g.get("moco.keys"), 0.2);
    g.equal("moco.loss", loss.clone());
    g.gradients(loss, &[("moco.queries.grad", &queries)]);
    let rows = g.get::<2>("moco.rows").require_grad();
    let normed = mocov3::standardise(rows.clone());
    g.equal("moco.normed", normed.clone());
    g.gradients((normed * g.get("moco.keys")).sum(), &[("moco.rows.grad", &rows)]);

    let predicted = g.get::<3>("ijepa.predicted").require_grad();
    let target = ijepa::channel_norm(g.get("ijepa.features"));
    g.equal("ijepa.target", target.clone());
    let loss = ijepa::smooth_l1(predicted.clone(), target);
    g.equal("ijepa.loss", loss.clone());
    g.gradients(loss, &[("ijepa.predicted.grad", &predicted)]);
}

#[test]
fn dense_losses_equal_pytorch() {
    let g = Goldens::open();
    let logits = g.get::<2>("sam.logits").require_grad();
    let focal = segment::focal_loss(logits.clone(), g.get("sam.masks"));
    let dice = segment::dice_loss(logits.clone(), g.get("sam.masks"));
    g.equal("sam.focal", focal.clone());
    g.equal("sam.dice", dice.clone());
    g.gradients((focal.mul_scalar(20.0) + dice).sum(), &[("sam.logits.grad", &logits)]);

    let predicted = g.get::<3>("midas.predicted").require_grad();
    let residual = depth::residual(predicted.clone(), g.get("midas.truth"));
    let (data, gradient) = (residual.clone().abs().mean(), depth::gradient_matching(residual, 4));
    g.equal("midas.data", data.clone());
    g.equal("midas.gradient", gradient.clone());
    g.gradients(data + gradient.mul_scalar(0.5), &[("midas.predicted.grad", &predicted)]);

    let network = g.get::<3>("denoise.network").require_grad();
    let weights = [0.2, 0.5, 0.9].map(|t| denoise::NoiseLevel::at(t, 3.0).weight(5.0) as f32);
    let weights = Tensor::from_data(weights, &Device::flex().autodiff());
    let loss = denoise::denoising_loss(network.clone(), g.get("denoise.clean"), weights);
    g.equal("denoise.loss", loss.clone());
    g.gradients(loss, &[("denoise.network.grad", &network)]);
}

const DATA: DataShape = DataShape { vocab: 20, context: 6, classes: 3 };

/// A fixed batch of six tiny images: a bright bar whose place is said by caption and label.
fn batch(device: &Device) -> PretrainBatch {
    let (count, side) = (6usize, 16usize);
    let mut draws = stream("test/pixels", 0);
    let mut pixels = Vec::new();
    for i in 0..count {
        for at in 0..3 * side * side {
            let noise = uniform(&mut draws) as f32 - 0.5;
            pixels.push(noise + if (at % side) / 3 == i { 2.0 } else { 0.0 });
        }
    }
    let ids: Vec<i64> = (0..count as i64).flat_map(|i| [1, 3 + i, 10 + i, 2, 0, 0]).collect();
    let labels: Vec<f32> = (0..count).flat_map(|i| (0..3).map(move |c| if i % 3 == c { 1.0 } else { 0.0 })).collect();
    PretrainBatch {
        pixels: Tensor::from_data(TensorData::new(pixels, [count, 3, side, side]), device),
        texts: Some(TokenizedCaptions {
            ids: Tensor::from_data(TensorData::new(ids, [count, 6]), device),
            lengths: Tensor::from_data(TensorData::new(vec![4i64; count], [count]), device),
        }),
        labels: Some(Tensor::from_data(TensorData::new(labels, [count, 3]), device)),
        // The bar is the one instance, and nearer than the rest.
        instances: Some(bars(count, side, device).int()),
        inverse_depth: Some(bars(count, side, device)),
    }
}

/// One where the bar of a test image is, `[count, side, side]`.
fn bars(count: usize, side: usize, device: &Device) -> Tensor<3> {
    let bar = |at: usize| if (at % side) / 3 == at / (side * side) { 1.0f32 } else { 0.0 };
    Tensor::from_data(TensorData::new((0..count * side * side).map(bar).collect(), [count, side, side]), device)
}

const VIT: &str =
    "architecture = \"vit\"\nimage_size = 16\npatch = 4\nwidth = 16\ndepth = 2\nheads = 2\nmlp_hidden = 32\n";
const CONVNEXT: &str = "architecture = \"convnext\"\nimage_size = 16\nstem = 2\ndepths = [1, 1, 1, 1]\ndims = [8, 8, 16, 16]\nlayer_scale = 0.1\n";
const TEXT: &str = "embed = 8\ncrop = [1.0, 1.0]\ntext = { width = 16, depth = 1, heads = 2 }";

/// Every objective at a tiny size, with an architecture it is used with.
fn cases() -> Vec<(&'static str, ArchitectureConfig, PretrainRecipe)> {
    let clip = format!("objective = \"clip\"\n{TEXT}");
    let siglip = format!("objective = \"siglip\"\n{TEXT}");
    let dino = "objective = \"dinov2\"\nprototypes = 16\nhidden = 16\nbottleneck = 8\nlocal_size = 8";
    let mae = "objective = \"mae\"\ndecoder_width = 16\ndecoder_depth = 1\ndecoder_heads = 2\ncrop = [1.0, 1.0]";
    let supervised = "objective = \"supervised\"\ncrop = [1.0, 1.0]";
    let moco = "objective = \"mocov3\"\nhidden = 16\nembed = 8\ncrop = [0.8, 1.0]\njitter = 0.1";
    let ijepa = "objective = \"ijepa\"\nblocks = 2\npredictor_width = 16\npredictor_depth = 1\npredictor_heads = 2\n\
                 momentum = 0.9\ncrop = [1.0, 1.0]";
    let segment = "objective = \"segment\"\nprompts = 2\nwidth = 16\ndepth = 1\nheads = 2\ncrop = [1.0, 1.0]";
    let depth = "objective = \"depth\"\nhidden = 16\ncrop = [1.0, 1.0]";
    let denoise = "objective = \"denoise\"\ntime_channels = 16\ncrop = [1.0, 1.0]";
    [
        ("clip", VIT, "", clip.as_str()),
        ("clip on convnext", CONVNEXT, "", clip.as_str()),
        ("siglip", VIT, "class_token = false", siglip.as_str()),
        ("siglip on convnext", CONVNEXT, "", siglip.as_str()),
        ("dinov2", VIT, "layer_scale = 0.1", dino),
        ("mae", VIT, "", mae),
        ("supervised", VIT, "", supervised),
        ("supervised on convnext", CONVNEXT, "", supervised),
        ("mocov3", VIT, "class_token = false", moco),
        ("mocov3 on convnext", CONVNEXT, "", moco),
        ("ijepa", VIT, "class_token = false", ijepa),
        ("segment", VIT, "class_token = false", segment),
        ("depth", VIT, "", depth),
        ("denoise", VIT, "class_token = false", denoise),
    ]
    .into_iter()
    .map(|(name, architecture, more, objective)| {
        let architecture = toml::from_str(&format!("{architecture}{more}")).unwrap_or_else(|e| panic!("{name}: {e}"));
        let recipe = format!("steps = 30\nbatch = 6\nlearning_rate = 0.003\nseed = 5\n{objective}");
        (name, architecture, toml::from_str(&recipe).unwrap_or_else(|e| panic!("{name}: {e}")))
    })
    .collect()
}

#[test]
fn every_objective_is_tested() {
    let cases = cases();
    for name in Objective::NAMES {
        assert!(cases.iter().any(|case| case.0 == *name), "{name}");
    }
}

#[test]
fn missing_targets_are_named() {
    let device = Device::flex().autodiff();
    for (name, architecture, recipe) in cases() {
        let only_pixels =
            PretrainBatch { texts: None, labels: None, instances: None, inverse_depth: None, ..batch(&device) };
        let needs = recipe.objective.targets();
        let result = recipe.objective.with_learner(&architecture, &DATA, &device, 1, Loses(only_pixels));
        match result.err() {
            None => assert_eq!(needs, Targets::NONE, "{name}"),
            Some(error) => assert!(needs != Targets::NONE && error.to_string().contains("needs"), "{name}: {error}"),
        }
        let square = Tensor::<3>::ones([6, 4, 4], &device);
        let wrong =
            PretrainBatch { instances: Some(square.clone().int()), inverse_depth: Some(square), ..batch(&device) };
        let result = recipe.objective.with_learner(&architecture, &DATA, &device, 1, Loses(wrong));
        assert_eq!(result.is_err(), needs.instances || needs.inverse_depth, "{name}");
    }
}

/// Whether the loss of a batch can be had.
struct Loses(PretrainBatch);

impl LearnerVisitor for Loses {
    type Output = ();

    fn call<L: Learner>(self, learner: L) -> Result<()> {
        learner.loss(&self.0, &mut StepContext { step: 0, steps: 10, stream: stream("test", 0) }).map(|_| ())
    }
}

/// Names the parameters that the loss of one batch does not reach.
struct Unreached;

impl LearnerVisitor for Unreached {
    type Output = (usize, Vec<String>);

    fn call<L: Learner>(self, learner: L) -> Result<Self::Output> {
        struct Visit<'a>(&'a GradientsParams, Vec<String>, usize, Vec<String>);
        impl ModuleVisitor for Visit<'_> {
            fn enter_module(&mut self, name: &str, _: &str) {
                self.1.push(name.to_string());
            }
            fn exit_module(&mut self, _: &str, _: &str) {
                self.1.pop();
            }
            fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
                let size = self.0.get::<D>(param.id).map_or(0.0, |g| g.abs().sum().into_scalar::<f32>());
                self.2 += 1;
                if size == 0.0 || !size.is_finite() {
                    self.3.push(self.1.join("."));
                }
            }
        }
        let mut context = StepContext { step: 0, steps: 10, stream: stream("test", 0) };
        let loss = learner.loss(&batch(&Device::flex().autodiff()), &mut context)?;
        let grads = GradientsParams::from_grads(loss.total.backward(), &learner);
        let mut visit = Visit(&grads, Vec::new(), 0, Vec::new());
        learner.visit(&mut visit);
        Ok((visit.2, visit.3))
    }
}

#[test]
fn gradients_reach_every_parameter() -> Result<()> {
    for (name, architecture, recipe) in cases() {
        let device = Device::flex().autodiff();
        let (count, unreached) = recipe.objective.with_learner(&architecture, &DATA, &device, 1, Unreached)?;
        assert!(count > 20 && unreached.is_empty(), "{name}: {unreached:?} of {count}");
    }
    Ok(())
}

/// The losses of a short training, and the trained features.
fn train(architecture: &ArchitectureConfig, recipe: &PretrainRecipe) -> Result<(Vec<f64>, TensorData)> {
    let device = Device::flex();
    let mut losses = Vec::new();
    let encoder = pretrain(
        architecture,
        recipe,
        &DATA,
        &device,
        |_, device| Ok(batch(device)),
        |report| {
            losses.push(report.loss);
            Ok(())
        },
    )?;
    let features = encoder.forward(batch(&device).pixels, &Default::default())?;
    Ok((losses, features.tokens.into_data()))
}

#[test]
fn every_objective_learns_and_repeats_to_the_bit() -> Result<()> {
    for (name, architecture, recipe) in cases() {
        let (losses, features) = train(&architecture, &recipe)?;
        let first: f64 = losses[..5].iter().sum();
        let last: f64 = losses[losses.len() - 5..].iter().sum();
        assert!(last < 0.95 * first, "{name}: {losses:?}");
        let (again, same) = train(&architecture, &recipe)?;
        assert_eq!(losses, again, "{name}");
        assert_eq!(features, same, "{name}");
    }
    Ok(())
}

#[test]
fn wrong_pairings_are_refused_with_a_hint() {
    let device = Device::flex().autodiff();
    let cases = cases();
    let (_, convnext, _) = &cases[1];
    for name in ["mae", "dinov2", "ijepa", "segment", "depth", "denoise"] {
        let (_, _, recipe) = cases.iter().find(|c| c.0 == name).unwrap();
        let error = recipe.objective.with_learner(convnext, &DATA, &device, 0, Unreached).err();
        assert!(error.is_some_and(|e| e.to_string().contains(name) && e.hint_text().is_some()));
    }
}
