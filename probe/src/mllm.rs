//! The multimodal model: unfrozen encoders (if any), connector, and language model.

use crate::connector::{
    BoundSvaContext, ChannelStatistics, Connector, ConnectorConfig, ImagePositions, ImageSize, ImageTokens,
    position_embedding,
};
use crate::llm::decoder::{BlockHook, SequenceLayout};
use crate::llm::weights::save_adapters;
use crate::llm::{ChatTemplate, Llm, LlmConfig, Tokenizer, Weights};
use burgess_base::stream::Stream;
use burgess_base::{Context, Error, Result, atomic, checksums};
use burgess_encoders::arch::{Architecture, ArchitectureConfig, DropPathMask, Tap};
use burgess_encoders::checkpoint::{self, Checkpoint, Dialect, IDENTITY, LoadReport, Precision};
use burgess_encoders::features::{FeatureMap, FeatureNorm};
use burgess_encoders::transfer;
use burn::module::Module;
use burn::tensor::{Device, Int, Tensor, TensorData};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// The configuration of an [`Mllm`]: everything except its weights. It is the `config.json` of a model directory.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MllmConfig {
    /// The connector's configuration.
    pub connector: ConnectorConfig,
    /// The language model's configuration.
    pub llm: LlmConfig,
    /// The chat template that the model was trained with.
    pub chat: ChatTemplate,
    /// The unfrozen encoders; empty if features are computed outside the model (frozen encoders).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub encoders: Vec<EncoderConfig>,
    /// The grid `[rows, columns]` to which the features of `encoders` are resampled before they are concatenated;
    /// absent = each encoder keeps its own grid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grid: Option<[usize; 2]>,
}

/// Configuration of one unfrozen encoder inside the model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EncoderConfig {
    /// The encoder's id in the zoo.
    pub id: String,
    /// The encoder's architecture and its hyper-parameters.
    pub architecture: ArchitectureConfig,
    /// The layers and tokens from which features are taken.
    pub tap: Tap,
    /// How the features are normalised before the connector reads them; absent = not at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub normalise: Option<FeatureNorm>,
}

/// The multimodal model: connector and language model, with the encoders if these are trained too.
#[derive(Module, Debug)]
pub struct Mllm {
    /// The unfrozen encoders, in the order of [`MllmConfig::encoders`]; empty if all encoders are frozen.
    pub encoders: Vec<Architecture>,
    /// Maps patch features to image tokens of the language model's width.
    pub connector: Connector,
    /// The language model.
    pub llm: Llm,
    #[module(skip)]
    config: MllmConfig,
}

/// A batch of images, as features or as pixels.
// One value lives per batch: its size on the stack does not matter.
#[allow(clippy::large_enum_variant)]
#[derive(Debug, Clone)]
pub enum ImageBatch {
    /// Concatenated features of frozen encoders, `[images, tokens, width]`, for connectors that need no grid.
    Features(Tensor<3>),
    /// Features of each frozen encoder on its own grid, `[images, tokens, width]`.
    FeatureMaps(Vec<FeatureMap>),
    /// Normalised pixels for each encoder of the model, `[images, 3, height, width]`.
    Pixels(Vec<Tensor<4>>),
}

/// Token ids of one row of a batch, before its image tokens are spliced in.
#[derive(Debug, Clone, Copy)]
pub struct Sequence<'a> {
    /// Token ids with the image placeholder.
    pub ids: &'a [u32],
    /// Index of the image placeholder in `ids`; `None` for text without an image.
    pub image_at: Option<usize>,
}

impl Sequence<'_> {
    /// Returns the length of the row after the placeholder is replaced by `image` image tokens.
    pub fn length(&self, image: usize) -> usize {
        if self.image_at.is_some() { self.ids.len() - 1 + image } else { self.ids.len() }
    }

    /// Returns the position of `ids[i]` after the placeholder is replaced by `image` image tokens.
    pub fn position(&self, i: usize, image: usize) -> usize {
        match self.image_at {
            Some(at) if i > at => i - 1 + image,
            _ => i,
        }
    }
}

