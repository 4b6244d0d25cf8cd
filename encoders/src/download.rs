//! What to download for an encoder, for the client of the crate `burgess-hub`: this crate itself never uses the
//! network.

use crate::card::{EncoderCard, WeightsLocation};
use crate::checkpoint::{self, DIFFUSERS_FOLDERS};
use crate::hub::{DownloadRequest, FileSelection, Repository, SelectedFiles};
use crate::resolve::weights_path;
use burgess_base::{Error, Result, nearest};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Parses what to download: the id of a card, `owner/name[@revision][:file]` of the hub, or the address of a file.
///
/// # Errors
/// The text is none of them, or an error of [`request_for`].
pub fn request(text: &str) -> Result<DownloadRequest> {
    match Repository::parse_with_file(text) {
        _ if text.starts_with("https://") || text.starts_with("http://") => Ok(DownloadRequest::Url(text.to_string())),
        Some((repository, file)) => Ok(DownloadRequest::Repository(repository, file)),
        None => request_for(&EncoderCard::find(text)?),
    }
}

/// Returns what to download for the weights of a card.
///
/// # Errors
/// The weights cannot be downloaded and are not on this machine.
pub fn request_for(card: &EncoderCard) -> Result<DownloadRequest> {
    match &card.source.location {
        WeightsLocation::Hub { repository, file, revision } => {
            Ok(DownloadRequest::Repository(Repository::new(repository, revision.as_deref())?, file.clone()))
        }
        WeightsLocation::Url(url) => Ok(DownloadRequest::Url(url.clone())),
        WeightsLocation::Shipped { .. } | WeightsLocation::Directory(_) => {
            Ok(DownloadRequest::Local(weights_path(card)?))
        }
    }
}

/// Selects one copy of the weights, and the configurations and tokenizers that encoders and language models need.
#[derive(Debug, Clone, Copy, Default)]
pub struct ModelFiles;

impl FileSelection for ModelFiles {
    fn select(&self, repository: &Repository, names: &BTreeSet<String>, file: Option<&str>) -> Result<SelectedFiles> {
        if let Some(file) = file {
            if names.contains(file) {
                return Ok(SelectedFiles { configurations: Vec::new(), weights: checkpoint::gguf_parts(file) });
            }
            let near = nearest(file, names.iter().map(String::as_str));
            return Err(Error::failed(format!("{} has no file {file}", repository.name())).hint(match near.len() {
                0 => format!("it has {} other files", names.len()),
                _ => format!("it has {}", near.join(", ")),
            }));
        }
        let names_in = |folder: &str| -> Vec<&str> {
            let inside = |name: &'_ String| name.rsplit_once('/').map_or("", |(folder, _)| folder) == folder;
            names.iter().filter(|name| inside(name)).filter_map(|name| name.rsplit('/').next()).collect()
        };
        let pipeline = names.contains("model_index.json");
        let folders: &[&str] = if pipeline { &DIFFUSERS_FOLDERS } else { &[""] };
        let mut weights = Vec::new();
        for folder in folders {
            let chosen = checkpoint::choose_weights(&names_in(folder)).map_err(|e| {
                e.context(format!("looking for weights in {} {folder}", repository.name()).trim().to_string())
            })?;
            for part in checkpoint::gguf_parts(chosen) {
                weights.push(if folder.is_empty() { part } else { format!("{folder}/{part}") });
            }
        }
        let is_configuration = |name: &&String| {
            let depth = name.matches('/').count();
            // Language models also need `tokenizer.model` and `chat_template.jinja`.
            let text = [".json", ".txt", ".model", ".jinja"].iter().any(|ending| name.ends_with(ending));
            text && !checkpoint::is_index(name) && depth <= usize::from(pipeline)
        };
        Ok(SelectedFiles { configurations: names.iter().filter(is_configuration).cloned().collect(), weights })
    }

    fn is_index(&self, name: &str) -> bool {
        checkpoint::is_index(name)
    }

    fn shards(&self, index: &[u8]) -> Result<Vec<String>> {
        checkpoint::index_shards(index)
    }

    fn local_files(&self, path: &Path) -> Result<Vec<PathBuf>> {
        checkpoint::all_files(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn needed(names: &[&str], file: Option<&str>) -> Result<(Vec<String>, Vec<String>)> {
        let names = names.iter().map(ToString::to_string).collect();
        let selected = ModelFiles.select(&Repository::new("a/b", None)?, &names, file)?;
        Ok((selected.configurations, selected.weights))
    }

    #[test]
    fn one_copy_of_the_weights_and_the_configurations_are_needed() -> Result<()> {
        let names = [
            ".gitattributes",
            "README.md",
            "config.json",
            "pytorch_model.bin",
            "model.safetensors",
            "onnx/config.json",
        ];
        assert_eq!(needed(&names, None)?, (vec!["config.json".into()], vec!["model.safetensors".into()]));
        assert_eq!(needed(&names, Some("pytorch_model.bin"))?, (vec![], vec!["pytorch_model.bin".into()]));
        let error = needed(&names, Some("model.bin")).unwrap_err();
        assert!(error.hint_text().is_some_and(|h| h.contains("pytorch_model.bin")), "{error}");
        Ok(())
    }

    #[test]
    fn of_language_models_tokenizers_and_all_parts_are_needed() -> Result<()> {
        let names =
            ["chat_template.jinja", "config.json", "tokenizer.model", "a-00001-of-00002.gguf", "a-00002-of-00002.gguf"];
        let parts = ["a-00001-of-00002.gguf".to_string(), "a-00002-of-00002.gguf".to_string()];
        let (small, weights) = needed(&names, None)?;
        assert_eq!(small, ["chat_template.jinja", "config.json", "tokenizer.model"]);
        assert_eq!(weights, parts);
        assert_eq!(needed(&names, Some(&parts[0]))?.1, parts);
        Ok(())
    }

    #[test]
    fn of_diffusers_the_parts_with_features_are_needed() -> Result<()> {
        let names = [
            "model_index.json",
            "v2-1_768-ema-pruned.safetensors",
            "scheduler/scheduler_config.json",
            "text_encoder/config.json",
            "text_encoder/model.safetensors",
            "tokenizer/merges.txt",
            "unet/diffusion_pytorch_model.fp16.safetensors",
            "unet/diffusion_pytorch_model.safetensors",
            "vae/diffusion_pytorch_model.bin",
            "safety_checker/model.safetensors",
        ];
        let (small, weights) = needed(&names, None)?;
        assert_eq!(
            small,
            ["model_index.json", "scheduler/scheduler_config.json", "text_encoder/config.json", "tokenizer/merges.txt"]
        );
        let expected = [
            "text_encoder/model.safetensors",
            "unet/diffusion_pytorch_model.safetensors",
            "vae/diffusion_pytorch_model.bin",
        ];
        assert_eq!(weights, expected);
        Ok(())
    }
}
