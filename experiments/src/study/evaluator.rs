//! The evaluator of a study: everything that its arms share.

use crate::study::arm::Arm;
use crate::study::data::{DataSource, PublishedCorpus};
use crate::study::{paths, world};
use burgess_base::{Error, Result};
use burgess_encoders::preprocess::{Pipeline, Preparation};
use burgess_field::FieldSpec;
use burgess_probe::bench::{self, Rules};
use burgess_probe::connector::ConnectorKind;
use burgess_probe::generate::Sampling;
use burgess_probe::llm::{Activations, Compute};
use burgess_probe::recipe::Recipe;
use burgess_world::dataset::WorldSpec;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::path::Path;

/// Everything that all arms of a study share: language model, connector, recipe, data and benchmarks. Runs under
/// different evaluators are never ranked together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EvaluatorConfig {
    /// Language model: a name of `probe/zoo`, or a directory in Hugging Face layout. A leading `{field}/` stands for
    /// the directory that `burgess data field` prepared.
    pub llm: String,
    /// Chat template by name: `vicuna_v1`, `llama_3`, `chatml_direct` or `phi3` of the paper. Default: the model's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chat: Option<String>,
    /// System message that replaces the template's own; `""` for an empty one. Default: the template's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system: Option<String>,
    /// Connector, which maps patch features to embeddings of the language model.
    pub connector: ConnectorKind,
    /// Preprocessing of images: `correct` (default) pads them to a square, `cambrian-1` repeats the deviations of the
    /// paper's code, and `library` does what each encoder's own library does with images that are not square (crops or
    /// distorts them).
    #[serde(default, skip_serializing_if = "is_correct")]
    #[schemars(!skip_serializing_if)]
    pub preprocess: Pipeline,
    /// Whether images are rotated by the orientation in their EXIF data, as by `load_image` of transformers. Default
    /// `false`: pixels are used as stored, as by Pillow's `open`, timm, open_clip and the paper.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    #[schemars(!skip_serializing_if)]
    pub exif_orientation: bool,
    /// Benchmarks by id, or paths of benchmark files; files in `benchmarks/` beside the study are found by their ids. A
    /// study needs at least one; `burgess train` takes none.
    #[serde(default)]
    pub benchmarks: Vec<String>,
    /// Largest number of units (images, or pairs scored together) of each benchmark. They are drawn with a fixed seed,
    /// stratified by subtask.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
    /// Half-width, in points, of the confidence interval of a category at which no further questions of its benchmarks
    /// are asked; `limit` remains the largest number. The units are asked in a fixed random order, and the interval (95
    /// %) is corrected for the number of looks that are planned. All questions are asked if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until_ci: Option<f64>,
    /// Scoring rules: `official` (default) are those of the benchmark's authors, or the strict ones if there are none;
    /// `strict`, for benchmarks that have strict rules; `cambrian-1`, those of the paper's code, for comparison with
    /// the published scores; `lmms-eval`, those of that harness (0.7.3). Results name the rules that were applied.
    #[serde(default, skip_serializing_if = "is_official")]
    #[schemars(!skip_serializing_if)]
    pub scoring: Rules,
    /// Whose prompts are used, with the same values as `scoring`.
    #[serde(default, skip_serializing_if = "is_official")]
    #[schemars(!skip_serializing_if)]
    pub prompts: Rules,
    /// Whether response-format sentences of the prompts, such as "Answer the question using a single word or phrase.", are
    /// kept (default) or dropped (`drop`), to see how the models answer without them.
    #[serde(default, skip_serializing_if = "ResponsePromptUse::is_keep")]
    #[schemars(!skip_serializing_if)]
    pub response_prompt: ResponsePromptUse,
    /// How the images of a question with several images are put into the prompt: as `blocks` (default), one block of
    /// image tokens for each, at `<image 1>` and the like in the text or else before it; or `side-by-side`, joined into
    /// one image from left to right.
    #[serde(default, skip_serializing_if = "SeveralImagesInput::is_blocks")]
    #[schemars(!skip_serializing_if)]
    pub several_images: SeveralImagesInput,
    /// Feature source of frozen encoders: `cached` on disk (default), or `computed` each time an image is used.
    #[serde(default, skip_serializing_if = "is_cached")]
    #[schemars(!skip_serializing_if)]
    pub features: FeatureSourceKind,
    /// What replaces the image for the blind baseline. Default `omitted`: a text-only prompt.
    #[serde(default, skip_serializing_if = "is_omitted")]
    #[schemars(!skip_serializing_if)]
    pub blind: BlindInput,
    /// Whether options of multiple-choice and yes/no questions are scored by log-likelihood, beside generated answers.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    #[schemars(!skip_serializing_if)]
    pub likelihoods: bool,
    /// Sampling of generated answers; greedy decoding if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sampling: Option<Sampling>,
    /// Precision of activations in products with the quantised weights of a GGUF file, while questions are answered: `f32`
    /// (default), `int16` or `int8`. Training always has activations in f32.
    #[serde(default, skip_serializing_if = "Activations::is_f32")]
    #[schemars(!skip_serializing_if)]
    pub activations: Activations,
    /// Precision of the language model's matrix products while questions are answered: `f32` (default), or `bf16` on GPUs
    /// that have it and, on the device `flex`, on processors with AVX-512 BF16. That of the training is the `precision` of
    /// its stages.
    #[serde(default, skip_serializing_if = "Compute::is_f32")]
    #[schemars(!skip_serializing_if)]
    pub precision: Compute,
    /// Fraction of the align and tune conversations that is used, above 0 and at most 1, drawn with a fixed seed so
    /// that smaller fractions are subsets of larger ones. All are used if absent. `burgess rank --learning-curve` sets
    /// it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share: Option<f64>,
    /// Source of images and questions.
    pub data: DataSource,
    /// Training recipe: the align and tune stages.
    pub recipe: Recipe,
}

