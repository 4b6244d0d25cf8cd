//! Reads annotations in COCO's format: COCO's instances, ADE20K in that format, and Omni3D with its 3D boxes.

use crate::annotated::{
    AnnotatedImage, AnnotatedObject, AnnotationFormat, AnnotationSet, NO_EXTENT, ReadAnnotations, clipped, plain,
    size_of,
};
use crate::fields::{self, FromFields, ListEntry};
use burgess_base::json::LenientReader;
use burgess_base::text::excerpt;
use burgess_base::{Context, Error, Result, files};
use serde::Deserialize;
use serde_json::{Map, Value};
use std::collections::{BTreeSet, HashMap};
use std::io::{BufReader, Read};

#[derive(Deserialize)]
#[serde(expecting = "an object with images, annotations and categories")]
struct Dataset {
    images: Vec<ListEntry<Image>>,
    annotations: Vec<ListEntry<Annotation>>,
    categories: Vec<ListEntry<Category>>,
    #[serde(default)]
    info: Value,
}

/// An id, or the reason why it is invalid.
type Id = std::result::Result<Box<str>, String>;

struct Image {
    id: Id,
    file_name: Option<String>,
    /// Width and height in pixels, if both are given.
    size: Option<[f64; 2]>,
}

impl FromFields for Image {
    const KEYS: &'static [&'static str] = &["id", "file_name", "file_path", "coco_url", "width", "height"];

    fn from_fields(fields: Map<String, Value>) -> Self {
        let text = |name: &str| fields.get(name).and_then(Value::as_str).filter(|s| !s.is_empty());
        let side = |name: &str| fields.get(name).and_then(fields::number).filter(|side| *side > 0.0);
        // LVIS gives only the URL of the image.
        let of_url = || text("coco_url")?.rsplit('/').next().filter(|s| !s.is_empty());
        Self {
            id: fields::id(fields.get("id")),
            file_name: text("file_name").or_else(|| text("file_path")).or_else(of_url).map(String::from),
            size: side("width").zip(side("height")).map(|(w, h)| [w, h]),
        }
    }
}

struct Category {
    id: Id,
    name: Option<String>,
}

impl FromFields for Category {
    const KEYS: &'static [&'static str] = &["id", "name"];

    fn from_fields(fields: Map<String, Value>) -> Self {
        let name = match fields.get("name") {
            Some(Value::String(s)) if !s.trim().is_empty() => Some(s.clone()),
            Some(Value::Number(n)) => Some(n.to_string()),
            _ => None,
        };
        Self { id: fields::id(fields.get("id")), name }
    }
}

/// The written value of a box: four numbers, nothing, or something else.
#[derive(Clone, Copy)]
enum BoxValue {
    Nothing,
    Four([f64; 4]),
    Other,
}

impl BoxValue {
    fn of(value: Option<&Value>) -> Self {
        match value {
            None | Some(Value::Null) => Self::Nothing,
            Some(value) => match fields::numbers(value).and_then(|list| list.try_into().ok()) {
                Some(four) => Self::Four(four),
                None => Self::Other,
            },
        }
    }
}

struct Annotation {
    /// Id of the annotation, for errors.
    id: Option<Box<str>>,
    image: Id,
    category: Id,
    bbox: BoxValue,
    crowd: std::result::Result<bool, String>,
    space: Option<Box<Omni3dFields>>,
}

/// The additional fields of Omni3D, where -1 means unknown.
struct Omni3dFields {
    /// The values of `bbox2D_tight`, `bbox2D_trunc` and `bbox2D_proj`.
    boxes: [BoxValue; 3],
    corners: Option<Vec<Option<[f64; 3]>>>,
    valid: bool,
    visibility: Option<f64>,
    truncation: Option<f64>,
    lidar_pts: Option<f64>,
    segmentation_pts: Option<f64>,
    depth_error: Option<f64>,
}

const OMNI3D_KEYS: [&str; 11] = [
    "bbox2D_tight",
    "bbox2D_trunc",
    "bbox2D_proj",
    "bbox3D_cam",
    "valid3D",
    "behind_camera",
    "visibility",
    "truncation",
    "lidar_pts",
    "segmentation_pts",
    "depth_error",
];

