//! Throughput of scoring answers and of reading tables: `cargo bench -p burgess-bench`, on one core.

use arrow_array::builder::{BinaryBuilder, ListBuilder, StringBuilder, StructBuilder};
use arrow_array::{ArrayRef, RecordBatch, StringArray};
use arrow_schema::{DataType, Field};
use burgess_bench::{self as bench, AnswerScore, Benchmark, Question, Rules};
use divan::counter::{BytesCount, ItemsCount};
use parquet::arrow::ArrowWriter;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

/// Number of answers that are scored.
const ANSWERS: usize = 100_000;

/// Number of rows, and bytes per image, of the table that is read.
const ROWS: usize = 4096;
const IMAGE: usize = 64 * 1024;

fn main() {
    divan::main();
}

const SAID: [&str; 8] = [
    "stop",
    "Stop.",
    "the red sign on the left",
    "12:30",
    "Dr. Pepper",
    "coca-cola, of course",
    "It says \"No parking\".",
    "don't walk",
];

fn questions(bench: &dyn Benchmark, accepted: usize) -> Vec<Question> {
    let answer = |i: usize, k: usize| SAID[(i + k * k) % SAID.len()].to_string();
    let question = |i: usize| Question {
        id: i.to_string(),
        answer: answer(i, 0),
        accepted: (0..accepted).map(|k| answer(i, k)).collect(),
        subtask: bench.id().into(),
        unit: (i / 2).to_string(),
        ..Question::default()
    };
    (0..ANSWERS).map(question).collect()
}

fn score(bencher: divan::Bencher<'_, '_>, id: &str, accepted: usize) {
    let Ok(bench) = bench::find(id) else { return };
    let qs = questions(bench, accepted);
    bencher.counter(ItemsCount::new(ANSWERS)).bench_local(|| {
        let judge = |(i, q): (usize, &Question)| bench.judge(q, SAID[i % 7], Rules::Official);
        let judged: Vec<AnswerScore> = qs.iter().enumerate().map(judge).collect();
        bench.aggregate(&qs, &judged, Rules::Official).map(|outcome| outcome.score)
    });
}

#[divan::bench(sample_count = 5)]
fn textvqa(bencher: divan::Bencher<'_, '_>) {
    score(bencher, "textvqa", 10);
}

#[divan::bench(sample_count = 5)]
fn anls(bencher: divan::Bencher<'_, '_>) {
    score(bencher, "docvqa", 3);
}

/// Writes a table in OCRBench's schema, with images of noise.
fn write(path: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let texts = |text: &str| -> ArrayRef { Arc::new(StringArray::from(vec![text; ROWS])) };
    let mut answers = ListBuilder::new(StringBuilder::new());
    let fields = vec![Field::new("bytes", DataType::Binary, true), Field::new("path", DataType::Utf8, true)];
    let mut images = StructBuilder::new(fields, vec![Box::new(BinaryBuilder::new()), Box::new(StringBuilder::new())]);
    let mut noise = 1_u32;
    for row in 0..ROWS {
        answers.append_value([Some(format!("text {row}"))]);
        let mut bytes = Vec::with_capacity(IMAGE);
        bytes.resize_with(IMAGE, || {
            noise ^= noise << 13;
            noise ^= noise >> 17;
            noise ^= noise << 5;
            noise as u8
        });
        if let Some(builder) = images.field_builder::<BinaryBuilder>(0) {
            builder.append_value(&bytes);
        }
        if let Some(builder) = images.field_builder::<StringBuilder>(1) {
            builder.append_null();
        }
        images.append(true);
    }
    let columns: [(&str, ArrayRef); 5] = [
        ("dataset", texts("IIIT5K")),
        ("question", texts("what is written in the image?")),
        ("question_type", texts("Regular Text Recognition")),
        ("answer", Arc::new(answers.finish())),
        ("image", Arc::new(images.finish())),
    ];
    let batch = RecordBatch::try_from_iter(columns)?;
    let mut writer = ArrowWriter::try_new(File::create(path)?, batch.schema(), None)?;
    for at in (0..ROWS).step_by(256) {
        writer.write(&batch.slice(at, 256))?;
        writer.flush()?;
    }
    writer.close()?;
    Ok(())
}

/// Measures reading the rows without the bytes of their images.
#[divan::bench(sample_count = 10)]
fn read_rows(bencher: divan::Bencher<'_, '_>) {
    with_table(|path| {
        let Ok(bench) = bench::find("ocrbench") else { return };
        bencher.counter(ItemsCount::new(ROWS)).bench_local(|| bench.read(path).map(|qs| qs.len()));
    });
}

/// Measures reading the bytes of all images, 64 at a time as in an evaluation.
#[divan::bench(sample_count = 5)]
fn read_images(bencher: divan::Bencher<'_, '_>) {
    with_table(|path| {
        let Ok(Ok(qs)) = bench::find("ocrbench").map(|b| b.read(path)) else { return };
        let images: Vec<_> = qs.iter().flat_map(|q| &q.images).collect();
        bencher.counter(ItemsCount::new(ROWS)).counter(BytesCount::new(ROWS * IMAGE)).bench_local(|| {
            let read = images.chunks(64).flat_map(bench::read_images);
            read.filter_map(|bytes| bytes.ok()).map(|bytes| bytes.len()).sum::<usize>()
        });
    });
}

fn with_table(measure: impl FnOnce(&Path)) {
    let Ok(dir) = tempfile::tempdir() else { return };
    let path = dir.path().join("test.parquet");
    match write(&path) {
        Ok(()) => measure(&path),
        Err(e) => eprintln!("writing {}: {e}", path.display()),
    }
}