/// Embeddings of a batch with the image tokens spliced in: the input of the decoder.
#[derive(Debug, Clone)]
pub struct Spliced {
    /// Embeddings of text and image tokens, `[rows, t, llm width]`.
    pub embeddings: Tensor<3>,
    /// Position of each token, `[rows][t]`; `None` if every row counts from 0.
    pub positions: Option<Vec<Vec<usize>>>,
    /// Padding mask, `[rows][t]`: `true` for padding tokens of images, to which no other token attends; `None` if there
    /// are none.
    pub padding_mask: Option<Vec<Vec<bool>>>,
    context: Option<BoundSvaContext>,
}

impl Spliced {
    fn plain(embeddings: Tensor<3>) -> Self {
        Self { embeddings, positions: None, padding_mask: None, context: None }
    }

    /// Whether the connector has samplers, which update the image tokens between the blocks of the decoder.
    pub fn has_samplers(&self) -> bool {
        self.context.is_some()
    }

    /// Returns positions and padding mask in the form that the decoder takes.
    pub fn layout(&self) -> SequenceLayout<'_> {
        SequenceLayout { positions: self.positions.as_deref(), padding_mask: self.padding_mask.as_deref() }
    }
}

impl Mllm {
    /// Builds a model around `llm` with a connector initialised from `seed`, and with the encoders that are trained
    /// with it (none if they are frozen).
    ///
    /// # Errors
    /// When widths do not match, or the number of encoders differs from the number of their configurations.
    pub fn assemble(
        config: MllmConfig,
        encoders: Vec<Architecture>,
        llm: Llm,
        seed: u64,
        device: &Device,
    ) -> Result<Self> {
        config.check()?;
        if encoders.len() != config.encoders.len() {
            return Err(Error::failed(format!(
                "the model got {} encoders, its configuration has {}",
                encoders.len(),
                config.encoders.len()
            )));
        }
        if llm.config() != &config.llm {
            return Err(Error::failed(
                "the configuration of the language model differs from `llm` in the model's configuration",
            ));
        }
        let connector = config.connector.draw(seed, device)?;
        Ok(Self { encoders, connector, llm, config })
    }

    /// Builds a model from a connector and a language model; the encoders are frozen and outside the model.
    ///
    /// # Errors
    /// When they do not match the configuration, or it has encoders.
    pub fn from_parts(config: MllmConfig, connector: Connector, llm: Llm) -> Result<Self> {
        config.check()?;
        if llm.config() != &config.llm || !config.encoders.is_empty() {
            return Err(Error::failed(
                "the configuration of the language model differs from `llm` in the model's configuration, or that has \
                     unfrozen encoders",
            ));
        }
        Ok(Self { encoders: Vec::new(), connector, llm, config })
    }

    /// Returns the configuration of this model.
    pub fn config(&self) -> &MllmConfig {
        &self.config
    }

    /// Encodes images as image tokens, `[images, tokens, llm width]`, as `encode_images` of LLaVA.
    ///
    /// # Errors
    /// When the model does not read this form of input (pixels or features), or the features have another width or grid
    /// than the connector reads.
    pub fn encode_images(&self, images: ImageBatch) -> Result<ImageTokens> {
        self.encode_images_with(images, None, None)
    }

    /// As [`Mllm::encode_images`], with the image sizes before padding to squares, for connectors that [need
    /// them](crate::connector::ConnectorProperties::needs_image_sizes). In a step that trains the encoders, `draws` is
    /// the random stream for their drop-path masks (`drop_path` of their configurations).
    ///
    /// # Errors
    /// As [`Mllm::encode_images`].
    pub fn encode_images_with(
        &self,
        images: ImageBatch,
        sizes: Option<&[ImageSize]>,
        draws: Option<&mut Stream>,
    ) -> Result<ImageTokens> {
        let towers = self.features(images, draws)?;
        let grid = towers.first().map_or([0, 0], |tower| tower.grid);
        let mut images = self.connector.forward(&towers, sizes)?;
        if self.config.connector.kind.properties().adds_positions {
            images.tokens = position_embedding::add(images.tokens, grid, &self.llm)?;
        }
        Ok(images)
    }

