//! VizWiz: photographs and questions of blind people; many cannot be answered from the picture.
//!
//! Scored on the validation split, whose answers are published, by agreement with ten people ([`vqa`]), with the
//! normalisation of EvalAI's server, where the challenge is held; both rules are the same. The prompt, also the study's,
//! is the one that offers "Unanswerable"; the authors publish none. Subtasks are the kinds of answer in the data.

use super::table::Columns;
use super::{
    Benchmark, Card, Category, Form, Judged, Question, Questions, Rules, Source, edition, read, score, textvqa, vqa,
};
use burgess_base::Result;
use std::path::Path;

/// The published benchmark.
pub struct VizWiz {
    card: Card,
}

/// Those of this family.
pub const ALL: &[&dyn Benchmark] = &[&VIZWIZ];

/// The validation split.
pub static VIZWIZ: VizWiz = VizWiz {
    card: Card {
        id: "vizwiz",
        category: Category::OcrChart,
        metric: "VQA accuracy",
        version: "1",
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
        read::published(self, &table, Columns { values, pictures: &["image"] }, |row| {
            let image = row.picture("image")?;
            let accepted = textvqa::people(row.list("answers")?)?;
            // Every question has a picture of its own, by whose number it is called.
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

    fn prompt(&self, q: &Question, _: Rules) -> String {
        let offer = "When the provided information is insufficient, respond with 'Unanswerable'.";
        score::short_answer_prompt(&format!("{}\n{offer}", q.question))
    }

    fn judge(&self, q: &Question, answer: &str, _: Rules) -> Judged {
        vqa::judge(q, answer)
    }
}
