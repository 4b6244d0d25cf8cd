//! Encoder cards: the description of a pretrained encoder without its weights.
//!
//! A card is a TOML file in `zoo/`. The build reads that folder, so a new card needs no other registration.
//! `zoo/nano-clip.toml` shows every table.

use crate::arch::{ArchitectureConfig, Tap, Tokens};
use crate::checkpoint::Dialect;
use crate::features::{FeatureNorm, check_grid};
use crate::precision::ComputePrecision;
use crate::preprocess::{Pipeline, Preparation, PreparedImages, Preprocess};
use crate::tiling::{Tiling, prepare_any_res};
use burgess_base::{Context, Error, Result, nearest};
use burn::tensor::Device;
use image::RgbImage;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

include!(concat!(env!("OUT_DIR"), "/zoo.rs"));

/// The description of a pretrained encoder without its weights.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct EncoderCard {
    /// Name of the encoder on the command line and in studies; equals the file name without extension.
    pub id: String,
    /// Name of the encoder in tables and figures.
    pub title: String,
    /// The training method, such as "CLIP" or "DINOv2".
    pub family: String,
    /// The kind of supervision in training.
    pub supervision: Supervision,
    /// Licence of the weights.
    pub licence: String,
    /// Assumptions made where the model's own files say nothing; printed when the encoder is opened.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub notes: Vec<String>,
    /// The grid, `[rows, columns]`, to which features are resampled. Default: the encoder's own grid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grid: Option<[usize; 2]>,
    /// How images are cut into tiles of the encoder's size. Default: they are not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tiling: Option<Tiling>,
    /// How the features are normalised before a connector reads them. Default: not at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub normalise: Option<FeatureNorm>,
    /// The precision of the matrix products. Default: f32.
    #[serde(default, skip_serializing_if = "ComputePrecision::is_f32")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub precision: ComputePrecision,
    /// Location of the weights and naming of their tensors.
    pub source: WeightsSource,
    /// Hyper-parameters of the network.
    pub architecture: ArchitectureConfig,
    /// Preprocessing of the images.
    pub preprocess: Preprocess,
    /// Preprocessing in Cambrian-1, if it differs.
    #[serde(default, rename = "preprocess-cambrian-1", skip_serializing_if = "Option::is_none")]
    pub preprocess_cambrian_1: Option<Preprocess>,
    /// The layers and tokens from which features are taken.
    #[serde(default)]
    pub tap: Tap,
    /// Pretraining recipe, if this project trained the encoder; read by the pretraining code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<crate::pretrain::PretrainTable>"))]
    pub pretrain: Option<toml::Table>,
}

/// The kind of supervision with which an encoder was trained.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Supervision {
    /// Trained with captions (image-text pairs).
    Language,
    /// Trained on images without annotation.
    SelfSupervised,
    /// Trained with class labels.
    Labels,
    /// Trained with depth maps.
    Depth,
    /// Trained with segmentation masks.
    Segmentation,
    /// Trained to generate images.
    Generation,
    /// Not trained: random weights.
    None,
    /// Unknown, because the encoder has no card.
    Unknown,
}

impl Supervision {
    /// The name that tables show.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Language => "language",
            Self::SelfSupervised => "self-supervised",
            Self::Labels => "labels",
            Self::Depth => "depth",
            Self::Segmentation => "segmentation",
            Self::Generation => "generation",
            Self::None => "none",
            Self::Unknown => "unknown",
        }
    }
}

/// The `[source]` table of a card: location of the weights (exactly one of `shipped`, `hub`, `url` and `directory`) and
/// naming of their tensors.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(try_from = "SourceTable", into = "SourceTable")]
pub struct WeightsSource {
    /// Location of the weights.
    pub location: WeightsLocation,
    /// Naming scheme of the tensors; see [`Dialect`].
    pub dialect: String,
    /// Common prefix of the tensor names if the encoder is part of a larger model, such as `image_encoder.`.
    pub prefix: Option<String>,
    /// Number of parameters of the encoder as it is used here.
    pub parameters: u64,
}

/// The location of an encoder's weights.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WeightsLocation {
    /// A file in `zoo/weights/` of this project.
    Shipped {
        /// File name, without a directory.
        file: String,
    },
    /// A repository on the Hugging Face hub.
    Hub {
        /// Name of the repository, `owner/name`.
        repository: String,
        /// File in the repository; if absent, the usual file names are tried.
        file: Option<String>,
        /// Branch, tag or commit; if absent, `main`.
        revision: Option<String>,
    },
    /// Address of a file on its publisher's server.
    Url(String),
    /// A local directory in Hugging Face layout.
    Directory(PathBuf),
}

