//! Fuzz targets for benchmarks: published tables (parquet, TSV, CSV, JSON), questions made here, and scoring rules.

use crate::corpus::root;
use crate::input_dir::InputDir;
use crate::mutate::MutationForm;
use crate::{FuzzInput, FuzzTarget};
use burgess_base::{Error, Result};
use burgess_bench::declared::DeclaredBenchmark;
use burgess_bench::table::{DatasetTable, TableColumns, python_list};
use burgess_bench::{AnswerForm as Answers, Benchmark, Question, Rules, all, find, read_jsonl};
use std::path::Path;
use std::sync::LazyLock;

const WORDS: &[&str] =
    &["question", "answer", "index", "image", "hint", "options", "A", "image_path", "category", "l2-category"];

pub const TARGETS: &[FuzzTarget] = &[
    FuzzTarget {
        name: "parquet",
        about: "tables of benchmarks in parquet",
        corpus: &["tests/golden/benchmarks/**/*.parquet"],
        words: &["PAR1", "ARROW:schema", "list", "element", "bytes", "path"],
        form: MutationForm::Binary,
        share: 60,
        run: rows,
    },
    FuzzTarget {
        name: "benchmark-text",
        about: "tables of benchmarks in TSV, CSV and JSON",
        corpus: &[
            "tests/golden/benchmarks/*/vlmevalkit/*.tsv",
            "tests/golden/benchmarks/*/*.csv",
            "tests/golden/benchmarks/*/*.jsonl",
            "tests/golden/benchmarks/*/authors/*.json",
        ],
        words: WORDS,
        form: MutationForm::Text,
        share: 60,
        run: rows,
    },
    FuzzTarget {
        name: "questions",
        about: "questions as Burgess writes them",
        corpus: &[],
        words: WORDS,
        form: MutationForm::Json,
        share: 150,
        run: |input, place| {
            let path = place.file("questions.jsonl", input.bytes)?;
            let forms = [Answers::Open, Answers::Choice, Answers::YesNo];
            let read = forms.map(|form| read_jsonl(&path, place.dir(), form).map(drop));
            read.into_iter().reduce(|one, other| one.or(other)).unwrap_or(Ok(()))
        },
    },
    FuzzTarget {
        name: "conversation",
        about: "one's own open questions with reference answers",
        corpus: &[],
        words: &["answers", "answer", "image_id", "context", "subtask", "unit"],
        form: MutationForm::Json,
        share: 100,
        run: |input, place| find("conversation")?.read(&place.file("mine.jsonl", input.bytes)?).map(drop),
    },
    FuzzTarget {
        name: "llava-bench",
        about: "LLaVA-Bench as its authors publish it, with one of its files damaged",
        corpus: &["tests/golden/benchmarks/llava-bench-wild/authors/*.jsonl"],
        words: &["question_id", "text", "category", "caption", "captions", "image"],
        form: MutationForm::Json,
        share: 60,
        run: llava_bench,
    },
    FuzzTarget {
        name: "benchmark-file",
        about: "benchmarks that TOML files declare, with a small table",
        corpus: &["probe/bench/benchmarks/*.toml"],
        words: &[
            "{{ question }}",
            "| lettered",
            "[columns]",
            "facts",
            "all_right",
            "pattern",
            "(?P<answer>.*)",
            "where",
        ],
        form: MutationForm::Text,
        share: 60,
        run: benchmark_file,
    },
    FuzzTarget {
        name: "python-list",
        about: "lists as Python prints them",
        corpus: &[],
        words: &["\\x", "\\u", "\\N{", "'''", "u'", "b\"", "None", "nan", "1_000", "1e5", "[", "(", "]"],
        form: MutationForm::Text,
        share: 400,
        run: |input, _| {
            let text = std::str::from_utf8(input.bytes).map_err(Error::from)?;
            python_list(text).map(drop).ok_or_else(|| Error::failed("no list"))
        },
    },
    FuzzTarget {
        name: "answers",
        about: "answers of models under every rule of every benchmark",
        corpus: &[],
        words: &[
            "Answer: ",
            "(A)",
            "B.",
            "\\boxed{",
            "}",
            "<think>",
            "</think>",
            "yes",
            "no",
            "the answer is",
            "**C**",
            "1/2",
            "12.5%",
            "$1,000",
            "None of the above",
            "\\frac{1}{2}",
            "\u{130}",
            "\u{df}",
            "\u{1f642}",
            "\u{301}",
            "Option ",
        ],
        form: MutationForm::Text,
        share: 60,
        run: answers,
    },
];

