//! Annotated pictures: COCO's instances, ADE20K (COCO's form, or its full edition with a JSON file for each picture), and
//! Omni3D (COCO's form with boxes in space).

use crate::Input;
use burgess_base::{Context, Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

/// How annotations are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// `images`, `annotations`, `categories`: every object of every category is boxed.
    Coco,
    /// COCO's form, or a directory of ADE20K's own JSON files.
    Ade20k,
    /// COCO's form with `bbox3D_cam` and `bbox2D_*`.
    Omni3d,
}

impl Format {
    /// As the published column `source` names it.
    pub fn source(self) -> &'static str {
        match self {
            Self::Coco => "COCO",
            Self::Ade20k => "ADE20K",
            Self::Omni3d => "Omni3D",
        }
    }
}

/// A picture with its objects.
#[derive(Debug, Clone, PartialEq)]
pub struct Scene {
    /// Where the annotations come from.
    pub format: Format,
    /// The dataset's own name, such as `nuScenes` in Omni3D.
    pub dataset: String,
    /// The picture.
    pub file: PathBuf,
    /// As the annotations call it.
    pub name: String,
    /// Pixels.
    pub size: [f64; 2],
    /// What is in it.
    pub objects: Vec<Object>,
    /// Classes of which there is a crowd that was not boxed one by one.
    pub crowds: BTreeSet<String>,
}

/// Something in a picture.
#[derive(Debug, Clone, PartialEq)]
pub struct Object {
    /// Its class in lower case.
    pub class: String,
    /// Left, top, width, height in pixels.
    pub bbox: [f64; 4],
    /// The eight corners of its box in the camera's coordinates.
    pub corners: Option<[[f64; 3]; 8]>,
    /// The share of it that is seen, where that is known.
    pub visible: f64,
}

/// Scenes, and what of the annotations could not be used, by reason.
#[derive(Debug, Default)]
pub struct Found {
    /// In the order of the file.
    pub scenes: Vec<Scene>,
    /// Counts.
    pub refused: BTreeMap<&'static str, usize>,
}

#[derive(Deserialize)]
struct Dataset {
    images: Vec<Image>,
    annotations: Vec<Annotation>,
    categories: Vec<Category>,
    #[serde(default)]
    info: Value,
}

#[derive(Deserialize)]
struct Image {
    id: u64,
    #[serde(alias = "file_path")]
    file_name: String,
    width: f64,
    height: f64,
}

#[derive(Deserialize)]
struct Category {
    id: i64,
    name: String,
}

#[derive(Deserialize)]
struct Annotation {
    image_id: u64,
    category_id: i64,
    #[serde(default)]
    bbox: Option<Vec<f64>>,
    #[serde(default)]
    iscrowd: u8,
    #[serde(default, rename = "bbox2D_tight")]
    tight: Option<Vec<f64>>,
    #[serde(default, rename = "bbox2D_trunc")]
    truncated: Option<Vec<f64>>,
    #[serde(default, rename = "bbox2D_proj")]
    projected: Option<Vec<f64>>,
    #[serde(default, rename = "bbox3D_cam")]
    corners: Option<Vec<Vec<f64>>>,
    #[serde(default = "Flag::yes", rename = "valid3D")]
    valid: Flag,
    #[serde(default = "Flag::no")]
    behind_camera: Flag,
    // What Omni3D does not know is -1.
    #[serde(default)]
    visibility: Option<f64>,
    #[serde(default)]
    truncation: Option<f64>,
    #[serde(default)]
    lidar_pts: Option<f64>,
    #[serde(default)]
    segmentation_pts: Option<f64>,
    #[serde(default)]
    depth_error: Option<f64>,
}

/// Above this difference between a box and the depth map, Omni3D's own evaluation ignores an object
/// (`cubercnn/data/datasets.py`, `is_ignore`), as it does one without any measured point.
const DEPTH_ERROR: f64 = 0.5;

/// Written as a truth value or as a number.
#[derive(Deserialize)]
#[serde(untagged)]
enum Flag {
    Bool(bool),
    Number(f64),
}

impl Flag {
    fn yes() -> Self {
        Self::Bool(true)
    }

    fn no() -> Self {
        Self::Bool(false)
    }

    fn is_set(&self) -> bool {
        match self {
            Self::Bool(b) => *b,
            Self::Number(n) => *n != 0.0,
        }
    }
}

/// Reads one set of annotations.
///
/// # Errors
/// The file is absent or is not of the format: with line, column and what is missing.
pub fn read(input: &Input) -> Result<Found> {
    match input.format {
        Format::Ade20k if input.annotations.is_dir() => ade20k(input),
        _ => coco(input),
    }
}

