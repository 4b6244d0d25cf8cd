//! Export in the layout of `LlavaForConditionalGeneration` of `transformers`.
//!
//! LLaVA is one vision transformer, two linear layers on each patch, and a language model. A model of this shape is
//! written with the names of the published LLaVA models, so that `transformers` computes the same logits. Operations
//! that LLaVA lacks are folded into weights where this is exact up to rounding: standardised features, layer scales,
//! and a padding colour that is not the mean. Where it is not, the model is exported in Burgess's own layout, and the
//! card says why.

mod language;
mod processor;
mod projector;
mod text;
mod tower;

use crate::export::shards::Shards;
use crate::export::source::ExportSource;
use crate::features::ArmCard;
use crate::features::model_cards::ModelEncoder;
use crate::run::exported::{self, ExportLayout, ExportManifest};
use crate::study::EncoderWeights;
use burgess_base::{Error, Result, atomic};
use burgess_encoders::arch::{Architecture, ArchitectureConfig};
use burgess_encoders::card::EncoderCard;
use burgess_encoders::checkpoint::{self, Checkpoint, IDENTITY};
use burgess_probe::mllm::{EncoderConfig, MllmConfig};
use burn::tensor::Device;
use language::LanguageModel;
use processor::ImageProcessor;
use projector::Projector;
use serde_json::{Value, json};
use std::path::Path;
use text::TextFiles;
use tower::Tower;

/// The smallest version of `transformers` with which an export was compared with Burgess.
pub const TRANSFORMERS: &str = "5.24";

/// A model that `transformers`' LLaVA computes, ready to be written.
pub struct LlavaExport {
    tower: Tower,
    processor: ImageProcessor,
    projector: Projector,
    language: LanguageModel,
    text: TextFiles,
    /// The encoder as it is exported.
    encoder: ModelEncoder,
    original: EncoderCard,
}

/// What was multiplied into weights, as sentences for the card.
pub struct Folded(pub Vec<String>);

impl LlavaExport {
    /// Plans the export of a model, or says in words why `transformers`' LLaVA does not compute it.
    ///
    /// # Errors
    /// A file of the model is missing or damaged.
    pub fn plan(source: &ExportSource) -> Result<std::result::Result<Self, String>> {
        let [encoder] = source.encoders.as_slice() else {
            return Ok(Err(format!("it has {} encoders, LLaVA has one", source.encoders.len())));
        };
        let ArmCard::Encoder(original) = &encoder.card else {
            return Ok(Err("it reads the ground truth instead of images (oracle)".into()));
        };
        let config = &source.config;
        let parts = || -> std::result::Result<_, String> {
            if let Some(obstacle) = language::obstacle(&config.llm) {
                return Err(obstacle);
            }
            let projector = Projector::plan(&config.connector)?;
            let mut tower = Tower::plan(original)?;
            let processor = ImageProcessor::plan(&original.preprocess)?;
            tower.shift = processor.shift;
            Ok((tower, processor, projector))
        };
        let (tower, processor, projector) = match parts() {
            Ok(parts) => parts,
            Err(why) => return Ok(Err(why)),
        };
        let text = match TextFiles::plan(&source.tokenizer, &config.chat, config.llm.vocab_size)? {
            Ok(text) => text,
            Err(why) => return Ok(Err(why)),
        };
        let language = LanguageModel::open(&source.model.join("llm"), text.rows)?;
        if let Err(why) = language.planned(text.rows)? {
            return Ok(Err(why));
        }
        let mut exported = encoder.clone();
        exported.encoder.weights = EncoderWeights::Own;
        let card = EncoderCard { preprocess: processor.preprocess.clone(), ..tower.card(original) };
        exported.card = ArmCard::Encoder(card);
        let original = original.clone();
        Ok(Ok(Self { tower, processor, projector, language, text, encoder: exported, original }))
    }

    /// What is multiplied into weights.
    pub fn folded(&self, source: &ExportSource) -> Folded {
        let mut folded = Vec::new();
        let properties = source.config.connector.kind.properties();
        if properties.needs_statistics {
            folded.push("the standardisation of the features, into `multi_modal_projector.linear_1`".to_string());
        }
        if let ArchitectureConfig::Vit(vit) = &self.original.architecture {
            if vit.layer_scale.is_some() {
                folded.push("the layer scales of the encoder, into the projections before them".to_string());
            }
            if self.processor.shift.iter().any(|s| *s != 0.0) {
                folded.push(format!(
                    "the difference between the encoder's mean and the padding colour {:?}, which the image processor \
                     uses as its mean, into the patch embedding",
                    self.original.preprocess.pad
                ));
            }
        }
        Folded(folded)
    }