/// Reads the rows of any table, and the questions of the benchmark to which the file belongs.
fn rows(input: &FuzzInput<'_>, place: &InputDir) -> Result<()> {
    let path = place.file(&input.name(), input.bytes)?;
    let columns = TableColumns {
        values: &[
            "question?",
            "answer?",
            "answers?",
            "options?",
            "choices?",
            "index?",
            "id?",
            "hint?",
            "A?",
            "metadata?",
        ],
        images: &["image?", "images?", "image_1?", "decoded_image?"],
    };
    let mut images = 0;
    let read = DatasetTable::find(&path, "", "")?.rows(columns, |row_place, row| {
        let row = row.inspect_err(|e| place.tell(format!("{row_place}: {e}")));
        for image in row.into_iter().flat_map(|row| row.images("image").iter().chain(row.images("images"))) {
            images += 1;
            if images < 4
                && let Err(e) = image.bytes()
            {
                place.tell(e.to_string());
            }
        }
        Ok(())
    });
    let asked = benchmark_of(input.origin)?.read(&path)?;
    asked.skipped.iter().for_each(|left| place.tell(left.text("rows")));
    read
}

/// Reads the authors' edition of LLaVA-Bench with the input in place of the file from which it comes.
fn llava_bench(input: &FuzzInput<'_>, place: &InputDir) -> Result<()> {
    let golden = root().join("tests/golden/benchmarks/llava-bench-wild/authors");
    for name in ["questions.jsonl", "answers_gpt4.jsonl", "context.jsonl"] {
        let damaged = input.origin.file_name().is_some_and(|origin| origin == name);
        let bytes = if damaged { input.bytes.to_vec() } else { std::fs::read(golden.join(name))? };
        place.file(name, &bytes)?;
    }
    for name in ["001.jpg", "002.jpg", "003.jpg"] {
        place.file(name, b"")?;
    }
    let asked = find("llava-bench-wild")?.read(place.dir())?;
    asked.skipped.iter().for_each(|left| place.tell(left.text("rows")));
    Ok(())
}

/// Returns the benchmark of a golden: that with the longest id with which the folder's name begins.
fn benchmark_of(origin: &Path) -> Result<&'static dyn Benchmark> {
    let folder = origin.iter().skip_while(|part| *part != "benchmarks").nth(1).unwrap_or_default();
    let folder = folder.to_string_lossy();
    let fitting = all().iter().copied().filter(|b| folder.starts_with(b.id()));
    fitting.max_by_key(|b| b.id().len()).map_or_else(|| find("gqa"), Ok)
}

/// Returns a few questions of each golden.
fn asked() -> &'static [(&'static dyn Benchmark, Vec<Question>)] {
    static ASKED: LazyLock<Vec<(&'static dyn Benchmark, Vec<Question>)>> = LazyLock::new(|| {
        let read = |b: &&'static dyn Benchmark| {
            let questions = b.read(&root().join("tests/golden/benchmarks").join(b.id())).ok()?.questions;
            Some((*b, questions))
        };
        all().iter().filter_map(read).collect()
    });
    &ASKED
}

fn answers(input: &FuzzInput<'_>, _: &InputDir) -> Result<()> {
    let text = std::str::from_utf8(input.bytes).map_err(Error::from)?;
    let all = asked();
    assert!(all.len() > 15, "only {} benchmarks have goldens", all.len());
    // The input determines the benchmark, so that a saved file reproduces its failure.
    let sum: usize = input.bytes.iter().map(|b| usize::from(*b)).sum();
    let Some((benchmark, questions)) = all.get(sum % all.len()) else { return Ok(()) };
    for rules in [Rules::Official, Rules::Strict, Rules::Cambrian1, Rules::LmmsEval] {
        let Ok(rules) = benchmark.rules(rules) else { continue };
        let judged: Vec<_> = questions.iter().map(|q| benchmark.judge(q, text, rules)).collect();
        assert!(judged.iter().all(|j| (0.0..=1.0).contains(&j.score)), "{}: a score outside 0 to 1", benchmark.id());
        benchmark.aggregate(questions, &judged, rules)?;
    }
    Ok(())
}

/// A table whose columns have the names that most benchmark files use.
const TABLE: &str = r#"{"id": 1, "index": 1, "image": "a.png", "question": "Which?", "options": ["a", "b"], "answer": "A",
"answers": ["a"], "category": "x", "A": "a", "B": "b"}"#;

/// Parses a benchmark file; one that is valid reads a table, asks, judges and scores.
fn benchmark_file(input: &FuzzInput<'_>, place: &InputDir) -> Result<()> {
    let text = std::str::from_utf8(input.bytes).map_err(Error::from)?;
    let benchmark = DeclaredBenchmark::parse(text, "fuzz.toml", "fuzz")?;
    place.file("a.png", b"no image")?;
    let table = place.file("test.jsonl", TABLE.replace('\n', " ").as_bytes())?;
    let questions = benchmark.read(&table)?;
    for rules in benchmark.card().rule_sets() {
        let judged: Vec<_> = questions.iter().map(|q| benchmark.judge(q, &benchmark.prompt(q, rules), rules)).collect();
        benchmark.aggregate(&questions, &judged, rules)?;
        benchmark.chance(&questions, rules);
    }
    Ok(())
}
