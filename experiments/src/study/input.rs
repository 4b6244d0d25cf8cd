//! Settings that override an encoder's card in an arm: image size, tiling, feature normalisation and precision.

use burgess_base::{Error, Result};
use burgess_encoders::card::EncoderCard;
use burgess_encoders::features::FeatureNorm;
use burgess_encoders::precision::ComputePrecision;
use burgess_encoders::preprocess::NativeResize;
use burgess_encoders::tiling::Tiling;
use schemars::JsonSchema;
use serde::Deserialize;
use std::fmt;
use std::str::FromStr;

/// Options of an encoder's images and features, as arms, studies and `burgess encode` write them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InputOverrides {
    /// Whether images keep their aspect ratio; as the card says if absent.
    pub resolution: Option<Resolution>,
    /// The largest number of patches of an image that keeps its aspect ratio; as the card says if absent.
    pub max_patches: Option<usize>,
    /// How images are cut into tiles; as the card says if absent.
    pub tiling: Option<Tiling>,
    /// How features are normalised before the connector reads them; as the card says if absent.
    pub normalise: Option<FeatureNorm>,
    /// The precision of the encoder's matrix products; as the card says if absent.
    pub precision: Option<ComputePrecision>,
}

/// The sizes of the images that an encoder reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Resolution {
    /// Every image keeps its aspect ratio, and has a grid of its own.
    Native,
    /// Every image becomes a square of the card's size.
    Square,
}

impl FromStr for Resolution {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        match name {
            "native" => Ok(Self::Native),
            "square" => Ok(Self::Square),
            other => Err(Error::usage(format!("unknown resolution `{other}`")).hint("known: native, square")),
        }
    }
}

impl InputOverrides {
    /// Returns the options, key and value, in the order in which they are written after an encoder's source.
    fn options(&self) -> Vec<(&'static str, String)> {
        let resolution = self.resolution.map(|resolution| match resolution {
            Resolution::Native => "native".to_string(),
            Resolution::Square => "square".to_string(),
        });
        let all = [
            ("resolution", resolution),
            ("max-patches", self.max_patches.map(|n| n.to_string())),
            ("tiling", self.tiling.as_ref().map(ToString::to_string)),
            ("normalise", self.normalise.map(|norm| norm.as_str().to_string())),
            ("precision", self.precision.map(|precision| precision.to_string())),
        ];
        all.into_iter().filter_map(|(key, value)| Some((key, value?))).collect()
    }

