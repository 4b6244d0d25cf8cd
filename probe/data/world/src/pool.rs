//! A pool of training conversations from sources of different sizes and kinds, as published mixes have them.

use std::path::Path;

use burgess_base::stream::stream;
use burgess_base::{Context, Result};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::dataset::{WorldSpec, row, save, truth};
use crate::questions::QuestionFamily;

/// One source of a pool: conversations that ask one family of questions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct PoolSource {
    /// Name of the source, in the field `source` of its conversations and in the paths of its images.
    pub source: String,
    /// Kind of data, such as "OCR", in the field `kind` of its conversations.
    pub kind: String,
    /// The family of its questions.
    pub family: QuestionFamily,
    /// Number of conversations.
    pub count: usize,
    /// Whether the first question of each form ends with the line that says how to answer, as in the benchmarks.
    /// Default `false`: many published sources with short answers do not say so.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub prompted: bool,
}

impl PoolSource {
    /// Returns the number of images: one for each conversation, unless the family is text only.
    pub(crate) fn images(&self) -> usize {
        if self.family.has_image() { self.count } else { 0 }
    }
}

/// Writes the images of a source below `dir`; returns its conversations and the ground truth of its images.
pub(crate) fn write_source(
    dir: &Path,
    spec: &WorldSpec,
    source: &PoolSource,
    tick: &(dyn Fn() + Sync),
) -> Result<(Vec<Value>, Vec<Value>)> {
    let name = &source.source;
    let folder = dir.join("images/pool").join(name);
    if source.family.has_image() {
        std::fs::create_dir_all(&folder).with_context(|| format!("creating {}", folder.display()))?;
    }
    let rows: Vec<(Value, Option<Value>)> = (0..source.count)
        .into_par_iter()
        .map(|i| {
            let mut s = stream(&format!("world/pool/{name}/{i}"), spec.seed);
            let (scene, turns) = source.family.draw(spec.turns, source.prompted, &mut s);
            let image = scene.as_ref().map(|_| format!("images/pool/{name}/{i:06}.png"));
            let mut row = row(&format!("{name}-{i:06}"), image.as_deref(), &turns);
            row["source"] = json!(name);
            row["kind"] = json!(source.kind);
            let Some((image, scene)) = image.zip(scene) else { return Ok((row, None)) };
            save(dir, &image, &scene)?;
            tick();
            Ok((row, Some(truth(&image, &scene))))
        })
        .collect::<Result<_>>()?;
    let (rows, truths): (Vec<Value>, Vec<Option<Value>>) = rows.into_iter().unzip();
    Ok((rows, truths.into_iter().flatten().collect()))
}
