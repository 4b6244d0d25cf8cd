//! The model card of an exported model: `README.md` with the hub's front matter.

use super::ExportOutcome;
use super::licences::{self, LicensedPart};
use super::llava::TRANSFORMERS;
use super::source::ExportSource;
use crate::features::ArmCard;
use crate::run::exported::ExportLayout;
use crate::run::provenance::Provenance;
use burgess_base::{Category, Result};
use burgess_reports::schema::{ArmRole, RunResults};
use serde_json::Value;
use std::collections::BTreeMap;

/// Half the width of a 95 % confidence interval, in standard errors.
const Z95: f64 = 1.96;

/// What a card says.
pub(super) struct ModelCard<'a> {
    pub source: &'a ExportSource,
    pub outcome: &'a ExportOutcome,
    /// For each encoder, the folder with its weights; `None` if they are elsewhere.
    pub bundled: &'a [Option<String>],
    /// The command with which the model is exported.
    pub command: &'a str,
}

impl ModelCard<'_> {
    /// Returns the text of the card.
    ///
    /// # Errors
    /// A record of the run is damaged.
    pub fn text(&self) -> Result<String> {
        let config = self.source.run_config()?;
        let results = self.source.results()?;
        let evaluator = config.as_ref().and_then(|c| c.get("evaluator")).cloned().unwrap_or_default();
        let parts = self.parts(config.as_ref(), &evaluator)?;
        let mut text = self.front_matter(&parts);
        text += &format!("# {}\n\n", self.title(config.as_ref()));
        text += &self.summary();
        text += &self.loading();
        if let Some(results) = &results {
            text += &self.scores(results)?;
        } else {
            text += "## Scores\n\nThe model was not evaluated when it was exported.\n\n";
        }
        text += &self.encoders();
        text += &training(&evaluator);
        text += &licence_table(&parts);
        text += &self.reproduction(config.as_ref(), results.as_ref())?;
        Ok(text)
    }

    fn title(&self, config: Option<&Value>) -> String {
        let field = |name: &str| config.and_then(|c| c.get(name)).and_then(Value::as_str).map(String::from);
        let encoders: Vec<String> = self.source.encoders.iter().map(|e| e.encoder.name()).collect();
        match (field("study"), field("arm")) {
            (Some(study), Some(arm)) => format!("{study}: {arm}"),
            _ => encoders.join(" + "),
        }
    }

    fn parts(&self, config: Option<&Value>, evaluator: &Value) -> Result<Vec<LicensedPart>> {
        let mut parts: Vec<LicensedPart> = self.source.encoders.iter().map(licences::of_encoder).collect();
        let llm = config.and_then(|c| c.pointer("/llm/name")).and_then(Value::as_str);
        parts.push(match llm {
            Some(name) => licences::of_llm(name)?,
            None => LicensedPart {
                part: "language model",
                name: self.source.config.llm.model_type.name.into(),
                licence: None,
                repository: None,
            },
        });
        parts.extend(licences::of_data(evaluator.get("data").unwrap_or(&Value::Null)));
        Ok(parts)
    }

    fn front_matter(&self, parts: &[LicensedPart]) -> String {
        let is_llava = self.outcome.layout == ExportLayout::Llava;
        let mut text = format!("---\n{}", licences::front_matter(parts));
        text += &format!("library_name: {}\n", if is_llava { "transformers" } else { "burgess" });
        text += "pipeline_tag: image-text-to-text\n";
        let of = |data: bool| {
            let named = parts.iter().filter(|p| (p.part == "training data") == data);
            let mut names: Vec<&str> = named.filter_map(|p| p.repository.as_deref()).collect();
            names.dedup();
            names
        };
        for (key, names) in [("base_model", of(false)), ("datasets", of(true))] {
            if !names.is_empty() {
                text += &format!("{key}:\n{}", names.iter().map(|n| format!("- {}\n", quoted(n))).collect::<String>());
            }
        }
        let mut tags = vec!["burgess".to_string(), "vision-encoder-comparison".into(), "multimodal".into()];
        tags.extend(is_llava.then(|| "llava".to_string()));
        tags.extend(self.source.encoders.iter().map(|e| e.encoder.name()));
        text += &format!("tags:\n{}", tags.iter().map(|t| format!("- {}\n", quoted(t))).collect::<String>());
        text + "---\n\n"
    }

    fn summary(&self) -> String {
        let config = &self.source.config;
        let encoders: Vec<String> = self.source.encoders.iter().map(|e| format!("`{}`", e.encoder.name())).collect();
        let frozen = if config.encoders.is_empty() { "frozen" } else { "trained with the model" };
        let mut text = format!(
            "A multimodal model that [Burgess](https://github.com/burgess-lab/burgess) trained to compare vision encoders: \
             {} ({frozen}), the connector `{}`, and a language model of the family {} with {} layers of width {}. It is \
             an instrument of a comparison and was not made to be used as an assistant.\n\n",
            encoders.join(" + "),
            config.connector.kind,
            config.llm.model_type.name,
            config.llm.num_hidden_layers,
            config.llm.hidden_size,
        );
        match (self.outcome.layout, &self.outcome.not_llava) {
            (ExportLayout::Llava, _) => {
                text += "The files are those of `LlavaForConditionalGeneration` of transformers, with the tensor names of \
                         the published LLaVA models. Burgess reads the same files; what transformers has no place for is \
                         in `burgess/`.\n\n";
                if !self.outcome.folded.is_empty() {
                    text += "LLaVA has no operation for the following, so it was multiplied into the weights, which \
                             changes nothing but rounding:\n\n";
                    text += &self.outcome.folded.iter().map(|f| format!("- {f}\n")).collect::<String>();
                    text.push('\n');
                }
            }
            (ExportLayout::Burgess, Some(why)) => {
                text += &format!(
                    "The files are in Burgess's own layout, because LLaVA of transformers does not compute this model: \
                     {why}.\n\n"
                );
            }
            (ExportLayout::Burgess, None) => text += "The files are in Burgess's own layout.\n\n",
        }
        text
    }

    fn loading(&self) -> String {
        let mut text = "## Loading\n\n```sh\nburgess ask --model . --image cup.png \"What is this?\"\nburgess serve \
                        --model .\n```\n\n"
            .to_string();
        let elsewhere: Vec<String> = match self.outcome.layout {
            ExportLayout::Llava => Vec::new(),
            ExportLayout::Burgess if !self.source.config.encoders.is_empty() => Vec::new(),
            ExportLayout::Burgess => {
                let encoders = self.source.encoders.iter().zip(self.bundled);
                encoders.filter(|(_, folder)| folder.is_none()).map(|(e, _)| e.encoder.source.clone()).collect()
            }
        };
        if !elsewhere.is_empty() {
            text += &format!(
                "The weights of the frozen encoders are not in this directory: `burgess fetch {}` downloads those that \
                 are published; nano encoders are part of Burgess.\n\n",
                elsewhere.join(" ")
            );
        }
        if self.outcome.layout == ExportLayout::Llava {
            let upright = self.source.encoders.iter().any(|e| match &e.card {
                ArmCard::Encoder(card) => card.preprocess.upright,
                ArmCard::Oracle(_) => false,
            });
            text += &format!(
                "With transformers {TRANSFORMERS} (compared with Burgess: equal answers, logits within 1e-4; earlier \
                 versions were not tried):\n\n```python\nfrom PIL import Image{ops}\nfrom transformers import \
                 AutoProcessor, LlavaForConditionalGeneration\n\nmodel = \
                 LlavaForConditionalGeneration.from_pretrained(\".\")\nprocessor = AutoProcessor.from_pretrained(\".\", \
                 backend=\"pil\")\nimage = {open}\nmessages = [{{\"role\": \"user\", \"content\": [{{\"type\": \
                 \"image\", \"image\": image}}, {{\"type\": \"text\", \"text\": \"What is this?\"}}]}}]\ninputs = \
                 processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=True, return_dict=True, \
                 return_tensors=\"pt\")\nanswer = model.generate(**inputs)[0, inputs[\"input_ids\"].shape[1]:]\nprint(\
                 processor.decode(answer, skip_special_tokens=True).strip())\n```\n\n`backend=\"pil\"` resizes with \
                 Pillow, as Burgess does; without it the pixels differ by rounding. Images are read {stored}.\n\n",
                ops = if upright { ", ImageOps" } else { "" },
                open = if upright {
                    "ImageOps.exif_transpose(Image.open(\"cup.png\"))"
                } else {
                    "Image.open(\"cup.png\")"
                },
                stored = if upright {
                    "upright, as their EXIF orientation says"
                } else {
                    "as they are stored, without the EXIF orientation"
                },
            );
        }
        text
    }

    fn scores(&self, results: &RunResults) -> Result<String> {
        let all = self.source.results_of_study()?;
        let baseline =
            |role: ArmRole| -> Vec<&RunResults> { all.iter().filter(|r| r.run.role == Some(role)).collect() };
        let (random, oracle) = (baseline(ArmRole::Random), baseline(ArmRole::Oracle));
        let mean = |runs: &[&RunResults], id: &str| {
            let scores: Vec<f64> = runs.iter().filter_map(|r| Some(r.results.get(id)?.score)).collect();
            if scores.is_empty() { "–".to_string() } else { number(scores.iter().sum::<f64>() / scores.len() as f64) }
        };
        let mut text = String::from(
            "## Scores\n\nIn percent, with 95 % confidence intervals (1.96 standard errors, clustered by image). *Chance* \
             is guessing, *blind* the same model without the image, *random* the mean of the study's arms with untrained \
             encoders, *oracle* that with the ground truth in place of an encoder.\n\n| benchmark | metric | score | \
             chance | blind | random | oracle | questions | not parsed |\n|---|---|---|---|---|---|---|---|---|\n",
        );
        for (id, r) in &results.results {
            let chance = if r.chance.is_finite() { number(r.chance) } else { "–".into() };
            text += &format!(
                "| {id} | {} | {} ± {} | {chance} | {} | {} | {} | {} | {} |\n",
                cell(&r.metric),
                number(r.score),
                number(Z95 * r.stderr),
                number(r.blind),
                mean(&random, id),
                mean(&oracle, id),
                r.n,
                r.n_unparsed,
            );
        }
        let apart = results.categories.len() > 1 && results.categories.contains_key(&Category::CONVERSATION);
        let without = if apart { " without Conversation" } else { "" };
        text += &format!("\nMean of the category means{without}: {}.", number(results.average));
        let same = |r: &&RunResults| r.run.arm == results.run.arm && r.run.study == results.run.study;
        let mut seeds: Vec<(u64, f64)> = all.iter().filter(same).map(|r| (r.run.seed, r.average)).collect();
        seeds.sort_by_key(|(seed, _)| *seed);
        if seeds.len() > 1 {
            let list = seeds.iter().map(|(seed, average)| format!("{} (seed {seed})", number(*average)));
            text += &format!(
                " This is the run of seed {}; all: {}.",
                results.run.seed,
                list.collect::<Vec<_>>().join(", ")
            );
        }
        let cost = &results.cost;
        text += &format!(
            "\n\n{} image tokens per image; encoders of {:.1} million parameters and {:.1} GFLOPs per image",
            cost.tokens,
            cost.encoder_params as f64 / 1e6,
            cost.gflops_per_image
        );
        if cost.train_seconds > 0.0 {
            text += &format!("; trained for {:.0} s on {}", cost.train_seconds, results.device);
        }
        text += ".\n\n";
        text += "The same scores are in `every_eval_ever.json` and, for benchmarks that are published on the hub, in \
                 `.eval_results/`.\n\n";
        if !results.notes.is_empty() {
            text += &format!("Notes:\n\n{}\n", results.notes.iter().map(|n| format!("- {n}\n")).collect::<String>());
        }
        Ok(text)
    }

    fn encoders(&self) -> String {
        let mut text = String::from("## Encoders\n\n");
        for encoder in &self.source.encoders {
            let ArmCard::Encoder(card) = &encoder.card else { continue };
            let p = &card.preprocess;
            let layers = if card.tap.layers.is_empty() { vec![card.tap.layer] } else { card.tap.layers.clone() };
            let layers: Vec<String> = layers.iter().map(i32::to_string).collect();
            let grid = card.used_grid().map_or_else(|_| "unknown".into(), |[r, c]| format!("{r} × {c}"));
            text += &format!(
                "- **{}** ({}, trained with {}; licence: {}). Features of layer {}{}, grid {grid}. Images: {}, resized to \
                 {} pixels ({:?}){}, mean {:?}, std {:?}, padding colour {:?}.\n",
                encoder.encoder.name(),
                card.title,
                card.supervision.as_str(),
                if card.licence.trim().is_empty() { "unknown" } else { &card.licence },
                layers.join(", "),
                if card.tap.norm { " after the final norm" } else { "" },
                p.fit.words(),
                p.size,
                p.interpolation,
                if p.crop_pct < 1.0 {
                    format!(", of which the centre ({}) is kept", p.crop_pct)
                } else {
                    String::new()
                },
                p.mean,
                p.std,
                p.pad,
            );
        }
        text + "\n"
    }

    fn reproduction(&self, config: Option<&Value>, results: Option<&RunResults>) -> Result<String> {
        let mut text = String::from("## Reproduction\n\n");
        let made = self.source.study().map(Provenance::read).transpose()?.flatten();
        let commands = [made.map(|m| m.command).unwrap_or_default(), self.command.to_string()];
        let commands: Vec<String> = commands.into_iter().filter(|c| !c.is_empty()).collect();
        text += &format!("```sh\n{}\n```\n\n", commands.join("\n"));
        let version = config.and_then(|c| c.get("burgess")).and_then(Value::as_str).unwrap_or("unknown");
        text += &format!("Trained with Burgess {version}, exported with {}.\n\n", env!("CARGO_PKG_VERSION"));
        let mut digests: BTreeMap<String, String> = BTreeMap::new();
        if let Some(encoders) = config.and_then(|c| c.get("encoders")).and_then(Value::as_object) {
            digests.extend(encoders.iter().filter_map(|(name, d)| Some((name.clone(), d.as_str()?.to_string()))));
        }
        if let Some(results) = results {
            digests.extend(results.digests.clone());
        }
        if !digests.is_empty() {
            text += "| BLAKE3 digest of | |\n|---|---|\n";
            text +=
                &digests.iter().map(|(name, digest)| format!("| {} | `{digest}` |\n", cell(name))).collect::<String>();
            text.push('\n');
        }
        text += "`checksums.json` has the digests of all files of the model.\n";
        Ok(text)
    }
}