fn coco(input: &Input) -> Result<Found> {
    let step = || format!("reading {}", input.annotations.display());
    let file = BufReader::new(File::open(&input.annotations).with_context(step)?);
    let data: Dataset = serde_json::from_reader(file).with_context(step).map_err(|e| {
        e.hint("annotations are an object with `images` (id, file_name, width, height), `annotations` and `categories`")
    })?;
    let classes: HashMap<i64, String> = data.categories.iter().map(|c| (c.id, plain(&c.name))).collect();
    let named = data.info.get("name").or_else(|| data.info.get("source")).and_then(|v| v.as_str());
    let dataset = named.unwrap_or(input.format.source()).to_string();
    let mut found = Found::default();
    let mut number: HashMap<u64, usize> = HashMap::new();
    for image in data.images {
        if !(image.width > 0.0 && image.height > 0.0) {
            *found.refused.entry("a picture without a size").or_default() += 1;
            continue;
        }
        if number.insert(image.id, found.scenes.len()).is_some() {
            return Err(Error::failed(format!("the picture {} is listed twice", image.id)).context(step()));
        }
        found.scenes.push(Scene {
            format: input.format,
            dataset: dataset.clone(),
            file: input.pictures.join(&image.file_name),
            name: image.file_name,
            size: [image.width, image.height],
            objects: Vec::new(),
            crowds: BTreeSet::new(),
        });
    }
    for (index, a) in data.annotations.into_iter().enumerate() {
        let Some(class) = classes.get(&a.category_id) else {
            let message = format!("annotation {index} is of the category {}, which is not listed", a.category_id);
            return Err(Error::failed(message).context(step()));
        };
        let mut refuse = |why| *found.refused.entry(why).or_default() += 1;
        let Some(scene) = number.get(&a.image_id).and_then(|n| found.scenes.get_mut(*n)) else {
            refuse("an object of a picture that is not listed");
            continue;
        };
        if a.iscrowd != 0 {
            scene.crowds.insert(class.clone());
            continue;
        }
        match object(class, &a, input.format) {
            Ok(object) => scene.objects.push(object),
            Err(why) => {
                // Something is there, but not where: its class cannot be counted in this picture.
                scene.crowds.insert(class.clone());
                refuse(why);
            }
        }
    }
    Ok(found)
}

fn object(class: &str, a: &Annotation, format: Format) -> std::result::Result<Object, &'static str> {
    let finite = |v: &[f64]| v.iter().all(|x| x.is_finite());
    // Corners to sides; Omni3D writes -1 for boxes that it does not have.
    let from_corners = |b: &Option<Vec<f64>>| match b.as_deref() {
        Some(&[x0, y0, x1, y1]) if finite(&[x0, y0, x1, y1]) && x1 > x0 && y1 > y0 => Some([x0, y0, x1 - x0, y1 - y0]),
        _ => None,
    };
    let plain = match a.bbox.as_deref() {
        Some(&[x, y, w, h]) if finite(&[x, y, w, h]) && w > 0.0 && h > 0.0 => Some([x, y, w, h]),
        _ => None,
    };
    let bbox = match format {
        Format::Omni3d => {
            from_corners(&a.tight).or_else(|| from_corners(&a.truncated)).or_else(|| from_corners(&a.projected))
        }
        Format::Coco | Format::Ade20k => plain,
    };
    let bbox = bbox.ok_or("a box without extent")?;
    let corners = match (format, &a.corners) {
        (Format::Omni3d, Some(list)) if a.valid.is_set() && !a.behind_camera.is_set() => {
            let corner = |c: &Vec<f64>| <[f64; 3]>::try_from(c.as_slice()).ok().filter(|c| finite(c));
            let corners: Vec<[f64; 3]> = list.iter().filter_map(corner).collect();
            Some(<[[f64; 3]; 8]>::try_from(corners).map_err(|_| "a box in space without eight corners")?)
        }
        (Format::Omni3d, _) => return Err("no valid box in space"),
        _ => None,
    };
    if a.lidar_pts == Some(0.0) || a.segmentation_pts == Some(0.0) {
        return Err("nothing of it was measured");
    }
    if a.depth_error.is_some_and(|e| e > DEPTH_ERROR) {
        return Err("its box in space is not where the depth map has it");
    }
    let share = |value: Option<f64>| value.filter(|v| (0.0..=1.0).contains(v));
    let visible = share(a.visibility).unwrap_or(1.0).min(1.0 - share(a.truncation).unwrap_or(0.0));
    Ok(Object { class: class.into(), bbox, corners, visible })
}

