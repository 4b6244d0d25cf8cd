//! The precision of an encoder's matrix products.

use crate::arch::Architecture;
use crate::kernel::bf16;
use burgess_base::{Error, Result};
use burn::tensor::Device;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// The precision of the matrix products of a frozen encoder; everything else is computed in f32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum ComputePrecision {
    /// f32.
    #[default]
    F32,
    /// Weights and inputs of linear layers, queries, keys, values and attention weights are rounded to bf16, and sums
    /// are f32. Weights are held as bf16 only. On the device `flex`, on processors with AVX-512 BF16.
    Bf16,
}

impl ComputePrecision {
    /// The name in cards and studies and on the command line: `f32` or `bf16`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
        }
    }

    /// Whether this is f32, the default.
    #[allow(clippy::trivially_copy_pass_by_ref, reason = "serde's `skip_serializing_if` passes a reference")]
    pub fn is_f32(&self) -> bool {
        *self == Self::F32
    }

    /// Checks that encoders can compute in this precision on `device` of this machine.
    ///
    /// # Errors
    /// They cannot: bf16 needs the device `flex` and a processor with AVX-512 BF16.
    pub fn check_device(self, device: &Device) -> Result<()> {
        const HINT: &str = "leave `precision` out: f32 is the default";
        match self {
            Self::F32 => Ok(()),
            Self::Bf16 if *device != Device::flex() => {
                Err(Error::usage("the precision bf16 of an encoder is for the device flex only").hint(HINT))
            }
            Self::Bf16 if !bf16::is_supported() => {
                Err(Error::usage("this processor has no bf16 arithmetic (AVX-512 BF16)").hint(HINT))
            }
            Self::Bf16 => Ok(()),
        }
    }
}

impl fmt::Display for ComputePrecision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for ComputePrecision {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        match name {
            "f32" => Ok(Self::F32),
            "bf16" => Ok(Self::Bf16),
            other => Err(Error::usage(format!("unknown precision `{other}`")).hint("known: f32, bf16")),
        }
    }
}

impl Architecture {
    /// Returns the network with its matrix products in this precision, for inference on `device`. In bf16 it keeps no
    /// weights in f32: it cannot be trained any more.
    ///
    /// # Errors
    /// The architecture, the device or the processor does not compute in bf16.
    pub fn in_precision(self, precision: ComputePrecision, device: &Device) -> Result<Self> {
        if precision.is_f32() {
            return Ok(self);
        }
        self.config().check_precision(precision)?;
        precision.check_device(device)?;
        Ok(bf16::pack_weights(self))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::{ArchitectureConfig, Tap};
    use crate::init::initialise;
    use crate::{Encoder, RgbImage};
    use burn::module::{Module, ModuleVisitor, Param};
    use burn::tensor::{Tensor, TensorData};

    const SMALL: &str = "image_size = 32\npatch = 8\nwidth = 48\ndepth = 2\nheads = 2\nmlp_hidden = 80\n";

    /// Counts packed weights, and those of them that something has unpacked to f32.
    #[derive(Default)]
    struct PackedWeights {
        count: usize,
        unpacked: usize,
        last: bool,
    }

    impl ModuleVisitor for PackedWeights {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.last = param.is_initialized();
        }

        fn enter_module(&mut self, _name: &str, container: &str) {
            if container == "Reparameterization" {
                self.count += 1;
                self.unpacked += usize::from(self.last);
            }
        }
    }

    fn difference(a: &[f32], b: &[f32]) -> f64 {
        let off: f64 = a.iter().zip(b).map(|(a, b)| f64::from(a - b).powi(2)).sum();
        let size: f64 = b.iter().map(|b| f64::from(*b).powi(2)).sum();
        (off / size).sqrt()
    }

