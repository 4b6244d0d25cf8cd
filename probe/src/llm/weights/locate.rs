//! Locates a language model: a directory, a file, a name in `probe/zoo`, or a hub repository in the local cache.

use crate::llm::card::LlmCard;
use burgess_base::{Error, Result, nearest};
use burgess_encoders::checkpoint;
use burgess_encoders::hub::Repository;
use burgess_encoders::resolve::repository_weights;
use burgess_encoders::shipped;
use std::path::{Path, PathBuf};

/// Resolves `name` to a directory or file: a path, a name in the zoo (one of our models, or a card, which stands for
/// its repository), or `owner/name[@revision][:file]` of the hub.
///
/// # Errors
/// When nothing has this name, or the repository has not been fetched completely.
pub fn locate(name: &str) -> Result<PathBuf> {
    let path = Path::new(name);
    if path.exists() {
        return Ok(path.to_path_buf());
    }
    if let Some(found) = shipped::language_model(name)? {
        return Ok(found);
    }
    if let Some(card) = LlmCard::find(name)? {
        return in_hub(&Repository::new(&card.hub, None)?, None);
    }
    match Repository::parse_with_file(name) {
        Some((repository, file)) => in_hub(&repository, file.as_deref()),
        None => {
            let mut known = shipped::language_models();
            known.extend(LlmCard::all()?.into_iter().map(|card| card.id));
            let near = nearest(name, known.iter().map(String::as_str));
            let list = if near.is_empty() { known.join(", ") } else { near.join(", ") };
            Err(Error::usage(format!("there is no language model `{name}`")).hint(format!(
                "give a directory in Hugging Face's layout, a .gguf file, owner/name of the hub, or one of {list}"
            )))
        }
    }
}

/// Looks a repository up in the local cache of the hub; downloads nothing.
fn in_hub(repository: &Repository, file: Option<&str>) -> Result<PathBuf> {
    let directory = repository.snapshot()?;
    if file.is_none() {
        let models = models(&directory)?;
        let others = checkpoint::all_files(&directory).is_ok();
        if let (false, [first, _, ..]) = (others, models.as_slice()) {
            let id = repository.name();
            return Err(Error::usage(format!("{id} has {} GGUF models: {}", models.len(), models.join(", ")))
                .hint(format!("name one of them, as in {id}:{first}")));
        }
    }
    repository_weights(repository, file)
}

/// The GGUF models in a directory; of a split model only the first file.
fn models(directory: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for item in std::fs::read_dir(directory)? {
        names.push(item?.file_name().to_string_lossy().into_owned());
    }
    names.retain(|name| name.ends_with(".gguf"));
    names.sort();
    let later: Vec<String> = names.iter().flat_map(|name| checkpoint::gguf_parts(name).into_iter().skip(1)).collect();
    names.retain(|name| !later.contains(name));
    Ok(names)
}
