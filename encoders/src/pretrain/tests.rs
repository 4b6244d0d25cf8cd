use super::*;

const VIT: &str = "architecture = \"vit\"\nimage_size = 8\npatch = 4\nwidth = 8\ndepth = 1\nheads = 2\nmlp_hidden = 16";
const RECIPE: &str = "objective = \"supervised\"\nsteps = 10\nbatch = 2\nlearning_rate = 0.5\nwarmup = 4\nseed = 1";
const DATA: DataShape = DataShape { vocab: 4, context: 4, classes: 2 };

fn run(make: impl FnMut(usize, &Device) -> Result<PretrainBatch>) -> Result<Architecture> {
    let architecture: ArchitectureConfig = toml::from_str(VIT).unwrap();
    let recipe: PretrainRecipe = toml::from_str(RECIPE).unwrap();
    pretrain(&architecture, &recipe, &DATA, &Device::flex(), make, |_| Ok(()))
}

fn batch(value: f32, device: &Device) -> PretrainBatch {
    PretrainBatch {
        pixels: Tensor::full([2, 3, 8, 8], value, device),
        texts: None,
        labels: Some(Tensor::ones([2, 2], device)),
        instances: None,
        inverse_depth: None,
    }
}

#[test]
fn the_learning_rate_rises_then_falls() {
    let recipe: PretrainRecipe = toml::from_str(RECIPE).unwrap();
    let rates: Vec<f64> = (0..10).map(|step| recipe.learning_rate_at(step)).collect();
    assert_eq!(&rates[..5], &[0.125, 0.25, 0.375, 0.5, 0.5]);
    assert!(rates[4..].windows(2).all(|w| w[0] > w[1]) && rates[9] > 0.0);
}

#[test]
fn a_loss_that_is_not_finite_names_the_step() {
    let error = run(|step, device| Ok(batch(if step == 3 { f32::NAN } else { 1.0 }, device))).err().unwrap();
    assert!(error.to_string().contains("at step 3"), "{error}");
    assert!(error.hint_text().is_some());
}

#[test]
fn errors_of_the_source_and_missing_labels_come_through() {
    let error = run(|_, _| Err(Error::failed("the disk is gone"))).err().unwrap();
    assert_eq!(error.to_string(), "the disk is gone");
    let error = run(|_, device| Ok(PretrainBatch { labels: None, ..batch(1.0, device) })).err().unwrap();
    assert!(error.to_string().contains("labels"), "{error}");
    let odd = |_: usize, device: &Device| {
        Ok(PretrainBatch { pixels: Tensor::ones([2, 3, 9, 8], device), ..batch(1.0, device) })
    };
    assert!(run(odd).err().unwrap().to_string().contains("do not divide"));
}

#[test]
fn recipes_round_trip_and_reject_unknown_keys() {
    let recipe: PretrainRecipe = toml::from_str(RECIPE).unwrap();
    let text = toml::to_string(&recipe).unwrap();
    assert_eq!(toml::from_str::<PretrainRecipe>(&text).unwrap(), recipe);
    let error = toml::from_str::<PretrainRecipe>(&format!("{RECIPE}\nwarmpu = 3")).unwrap_err().to_string();
    assert!(error.contains("warmpu"), "{error}");
    let error = toml::from_str::<PretrainRecipe>(&RECIPE.replace("supervised", "simclr")).unwrap_err().to_string();
    assert!(error.contains("simclr") && error.contains("dinov2"), "{error}");
}

#[test]
fn a_long_gradient_is_shortened_as_a_whole() -> Result<()> {
    let device = Device::flex().autodiff();
    let linear = burn::nn::LinearConfig::new(3, 2).init(&device);
    let x = Tensor::<2>::ones([4, 3], &device).mul_scalar(50.0);
    let grads = GradientsParams::from_grads(linear.forward(x).square().sum().backward(), &linear);
    let before: Tensor<2> = grads.get(linear.weight.id).unwrap();
    let (clipped, norm) = clip_gradients(&linear, grads, 1.0)?;
    let after: Tensor<2> = clipped.get(linear.weight.id).unwrap();
    after
        .into_data()
        .assert_approx_eq::<f32>(&before.div_scalar(norm).into_data(), burn::tensor::Tolerance::absolute(1e-6));
    let (same, shorter) = clip_gradients(&linear, clipped, 2.0)?;
    assert!((shorter - 1.0).abs() < 1e-4);
    assert_eq!(same.len(), 2);
    Ok(())
}