    /// Returns the features of all encoders in the form that the connector reads.
    fn features(&self, images: ImageBatch, draws: Option<&mut Stream>) -> Result<Vec<FeatureMap>> {
        Ok(match images {
            ImageBatch::Pixels(pixels) => self.encode(pixels, draws)?,
            _ if !self.encoders.is_empty() => {
                return Err(Error::failed(
                    "got features, but the encoders of this model are unfrozen: it reads pixels",
                ));
            }
            ImageBatch::Features(_) if self.config.connector.kind.properties().needs_grid() => {
                return Err(Error::failed(format!(
                    "the {} connector reads features on their grid, got concatenated features without a grid",
                    self.config.connector.kind
                )));
            }
            ImageBatch::Features(tokens) => {
                let grid = [1, tokens.dims()[1]];
                vec![FeatureMap { tokens, grid }]
            }
            ImageBatch::FeatureMaps(maps) => self.config.connector.gather(maps)?,
        })
    }

    /// Computes the feature statistics over some images and sets them in a connector with the option `standardise`.
    ///
    /// # Errors
    /// When it does not standardise, an image cannot be read, or the features do not fit the connector.
    pub fn standardise(&mut self, batches: impl Iterator<Item = Result<ImageBatch>>) -> Result<()> {
        let mut statistics = ChannelStatistics::default();
        for images in batches {
            for map in self.features(images?, None)? {
                statistics.add(map.tokens)?;
            }
        }
        self.connector.set_statistics(statistics)
    }

    fn encode(&self, pixels: Vec<Tensor<4>>, mut draws: Option<&mut Stream>) -> Result<Vec<FeatureMap>> {
        if self.encoders.is_empty() || pixels.len() != self.encoders.len() {
            return Err(Error::failed(format!(
                "got pixels for {} encoders, the model has {} unfrozen encoders",
                pixels.len(),
                self.encoders.len()
            )));
        }
        let mut maps = Vec::with_capacity(pixels.len());
        for ((encoder, config), x) in self.encoders.iter().zip(&self.config.encoders).zip(pixels) {
            let drop_path = match draws.as_deref_mut() {
                Some(draws) => encoder.draw_drop_path(x.dims()[0], draws, &x.device()),
                None => DropPathMask::none(),
            };
            let map = encoder.forward_with_drop_path(x, &config.tap, &drop_path)?;
            let map = match self.config.grid {
                Some(grid) => map.resample(grid)?,
                None => map,
            };
            let map = match config.normalise {
                Some(norm) => map.normalised(norm),
                None => map,
            };
            // In training, the loss is checked instead, which costs nothing more.
            if draws.is_none() {
                map.check_finite("the unfrozen encoder", &|n| format!("image {n} of the batch"))?;
            }
            maps.push(map);
        }
        self.config.connector.gather(maps)
    }

    /// Embeds text and replaces each row's image placeholder with its image tokens; right-pads to the longest row.
    ///
    /// `images` holds the image tokens of those rows that have an image, in row order, from [`Mllm::encode_images`].
    /// All image tokens are kept; those that cover only padding are masked and take no position of their own.
    ///
    /// # Errors
    /// When the number of images differs from the number of placeholders, or an id is outside the vocabulary.
    pub fn splice(&self, rows: &[Sequence], images: Option<ImageTokens>, device: &Device) -> Result<Spliced> {
        let Some(ImageTokens { tokens, visible, context, .. }) = images else {
            return Ok(Spliced::plain(self.embed(rows, None, device)?));
        };
        let n = tokens.dims()[1];
        let embeddings = self.embed(rows, Some(tokens), device)?;
        let t = embeddings.dims()[1];
        let mut spliced = Spliced::plain(embeddings);
        if let Some(visible) = &visible {
            let (mut positions, mut padding_mask) = (Vec::with_capacity(rows.len()), Vec::with_capacity(rows.len()));
            let mut images = visible.iter();
            for row in rows {
                let visible = row.image_at.zip(row.image_at.and_then(|_| images.next()));
                let is_padding = |i: usize| match visible {
                    Some((at, visible)) => i.checked_sub(at).and_then(|p| visible.get(p)).is_some_and(|v| !v),
                    None => false,
                };
                let is_padding: Vec<bool> = (0..t).map(is_padding).collect();
                let mut next = 0;
                positions.push(
                    is_padding
                        .iter()
                        .map(|padding| {
                            next += usize::from(!padding);
                            // A masked token repeats the position before it.
                            next.saturating_sub(1)
                        })
                        .collect(),
                );
                padding_mask.push(is_padding);
            }
            (spliced.positions, spliced.padding_mask) = (Some(positions), Some(padding_mask));
        }
        if let Some(context) = context {
            let images = rows.iter().enumerate().filter_map(|(r, row)| Some((r, row.image_at?)));
            let placed: Vec<ImagePositions> = images
                .enumerate()
                .map(|(image, (row, at))| {
                    let visible = |p: usize| visible.as_ref().and_then(|v| v.get(image)?.get(p)).is_none_or(|v| *v);
                    let positions = (0..n).map(|p| visible(p).then_some(at + p)).collect();
                    ImagePositions { row, image, positions }
                })
                .collect();
            spliced.context = Some(context.bind(&placed, t)?);
        }
        Ok(spliced)
    }