impl FromFields for Annotation {
    const KEYS: &'static [&'static str] = &[
        "id",
        "image_id",
        "category_id",
        "bbox",
        "iscrowd",
        OMNI3D_KEYS[0],
        OMNI3D_KEYS[1],
        OMNI3D_KEYS[2],
        OMNI3D_KEYS[3],
        OMNI3D_KEYS[4],
        OMNI3D_KEYS[5],
        OMNI3D_KEYS[6],
        OMNI3D_KEYS[7],
        OMNI3D_KEYS[8],
        OMNI3D_KEYS[9],
        OMNI3D_KEYS[10],
    ];

    fn from_fields(fields: Map<String, Value>) -> Self {
        let get = |name: &str| fields.get(name);
        let number = |name: &str| get(name).and_then(fields::number);
        let corner = |value: &Value| fields::numbers(value).and_then(|c| <[f64; 3]>::try_from(c).ok());
        let space = OMNI3D_KEYS.iter().any(|name| get(name).is_some()).then(|| {
            Box::new(Omni3dFields {
                boxes: [0, 1, 2].map(|i| BoxValue::of(get(OMNI3D_KEYS[i]))),
                corners: get("bbox3D_cam").and_then(Value::as_array).map(|list| list.iter().map(corner).collect()),
                // A value that is not a boolean does not confirm that the box is valid.
                valid: fields::flag(get("valid3D"), true).unwrap_or(false)
                    && !fields::flag(get("behind_camera"), false).unwrap_or(true),
                visibility: number("visibility"),
                truncation: number("truncation"),
                lidar_pts: number("lidar_pts"),
                segmentation_pts: number("segmentation_pts"),
                depth_error: number("depth_error"),
            })
        });
        Self {
            id: fields::id(get("id")).ok(),
            image: fields::id(get("image_id")),
            category: fields::id(get("category_id")),
            bbox: BoxValue::of(get("bbox")),
            crowd: fields::flag(get("iscrowd"), false),
            space,
        }
    }
}

/// Maximum depth error: above it Omni3D's own evaluation ignores an object (`cubercnn/data/datasets.py`, `is_ignore`),
/// as it does an object without any measured point.
const DEPTH_ERROR: f64 = 0.5;

/// Maximum size in bytes of an annotation file.
const LARGEST: u64 = 8 << 30;
/// Reads a file in COCO's format.
pub(crate) fn read(input: &AnnotationSet) -> Result<ReadAnnotations> {
    let step = || format!("reading {}", input.annotations.display());
    let file = files::open(&input.annotations).with_context(step)?.take(LARGEST);
    let text = BufReader::with_capacity(1 << 16, LenientReader::new(file));
    let data: Dataset = serde_json::from_reader(text).map_err(|e| {
        // Only the beginning of the parser's message is kept, because it can quote a long value.
        Error::failed(excerpt(&e.to_string(), 300)).context(step()).hint(
            "annotations are an object with `images` (id, file_name, width, height), `annotations` and `categories`",
        )
    })?;
    let wrong = |what: String| Error::failed(what).context(step());
    let mut classes: HashMap<Box<str>, String> = HashMap::new();
    for (index, entry) in data.categories.into_iter().enumerate() {
        let (id, name) = match entry {
            ListEntry::Object(Category { id, name }) => (id, name),
            ListEntry::Other(kind) => return Err(wrong(format!("category {index}: expected an object, found {kind}"))),
        };
        let id = id.map_err(|why| wrong(format!("category {index}: `id` {why}")))?;
        let name = name.ok_or_else(|| wrong(format!("category {index} (id {id}): `name` is missing")))?;
        classes.insert(id, plain(&name));
    }
    let named = data.info.get("name").or_else(|| data.info.get("source")).and_then(|v| v.as_str());
    let dataset = named.unwrap_or(input.format.source()).to_string();
    let mut found = ReadAnnotations::default();
    let mut number: HashMap<Box<str>, usize> = HashMap::new();
    for (index, entry) in data.images.into_iter().enumerate() {
        let ListEntry::Object(image) = entry else {
            *found.refused.entry("an image entry that is no object").or_default() += 1;
            continue;
        };
        let id = image.id.map_err(|why| wrong(format!("image {index}: `id` {why}")))?;
        let Some(name) = image.file_name else {
            *found.refused.entry("an image without a file name").or_default() += 1;
            continue;
        };
        let file = input.images.join(&name);
        let Some(size) = image.size.or_else(|| size_of(&file)) else {
            *found.refused.entry("an image without a size").or_default() += 1;
            continue;
        };
        match number.get(&id).and_then(|n| found.scenes.get(*n)) {
            Some(scene) if scene.name == name => {
                *found.refused.entry("an image that is listed again").or_default() += 1;
                continue;
            }
            Some(_) => return Err(wrong(format!("the image {id} is listed twice"))),
            None => {}
        }
        number.insert(id, found.scenes.len());
        found.scenes.push(AnnotatedImage {
            format: input.format,
            dataset: dataset.clone(),
            file,
            name,
            size,
            objects: Vec::new(),
            crowds: BTreeSet::new(),
            unclear: BTreeSet::new(),
        });
    }
    for (index, entry) in data.annotations.into_iter().enumerate() {
        let mut refuse = |why| *found.refused.entry(why).or_default() += 1;
        let ListEntry::Object(a) = entry else {
            refuse("an annotation that is no object");
            continue;
        };
        let named = a.id.as_ref().map_or_else(String::new, |id| format!(" (id {})", excerpt(id, 40)));
        let wrong = |field: &str, why: &str| wrong(format!("annotation {index}{named}: `{field}` {why}"));
        let category = a.category.as_ref().map_err(|why| wrong("category_id", why))?;
        let image = a.image.as_ref().map_err(|why| wrong("image_id", why))?;
        let crowd = a.crowd.as_ref().map_err(|why| wrong("iscrowd", why))?;
        let Some(class) = classes.get(category) else {
            let category = excerpt(category, 40);
            let message = format!("annotation {index}{named} is of the category {category}, which is not listed");
            return Err(Error::failed(message).context(step()));
        };
        let Some(scene) = number.get(image).and_then(|n| found.scenes.get_mut(*n)) else {
            refuse("an object of an image that is not listed");
            continue;
        };
        if *crowd {
            scene.crowds.insert(class.clone());
            continue;
        }
        match object(class, &a, input.format, scene.size) {
            Ok(object) => scene.objects.push(object),
            Err(why) => {
                // The object exists but has no position, so its class cannot be counted in this image.
                scene.unclear.insert(class.clone());
                refuse(why);
            }
        }
    }
    Ok(found)
}

