//! Images per second of the nano encoders: `cargo bench -p burgess-encoders`. Features at batch 1, 8 and 32, and
//! one pretraining step of each objective at batch 64.

use burgess_encoders::arch::{ArchitectureConfig, Tap};
use burgess_encoders::init::initialise;
use burgess_encoders::objective::{DataShape, Objective, PretrainBatch, TokenizedCaptions};
use burgess_encoders::pretrain::{PretrainRecipe, pretrain};
use burn::module::Module;
use burn::tensor::{Device, Int, Tensor};
use divan::Bencher;
use divan::counter::ItemsCount;

fn main() {
    divan::main();
}

const VIT: &str =
    "architecture = \"vit\"\nimage_size = 96\npatch = 16\nwidth = 128\ndepth = 4\nheads = 4\nmlp_hidden = 512\n";
const PATCH_VIT: &str = "architecture = \"vit\"\nimage_size = 96\npatch = 16\nwidth = 128\ndepth = 4\nheads = 4\nmlp_hidden = 512\nclass_token = false";
const CONVNEXT: &str = "architecture = \"convnext\"\nimage_size = 96\nstem = 2\ndepths = [1, 1, 3, 1]\ndims = [24, 48, 96, 192]\nlayer_scale = 0.1";

fn architecture(text: &str) -> ArchitectureConfig {
    toml::from_str(text).unwrap_or_else(|e| panic!("{e}"))
}

fn pixels(batch: usize, device: &Device) -> Tensor<4> {
    Tensor::<1, Int>::arange(0..(batch * 3 * 96 * 96) as i64, device)
        .remainder_scalar(251)
        .float()
        .div_scalar(125.0)
        .sub_scalar(1.0)
        .reshape([batch, 3, 96, 96])
}

/// One in a square in the middle, `[batch, 96, 96]`.
fn squares(batch: usize, device: &Device) -> Tensor<3> {
    Tensor::<3>::ones([batch, 32, 32], device).pad((32, 32, 32, 32), 0.0)
}

fn features(bencher: Bencher, text: &str, batch: usize) {
    let device = Device::flex();
    let Ok(encoder) = architecture(text).init(&device) else { return };
    let encoder = initialise(encoder, "bench", 0).valid();
    let pixels = pixels(batch, &device);
    bencher
        .counter(ItemsCount::new(batch))
        .bench_local(|| encoder.forward(pixels.clone(), &Tap::default()).map(|f| f.tokens.into_data()));
}

#[divan::bench(args = [1, 8, 32])]
fn vit_features(bencher: Bencher, batch: usize) {
    features(bencher, VIT, batch);
}

#[divan::bench(args = [1, 8, 32])]
fn convnext_features(bencher: Bencher, batch: usize) {
    features(bencher, CONVNEXT, batch);
}

/// Every objective, and one on a ConvNeXt.
fn objectives() -> impl Iterator<Item = &'static str> {
    Objective::NAMES.iter().copied().chain(["clip-convnext"])
}

#[divan::bench(args = objectives(), sample_count = 3)]
fn pretraining_step(bencher: Bencher, name: &str) {
    const BATCH: usize = 64;
    const STEPS: usize = 3;
    let (objective, encoder) = match name {
        "clip-convnext" => ("clip", CONVNEXT),
        "clip" | "dinov2" | "mae" => (name, VIT),
        other => (other, PATCH_VIT),
    };
    let encoder = architecture(encoder);
    let recipe = format!("objective = \"{objective}\"\nsteps = {STEPS}\nbatch = {BATCH}\nlearning_rate = 0.001");
    let recipe: PretrainRecipe = toml::from_str(&recipe).unwrap_or_else(|e| panic!("{e}"));
    let data = DataShape { vocab: 1000, context: 24, classes: 100 };
    let make = |device: &Device| PretrainBatch {
        pixels: pixels(BATCH, device),
        texts: Some(TokenizedCaptions {
            ids: Tensor::<1, Int>::arange(0..(BATCH * 24) as i64, device).remainder_scalar(1000).reshape([BATCH, 24]),
            lengths: Tensor::full([BATCH], 20, device),
        }),
        labels: Some(Tensor::zeros([BATCH, 100], device)),
        instances: Some(squares(BATCH, device).int()),
        inverse_depth: Some(squares(BATCH, device)),
    };
    let fixed = make(&Device::flex().autodiff());
    bencher.counter(ItemsCount::new(BATCH * STEPS)).bench_local(|| {
        pretrain(&encoder, &recipe, &data, &Device::flex(), |_, _| Ok(fixed.clone()), |_| Ok(())).map(|_| ())
    });
}
