//! VizWiz: photographs and questions by blind people; many questions cannot be answered from the image.
//!
//! Scored on the validation split, whose answers are published, by agreement with ten annotators ([`vqa`]), with the
//! normalisation of the challenge's EvalAI server; official and `cambrian-1` rules are the same. The authors publish no
//! prompt, so the prompt is the usual one, which `cambrian-1` uses too and which offers "Unanswerable". Subtasks are
//! the answer categories in the data.

use super::table::Columns;
use super::{
    Benchmark, Card, Category, Explained, Form, Judged, Question, Questions, Rules, Source, edition, lmms, read, score,
    textvqa, vqa,
};
use burgess_base::Result;
use std::path::Path;

/// The published benchmark.
pub struct VizWiz {
    card: Card,
}

/// Every benchmark of this family.
pub const ALL: &[&dyn Benchmark] = &[&VIZWIZ];

/// The published validation split.
pub static VIZWIZ: VizWiz = VizWiz {
    card: Card {
        id: "vizwiz",
        authors: true,
        lmms_eval: Some(("vizwiz_vqa_val", "exact_match")),
        category: &Category::OCR_CHART,
        metric: "VQA accuracy",
        version: "2",
        citation: "Gurari et al. 2018, VizWiz Grand Challenge: Answering Visual Questions from Blind People, arXiv:1802.08218",
        form: Form::Open,
        max_new_tokens: 32,
        source: Some(Source {
            repository: "lmms-lab/VizWiz-VQA",
            folder: "",
            split: "val",
            questions: 4319,
            licence: "CC BY 4.0",
        }),
    },
};

impl Benchmark for VizWiz {
    fn card(&self) -> &Card {
        &self.card
    }

    fn read(&self, data: &Path) -> Result<Questions> {
        let Some(source) = &self.card.source else { return read::drawn(self, data) };
        let (table, kit) = edition::open(data, source, "VizWiz.tsv")?;
        let values: &[&str] = match kit {
            true => &["index", "question", "answers"],
            false => &["question_id", "question", "answers", "category"],
        };
        read::published(self, &table, Columns { values, images: &["image"] }, |row| {
            let image = row.image("image")?;
            let accepted = textvqa::people(row.list("answers")?)?;
            // Every question has its own image, by whose number it is named.
            let id = row.text(if kit { "index" } else { "question_id" })?;
            Ok(Some(Question {
                row: row.number,
                images: vec![image],
                image_id: id.clone(),
                unit: id.clone(),
                id,
                question: row.text("question")?,
                answer: vqa::best(&accepted).cloned().unwrap_or_default(),
                accepted,
                subtask: if kit { "all".into() } else { row.text("category")? },
                ..Question::default()
            }))
        })
    }

    fn explain(&self, rules: Rules) -> Explained {
        const ASKED: &str = "Question, \"When the provided information is insufficient, respond with 'Unanswerable'.\", \"Answer the question using a single word or phrase.\"; the authors publish no prompt.";
        match rules {
            Rules::Official | Rules::Strict => Explained {
                asked: ASKED,
                judged: vqa::JUDGED,
                source: "the challenge's server (EvalAI), whose normalisation facebookresearch/mmf, mmf/utils/m4c_evaluators.py carries",
                unlike: "",
            },
            Rules::Cambrian1 => Explained {
                asked: ASKED,
                judged: vqa::JUDGED,
                source: "cambrian-mllm/cambrian, eval/eval/vizwiz/vizwiz_test.py and m4c_evaluator.py",
                unlike: "",
            },
            Rules::LmmsEval => Explained {
                asked: "Question with its first letter alone in upper case, the line about \"Unanswerable\", \"Answer the question using a single word or phrase.\"",
                judged: vqa::JUDGED,
                source: "lmms-eval 0.7.3, tasks/vizwiz_vqa/vizwiz_vqa_val.yaml, utils.py and tasks/_task_utils/vqa_eval_metric.py",
                unlike: "",
            },
        }
    }

    fn prompt(&self, q: &Question, rules: Rules) -> String {
        let offer = "When the provided information is insufficient, respond with 'Unanswerable'.";
        let asked = if rules == Rules::LmmsEval { lmms::capitalised(&q.question) } else { q.question.clone() };
        score::short_answer_prompt(&format!("{asked}\n{offer}"))
    }

    fn verdict(&self, q: &Question, answer: &str, rules: Rules) -> Judged {
        vqa::judge(q, answer, rules)
    }
}