    /// Sets the option `key`; returns whether there is one of this name.
    ///
    /// # Errors
    /// `value` is not valid for the option `key`.
    pub fn set(&mut self, key: &str, value: &str) -> Result<bool> {
        match key {
            "resolution" => self.resolution = Some(value.parse()?),
            "max-patches" => {
                let count = value.parse().ok().filter(|n| *n > 0);
                self.max_patches = Some(count.ok_or_else(|| {
                    Error::usage(format!("max-patches: `{value}` is not a number of patches"))
                        .hint("give a positive integer, as in @max-patches=256")
                })?);
            }
            "tiling" => self.tiling = Some(parse_tiling(value)?),
            "normalise" => self.normalise = Some(value.parse()?),
            "precision" => self.precision = Some(value.parse()?),
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Applies the options to the encoder's card.
    ///
    /// # Errors
    /// The encoder cannot read such images.
    pub fn apply(&self, card: &mut EncoderCard) -> Result<()> {
        card.tiling = self.tiling.clone().or(card.tiling.take());
        card.normalise = self.normalise.or(card.normalise);
        card.precision = self.precision.unwrap_or(card.precision);
        card.architecture.check_precision(card.precision).map_err(|e| e.context(card.id.clone()))?;
        match self.resolution {
            None => {}
            Some(Resolution::Square) => card.preprocess.native = None,
            Some(Resolution::Native) if card.preprocess.native.is_some() => {}
            Some(Resolution::Native) => {
                let patch = card.architecture.takes_any_grid().ok_or_else(|| {
                    Error::usage(format!("{}: this encoder needs square images of one size", card.id))
                        .hint("leave out @resolution=native")
                })?;
                let side = card.preprocess.size / patch.max(1);
                card.preprocess.native = Some(NativeResize::Fill { patch, max_patches: (side * side).max(1) });
            }
        }
        match (self.max_patches, card.preprocess.native) {
            (None, _) => {}
            (Some(count), Some(native)) => card.preprocess.native = Some(native.with_max_patches(count)),
            (Some(_), None) => {
                return Err(Error::usage(format!(
                    "{}: max-patches is for images that keep their aspect ratio",
                    card.id
                ))
                .hint("add @resolution=native, or leave out @max-patches"));
            }
        }
        card.preprocess.validate()?;
        card.check_tiling()
    }

    /// Formats the options as a suffix of directory names, such as `-native-256patches`; empty without options.
    pub fn name(&self) -> String {
        let resolution = match self.resolution {
            Some(Resolution::Native) => "-native",
            Some(Resolution::Square) => "-square",
            None => "",
        };
        let patches = self.max_patches.map_or_else(String::new, |n| format!("-{n}patches"));
        let tiling = self.tiling.as_ref().map_or_else(String::new, |tiling| {
            format!("-{}", tiling.to_string().replace("any-res", "anyres").replace(['=', ','], "_"))
        });
        let norm = self.normalise.map_or_else(String::new, |norm| format!("-{}norm", norm.as_str()));
        let precision = self.precision.map_or_else(String::new, |precision| format!("-{precision}"));
        format!("{resolution}{patches}{tiling}{norm}{precision}")
    }
}

impl fmt::Display for InputOverrides {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.options().into_iter().try_for_each(|(key, value)| write!(f, "@{key}={value}"))
    }
}

/// Parses a tiling: `s2=2` (scales 1 and 2), `any-res` (the grids of LLaVA-NeXT), `any-res=6` (all grids of up to 6
/// tiles) or `any-res=1x2,2x1`.
///
/// # Errors
/// It is none of these.
pub fn parse_tiling(text: &str) -> Result<Tiling> {
    let invalid = || {
        Error::usage(format!("there is no tiling `{text}`"))
            .hint("s2 or s2=3 (scales 1, 2 and 3), any-res, any-res=6 (grids of up to 6 tiles), any-res=1x2,2x1")
    };
    let grid = |text: &str| {
        let (rows, columns) = text.split_once('x')?;
        Some([rows.parse().ok()?, columns.parse().ok()?])
    };
    let tiling = match text.split_once('=').unwrap_or((text, "")) {
        ("s2", "") => Tiling::S2 { scales: 2 },
        ("s2", scales) => Tiling::S2 { scales: scales.parse().map_err(|_| invalid())? },
        ("any-res", "") => Tiling::any_res(),
        ("any-res", list) => match list.parse() {
            Ok(tiles) => Tiling::any_res_up_to(tiles),
            Err(_) => {
                let grids = list.split(',').map(grid).collect::<Option<Vec<_>>>().ok_or_else(invalid)?;
                Tiling::AnyRes { grids }
            }
        },
        _ => return Err(invalid()),
    };
    tiling.validate()?;
    Ok(tiling)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::study::ArmEncoder;
    use burgess_encoders::preprocess::Preparation;

    #[test]
    fn options_read_back_as_written() -> Result<()> {
        for (text, name) in [
            ("a@7@resolution=native@max-patches=64", "a@7-native-64patches"),
            ("a@tiling=s2=3", "a-s2_3"),
            ("a@tiling=any-res@normalise=layer", "a-anyres-layernorm"),
            ("a@tiling=any-res=1x2,2x1", "a-anyres_1x2_2x1"),
            ("a@resolution=square@normalise=standard", "a-square-standardnorm"),
            ("a@7@precision=bf16", "a@7-bf16"),
        ] {
            let encoder: ArmEncoder = text.parse()?;
            assert_eq!((encoder.to_string(), encoder.name()), (text.into(), name.into()));
            assert_eq!(encoder.to_string().parse::<ArmEncoder>()?, encoder);
        }
        for wrong in [
            "a@resolution=big",
            "a@max-patches=0",
            "a@tiling=s3",
            "a@tiling=s2=9",
            "a@normalise=batch",
            "a@precision=f16",
        ] {
            let error = wrong.parse::<ArmEncoder>().expect_err(wrong);
            assert!(error.hint_text().is_some(), "{error}");
        }
        Ok(())
    }

    #[test]
    fn options_change_the_card() -> Result<()> {
        let card = |text: &str| text.parse::<ArmEncoder>()?.card(Preparation::default());
        let plain = card("nano-clip")?;
        let native = card("nano-clip@resolution=native@max-patches=9")?;
        assert_eq!(native.preprocess.native, Some(NativeResize::Fill { patch: 24, max_patches: 9 }));
        assert_eq!((native.used_grid()?, native.width()?), (plain.used_grid()?, plain.width()?));
        let scaled = card("nano-clip@tiling=s2")?;
        assert_eq!((scaled.used_grid()?, scaled.width()?), (plain.used_grid()?, 2 * plain.width()?));
        assert_eq!(card("nano-clip@tiling=any-res")?.used_grid()?, [8, 4]);
        for (text, said) in [
            ("nano-convnext@resolution=native", "needs square images"),
            ("nano-clip@max-patches=9", "is for images that keep"),
            ("nano-clip@resolution=native@tiling=s2", "cannot be tiled"),
        ] {
            let error = card(text).expect_err(text);
            assert!(error.to_string().contains(said) && error.hint_text().is_some(), "{error}");
        }
        Ok(())
    }
}