/// Describes data and recipe as the run's configuration states them.
fn training(evaluator: &Value) -> String {
    let block = |name: &str| {
        let value = evaluator.get(name)?;
        let text = serde_json::to_string_pretty(value).ok()?;
        Some(format!("```json\n{text}\n```\n\n"))
    };
    let mut text = String::from("## Data and recipe\n\n");
    match (block("data"), block("recipe")) {
        (None, None) => text += "Unknown: the model was exported without the records of its run.\n\n",
        (data, recipe) => {
            text += &data.map_or_else(String::new, |block| format!("Data:\n\n{block}"));
            text += &recipe.map_or_else(String::new, |block| format!("Recipe:\n\n{block}"));
        }
    }
    text
}

fn licence_table(parts: &[LicensedPart]) -> String {
    let mut text = String::from("## Licences\n\n| part | name | licence |\n|---|---|---|\n");
    for part in parts {
        let licence = part.licence.as_deref().unwrap_or("unknown to Burgess: see its publisher");
        text += &format!("| {} | {} | {} |\n", part.part, cell(&part.name), cell(licence));
    }
    text + "\nThe weights of this model were made from these parts; whether they may be distributed follows from their \
            licences.\n\n"
}

/// A number with one decimal.
fn number(value: f64) -> String {
    format!("{value:.1}")
}

/// A text inside a cell of a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

/// A text as a scalar of YAML, in double quotes, which are those of JSON.
fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}
