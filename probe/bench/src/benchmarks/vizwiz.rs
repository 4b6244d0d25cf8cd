//! VizWiz: photographs and questions by blind people; many questions cannot be answered from the image.
//!
//! Scored on the validation split, whose answers are published, by agreement with ten annotators ([`vqa`]), with the
//! normalisation of the challenge's EvalAI server; official and `cambrian-1` rules are the same. The authors publish no
//! prompt, so the prompt is the usual one, which `cambrian-1` uses too and which offers "Unanswerable". Subtasks are
//! the answer categories in the data.

use crate::benchmark::read;
use crate::table::TableColumns;
use crate::{
    AnswerForm, AnswerScore, Benchmark, BenchmarkCard, Category, DatasetSource, LmmsEvalTask, Question, QuestionSet,
    Rules, RulesDescription, edition, lmms, score, vqa,
};
use burgess_base::Result;
use std::path::Path;

/// The published benchmark.
pub struct VizWiz {
    card: BenchmarkCard<'static>,
}

/// The published validation split.
pub static VIZWIZ: VizWiz = VizWiz {
    card: BenchmarkCard {
        id: "vizwiz",
        authors: true,
        lmms_eval: Some(LmmsEvalTask { task: "vizwiz_vqa_val", metric: "exact_match" }),
        category: &Category::OCR_CHART,
        metric: "VQA accuracy",
        version: "2",
        citation: "Gurari et al. 2018, VizWiz Grand Challenge: Answering Visual Questions from Blind People, \
            arXiv:1802.08218",
        form: AnswerForm::Open,
        max_new_tokens: 32,
        source: Some(DatasetSource {
            repository: "lmms-lab/VizWiz-VQA",
            alias: None,
            cambrian_1: true,
            folder: "",
            split: "val",
            questions: 4319,
            licence: "CC BY 4.0",
        }),
    },
};

impl Benchmark for VizWiz {
    fn card(&self) -> BenchmarkCard<'_> {
        self.card
    }

    fn read_published(&self, data: &Path, source: &DatasetSource<'_>) -> Result<QuestionSet> {
        let (table, from_vlmevalkit) = edition::open(data, source, "VizWiz.tsv")?;
        let values: &[&str] = match from_vlmevalkit {
            true => &["index", "question", "answers"],
            false => &["question_id", "question", "answers", "category"],
        };
        read::published(self, &table, TableColumns { values, images: &["image"] }, |row| {
            let image = row.image("image")?;
            let accepted = vqa::ten_answers(row.list("answers")?)?;
            // Every question has its own image, by whose number it is named.
            let id = row.text(if from_vlmevalkit { "index" } else { "question_id" })?;
            Ok(Some(Question {
                row: row.number,
                images: vec![image],
                image_id: id.clone(),
                unit: id.clone(),
                id,
                question: row.text("question")?,
                answer: vqa::best(&accepted).cloned().unwrap_or_default(),
                accepted,
                subtask: if from_vlmevalkit { "all".into() } else { row.text("category")? },
                ..Question::default()
            }))
        })
    }

    fn explain(&self, rules: Rules) -> RulesDescription<'_> {
        const ASKED: &str = "Question, \"When the provided information is insufficient, respond with \
            'Unanswerable'.\", \"Answer the question using a single word or phrase.\"; the authors publish no \
            prompt.";
        match rules {
            Rules::Official | Rules::Strict => RulesDescription {
                prompt: ASKED,
                scoring: vqa::JUDGED,
                source: "the challenge's server (EvalAI), whose normalisation is in facebookresearch/mmf, \
                    mmf/utils/m4c_evaluators.py",
                difference: "",
            },
            Rules::Cambrian1 => RulesDescription {
                prompt: ASKED,
                scoring: vqa::JUDGED,
                source: "cambrian-mllm/cambrian, eval/eval/vizwiz/vizwiz_test.py and m4c_evaluator.py",
                difference: "",
            },
            Rules::LmmsEval => RulesDescription {
                prompt: "Question with its first letter alone in upper case, the line about \"Unanswerable\", \
                    \"Answer the question using a single word or phrase.\"",
                scoring: vqa::JUDGED,
                source: "lmms-eval 0.7.3, tasks/vizwiz_vqa/vizwiz_vqa_val.yaml, utils.py and \
                    tasks/_task_utils/vqa_eval_metric.py",
                difference: "",
            },
        }
    }

    fn build_prompt(&self, q: &Question, rules: Rules) -> String {
        let offer = "When the provided information is insufficient, respond with 'Unanswerable'.";
        let asked = if rules == Rules::LmmsEval { lmms::capitalised(&q.question) } else { q.question.clone() };
        score::short_answer_prompt(&format!("{asked}\n{offer}"))
    }

    fn verdict(&self, q: &Question, answer: &str, rules: Rules) -> AnswerScore {
        vqa::judge(q, answer, rules)
    }
}