/// The serialised form of [`WeightsSource`]: exactly one of `shipped`, `hub`, `url` and `directory`.
#[derive(Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
struct SourceTable {
    /// File in `encoders/zoo/weights/` of this project, without a directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    shipped: Option<String>,
    /// Repository on the Hugging Face hub, `owner/name`.
    #[serde(skip_serializing_if = "Option::is_none")]
    hub: Option<String>,
    /// Address of a file on its publisher's server.
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<String>,
    /// Local directory in Hugging Face layout.
    #[serde(skip_serializing_if = "Option::is_none")]
    directory: Option<PathBuf>,
    /// File in the repository `hub`. Default: the usual file names are tried.
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<String>,
    /// Branch, tag or commit of the repository `hub`. Default: `main`.
    #[serde(skip_serializing_if = "Option::is_none")]
    revision: Option<String>,
    /// Naming scheme of the tensors.
    #[cfg_attr(feature = "schema", schemars(extend("enum" = dialects())))]
    dialect: String,
    /// Common prefix of the tensor names if the encoder is part of a larger model, such as `image_encoder.`.
    #[serde(skip_serializing_if = "Option::is_none")]
    prefix: Option<String>,
    /// Number of parameters of the encoder as it is used here.
    parameters: u64,
}

/// The names of all dialects, for the JSON schema.
#[cfg(feature = "schema")]
fn dialects() -> Vec<&'static str> {
    Dialect::all().iter().map(|dialect| dialect.name).collect()
}

impl TryFrom<SourceTable> for WeightsSource {
    type Error = String;

    fn try_from(table: SourceTable) -> std::result::Result<Self, String> {
        if table.hub.is_none() && (table.file.is_some() || table.revision.is_some()) {
            return Err("`file` and `revision` belong to `hub`".into());
        }
        let location = match (table.shipped, table.hub, table.url, table.directory) {
            (Some(file), None, None, None) => WeightsLocation::Shipped { file },
            (None, Some(repository), None, None) => {
                WeightsLocation::Hub { repository, file: table.file, revision: table.revision }
            }
            (None, None, Some(url), None) => WeightsLocation::Url(url),
            (None, None, None, Some(directory)) => WeightsLocation::Directory(directory),
            _ => return Err("exactly one of `shipped`, `hub`, `url` and `directory` is needed".into()),
        };
        Ok(Self { location, dialect: table.dialect, prefix: table.prefix, parameters: table.parameters })
    }
}

impl From<WeightsSource> for SourceTable {
    fn from(source: WeightsSource) -> Self {
        let WeightsSource { location, dialect, prefix, parameters } = source;
        let (shipped, hub, url, directory, file, revision) = (None, None, None, None, None, None);
        let mut table = Self { shipped, hub, url, directory, file, revision, dialect, prefix, parameters };
        match location {
            WeightsLocation::Shipped { file } => table.shipped = Some(file),
            WeightsLocation::Hub { repository, file, revision } => {
                (table.hub, table.file, table.revision) = (Some(repository), file, revision);
            }
            WeightsLocation::Url(url) => table.url = Some(url),
            WeightsLocation::Directory(directory) => table.directory = Some(directory),
        }
        table
    }
}

impl EncoderCard {
    /// Parses a card; `origin` is the file name for error messages.
    ///
    /// # Errors
    /// A key is unknown, missing or of the wrong type (with file, line and key), or values contradict each other.
    pub fn parse(text: &str, origin: &str) -> Result<Self> {
        let card: Self = toml::from_str(text).map_err(|e| located(&e, text, origin))?;
        card.validate().map_err(|e| e.context(format!("card {origin}")))?;
        Ok(card)
    }