// serde's `skip_serializing_if` passes a reference.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_correct(pipeline: &Pipeline) -> bool {
    *pipeline == Pipeline::Correct
}

// serde's `skip_serializing_if` passes a reference.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_official(rules: &Rules) -> bool {
    *rules == Rules::Official
}

// serde's `skip_serializing_if` passes a reference.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_cached(source: &FeatureSourceKind) -> bool {
    *source == FeatureSourceKind::Cached
}

/// Whether response-format sentences of benchmark prompts are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ResponsePromptUse {
    /// The prompts are asked as the benchmark defines them.
    #[default]
    Keep,
    /// Response-format sentences at the ends of lines are left out.
    Drop,
}

impl ResponsePromptUse {
    /// Returns whether prompts stay as they are.
    // serde's `skip_serializing_if` passes a reference.
    #[allow(clippy::trivially_copy_pass_by_ref)]
    pub fn is_keep(&self) -> bool {
        *self == Self::Keep
    }
}

/// How the images of a question with several images are put into the prompt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SeveralImagesInput {
    /// Each image is a block of image tokens.
    #[default]
    Blocks,
    /// The images are joined into one, side by side from left to right.
    SideBySide,
}

impl SeveralImagesInput {
    /// The name in TOML files: `blocks` or `side-by-side`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Blocks => "blocks",
            Self::SideBySide => "side-by-side",
        }
    }

    /// Returns whether each image is a block of its own.
    // serde's `skip_serializing_if` passes a reference.
    #[allow(clippy::trivially_copy_pass_by_ref)]
    pub fn is_blocks(&self) -> bool {
        *self == Self::Blocks
    }
}

/// What replaces the image in the blind baseline.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum BlindInput {
    /// No image: the prompt is text only.
    #[default]
    Omitted,
    /// A uniform grey image.
    Grey,
}

impl BlindInput {
    /// The name in TOML files: `omitted` or `grey`.
    pub fn as_str(self) -> &'static str {
        match self {
            BlindInput::Omitted => "omitted",
            BlindInput::Grey => "grey",
        }
    }
}

// serde's `skip_serializing_if` passes a reference.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_omitted(blind: &BlindInput) -> bool {
    *blind == BlindInput::Omitted
}

/// Feature source of frozen encoders.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum FeatureSourceKind {
    /// Each image is encoded once, and its features are stored on disk.
    #[default]
    Cached,
    /// Each image is encoded whenever it is used, and no features are stored.
    Computed,
}

/// How questions are asked and answers scored.
#[derive(Clone, Copy, Debug)]
pub struct EvalOptions {
    /// Rules by which answers are scored.
    pub scoring: Rules,
    /// Rules by which prompts are written.
    pub prompts: Rules,
    /// Whether response-format sentences of the prompts are kept.
    pub response_prompt: ResponsePromptUse,
    /// How several images of a question are put into the prompt.
    pub several_images: SeveralImagesInput,
    /// Largest number of units of each benchmark; `None` for all.
    pub limit: Option<usize>,
    /// Half-width of a category's confidence interval, in points, at which asking stops; `None` to ask all questions.
    pub until_ci: Option<f64>,
    /// What replaces the image for the blind baseline.
    pub blind: BlindInput,
    /// Whether options are also scored by log-likelihood.
    pub likelihoods: bool,
    /// Sampling of generated answers; greedy decoding if absent.
    pub sampling: Option<Sampling>,
}

impl EvaluatorConfig {
    /// Returns how the images of all encoders are preprocessed.
    pub fn preparation(&self) -> Preparation {
        Preparation { pipeline: self.preprocess, upright: self.exif_orientation }
    }

    /// Returns the connector of an arm: its own, or the evaluator's if the arm has none.
    pub fn connector_of<'a>(&'a self, arm: &'a Arm) -> &'a ConnectorKind {
        arm.connector.as_ref().unwrap_or(&self.connector)
    }

