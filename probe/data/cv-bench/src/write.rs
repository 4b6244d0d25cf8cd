//! Writes the published schema: `test_2d.parquet`, `test_3d.parquet`, the same rows as JSON lines, and the images in
//! `img/`.

use crate::annotations::AnnotatedImage;
use crate::balance::{AnswerBalance, in_turns};
use crate::draw;
use crate::manifest::CvBenchManifest;
use crate::options::CvBenchOptions;
use crate::tasks::{Candidate, CvBenchQuestion, CvBenchTask, word};
use arrow_array::builder::{BinaryBuilder, Float64Builder, Int64Builder, ListBuilder, StringBuilder, StructBuilder};
use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::{DataType, Field, Fields, Schema};
use burgess_base::{Context, Error, Result, files};
use image::{ImageFormat, RgbImage};
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;
use serde::Serialize;
use std::fs::File;
use std::io::{BufWriter, Cursor, Write};
use std::path::Path;
use std::sync::Arc;

/// Number of rows that are buffered, which is also the size of a row group; the hub uses this number for images.
const ROWS: usize = 100;

/// Maximum size of an encoded image, in bytes.
const LARGEST: u64 = 1 << 30;

/// A row without its image, as in `test_2d.jsonl`.
#[derive(Debug, Serialize)]
struct Row {
    idx: i64,
    #[serde(rename = "type")]
    kind: &'static str,
    task: String,
    question: String,
    choices: Vec<String>,
    answer: String,
    prompt: String,
    filename: String,
    source: &'static str,
    source_dataset: String,
    source_filename: String,
    target_class: Option<String>,
    target_size: Option<i64>,
    bbox: Option<Vec<[f64; 4]>>,
}

/// Writes the questions to `dir` and counts them in `manifest`.
pub fn write(
    dir: &Path,
    scenes: &[AnnotatedImage],
    candidates: &[Candidate],
    options: &CvBenchOptions,
    manifest: &mut CvBenchManifest,
    tell: &dyn Fn(&str),
) -> Result<()> {
    let mut balance = AnswerBalance::default();
    let mut idx = 0;
    for (kind, tasks) in
        [("2D", [CvBenchTask::Count, CvBenchTask::Relation]), ("3D", [CvBenchTask::Depth, CvBenchTask::Distance])]
    {
        if !candidates.iter().any(|c| c.task().kind() == kind) {
            continue;
        }
        let mut out = Out::create(dir, kind)?;
        for task in tasks {
            tell(&format!("asking: {task:?}"));
            let limit = options.limits.get(&task).copied().unwrap_or(0);
            let mut asked = 0;
            for i in in_turns(candidates, task, options) {
                if asked == limit {
                    break;
                }
                let Some((candidate, scene)) = candidates.get(i).and_then(|c| Some((c, scenes.get(c.scene)?))) else {
                    continue;
                };
                if !balance.has_room(candidate, options) {
                    continue;
                }
                match ask(candidate, scene, idx, &mut balance, manifest) {
                    Ok((row, image)) => {
                        out.push(row, image)?;
                        (asked, idx) = (asked + 1, idx + 1);
                    }
                    Err(why) => {
                        *manifest.refused.entry(format!("{task:?}")).or_default().entry(why).or_default() += 1;
                    }
                }
            }
        }
        out.finish()?;
    }
    match idx {
        0 => {
            let mut why: Vec<(usize, &str)> =
                manifest.refused.values().flatten().map(|(why, n)| (*n, why.as_str())).collect();
            why.sort_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(b.1)));
            why.dedup_by_key(|(_, why)| *why);
            let why: Vec<String> = why.iter().take(5).map(|(n, why)| format!("{n} times: {why}")).collect();
            let why = if why.is_empty() { String::new() } else { format!(" ({})", why.join("; ")) };
            Err(Error::failed(format!("no question can be asked about these {} images{why}", scenes.len()))
                .hint("relax the thresholds, or use other annotations"))
        }
        _ => Ok(()),
    }
}