fn object(
    class: &str,
    a: &Annotation,
    format: AnnotationFormat,
    size: [f64; 2],
) -> std::result::Result<AnnotatedObject, &'static str> {
    // Converts corners to position and size; Omni3D writes -1 for missing boxes.
    let from_corners = |b: &BoxValue| match *b {
        BoxValue::Four([x0, y0, x1, y1]) if x1 > x0 && y1 > y0 => Some([x0, y0, x1 - x0, y1 - y0]),
        _ => None,
    };
    let space = a.space.as_deref();
    let bbox = match (format, a.bbox) {
        (AnnotationFormat::Omni3d, _) => space.and_then(|s| s.boxes.iter().find_map(from_corners)).ok_or(NO_EXTENT)?,
        (_, BoxValue::Four([x, y, w, h])) if w > 0.0 && h > 0.0 => [x, y, w, h],
        (_, BoxValue::Other) => return Err("a box that is not four numbers"),
        _ => return Err(NO_EXTENT),
    };
    let bbox = clipped(bbox, size)?;
    let corners = match (format, space) {
        (AnnotationFormat::Omni3d, Some(Omni3dFields { corners: Some(list), valid: true, .. })) => {
            let corners: Vec<[f64; 3]> = list.iter().filter_map(|corner| *corner).collect();
            Some(<[[f64; 3]; 8]>::try_from(corners).map_err(|_| "a box in space without eight corners")?)
        }
        (AnnotationFormat::Omni3d, _) => return Err("no valid box in space"),
        _ => None,
    };
    let Some(space) = space else { return Ok(AnnotatedObject { class: class.into(), bbox, corners, visible: 1.0 }) };
    if space.lidar_pts == Some(0.0) || space.segmentation_pts == Some(0.0) {
        return Err("nothing of it was measured");
    }
    if space.depth_error.is_some_and(|e| e > DEPTH_ERROR) {
        return Err("its box in space is not where the depth map has it");
    }
    let share = |value: Option<f64>| value.filter(|v| (0.0..=1.0).contains(v));
    let visible = share(space.visibility).unwrap_or(1.0).min(1.0 - share(space.truncation).unwrap_or(0.0));
    Ok(AnnotatedObject { class: class.into(), bbox, corners, visible })
}

#[cfg(test)]
mod tests {
    use super::clipped;

    #[test]
    fn boxes_are_clipped_to_the_image() {
        let size = [400.0, 300.0];
        assert_eq!(
            clipped([0.1, 0.2, 90.3, 90.7], size),
            Ok([0.1, 0.2, 90.3, 90.7]),
            "a box inside the image is not changed"
        );
        assert_eq!(clipped([-10.0, 0.0, 50.0, 20.0], size), Ok([0.0, 0.0, 40.0, 20.0]));
        assert_eq!(clipped([380.0, 290.0, 22.0, 12.0], size), Ok([380.0, 290.0, 20.0, 10.0]));
        for outside in [[500.0, 400.0, 50.0, 50.0], [-50.0, 0.0, 50.0, 50.0], [0.0, 300.0, 5.0, 5.0]] {
            assert_eq!(clipped(outside, size), Err("a box outside of the image"), "{outside:?}");
        }
        for mostly in [[390.0, 0.0, 50.0, 50.0], [-30.0, -30.0, 80.0, 80.0], [-1e300, -1e300, 1e305, 1e305]] {
            assert_eq!(clipped(mostly, size), Err("a box mostly outside of the image"), "{mostly:?}");
        }
    }
}
