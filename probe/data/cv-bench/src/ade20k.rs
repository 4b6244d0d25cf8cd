//! Reads ADE20K's full edition: a JSON file with objects and their outlines beside each image.

use crate::annotated::{
    AnnotatedImage, AnnotatedObject, AnnotationFormat, AnnotationSet, LARGEST_IMAGE, NO_EXTENT, ReadAnnotations,
    clipped, plain, size_of,
};
use crate::fields;
use burgess_base::{Context, Error, Result, files, json};
use serde_json::Value;
use std::collections::{BTreeSet, HashSet};
use std::path::{Path, PathBuf};

/// Reads ADE20K's full edition: `NAME.json` beside `NAME.jpg`, in one folder per scene category.
pub(crate) fn read(input: &AnnotationSet) -> Result<ReadAnnotations> {
    let mut files = Vec::new();
    list(&input.annotations, &mut files)?;
    files.sort();
    let mut found = ReadAnnotations::default();
    for file in files {
        let step = || format!("reading {}", file.display());
        let bytes = files::read(&file, LARGEST_IMAGE).with_context(step)?;
        // Other readers of the dataset decode its files as Latin-1, which matters where a name has an accent.
        let text = String::from_utf8(bytes).unwrap_or_else(|e| e.as_bytes().iter().map(|b| char::from(*b)).collect());
        let hint = "ADE20K's files hold `annotation` with `filename`, `imsize` and `object` (name, parts, polygon)";
        let wrong = |what: String| Error::failed(what).context(step()).hint(hint);
        let read: Value = json::from_str(&text).with_context(step).map_err(|e| e.hint(hint))?;
        let annotation = read.get("annotation").ok_or_else(|| wrong("`annotation` is missing".into()))?;
        let of = |name: &str| annotation.get(name);
        let name = of("filename").and_then(Value::as_str);
        let name =
            name.ok_or_else(|| wrong(format!("`filename` must be text, found {}", fields::kind(of("filename")))))?;
        let objects = of("object").ok_or_else(|| wrong("`object` is missing".into()))?;
        // MATLAB writes a list of one element as the element itself.
        let objects = objects.as_array().map_or(std::slice::from_ref(objects), Vec::as_slice);
        let beside = file.parent().unwrap_or(Path::new("")).strip_prefix(&input.annotations).unwrap_or(Path::new(""));
        let image = input.images.join(beside).join(name);
        let size = match of("imsize").and_then(fields::numbers).as_deref() {
            Some([height, width, ..]) if *height > 0.0 && *width > 0.0 => Some([*width, *height]),
            Some(_) => return Err(wrong("`imsize` must be height and width".into())),
            None => size_of(&image),
        };
        let Some(size) = size else {
            *found.refused.entry("an image without a size").or_default() += 1;
            continue;
        };
        let mut scene = AnnotatedImage {
            format: AnnotationFormat::Ade20k,
            dataset: AnnotationFormat::Ade20k.source().into(),
            file: image,
            name: beside.join(name).display().to_string(),
            size,
            objects: Vec::new(),
            crowds: BTreeSet::new(),
            unclear: BTreeSet::new(),
        };
        for (index, o) in objects.iter().enumerate() {
            // Objects have level 0, their parts level 1, and parts of parts level 2.
            let level = o.get("parts").and_then(|p| p.get("part_level"));
            let level = level.and_then(fields::number).ok_or_else(|| {
                wrong(format!("object {index}: `part_level` must be a number, found {}", fields::kind(level)))
            })?;
            if level > 0.0 {
                continue;
            }
            // `name` is the WordNet name with synonyms, `raw_name` the annotator's text.
            let text = |name: &str| o.get(name).and_then(Value::as_str).filter(|n| !n.is_empty());
            let Some(class) = text("name").or_else(|| text("raw_name")) else {
                *found.refused.entry("an object without a name").or_default() += 1;
                continue;
            };
            let class = plain(class);
            let bbox = o.get("polygon").and_then(bounds).ok_or(NO_EXTENT).and_then(|bbox| clipped(bbox, scene.size));
            match bbox {
                Ok(bbox) => scene.objects.push(AnnotatedObject { class, bbox, corners: None, visible: 1.0 }),
                Err(why) => {
                    scene.unclear.insert(class);
                    *found.refused.entry(why).or_default() += 1;
                }
            }
        }
        found.scenes.push(scene);
    }
    if found.scenes.is_empty() {
        return Err(Error::failed(format!("{} contains no JSON file", input.annotations.display())).hint(
            "ADE20K's full edition has one beside each image; annotations in COCO's format are given as a file",
        ));
    }
    Ok(found)
}

/// Lists the JSON files below a directory. Links are followed; a folder with several links to it is read once.
fn list(root: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let (mut folders, mut seen) = (vec![root.to_path_buf()], HashSet::new());
    while let Some(folder) = folders.pop() {
        let step = || format!("listing {}", folder.display());
        if !seen.insert(folder.canonicalize().with_context(step)?) {
            continue;
        }
        for entry in std::fs::read_dir(&folder).with_context(step)? {
            let path = entry.with_context(step)?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "json") {
                files.push(path);
            }
        }
    }
    Ok(())
}

/// Returns the bounding box of a polygon: left, top, width, height in pixels. MATLAB writes a list of one point as a
/// number, which has no bounding box.
fn bounds(polygon: &Value) -> Option<[f64; 4]> {
    let side = |name: &str| {
        let numbers = fields::numbers(polygon.get(name)?)?;
        let (low, high) = numbers.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(*v), h.max(*v)));
        Some((low, high - low)).filter(|(_, length)| *length > 0.0 && length.is_finite())
    };
    let ((x, w), (y, h)) = (side("x")?, side("y")?);
    Some([x, y, w, h])
}