    /// Runs the decoder on whole sequences: hidden states after the final norm, `[rows, t, llm width]`.
    ///
    /// # Errors
    /// When they exceed the language model's maximum length.
    pub fn hidden(&self, spliced: Spliced) -> Result<Tensor<3>> {
        let Spliced { embeddings, positions, padding_mask, context } = spliced;
        let layout = SequenceLayout { positions: positions.as_deref(), padding_mask: padding_mask.as_deref() };
        let mut after = |layer: usize, x: Tensor<3>| self.connector.after_layer(layer, x, context.as_ref());
        let after: Option<&mut BlockHook<'_>> = context.is_some().then_some(&mut after);
        self.llm.hidden_with(embeddings, layout, after)
    }

    /// Returns the embeddings of [`Mllm::splice`], `[rows, t, llm width]`.
    fn embed(&self, rows: &[Sequence], image: Option<Tensor<3>>, device: &Device) -> Result<Tensor<3>> {
        let [images, n, _] = image.as_ref().map_or([0; 3], Tensor::dims);
        let wanted = rows.iter().filter(|r| r.image_at.is_some()).count();
        if wanted != images {
            return Err(Error::failed(format!("{wanted} sequences have an image placeholder, got {images} images")));
        }
        let t = rows.iter().map(|r| r.length(n)).max().unwrap_or(0);
        let place = rows.first().and_then(|r| r.image_at);
        match (image, place) {
            (Some(image), Some(at)) if rows.iter().all(|r| r.image_at == Some(at)) => {
                // Usually all placeholders are at the same index; then a concatenation is enough, without a gather.
                let before: Vec<&[u32]> = rows.iter().map(|r| r.ids.get(..at).unwrap_or_default()).collect();
                let after = padded(rows.iter().map(|r| r.ids.get(at + 1..).unwrap_or_default()), t - at - n);
                let mut parts = Vec::with_capacity(3);
                if at > 0 {
                    parts.push(self.llm.embed_rows(&before, device)?);
                }
                parts.push(image);
                if t > at + n {
                    let after: Vec<&[u32]> = after.iter().map(Vec::as_slice).collect();
                    parts.push(self.llm.embed_rows(&after, device)?);
                }
                Ok(Tensor::cat(parts, 1))
            }
            (image, _) => self.gather(rows, image, t, device),
        }
    }