    #[test]
    fn features_in_bf16_are_those_in_f32_but_for_rounding() {
        let sam = "window = 3\nglobal_blocks = [1]\n";
        let convnext = "architecture = \"convnext\"\nimage_size = 64\nlayer_scale = 1.0\n\
            depths = [1, 1, 1, 1]\ndims = [16, 24, 32, 40]\n";
        let cases: [(&str, &[&str]); 4] = [
            (
                "vit",
                &[
                    "",
                    "layer_scale = 0.5\nactivation = \"swiglu\"\nqk_norm = \"head\"\nnorm = \"rms\"\n",
                    "parallel = true\nqk_norm = \"width\"\n",
                    "post_norm = true\nactivation = \"quick_gelu\"\n",
                    "inner_norms = true\nactivation = \"gelu_tanh\"\nrelative_positions = true\n",
                ],
            ),
            ("native-vit", &["rotary = \"halves\"\n", "rotary = \"halves\"\nwindow = 2\nfull_blocks = [1]\n"]),
            ("sam", &[sam]),
            ("convnext", &[convnext]),
        ];
        let device = Device::flex();
        for (name, options) in cases {
            for options in options {
                let text = match name {
                    "convnext" => (*options).to_string(),
                    _ => format!("architecture = \"{name}\"\n{SMALL}{options}"),
                };
                let config: ArchitectureConfig = toml::from_str(&text).unwrap();
                assert!(config.check_precision(ComputePrecision::Bf16).is_ok());
                let network = initialise(config.init(&device).unwrap(), "bf16", 1);
                let side = config.image_size();
                let values: Vec<f32> =
                    (0..2 * 3 * side * side).map(|i| ((i * 7919) % 1009) as f32 / 504.5 - 1.0).collect();
                let pixels: Tensor<4> = Tensor::from_data(TensorData::new(values, [2, 3, side, side]), &device);
                let run = |network: &Architecture, pixels: Tensor<4>| -> Vec<f32> {
                    network.forward(pixels, &Tap::default()).unwrap().tokens.into_data().iter::<f32>().collect()
                };
                let wanted = run(&network, pixels.clone());
                let packed = bf16::pack_weights(network);
                let found = run(&packed, pixels.clone());
                let off = difference(&found, &wanted);
                assert!((1e-4..1e-2).contains(&off), "{name} {options}: {off}");
                let mut weights = PackedWeights::default();
                packed.visit(&mut weights);
                assert!(weights.count >= 4 && weights.unpacked == 0, "{name} {options}: {}", weights.unpacked);
                let alone = run(&packed, pixels.narrow(0, 1, 1));
                assert_eq!(alone, found[found.len() / 2..], "{name} {options}: depends on the batch");
            }
        }
    }

    #[test]
    fn what_does_not_compute_in_bf16_says_so() -> Result<()> {
        let device = Device::flex();
        let mut card = crate::EncoderCard::open("nano-sup")?;
        card.precision = ComputePrecision::Bf16;
        assert!(card.check_trainable().is_err_and(|e| e.hint_text().is_some()));
        let image = [RgbImage::from_fn(96, 96, |x, y| image::Rgb([x as u8, y as u8, 90]))];
        match Encoder::load(card, None, &device) {
            Ok(encoder) => {
                assert!(bf16::is_supported());
                let wanted = Encoder::from_id("nano-sup", &device)?.encode(&image, 1)?.values;
                let off = difference(&encoder.encode(&image, 1)?.values, &wanted);
                assert!((1e-4..1e-2).contains(&off), "{off}");
                assert!(encoder.save(crate::checkpoint::Precision::F32, "never".as_ref()).is_err());
            }
            Err(e) => assert!(!bf16::is_supported() && e.hint_text().is_some()),
        }
        let swin = crate::EncoderCard::open("swinv2-b-256")?.architecture;
        let refused = swin.check_precision(ComputePrecision::Bf16).expect_err("swin");
        assert!(refused.to_string().contains("`swin`") && refused.hint_text().is_some(), "{refused}");
        assert!("f16".parse::<ComputePrecision>().is_err());
        Ok(())
    }
}