    /// Writes all files of the model into `dir`. While it is written, memory holds the encoder and one tensor of the
    /// other weights.
    ///
    /// # Errors
    /// The encoder's weights are not on this machine, or a file cannot be read or written.
    pub fn write(&self, source: &ExportSource, dir: &Path) -> Result<()> {
        self.write_weights(source, dir)?;
        atomic::write_json(&dir.join("config.json"), &self.config()?)?;
        atomic::write_json(&dir.join("generation_config.json"), &self.text.generation)?;
        atomic::write(&dir.join("tokenizer.json"), self.text.tokenizer.as_bytes())?;
        atomic::write_json(&dir.join("tokenizer_config.json"), &self.text.tokenizer_config)?;
        atomic::write(&dir.join("chat_template.jinja"), self.text.chat_template.as_bytes())?;
        atomic::write_json(&dir.join("preprocessor_config.json"), &self.processor.config)?;
        let processor = json!({
            "processor_class": "LlavaProcessor",
            "image_token": self.text.image_token,
            "patch_size": self.tower.patch(),
            "num_additional_image_tokens": self.tower.additional_tokens(),
            "vision_feature_select_strategy": self.tower.select_strategy(),
        });
        atomic::write_json(&dir.join("processor_config.json"), &processor)?;

        // Burgess's own files, which transformers ignores.
        let own = dir.join(exported::FOLDER);
        let encoder = std::slice::from_ref(&self.encoder);
        atomic::write_json(&own.join("config.json"), &self.own_config(source)?)?;
        atomic::write_json(&own.join("cards.json"), &encoder)?;
        source.tokenizer.save(&own.join("tokenizer.json"))?;
        let manifest = ExportManifest {
            format: exported::FORMAT,
            burgess: env!("CARGO_PKG_VERSION").into(),
            layout: ExportLayout::Llava,
            encoders: vec![Some(".".into())],
        };
        atomic::write_json(&dir.join(exported::MANIFEST), &manifest)
    }

    fn write_weights(&self, source: &ExportSource, dir: &Path) -> Result<()> {
        let language = self.language.planned(self.text.rows)?.map_err(Error::failed)?;
        let planned = [self.projector.planned(), self.tower.planned()?, language].concat();
        let mut shards = Shards::create(dir, &planned)?;
        self.language.write(&mut shards)?;
        self.projector.write(&source.connector()?, &mut shards)?;
        let network = self.network(source)?;
        self.tower.write(&network, &mut shards)?;
        shards.finish()
    }

    /// Loads the encoder: that of the model, if it was trained with it, else the frozen one of its card.
    fn network(&self, source: &ExportSource) -> Result<Architecture> {
        let device = Device::flex();
        match source.config.encoders.first() {
            Some(trained) => {
                let file = Checkpoint::open(&source.model.join("encoder-0.safetensors"))?;
                Ok(checkpoint::load(trained.architecture.init(&device)?, &file, &IDENTITY)?.0)
            }
            None => {
                let own = source.encoders.first().ok_or_else(|| Error::failed("the model has no encoder"))?;
                Ok(own.encoder.load(self.original.clone(), &device)?.arch)
            }
        }
    }

    /// `config.json` of `transformers`.
    fn config(&self) -> Result<Value> {
        let mut text = self.language.config.clone();
        let tied = text.get("tie_word_embeddings").cloned().unwrap_or(json!(false));
        let generation = &self.text.generation;
        let token = |key: &str| generation.get(key).cloned().unwrap_or(Value::Null);
        if let Some(fields) = text.as_object_mut() {
            fields.insert("eos_token_id".into(), token("eos_token_id"));
            fields.insert("pad_token_id".into(), token("pad_token_id"));
        }
        Ok(json!({
            "architectures": ["LlavaForConditionalGeneration"],
            "model_type": "llava",
            "dtype": "float32",
            "image_token_index": self.text.image_id,
            "image_seq_length": self.tower.tokens(),
            "projector_hidden_act": self.projector.activation,
            "multimodal_projector_bias": true,
            "vision_feature_layer": self.tower.feature_layer(),
            "vision_feature_select_strategy": self.tower.select_strategy(),
            "tie_word_embeddings": tied,
            "text_config": text,
            "vision_config": self.tower.vision_config(),
        }))
    }

    /// Burgess's own configuration of the exported model.
    fn own_config(&self, source: &ExportSource) -> Result<MllmConfig> {
        let card = self.encoder.card.encoder()?;
        let trained = source.config.encoders.iter().map(|encoder| EncoderConfig {
            id: encoder.id.clone(),
            architecture: card.architecture.clone(),
            tap: encoder.tap.clone(),
            normalise: encoder.normalise,
        });
        Ok(MllmConfig {
            connector: self.projector.config.clone(),
            encoders: trained.collect(),
            ..source.config.clone()
        })
    }
}