/// A class as it is said: `traffic_light` is "traffic light", of ADE20K's synonyms the first.
fn plain(name: &str) -> String {
    name.split(',').next().unwrap_or(name).trim().replace('_', " ").to_lowercase()
}

#[derive(Deserialize)]
struct AdeFile {
    annotation: AdeAnnotation,
}

#[derive(Deserialize)]
struct AdeAnnotation {
    filename: String,
    imsize: Vec<f64>,
    object: Vec<AdeObject>,
}

/// `name` is the WordNet name with synonyms, `raw_name` what the annotator wrote; where the first is missing, the second.
#[derive(Deserialize)]
struct AdeObject {
    #[serde(default)]
    name: Value,
    #[serde(default)]
    raw_name: Value,
    parts: AdeParts,
    polygon: AdePolygon,
}

/// Objects are of level 0, their parts of level 1, parts of parts of level 2.
#[derive(Deserialize)]
struct AdeParts {
    part_level: u32,
}

/// Lists of numbers; what MATLAB writes for lists of one (a bare number) bounds nothing.
#[derive(Deserialize)]
struct AdePolygon {
    x: Value,
    y: Value,
}

/// ADE20K's full edition: `NAME.json` beside `NAME.jpg`, in folders of scenes.
fn ade20k(input: &Input) -> Result<Found> {
    let mut files = Vec::new();
    list(&input.annotations, &mut files)?;
    files.sort();
    let mut found = Found::default();
    for file in files {
        let step = || format!("reading {}", file.display());
        let bytes = std::fs::read(&file).with_context(step)?;
        // Readers of the dataset take its files for Latin-1, which matters where a name has an accent.
        let text = String::from_utf8(bytes).unwrap_or_else(|e| e.as_bytes().iter().map(|b| char::from(*b)).collect());
        let read: AdeFile = serde_json::from_str(&text).with_context(step).map_err(|e| {
            e.hint("ADE20K's files hold `annotation` with `filename`, `imsize` and `object` (name, parts, polygon)")
        })?;
        let a = read.annotation;
        let [height, width, ..] = *a.imsize.as_slice() else {
            return Err(Error::failed("`imsize` must be height and width").context(step()));
        };
        let beside = file.parent().unwrap_or(Path::new("")).strip_prefix(&input.annotations).unwrap_or(Path::new(""));
        let mut scene = Scene {
            format: Format::Ade20k,
            dataset: Format::Ade20k.source().into(),
            file: input.pictures.join(beside).join(&a.filename),
            name: beside.join(&a.filename).display().to_string(),
            size: [width, height],
            objects: Vec::new(),
            crowds: BTreeSet::new(),
        };
        for o in a.object {
            if o.parts.part_level > 0 {
                continue;
            }
            let Some(class) = [&o.name, &o.raw_name].into_iter().find_map(|n| n.as_str().filter(|n| !n.is_empty()))
            else {
                *found.refused.entry("an object without a name").or_default() += 1;
                continue;
            };
            let class = plain(class);
            match bounds(&o.polygon) {
                Some(bbox) => scene.objects.push(Object { class, bbox, corners: None, visible: 1.0 }),
                None => {
                    scene.crowds.insert(class);
                    *found.refused.entry("a box without extent").or_default() += 1;
                }
            }
        }
        found.scenes.push(scene);
    }
    if found.scenes.is_empty() {
        return Err(Error::failed(format!("{} holds no JSON files", input.annotations.display()))
            .hint("ADE20K's full edition has one beside each picture; else give a file in COCO's form"));
    }
    Ok(found)
}

fn list(dir: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let step = || format!("listing {}", dir.display());
    for entry in std::fs::read_dir(dir).with_context(step)? {
        let path = entry.with_context(step)?.path();
        if path.is_dir() {
            list(&path, files)?;
        } else if path.extension().is_some_and(|e| e == "json") {
            files.push(path);
        }
    }
    Ok(())
}

fn bounds(polygon: &AdePolygon) -> Option<[f64; 4]> {
    let side = |list: &Value| {
        let numbers: Option<Vec<f64>> = list.as_array()?.iter().map(Value::as_f64).collect();
        let (low, high) = numbers?.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(*v), h.max(*v)));
        Some((low, high - low)).filter(|(_, length)| *length > 0.0 && length.is_finite())
    };
    let ((x, w), (y, h)) = (side(&polygon.x)?, side(&polygon.y)?);
    Some([x, y, w, h])
}