    /// Returns how questions are asked and answers scored.
    pub fn eval_options(&self) -> EvalOptions {
        EvalOptions {
            scoring: self.scoring,
            prompts: self.prompts,
            response_prompt: self.response_prompt,
            several_images: self.several_images,
            limit: self.limit,
            until_ci: self.until_ci,
            blind: self.blind,
            likelihoods: self.likelihoods,
            sampling: self.sampling,
        }
    }

    /// Resolves the paths of the language model and the data, see [`paths::locate`].
    ///
    /// # Errors
    /// A path does not exist.
    pub fn resolve_paths(&mut self, folder: Option<&Path>) -> Result<()> {
        if !paths::is_in_field(&self.llm) {
            let path = Path::new(&self.llm);
            let beside = folder.is_some_and(|f| f.join(path).exists());
            if beside || paths::is_path(&self.llm) {
                self.llm = paths::locate(folder, path, "the language model")?.to_string_lossy().into_owned();
            }
        }
        self.data.resolve_paths(folder)
    }

    /// Checks what needs neither data nor weights: limits, sizes, sampling and recipe.
    pub fn check(&self) -> Result<()> {
        if let Some(sampling) = &self.sampling {
            sampling.check().map_err(|e| e.context("[evaluator.sampling]"))?;
        }
        if self.limit == Some(0) {
            return Err(
                Error::usage("`limit` = 0: it must be at least 1").hint("leave `limit` out to ask all questions")
            );
        }
        if let Some(width) = self.until_ci {
            check_until_ci(width).map_err(|e| e.context("`until_ci` of [evaluator]"))?;
        }
        if let Some(share) = self.share.filter(|share| !(*share > 0.0 && *share <= 1.0)) {
            return Err(Error::usage(format!("`share` = {share} must be above 0 and at most 1"))
                .hint("leave `share` out to use all conversations"));
        }
        let sizes = match &self.data {
            DataSource::World(spec) => {
                world::check(spec, &self.benchmarks)?;
                let WorldSpec { align, turns, per_benchmark, .. } = spec;
                self.sizes(*align, spec.conversations(), *turns, *per_benchmark)
            }
            DataSource::Field(FieldSpec { align, tune, turns, per_benchmark, .. }) => {
                self.sizes(*align, *tune, *turns, *per_benchmark)
            }
            DataSource::Published(data) => {
                let least = |c: &PublishedCorpus| c.per_source.unwrap_or(1);
                [("align", data.align.as_ref().map_or(1, least)), ("per_source", least(&data.tune)), ("", 1), ("", 1)]
            }
            DataSource::Directory(_) | DataSource::Files(_) => [("", 1); 4],
        };
        if let Some((key, _)) = sizes.iter().find(|(_, n)| *n == 0) {
            return Err(Error::usage(format!("[evaluator.data]: `{key}` = 0: it must be at least 1"))
                .hint("give a number of at least 1"));
        }
        self.recipe.check().map_err(|e| e.context("[evaluator.recipe]").hint(RECIPE_HINT))
    }

    /// The sizes of generated data that must not be 0, by key.
    fn sizes(&self, align: usize, tune: usize, turns: usize, asked: usize) -> [(&'static str, usize); 4] {
        // `burgess train` also accepts a world without an align stage or without questions.
        let align = self.recipe.align.as_ref().map_or(1, |_| align);
        let asked = if self.benchmarks.is_empty() { 1 } else { asked };
        [("align", align), ("tune", tune), ("turns", turns), ("per_benchmark", asked)]
    }
}

/// Hint that names complete example recipes.
const RECIPE_HINT: &str = "`burgess train --help` shows a complete recipe, `burgess rank nano --dry-run` another";

/// Checks the half-width of an interval at which asking stops.
///
/// # Errors
/// It is not above 0 and below 50 points.
pub fn check_until_ci(width: f64) -> Result<()> {
    match width > 0.0 && width < 50.0 {
        true => Ok(()),
        false => Err(Error::usage(format!("the half-width {width} must be above 0 and below 50 points"))
            .hint("1.0 stops when the score of a category is known to ± 1 point; leave it out to ask all questions")),
    }
}

/// Checks that each benchmark exists and is listed once.
pub fn check_benchmarks(ids: &[String]) -> Result<()> {
    ids.iter().try_for_each(|id| bench::find(id).map(|_| ()))?;
    match duplicate(ids) {
        Some(id) => Err(Error::usage(format!("the benchmark {id} is listed twice")).hint("name it once")),
        None => Ok(()),
    }
}

/// Returns an item that is listed more than once.
pub(super) fn duplicate<T: Ord>(items: &[T]) -> Option<&T> {
    let mut seen = BTreeSet::new();
    items.iter().find(|item| !seen.insert(*item))
}