    /// Reads and parses a card from a file.
    pub fn from_file(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| format!("reading card {}", path.display()))?;
        Self::parse(&text, &path.display().to_string())
    }

    /// Returns the card of the zoo with this id.
    ///
    /// # Errors
    /// There is no such card; the hint lists the nearest ids.
    pub fn find(id: &str) -> Result<Self> {
        let mut cards = zoo()?;
        if let Some(at) = cards.iter().position(|c| c.id == id) {
            return Ok(cards.swap_remove(at));
        }
        let ids: Vec<&str> = cards.iter().map(|c| c.id.as_str()).collect();
        let near = nearest(id, ids.iter().copied());
        let hint = if near.is_empty() {
            format!("known encoders: {}", ids.join(", "))
        } else {
            format!("did you mean {}?", near.join(" or "))
        };
        Err(Error::usage(format!("there is no encoder `{id}`")).hint(hint))
    }

    /// Preprocesses a batch of images, and cuts them into tiles if the card says so.
    pub fn prepare(&self, images: &[RgbImage], device: &Device) -> PreparedImages {
        match &self.tiling {
            None => self.preprocess.prepare(images, device),
            Some(Tiling::S2 { scales }) => {
                let largest = Preprocess { size: self.preprocess.size * scales, ..self.preprocess.clone() };
                largest.prepare(images, device)
            }
            Some(Tiling::AnyRes { grids }) => prepare_any_res(&self.preprocess, images, grids, device),
        }
    }

    /// Returns the card with the preprocessing that `how` selects.
    ///
    /// # Errors
    /// As [`EncoderCard::with_pipeline`].
    pub fn prepared(self, how: Preparation) -> Result<Self> {
        let mut card = self.with_pipeline(how.pipeline)?;
        card.preprocess.upright |= how.upright;
        Ok(card)
    }

    /// Returns the card with the preprocessing of the given pipeline.
    ///
    /// # Errors
    /// The pipeline of the encoder's own library is selected, but it is unknown or not supported.
    pub fn with_pipeline(mut self, pipeline: Pipeline) -> Result<Self> {
        let cambrian = self.preprocess_cambrian_1.take();
        match (pipeline, cambrian) {
            (Pipeline::Cambrian1, Some(cambrian)) => self.preprocess = cambrian,
            // An image that keeps its aspect ratio is prepared as the encoder's own library does it.
            (Pipeline::Library, _) if self.preprocess.native.is_some() => {}
            (Pipeline::Library, _) => {
                self.preprocess.fit = self.preprocess.library.ok_or_else(|| {
                    let message = format!("how the library of {} prepares images is not known here", self.id);
                    Error::usage(message).hint("choose the preprocessing `correct`, which pads images to a square")
                })?;
            }
            (Pipeline::Correct | Pipeline::Cambrian1, _) => {}
        }
        Ok(self)
    }

    /// Grid of the features at the encoder's output, `[rows, columns]`, before [`EncoderCard::grid`] is applied.
    pub fn native_grid(&self) -> Result<[usize; 2]> {
        self.architecture.grid(&self.tap)
    }

    /// Grid of the features as they are used, `[rows, columns]`. With the tiling `any-res` the tokens of the whole
    /// image and those of its tiles follow each other, which makes twice the rows. Features of images that keep their
    /// aspect ratio are resampled to this grid.
    pub fn used_grid(&self) -> Result<[usize; 2]> {
        let [rows, columns] = self.part_grid()?;
        Ok(if matches!(self.tiling, Some(Tiling::AnyRes { .. })) { [2 * rows, columns] } else { [rows, columns] })
    }

    /// Grid to which the features of each part of an image are resampled: of the whole image, and of its tiles.
    pub(crate) fn part_grid(&self) -> Result<[usize; 2]> {
        self.grid.map_or_else(|| self.native_grid(), Ok)
    }

    /// Number of channels of the features as they are used.
    ///
    /// # Errors
    /// The network cannot be tapped as the card says.
    pub fn width(&self) -> Result<usize> {
        Ok(self.architecture.width(&self.tap)? * self.tiling.as_ref().map_or(1, Tiling::channels))
    }

    /// Floating-point operations for the features of one image, see [`ArchitectureConfig::flops`]; with tiling, of an
    /// image with the largest number of tiles. For images that keep their aspect ratio, of the typical size.
    ///
    /// # Errors
    /// As [`EncoderCard::width`].
    pub fn flops(&self) -> Result<u64> {
        let tiles = self.tiling.as_ref().map_or(1, Tiling::most_tiles);
        Ok(self.architecture.flops(&self.tap)? * tiles as u64)
    }

    /// Checks that the encoder can be trained: in f32, on one square image of the card's size for each image.
    ///
    /// # Errors
    /// Images keep their aspect ratio, or are cut into tiles, or products are in bf16; the hint says how to change
    /// that.
    pub fn check_trainable(&self) -> Result<()> {
        if !self.precision.is_f32() {
            let what =
                format!("{} computes in {}, which is supported for frozen encoders only", self.id, self.precision);
            return Err(Error::usage(what).hint("freeze the encoder, or leave out its `precision`: f32 is the default"));
        }
        let what = match (&self.tiling, self.preprocess.native) {
            (Some(tiling), _) => format!("cuts images into tiles ({tiling})"),
            (None, Some(_)) => "keeps the aspect ratio of images".into(),
            (None, None) => return Ok(()),
        };
        Err(Error::usage(format!("{} {what}, which is supported for frozen encoders only", self.id))
            .hint("freeze the encoder, or give it square images of one size: @resolution=square, without @tiling"))
    }

    /// Checks that the tiling and the aspect ratio of images fit the network.
    ///
    /// # Errors
    /// They do not; the hint says what to change.
    pub fn check_tiling(&self) -> Result<()> {
        if let Some(tiling) = &self.tiling {
            tiling.validate()?;
            if self.preprocess.native.is_some() {
                return Err(Error::usage(format!("{}: images that keep their aspect ratio cannot be tiled", self.id))
                    .hint("remove the tiling, or choose square images with @resolution=square"));
            }
            if matches!(tiling, Tiling::AnyRes { .. }) && self.tap.tokens == Tokens::PatchAndClass {
                return Err(Error::usage("the tiling any-res keeps patch tokens only")
                    .hint("set tokens = \"patch\" in the feature tap"));
            }
        }
        let Some(native) = self.preprocess.native else { return Ok(()) };
        match self.architecture.takes_any_grid() {
            Some(unit) if native.unit().is_multiple_of(unit) => Ok(()),
            Some(unit) => Err(Error::usage(format!(
                "{}: images of sides in multiples of {} pixels do not divide into units of {unit} pixels",
                self.id,
                native.unit()
            ))
            .hint("set patch and merge of the resize rule to those of the architecture")),
            None => Err(Error::usage(format!("{}: this architecture needs square images of one size", self.id))
                .hint("remove @resolution=native ([preprocess.native] in a card)")),
        }
    }

    /// Checks the card for impossible and contradictory values, for cards that do not come from
    /// [`EncoderCard::parse`].
    ///
    /// # Errors
    /// The first invalid value.
    pub fn validate(&self) -> Result<()> {
        Dialect::find(&self.source.dialect)?;
        self.architecture.validate()?;
        self.architecture.check_tap(&self.tap)?;
        self.preprocess.validate()?;
        if let Some(cambrian) = &self.preprocess_cambrian_1 {
            cambrian.validate().map_err(|e| e.context("[preprocess-cambrian-1]"))?;
            if cambrian.size != self.preprocess.size {
                return Err(Error::usage("[preprocess-cambrian-1] size differs from [preprocess] size"));
            }
        }
        self.check_tiling()?;
        for grid in self.grid.iter().chain(&self.tap.grid) {
            check_grid(*grid)?;
        }
        if self.preprocess.size != self.architecture.image_size() {
            return Err(Error::usage(format!(
                "[preprocess] size = {} makes images of another size than [architecture] image_size = {}",
                self.preprocess.size,
                self.architecture.image_size()
            )));
        }
        Ok(())
    }
}

