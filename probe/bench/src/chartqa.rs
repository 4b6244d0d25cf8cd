//! ChartQA: read values and labels from charts, scored by relaxed accuracy (5 % for numbers).
//!
//! The metric is the paper's (end of §5.1); its authors publish no scorer and no prompt. The deterministic rule that all
//! harnesses carry is that of google-research/pix2struct (`metrics.py`): `12%` is 0.12, and a right answer of 0 has to be
//! met as text. The prompt is the usual line for short answers. The study asks for "a single number or phrase" and does
//! not know percent: `12%` is text to it, and `0.0` is a right answer where 0 is.
//!
//! The published table does not say which questions share a chart, so every question is a unit of its own; VLMEvalKit's
//! edition does, where a row refers to the picture of another.

use super::table::Columns;
use super::{
    Benchmark, CONSTANTS, Card, Category, Form, Judged, Question, Questions, Rules, Source, edition, read, score,
};
use burgess_base::Result;
use std::collections::BTreeSet;
use std::path::Path;

/// A benchmark of the ChartQA family.
pub struct ChartQa {
    card: Card,
}

/// Those of this family.
pub const ALL: &[&dyn Benchmark] = &[&CHARTQA, &NANO];

const CITATION: &str = "Masry et al. 2022, ChartQA: Question Answering about Charts, arXiv:2203.10244";

/// The published one: half of the questions written by people, half generated from summaries (`type`).
pub static CHARTQA: ChartQa = ChartQa {
    card: Card {
        id: "chartqa",
        category: Category::OcrChart,
        metric: "relaxed accuracy (5 %)",
        version: "1",
        citation: CITATION,
        form: Form::Open,
        max_new_tokens: 16,
        source: Some(Source {
            repository: "lmms-lab/ChartQA",
            folder: "",
            split: "test",
            questions: 2500,
            licence: "GPL-3.0 (authors' repository)",
        }),
    },
};

/// The small sibling: charts of the nano world.
pub static NANO: ChartQa = ChartQa {
    card: Card {
        id: "nano-chartqa",
        category: Category::OcrChart,
        metric: "relaxed accuracy (5 %)",
        version: "1",
        citation: CITATION,
        form: Form::Open,
        max_new_tokens: 12,
        source: None,
    },
};

impl ChartQa {
    /// The siblings have one set of rules.
    fn follows_the_study(&self, rules: Rules) -> bool {
        rules == Rules::Cambrian1 && self.card.source.is_some()
    }
}

impl Benchmark for ChartQa {
    fn card(&self) -> &Card {
        &self.card
    }

    fn metric(&self, rules: Rules) -> &str {
        match self.follows_the_study(rules) {
            true => "relaxed accuracy (5 %), percent as text",
            false => self.card.metric,
        }
    }

    fn read(&self, data: &Path) -> Result<Questions> {
        let Some(source) = &self.card.source else { return read::drawn(self, data) };
        let (table, kit) = edition::open(data, source, "ChartQA_TEST.tsv")?;
        let values: &[&str] =
            if kit { &["index", "question", "answer", "split?"] } else { &["type", "question", "answer"] };
        read::published(self, &table, Columns { values, pictures: &["image"] }, |row| {
            let image = row.picture("image")?;
            let name = edition::picture_name(&image);
            let id = if kit { row.text("index")? } else { row.number.to_string() };
            // VLMEvalKit writes an answer as such or as a list with it.
            let answer = match kit.then(|| row.list("answer").ok()).flatten().as_deref() {
                Some([answer]) => answer.clone(),
                _ => row.text("answer")?,
            };
            Ok(Some(Question {
                unit: if kit { name.clone() } else { id.clone() },
                id,
                row: row.number,
                images: vec![image],
                image_id: name,
                question: row.text("question")?,
                answer,
                subtask: if kit { row.maybe("split").unwrap_or_else(|| "all".into()) } else { row.text("type")? },
                ..Question::default()
            }))
        })
    }

    fn prompt(&self, q: &Question, rules: Rules) -> String {
        match self.follows_the_study(rules) {
            true => format!("{}\nAnswer the question using a single number or phrase.", q.question),
            false => score::short_answer_prompt(&q.question),
        }
    }

    fn judge(&self, q: &Question, answer: &str, rules: Rules) -> Judged {
        match answer.trim() {
            "" => Judged::unparsed(),
            said if self.follows_the_study(rules) => Judged::new(said, studied_equal(said, &q.answer)),
            said => Judged::new(said, score::relaxed_equal(said, &q.answer)),
        }
    }

    /// A number is right for every expected value within 5 %, so the best constant may lie between two of them;
    /// if so, some end of a tolerance interval is as good. These ends are candidates too (drawn in by one part in
    /// 10⁹, for rounding), of the most frequent answers.
    fn constants(&self, qs: &[Question]) -> BTreeSet<String> {
        let frequent = score::frequent(qs.iter().map(|q| q.answer.as_str()), CONSTANTS);
        let edge = score::RELAXED_TOLERANCE * (1.0 - 1e-9);
        let mut set: BTreeSet<String> = frequent.iter().cloned().collect();
        for value in frequent.iter().filter_map(|answer| score::number(answer)).filter(|v| v.is_finite()) {
            set.extend([value * (1.0 - edge), value * (1.0 + edge)].map(|v| v.to_string()));
        }
        set
    }
}

/// The study's relaxed match (`chartqa_test.py`): two numbers within 5 %, else the same text up to case.
fn studied_equal(answer: &str, expected: &str) -> bool {
    match (score::plain_number(answer), score::plain_number(expected)) {
        (Some(a), Some(e)) => (a - e).abs() <= e.abs() * score::RELAXED_TOLERANCE,
        _ => answer.to_lowercase() == expected.to_lowercase(),
    }
}