/// Formulates a question and draws its boxes; an error gives the reason why it cannot be asked.
fn ask(
    candidate: &Candidate,
    scene: &AnnotatedImage,
    idx: i64,
    balance: &mut AnswerBalance,
    manifest: &mut CvBenchManifest,
) -> std::result::Result<(Row, Vec<u8>), String> {
    let task = candidate.task();
    let bytes = files::read(&scene.file, LARGEST).map_err(|_| "the image's file cannot be read".to_string())?;
    let mut image = burgess_images::decode_bytes(&bytes).map_err(|_| "the image is damaged".to_string())?;
    if [f64::from(image.width()), f64::from(image.height())] != scene.size {
        return Err("the annotations are for an image of another size".into());
    }
    let swapped = balance.is_swapped(candidate);
    let low = match &candidate.question {
        CvBenchQuestion::Count { number, .. } => balance.lowest_choice(*number),
        _ => 0,
    };
    let worded = word(scene, &candidate.question, swapped, low);
    let right = worded.choices.first().cloned().unwrap_or_default();
    let letter = balance.letter(task, worded.choices.len());
    let mut choices: Vec<String> = worded.choices.iter().skip(1).cloned().collect();
    choices.insert(letter.min(choices.len()), right.clone());
    let boxes: Vec<[f64; 4]> =
        worded.boxes.iter().filter_map(|i| scene.objects.get(*i)).map(|object| object.bbox).collect();
    let (bytes, extension) = match boxes.is_empty() {
        // Without boxes the original file is copied unchanged.
        true => (bytes, extension(&scene.file)),
        false => {
            draw::boxes(&mut image, &boxes);
            (png(&image)?, "png")
        }
    };
    balance.record(candidate, swapped, low, choices.len(), letter);
    let name = |place: usize| char::from(b'A' + place.min(25) as u8);
    let listed: String = choices.iter().enumerate().map(|(i, c)| format!("\n({}) {c}", name(i))).collect();
    let target = match &candidate.question {
        CvBenchQuestion::Count { class, .. } => Some(class.clone()),
        _ => None,
    };
    let size = target.as_ref().map(|class| {
        let areas = scene.objects.iter().filter(|o| o.class == *class).map(|o| o.bbox[2] * o.bbox[3]);
        areas.fold(f64::INFINITY, f64::min)
    });
    let truth = match &candidate.question {
        CvBenchQuestion::Count { .. } | CvBenchQuestion::Relation { .. } => right.clone(),
        CvBenchQuestion::Depth { .. } | CvBenchQuestion::Distance { .. } => {
            if swapped { "named second" } else { "named first" }.into()
        }
    };
    *manifest.questions.entry(task).or_default().entry(truth).or_default() += 1;
    *manifest.letters.entry(task).or_default().entry(name(letter)).or_default() += 1;
    let row = Row {
        idx,
        kind: task.kind(),
        task: format!("{task:?}"),
        prompt: format!("{} Select from the following choices.{listed}", worded.question),
        question: worded.question,
        choices,
        answer: format!("({})", name(letter)),
        filename: format!("img/{}/{}/{idx:06}.{extension}", task.kind(), format!("{task:?}").to_lowercase()),
        source: scene.format.source(),
        source_dataset: scene.dataset.clone(),
        source_filename: scene.name.clone(),
        target_class: target,
        // Area of the smallest object of the class, in square pixels; absent classes have none.
        target_size: size.filter(|s| s.is_finite()).map(|s| s.round() as i64),
        bbox: (!boxes.is_empty()).then_some(boxes),
    };
    Ok((row, bytes))
}

/// Returns the extension of a file if it is portable, else `jpg`.
fn extension(file: &Path) -> &str {
    let end = file.extension().and_then(|e| e.to_str());
    end.filter(|e| e.len() <= 5 && e.bytes().all(|b| b.is_ascii_alphanumeric())).unwrap_or("jpg")
}

fn png(image: &RgbImage) -> std::result::Result<Vec<u8>, String> {
    let mut bytes = Cursor::new(Vec::new());
    image.write_to(&mut bytes, ImageFormat::Png).map_err(|e| e.to_string())?;
    Ok(bytes.into_inner())
}

/// The output files of one half (2D or 3D).
struct Out<'a> {
    dir: &'a Path,
    parquet: ArrowWriter<File>,
    lines: BufWriter<File>,
    schema: Arc<Schema>,
    rows: Vec<(Row, Vec<u8>)>,
}

impl<'a> Out<'a> {
    fn create(dir: &'a Path, kind: &str) -> Result<Self> {
        let name = format!("test_{}", kind.to_lowercase());
        let file = |extension: &str| {
            let path = dir.join(format!("{name}.{extension}"));
            File::create(&path).with_context(|| format!("writing {}", path.display()))
        };
        let schema = Arc::new(schema());
        let properties = WriterProperties::builder()
            .set_compression(Compression::SNAPPY)
            .set_max_row_group_row_count(Some(ROWS))
            .build();
        let parquet = ArrowWriter::try_new(file("parquet")?, schema.clone(), Some(properties)).map_err(failed)?;
        Ok(Self { dir, parquet, lines: BufWriter::new(file("jsonl")?), schema, rows: Vec::new() })
    }

