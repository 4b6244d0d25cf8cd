//! Checks the sizes in a configuration against the tensors of its file, before the network is built.
//!
//! Otherwise a configuration with 10⁵ layers would be built completely before the loader finds only two in the file.

use burgess_base::{Error, Result};
use burgess_encoders::checkpoint::Checkpoint;
use serde_json::Value;

/// Prefixes of the layer number in tensor names.
const LAYERS: [&str; 2] = ["model.layers.", "blk."];
/// Names of the embedding table, `[vocab_size, hidden_size]`.
const EMBEDDINGS: [&str; 2] = ["model.embed_tokens.weight", "token_embd.weight"];
/// Names of the first MLP's down projection, `[hidden_size, intermediate_size]`.
const DOWN: [&str; 3] =
    ["model.layers.0.mlp.down_proj.weight", "model.layers.0.mlp.c_proj.weight", "blk.0.ffn_down.weight"];

/// Compares the configured sizes with those of the tensors.
///
/// # Errors
/// When they differ; the error names the key and both numbers.
pub(super) fn check(config: &Value, checkpoint: &Checkpoint) -> Result<()> {
    let gguf = checkpoint.metadata().text("general.architecture")?;
    let layers = checkpoint
        .keys()
        .filter_map(|key| {
            let rest = LAYERS.iter().find_map(|before| key.strip_prefix(before))?;
            rest.split_once('.')?.0.parse::<usize>().ok()
        })
        .max()
        .map(|last| last.saturating_add(1));
    let shape = |names: &[&str]| names.iter().find_map(|name| checkpoint.shape(name)).map(<[usize]>::to_vec);
    let (embeddings, down) = (shape(&EMBEDDINGS), shape(&DOWN));
    let size = |shape: &Option<Vec<usize>>, axis: usize| shape.as_ref().and_then(|s| s.get(axis).copied());
    let found = [
        ("num_hidden_layers", "block_count", layers, "layers"),
        ("vocab_size", "vocab_size", size(&embeddings, 0), "rows of embeddings"),
        ("hidden_size", "embedding_length", size(&embeddings, 1), "columns of embeddings"),
        ("intermediate_size", "feed_forward_length", size(&down, 1), "inputs of the first `down_proj`"),
    ];
    for (key, in_gguf, found, what) in found {
        let (Some(found), Some(written)) = (found, config.get(key).and_then(Value::as_f64)) else { continue };
        // A file with more layers than that is rejected at loading, with a list of its tensors.
        let fits = if key == "num_hidden_layers" { written <= found as f64 } else { written == found as f64 };
        if fits {
            continue;
        }
        let key = gguf.map_or(key.to_string(), |architecture| format!("{architecture}.{in_gguf}"));
        return Err(Error::failed(format!(
            "{} does not fit its configuration: `{key}` is {written}, but the file has {found} {what}",
            checkpoint.path().display()
        ))
        .hint(
            "get both again: the configuration and the weights belong to different models, or one of them is damaged",
        ));
    }
    Ok(())
}
