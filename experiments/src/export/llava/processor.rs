//! The preprocessing of images as a processor of `transformers` (`LlavaImageProcessor`).

use burgess_encoders::preprocess::{Fit, Interpolation, Preprocess};
use serde_json::{Value, json};

/// The preprocessing that `LlavaImageProcessor` does.
#[derive(Clone, Debug)]
pub struct ImageProcessor {
    /// The preprocessing as Burgess states it, with the mean of the processor.
    pub preprocess: Preprocess,
    /// What must be added to the processor's normalised channels to get those of the original preprocessing.
    pub shift: [f64; 3],
    /// `preprocessor_config.json`.
    pub config: Value,
}

impl ImageProcessor {
    /// Plans the processor; an error says in words why it cannot do the same.
    ///
    /// The processor pads with the mean colour. Where Burgess pads with another colour, that colour is declared the
    /// mean, and [`ImageProcessor::shift`] corrects the difference after normalisation, which is the same for all
    /// pixels.
    pub fn plan(own: &Preprocess) -> Result<Self, String> {
        if own.enlarge.is_some() {
            return Err("its images are resized twice (the preprocessing `cambrian-1`)".into());
        }
        if !matches!(own.fit, Fit::Pad | Fit::Squash) {
            return Err(format!("its images are {}, which LLaVA's processor does otherwise", own.fit.words()));
        }
        let enlarged = ((own.size as f64 / own.crop_pct) as usize).max(own.size);
        let margin = enlarged - own.size;
        if margin > 0 && own.fit == Fit::Squash {
            return Err("its images are distorted and cropped, which LLaVA's processor does otherwise".into());
        }
        // The processor rounds down; so does Burgess, except for these margins of torchvision.
        if margin % 4 == 3 && !own.crop_floor {
            return Err("its images are cropped with another rounding than LLaVA's processor has".into());
        }
        let mut preprocess = own.clone();
        let mut shift = [0.0; 3];
        if own.fit == Fit::Pad {
            let pads_with = |mean: f32| (shortest(mean) * 255.0) as u8;
            for (i, pad) in own.pad.iter().enumerate() {
                let (Some(mean), Some(shift), Some(std)) =
                    (preprocess.mean.get_mut(i), shift.get_mut(i), own.std.get(i))
                else {
                    continue;
                };
                if pads_with(*mean) != *pad {
                    let other = (f32::from(*pad) + 0.5) / 255.0;
                    *shift = (f64::from(other) - f64::from(*mean)) / f64::from(*std);
                    *mean = other;
                }
            }
        }
        let side = |side: usize| match own.fit {
            Fit::Squash => json!({"height": side, "width": side}),
            _ => json!({"shortest_edge": side}),
        };
        let numbers = |values: [f32; 3]| values.map(shortest);
        let config = json!({
            "image_processor_type": "LlavaImageProcessor",
            "processor_class": "LlavaProcessor",
            "do_convert_rgb": true,
            "do_pad": own.fit == Fit::Pad,
            "do_resize": true,
            "size": side(enlarged),
            "default_to_square": false,
            "resample": resample(own.interpolation),
            "do_center_crop": true,
            "crop_size": {"height": own.size, "width": own.size},
            "do_rescale": true,
            "rescale_factor": 1.0 / 255.0,
            "do_normalize": true,
            "image_mean": numbers(preprocess.mean),
            "image_std": numbers(preprocess.std),
        });
        Ok(Self { preprocess, shift, config })
    }
}

/// Returns an `f32` as the `f64` whose shortest decimal form is that of the `f32`, so that files show 0.48145466.
fn shortest(value: f32) -> f64 {
    value.to_string().parse().unwrap_or_else(|_| f64::from(value))
}

/// Number of an interpolation in Pillow.
fn resample(interpolation: Interpolation) -> u8 {
    match interpolation {
        Interpolation::Lanczos => 1,
        Interpolation::Bilinear => 2,
        Interpolation::Bicubic => 3,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burgess_base::Result;
    use burgess_encoders::card::EncoderCard;

    #[test]
    fn the_padding_colour_is_the_mean_or_becomes_it() -> Result<()> {
        let plan = |id: &str| -> Result<ImageProcessor> {
            let card = EncoderCard::find(id)?;
            ImageProcessor::plan(&card.preprocess).map_err(burgess_base::Error::failed)
        };
        let clip = plan("nano-clip")?;
        assert_eq!(clip.shift, [0.0; 3]);
        // Files show the shortest decimals that are the same 32-bit floats.
        let written = clip.config["image_mean"].as_array().cloned().unwrap_or_default();
        let written: Vec<f32> = written.iter().filter_map(Value::as_f64).map(|v| v as f32).collect();
        assert_eq!(written, [0.48145466, 0.4578275, 0.40821073]);
        let siglip = plan("nano-siglip")?;
        let card = EncoderCard::find("nano-siglip")?.preprocess;
        for c in 0..3 {
            let mean = siglip.config["image_mean"][c].as_f64().unwrap_or_default();
            assert_eq!((mean * 255.0) as u8, card.pad[c]);
            // A value that the processor normalises, corrected, is that of the card's preprocessing.
            let (x, std) = (0.3, f64::from(card.std[c]));
            let difference = (x - mean) / std + siglip.shift[c] - (x - f64::from(card.mean[c])) / std;
            assert!(difference.abs() < 1e-7, "{difference}");
        }
        Ok(())
    }

    #[test]
    fn what_the_processor_does_not_do_is_said() -> Result<()> {
        let card = EncoderCard::find("nano-clip")?.preprocess;
        let say = |change: Preprocess| ImageProcessor::plan(&change).err().unwrap_or_default();
        assert!(say(Preprocess { fit: Fit::Shortest, ..card.clone() }).contains("shorter side"));
        assert!(say(Preprocess { enlarge: Some(Interpolation::Bicubic), ..card.clone() }).contains("twice"));
        assert!(say(Preprocess { fit: Fit::Corner, ..card }).contains("otherwise"));
        Ok(())
    }
}