    fn push(&mut self, row: Row, image: Vec<u8>) -> Result<()> {
        let path = self.dir.join(&row.filename);
        let step = || format!("writing {}", path.display());
        std::fs::create_dir_all(path.parent().unwrap_or(self.dir)).with_context(step)?;
        std::fs::write(&path, &image).with_context(step)?;
        serde_json::to_writer(&mut self.lines, &row)?;
        self.lines.write_all(b"\n")?;
        self.rows.push((row, image));
        if self.rows.len() == ROWS { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<()> {
        let batch = batch(&self.rows, self.schema.clone())?;
        self.rows.clear();
        self.parquet.write(&batch).map_err(failed)
    }

    fn finish(mut self) -> Result<()> {
        if !self.rows.is_empty() {
            self.flush()?;
        }
        self.lines.flush()?;
        self.parquet.close().map(drop).map_err(failed)
    }
}

fn failed(e: parquet::errors::ParquetError) -> Error {
    Error::failed(e.to_string()).context("writing the questions")
}

fn image_fields() -> Fields {
    vec![Field::new("bytes", DataType::Binary, true), Field::new("path", DataType::Utf8, true)].into()
}

fn list_of(kind: DataType) -> DataType {
    DataType::List(Arc::new(Field::new_list_field(kind, true)))
}

fn schema() -> Schema {
    let text = |name| Field::new(name, DataType::Utf8, true);
    Schema::new(vec![
        Field::new("idx", DataType::Int64, true),
        text("type"),
        text("task"),
        Field::new("image", DataType::Struct(image_fields()), true),
        text("question"),
        Field::new("choices", list_of(DataType::Utf8), true),
        text("answer"),
        text("prompt"),
        text("filename"),
        text("source"),
        text("source_dataset"),
        text("source_filename"),
        text("target_class"),
        Field::new("target_size", DataType::Int64, true),
        Field::new("bbox", list_of(list_of(DataType::Float64)), true),
    ])
}

fn batch(rows: &[(Row, Vec<u8>)], schema: Arc<Schema>) -> Result<RecordBatch> {
    let (mut idx, mut size) = (Int64Builder::new(), Int64Builder::new());
    let mut image =
        StructBuilder::new(image_fields(), vec![Box::new(BinaryBuilder::new()), Box::new(StringBuilder::new())]);
    let mut choices = ListBuilder::new(StringBuilder::new());
    let mut bbox = ListBuilder::new(ListBuilder::new(Float64Builder::new()));
    let mut texts: [StringBuilder; 10] = std::array::from_fn(|_| StringBuilder::new());
    for (row, bytes) in rows {
        idx.append_value(row.idx);
        size.append_option(row.target_size);
        if let Some(column) = image.field_builder::<BinaryBuilder>(0) {
            column.append_value(bytes);
        }
        if let Some(path) = image.field_builder::<StringBuilder>(1) {
            path.append_value(row.filename.rsplit('/').next().unwrap_or_default());
        }
        image.append(true);
        choices.append_value(row.choices.iter().map(Some));
        for b in row.bbox.iter().flatten() {
            bbox.values().append_value(b.map(Some));
        }
        bbox.append(row.bbox.is_some());
        let columns: [Option<&str>; 10] = [
            Some(row.kind),
            Some(&row.task),
            Some(&row.question),
            Some(&row.answer),
            Some(&row.prompt),
            Some(&row.filename),
            Some(row.source),
            Some(&row.source_dataset),
            Some(&row.source_filename),
            row.target_class.as_deref(),
        ];
        for (builder, text) in texts.iter_mut().zip(columns) {
            builder.append_option(text);
        }
    }
    let [kind, task, question, answer, prompt, filename, source, dataset, original, class] =
        texts.map(|mut t| Arc::new(t.finish()) as ArrayRef);
    let columns = vec![
        Arc::new(idx.finish()) as ArrayRef,
        kind,
        task,
        Arc::new(image.finish()),
        question,
        Arc::new(choices.finish()),
        answer,
        prompt,
        filename,
        source,
        dataset,
        original,
        class,
        Arc::new(size.finish()),
        Arc::new(bbox.finish()),
    ];
    RecordBatch::try_new(schema, columns).map_err(|e| Error::failed(e.to_string()).context("writing the questions"))
}