/// Returns all cards of the zoo, sorted by id.
///
/// # Errors
/// A card is malformed, or its id differs from its file name.
pub fn zoo() -> Result<Vec<EncoderCard>> {
    let mut cards = Vec::with_capacity(CARDS.len());
    for (name, text) in CARDS {
        let card = EncoderCard::parse(text, &format!("zoo/{name}"))?;
        if name.strip_suffix(".toml") != Some(&card.id) {
            return Err(Error::usage(format!("card zoo/{name} has id `{}`", card.id)).hint("make both the same"));
        }
        cards.push(card);
    }
    Ok(cards)
}

/// Formats a TOML error as `file:line: the line: message`; the line shows the key, which the parser may not report.
fn located(error: &toml::de::Error, text: &str, origin: &str) -> Error {
    let message = error.message().trim_end();
    let Some(before) = error.span().and_then(|s| text.get(..s.start)) else {
        return Error::usage(format!("{origin}: {message}"));
    };
    let line = before.matches('\n').count();
    let content = text.lines().nth(line).unwrap_or_default().trim();
    Error::usage(format!("{origin}:{}: `{content}`: {message}", line + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_card_in_the_folder_is_embedded() -> Result<()> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("zoo");
        let names = std::fs::read_dir(folder)?.flatten().map(|file| file.file_name().to_string_lossy().into_owned());
        let mut names: Vec<String> = names.filter(|name| name.ends_with(".toml")).collect();
        names.sort_by(|a, b| a.trim_end_matches(".toml").cmp(b.trim_end_matches(".toml")));
        let embedded: Vec<&str> = CARDS.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, embedded, "the build embeds the folder");
        Ok(())
    }

    #[test]
    fn the_zoo_is_sound() -> Result<()> {
        let cards = zoo()?;
        let ids: Vec<&str> = cards.iter().map(|c| c.id.as_str()).collect();
        assert!(ids.is_sorted());
        for objective in crate::objective::Objective::NAMES {
            let trained = |card: &EncoderCard| {
                let recipe = card.pretrain.as_ref().and_then(|recipe| recipe.get("objective"));
                recipe.and_then(toml::Value::as_str) == Some(objective)
            };
            assert!(cards.iter().any(trained), "no card is trained with the objective {objective}");
        }
        for card in &cards {
            let text = toml::to_string(card).map_err(|e| Error::failed(e.to_string()))?;
            assert_eq!(&EncoderCard::parse(&text, "written")?, card);
        }
        Ok(())
    }

    /// The cards state the parameter counts of the networks.
    #[test]
    fn parameters_are_counted_right() -> Result<()> {
        let mut wrong = Vec::new();
        for card in zoo()? {
            // Placeholders are lazy: they take no memory.
            let parameters = crate::checkpoint::parameters(&card.architecture.init(&Device::flex())?)?;
            let elements: usize = parameters.iter().map(|p| p.shape.iter().product::<usize>()).sum();
            if card.source.parameters != elements as u64 {
                wrong.push(format!("{}: {elements}", card.id));
            }
        }
        assert!(wrong.is_empty(), "[source] parameters should be {wrong:#?}");
        Ok(())
    }

    /// The nano encoders are comparable only if nothing but their training differs.
    #[test]
    fn nano_encoders_see_the_same_and_answer_alike() -> Result<()> {
        for card in zoo()?.iter().filter(|c| c.id.starts_with("nano-")) {
            assert_eq!((card.preprocess.size, card.used_grid()?), (96, [4, 4]), "{}", card.id);
        }
        Ok(())
    }

    /// The nano study compares objectives under one training budget.
    #[test]
    fn nano_encoders_are_trained_on_one_budget() -> Result<()> {
        let mut budgets = Vec::new();
        for card in zoo()?.into_iter().filter(|c| c.id.starts_with("nano-") && c.supervision != Supervision::None) {
            let mut table = card.pretrain.ok_or_else(|| Error::failed(format!("{} has no [pretrain]", card.id)))?;
            let images = table.remove("images").and_then(|n| n.as_integer());
            let recipe: crate::pretrain::PretrainRecipe =
                table.try_into().map_err(|e: toml::de::Error| Error::failed(format!("{}: {e}", card.id)))?;
            recipe.validate()?;
            budgets.push((images, recipe.steps, recipe.batch));
        }
        assert!(budgets.iter().all(|b| b.0.is_some() && b == &budgets[0]), "{budgets:?}");
        Ok(())
    }

    #[test]
    fn an_unknown_id_is_answered_with_the_nearest() {
        let error = EncoderCard::find("nano-clp").unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert!(error.hint_text().is_some_and(|h| h.contains("nano-clip")));
        assert!(EncoderCard::find("qqq").unwrap_err().hint_text().is_some_and(|h| h.contains("nano-mae")));
    }

    #[test]
    fn errors_say_file_line_and_key() {
        let good = CARDS.iter().find(|(name, _)| *name == "nano-clip.toml").map(|(_, text)| *text).unwrap();
        let say = |text: &str| EncoderCard::parse(text, "x.toml").unwrap_err().to_string();
        let typo = say(&good.replacen("licence", "license", 1));
        assert!(typo.starts_with("x.toml:") && typo.contains("unknown field `license`"), "{typo}");
        let wrong = say(&good.replacen("patch = 24", "patch = \"big\"", 1));
        assert!(wrong.contains("expected usize"), "{wrong}");
        let title = say(&good.replacen("title = ", "title = 3 # ", 1));
        assert!(title.starts_with("x.toml:3: `title = 3") && title.contains("expected a string"), "{title}");
        let missing: String = good.lines().filter(|l| !l.starts_with("title")).map(|l| format!("{l}\n")).collect();
        assert!(say(&missing).contains("missing field `title`"));
        let none: String = good.lines().filter(|l| !l.starts_with("shipped")).map(|l| format!("{l}\n")).collect();
        assert!(say(&none).contains("exactly one of `shipped`"), "{}", say(&none));
        assert!(say(&good.replacen("\nsize = 96", "\nsize = 95", 1)).contains("another size"));
        assert!(say(&good.replacen("dialect = \"", "dialect = \"x", 1)).contains("no key dialect"));
        assert!(say("id = ").starts_with("x.toml:1:"));
    }
}
