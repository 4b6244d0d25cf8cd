//! GQA: open questions with a one-word or one-phrase answer, scored by exact match.
//!
//! The official script compares strings. Before that, answers are lower-cased and lose trailing full stops, as for all
//! published scores of generating models. `cambrian-1` does the same, but keeps white space before a full stop.

use crate::benchmark::read;
use crate::table::{DatasetTable, TableColumns, TableRow};
use crate::{
    AnswerForm, AnswerScore, Benchmark, BenchmarkCard, Category, DatasetSource, ImageLocation, LmmsEvalTask, Question,
    QuestionSet, Rules, RulesDescription, lmms, score, vlmevalkit,
};
use burgess_base::{Error, Result};
use std::collections::HashMap;
use std::path::Path;

/// A benchmark of the GQA family.
pub struct Gqa {
    card: BenchmarkCard<'static>,
}

const CITATION: &str = "Hudson and Manning 2019, GQA: A New Dataset for Real-World Visual Reasoning, arXiv:1902.09506";

/// The published balanced testdev questions.
pub static GQA: Gqa = Gqa {
    card: BenchmarkCard {
        id: "gqa",
        authors: true,
        lmms_eval: Some(LmmsEvalTask { task: "gqa", metric: "exact_match" }),
        category: &Category::GENERAL,
        metric: "exact match",
        version: "2",
        citation: CITATION,
        form: AnswerForm::Open,
        max_new_tokens: 128,
        source: Some(DatasetSource {
            repository: "lmms-lab/GQA",
            alias: Some("lmms-lab-encoder/GQA"),
            cambrian_1: true,
            folder: "testdev_balanced_instructions",
            split: "testdev",
            questions: 12_578,
            licence: "CC BY 4.0 (the hub's copy says MIT)",
        }),
    },
};

/// The dataset folder with the images, next to that of the questions.
const IMAGES: &str = "testdev_balanced_images";

/// The nano variant: questions about images of the nano world.
pub static NANO_GQA: Gqa = Gqa {
    card: BenchmarkCard {
        id: "nano-gqa",
        authors: false,
        lmms_eval: None,
        category: &Category::GENERAL,
        metric: "exact match",
        version: "2",
        citation: CITATION,
        form: AnswerForm::Open,
        max_new_tokens: 12,
        source: None,
    },
};

/// Reads the images, keyed by their ids.
fn images(data: &Path, split: &str) -> Result<HashMap<String, ImageLocation>> {
    let mut images = HashMap::new();
    let columns = TableColumns { values: &["id"], images: &["image"] };
    // Rows without an image are skipped; questions that refer to one are left out and counted later.
    DatasetTable::find(data, IMAGES, split)?.rows(columns, |_, row| {
        if let Some((id, image)) = row.ok().and_then(|row| row.text("id").ok().zip(row.image("image").ok())) {
            images.insert(id, image);
        }
        Ok(())
    })?;
    Ok(images)
}

fn question(row: &TableRow, images: &HashMap<String, ImageLocation>) -> Result<Option<Question>> {
    let image_id = row.text("imageId")?;
    let image = images.get(&image_id).cloned();
    // Skipped questions are counted by this text, so that it does not name the image.
    let missing = || Error::failed(format!("the image of the question is not in {IMAGES}"));
    let image = image.ok_or_else(|| missing().hint(format!("download all files of {IMAGES}")))?;
    // The operation that the question needs: compare, choose, logical, query or verify.
    let kind = row.value("types").and_then(|types| types.get("structural")).and_then(|kind| kind.as_str());
    Ok(Some(Question {
        id: row.text("id")?,
        row: row.number,
        images: vec![image],
        unit: image_id.clone(),
        image_id,
        question: row.text("question")?,
        answer: row.text("answer")?,
        subtask: kind.unwrap_or("all").into(),
        ..Question::default()
    }))
}

impl Benchmark for Gqa {
    fn card(&self) -> BenchmarkCard<'_> {
        self.card
    }

    fn read_published(&self, data: &Path, source: &DatasetSource<'_>) -> Result<QuestionSet> {
        if let Some(questions) = vlmevalkit::read(self, data, "GQA_TestDev_Balanced.tsv", vlmevalkit::row) {
            return questions;
        }
        let images = images(data, source.split)?;
        let columns = TableColumns { values: &["id", "imageId", "question", "answer", "types?"], images: &[] };
        read::published(self, &DatasetTable::open(data, source)?, columns, |row| question(row, &images))
    }

    fn explain(&self, rules: Rules) -> RulesDescription<'_> {
        const ASKED: &str = "Question, then \"Answer the question using a single word or phrase.\"";
        match rules {
            Rules::Official | Rules::Strict => RulesDescription {
                prompt: ASKED,
                scoring: "The whole answer must be the expected text.",
                source: "the authors' eval.py of the GQA site (cs.stanford.edu/people/dorarad/gqa)",
                difference: "That script compares strings unchanged. Here answers are first lower-cased and stripped \
                    of trailing full stops, as in LLaVA's scripts/convert_gqa_for_eval.py, with which all numbers of \
                    generating models are computed.",
            },
            Rules::Cambrian1 => RulesDescription {
                prompt: ASKED,
                scoring: "As the official rule, but white space before a full stop is kept.",
                source: "cambrian-mllm/cambrian, eval/eval/gqa/gqa_test.py",
                difference: "",
            },
            Rules::LmmsEval => RulesDescription {
                prompt: ASKED,
                scoring: "The whole answer must be the expected text, up to case and all ASCII punctuation.",
                source: "lmms-eval 0.7.3, tasks/gqa/gqa.yaml and api/metrics.py (exact_match)",
                difference: "",
            },
        }
    }

    fn build_prompt(&self, q: &Question, _: Rules) -> String {
        score::short_answer_prompt(&q.question)
    }

    fn verdict(&self, q: &Question, answer: &str, rules: Rules) -> AnswerScore {
        match rules {
            Rules::Official | Rules::Strict => score::judge_exact(q, answer),
            Rules::LmmsEval => {
                let said = lmms::cleaned(answer);
                lmms::on_text(&said, lmms::exact(&said, &q.answer))
            }
            Rules::Cambrian1 => match answer.trim().to_lowercase().trim_end_matches('.') {
                "" => AnswerScore::unparsed(),
                said => AnswerScore::new(said, said == q.answer.to_lowercase()),
            },
        }
    }
}