    /// Splices rows with placeholders at different indices: text and image embeddings form one table, from which the
    /// rows are gathered.
    fn gather(&self, rows: &[Sequence], image: Option<Tensor<3>>, t: usize, device: &Device) -> Result<Tensor<3>> {
        let longest = rows.iter().map(|r| r.ids.len()).max().unwrap_or(0);
        let mut ids = padded(rows.iter().map(|r| r.ids), longest);
        for (ids, row) in ids.iter_mut().zip(rows) {
            // The placeholder's id may be outside the vocabulary; the embedding looked up for it is not used.
            if let Some(id) = row.image_at.and_then(|at| ids.get_mut(at)) {
                *id = 0;
            }
        }
        let ids: Vec<&[u32]> = ids.iter().map(Vec::as_slice).collect();
        let text = self.llm.embed_rows(&ids, device)?;
        let [b, _, d] = text.dims();
        let Some(image) = image else {
            return Ok(text);
        };
        let [_, n, _] = image.dims();
        let mut index: Vec<i32> = Vec::with_capacity(b * t);
        let mut next = 0;
        for (r, row) in rows.iter().enumerate() {
            let start = index.len();
            for i in 0..row.ids.len() {
                if row.image_at == Some(i) {
                    index.extend((0..n).map(|k| (b * longest + next * n + k) as i32));
                    next += 1;
                } else {
                    index.push((r * longest + i) as i32);
                }
            }
            // Padding repeats the row's first token; its output is not used.
            index.resize(start + t, (r * longest) as i32);
        }
        let [m, _, _] = image.dims();
        let table = Tensor::cat(vec![text.reshape([b * longest, d]), image.reshape([m * n, d])], 0);
        let index = transfer::to_device::<1, Int>(TensorData::new(index, [b * t]), device);
        Ok(table.select(0, index).reshape([b, t, d]))
    }

    /// Writes a model directory: `config.json`, `tokenizer.json`, `connector.safetensors`, `llm/config.json` and
    /// `llm/model.safetensors` (readable by `transformers`; see [`save_llm`]), and `encoder-<n>.safetensors` for each
    /// unfrozen encoder.
    /// The directory is written atomically; an existing directory is kept.
    ///
    /// # Errors
    /// When it cannot be written, or a weight is not finite.
    pub fn save(&self, tokenizer: &Tokenizer, dir: &Path, precision: Precision) -> Result<()> {
        atomic::create_dir_with(dir, |dir| {
            atomic::write_json(&dir.join("config.json"), &self.config)?;
            tokenizer.save(&dir.join("tokenizer.json"))?;
            checkpoint::save(
                &self.connector,
                self.connector.dialect(),
                "",
                precision,
                &dir.join("connector.safetensors"),
            )?;
            save_llm(&self.llm, tokenizer, &dir.join("llm"), precision)?;
            for (i, encoder) in self.encoders.iter().enumerate() {
                checkpoint::save(encoder, &IDENTITY, "", precision, &dir.join(format!("encoder-{i}.safetensors")))?;
            }
            checksums::record_all(dir)
        })
    }

    /// Reads a model directory, after checking its checksums.
    ///
    /// # Errors
    /// When a file is missing or differs from its checksum, or its parameters do not match the configuration.
    pub fn load(dir: &Path, device: &Device) -> Result<(Self, Tokenizer)> {
        checksums::check_all(dir).map_err(|e| {
            let file = checksums::FILE;
            e.hint(format!(
                "the model directory is damaged: remove {} and train the model again; if the change was intended, \
                     remove {file} from the directory",
                dir.display()
            ))
        })?;
        let config: MllmConfig = atomic::read_json(&dir.join("config.json"))?;
        config.check().with_context(|| format!("reading {}", dir.display()))?;
        let tokenizer = Tokenizer::from_file(&dir.join("tokenizer.json"))?;
        let connector = config.connector.init(device)?;
        let dialect = connector.dialect();
        let connector = load_into(connector, &dir.join("connector.safetensors"), dialect)?;
        let llm = Weights::open_path(&dir.join("llm"))?.load_frozen(device)?.0;
        let mut encoders = Vec::with_capacity(config.encoders.len());
        for (i, e) in config.encoders.iter().enumerate() {
            let file = dir.join(format!("encoder-{i}.safetensors"));
            encoders.push(load_into(e.architecture.init(device)?, &file, &IDENTITY)?);
        }
        Ok((Self { encoders, connector, llm, config }, tokenizer))
    }
}

impl MllmConfig {
    /// Checks that the widths of encoders, connector and language model match.
    ///
    /// # Errors
    /// When they do not; the error names the fields.
    pub fn check(&self) -> Result<()> {
        self.llm.check()?;
        self.connector.check()?;
        let layers = self.llm.num_hidden_layers;
        if let Some(samplers) = self.connector.kind.properties().samplers.filter(|s| s.last() >= layers) {
            return Err(Error::usage(format!(
                "connector samplers: the last of {} would stand after layer {} of the language model, which has \
                     {layers} layers",
                samplers.number,
                samplers.last()
            ))
            .hint("layers are counted from 0: lower `number` or `stride` of the connector's samplers"));
        }
        if self.connector.llm_width != self.llm.hidden_size {
            return Err(Error::usage(format!(
                "`connector.llm_width` is {}, but the language model has `hidden_size` = {}",
                self.connector.llm_width, self.llm.hidden_size
            )));
        }
        let mut width = 0;
        for e in &self.encoders {
            e.architecture.check_tap(&e.tap)?;
            width += e.architecture.width(&e.tap)?;
        }
        if !self.encoders.is_empty() && width != self.connector.feature_width {
            return Err(Error::usage(format!(
                "the features of all encoders have width {width} together, but `connector.feature_width` is {}",
                self.connector.feature_width
            )));
        }
        if self.encoders.len() > 1 && self.grid.is_none() && !self.connector.kind.properties().reads_each_encoder {
            return Err(Error::usage(format!(
                "`grid` is missing: the {} connector concatenates the features of {} encoders, which needs a common \
                     grid",
                self.connector.kind,
                self.encoders.len()
            )));
        }
        Ok(())
    }
}

/// Writes a language model as a directory (`config.json`, `model.safetensors`, `tokenizer.json`) for `transformers`.
///
/// Of a model whose weights stay as their file stores them, only a reference to that file and the LoRA factors are
/// written, see [`save_adapters`].
///
/// # Errors
/// When it cannot be written, or a weight is not finite.
pub fn save_llm(llm: &Llm, tokenizer: &Tokenizer, dir: &Path, precision: Precision) -> Result<()> {
    let mut config = serde_json::to_value(llm.config())?;
    if let Some(fields) = config.as_object_mut() {
        fields.insert("architectures".into(), serde_json::json!([llm.config().model_type.class]));
    }
    atomic::write_json(&dir.join("config.json"), &config)?;
    tokenizer.save(&dir.join("tokenizer.json"))?;
    if llm.has_stored_weights() {
        return save_adapters(llm, dir);
    }
    let dialect = llm.config().model_type.dialect;
    checkpoint::save(llm, dialect, "", precision, &dir.join("model.safetensors"))
}

/// Reads a language model and its tokenizer from a directory or a GGUF file; all weights are f32 parameters.
///
/// # Errors
/// When a file is missing or damaged, or its parameters do not match the configuration.
pub fn load_llm(dir: &Path, device: &Device) -> Result<(Llm, Tokenizer)> {
    load_llm_with(dir, |weights| weights.load(device))
}

/// As [`load_llm`], for a model that is not trained, or only by LoRA: weights may stay as their file stores them, see
/// [`Weights::load_frozen`].
///
/// # Errors
/// As [`load_llm`].
pub fn load_frozen_llm(dir: &Path, device: &Device) -> Result<(Llm, Tokenizer)> {
    load_llm_with(dir, |weights| weights.load_frozen(device))
}

fn load_llm_with(dir: &Path, load: impl Fn(&Weights) -> Result<(Llm, LoadReport)>) -> Result<(Llm, Tokenizer)> {
    let weights = Weights::open_path(dir)?;
    let tokenizer = Tokenizer::of_model(&weights)?;
    weights.check_tokenizer(&tokenizer)?;
    Ok((load(&weights)?.0, tokenizer))
}

fn load_into<M: Module>(module: M, path: &Path, names: &Dialect) -> Result<M> {
    let (module, _) = checkpoint::load(module, &Checkpoint::open(path)?, names)?;
    Ok(module)
}

/// Pads each row with id 0 to length `t`. The embeddings of the padding are not used.
fn padded<'a>(rows: impl Iterator<Item = &'a [u32]>, t: usize) -> Vec<Vec<u32>> {
    rows.map(|r| {
        let mut row = r.to_vec();
        row.resize(t, 0);
        row
    })
    .collect()
}
