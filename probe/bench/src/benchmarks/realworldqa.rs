//! RealWorldQA: questions about photographs taken from cars and elsewhere; some have lettered choices, others expect a
//! word or number. Each published question contains its answer instruction and is the whole prompt. Its authors (xAI)
//! publish no scorer.
//!
//! Strict rules require the right letter if the question has choices, else the right text up to case and full stops.
//! `cambrian-1` (`realworldqa_test.py`) compares the first word after "answer is" with the right answer, so a right
//! answer of several words is never matched, and `B) left` is wrong.

use crate::benchmark::read;
use crate::table::{TableColumns, TableRow};
use crate::{
    AnswerForm, AnswerScore, Benchmark, BenchmarkCard, Category, DatasetSource, LmmsEvalTask, Question, QuestionSet,
    Rules, RulesDescription, cambrian, edition, explain, labels, lmms, score, vlmevalkit,
};
use burgess_base::{Error, Result};
use std::path::Path;

/// The type of [`REALWORLDQA`].
pub struct RealWorldQa {
    card: BenchmarkCard<'static>,
}

/// RealWorldQA, with the questions that xAI published.
pub static REALWORLDQA: RealWorldQa = RealWorldQa {
    card: BenchmarkCard {
        id: "realworldqa",
        authors: false,
        lmms_eval: Some(LmmsEvalTask { task: "realworldqa", metric: "exact_match" }),
        category: &Category::VISION_CENTRIC,
        metric: "exact match, letters where there are choices",
        version: "2",
        citation: "xAI 2024, Grok-1.5 Vision Preview: RealWorldQA",
        form: AnswerForm::Open,
        max_new_tokens: 16,
        source: Some(DatasetSource {
            repository: "lmms-lab/RealWorldQA",
            alias: Some("lmms-lab-encoder/RealWorldQA"),
            cambrian_1: true,
            folder: "",
            split: "test",
            questions: 765,
            licence: "CC BY-ND 4.0",
        }),
    },
};

/// Beginning of the answer instruction.
const INSTRUCTION: &str = "Please answer directly with";

impl RealWorldQa {
    /// Reads a question from a row of VLMEvalKit's edition if `from_vlmevalkit`, else of the hub's.
    fn question(row: &TableRow, from_vlmevalkit: bool) -> Result<Question> {
        let image = row.image("image")?;
        let image_id = image.name_in_table();
        let text = row.text("question")?;
        let answer = row.text("answer")?.trim().to_string();
        let (stem, options) = match from_vlmevalkit {
            true => (text.trim().to_string(), vlmevalkit::choices(row)?),
            false => edition::choices_within(&text, |l| format!("\n{l}. ").split_off(1)),
        };
        // If the answer is not the letter of a choice, the lines that look like choices belong to the question.
        let lettered = labels::choice_letter(&answer).is_some_and(|l| ('A'..='Z').take(options.len()).any(|o| o == l));
        let letter = answer.trim_end_matches('.').len() == 1 && labels::choice_letter(&answer).is_some();
        if letter && !lettered && options.len() > 1 {
            let message = format!("the answer {answer:?} is not one of the {} choices", options.len());
            return Err(Error::failed(message));
        }
        let (stem, options) = if lettered { (stem, options) } else { (text.clone(), Vec::new()) };
        let asked = stem.split_once(INSTRUCTION).map_or(stem.as_str(), |(asked, _)| asked).trim().to_string();
        let prompt = match (from_vlmevalkit, lettered) {
            (false, _) => text.trim().to_string(),
            (true, true) => {
                let lines: String = ('A'..='Z').zip(&options).map(|(l, o)| format!("{l}. {o}\n")).collect();
                format!("{asked}\n{lines}{INSTRUCTION} only the letter of the correct option and nothing else.")
            }
            (true, false) => format!("{asked}\n{INSTRUCTION} a single word or number."),
        };
        Ok(Question {
            id: if from_vlmevalkit { row.text("index")? } else { row.number.to_string() },
            row: row.number,
            images: vec![image],
            unit: image_id.clone(),
            image_id,
            question: asked,
            options,
            answer,
            subtask: if lettered { "choices".into() } else { "open".into() },
            facts: [("prompt".to_string(), prompt)].into(),
            ..Question::default()
        })
    }
}

impl Benchmark for RealWorldQa {
    fn card(&self) -> BenchmarkCard<'_> {
        self.card
    }

    fn metric(&self, rules: Rules) -> &str {
        match rules {
            Rules::Official | Rules::Strict | Rules::LmmsEval => self.card.metric,
            Rules::Cambrian1 => "exact match of the first word",
        }
    }

    fn read_published(&self, data: &Path, source: &DatasetSource<'_>) -> Result<QuestionSet> {
        let (table, from_vlmevalkit) = edition::open(data, source, "RealWorldQA.tsv")?;
        let values: &[&str] = match from_vlmevalkit {
            true => &["index", "question", "answer", "A?", "B?", "C?", "D?", "E?", "F?"],
            false => &["question", "answer"],
        };
        read::published(self, &table, TableColumns { values, images: &["image"] }, |row| {
            Ok(Some(Self::question(row, from_vlmevalkit)?))
        })
    }

    fn explain(&self, rules: Rules) -> RulesDescription<'_> {
        const ASKED: &str = "The question as published, which contains its answer instruction.";
        match rules {
            Rules::Official | Rules::Strict => RulesDescription {
                prompt: ASKED,
                scoring: explain::STRICT_LETTER,
                source: "ours: the authors (xAI) publish no scorer",
                difference: "For questions without choices the answer must be the expected text, up to case and \
                    trailing full stops.",
            },
            Rules::Cambrian1 => RulesDescription {
                prompt: ASKED,
                scoring: "The first word after the last \"answer is\" or \"answer:\" must be the right answer, up to \
                    case; a right answer of several words is never matched.",
                source: "cambrian-mllm/cambrian, eval/eval/realworldqa/realworldqa_test.py",
                difference: "",
            },
            Rules::LmmsEval => RulesDescription {
                prompt: ASKED,
                scoring: explain::EXTRACTED,
                source: "lmms-eval 0.7.3, tasks/realworldqa/realworldqa.yaml, utils.py and \
                    tasks/_task_utils/mcq_extract.py; where the right answer is not a letter from A to D, the whole \
                    answer must equal it, up to case and trailing full stops",
                difference: "",
            },
        }
    }

    fn build_prompt(&self, q: &Question, _: Rules) -> String {
        q.fact("prompt").to_string()
    }

    fn verdict(&self, q: &Question, answer: &str, rules: Rules) -> AnswerScore {
        match rules {
            Rules::LmmsEval => {
                let (said, expected) = (lmms::cleaned(answer), lmms::trimmed(&q.answer));
                match labels::choice_letter(expected).filter(|l| expected.len() == 1 && ('A'..='D').contains(l)) {
                    Some(right) => {
                        let found = lmms::extracted(&said, &['A', 'B', 'C', 'D']);
                        found.map_or_else(AnswerScore::unparsed, |letter| AnswerScore::new(letter, letter == right))
                    }
                    None => {
                        let low = said.to_lowercase();
                        let plain = lmms::trimmed(&low).trim_end_matches('.');
                        lmms::on_text(plain, plain == expected.to_lowercase())
                    }
                }
            }
            Rules::Official | Rules::Strict if !q.options.is_empty() => score::judge_letter(q, answer),
            Rules::Official | Rules::Strict => score::judge_exact(q, answer),
            Rules::Cambrian1 => {
                let text = cambrian::announced(answer);
                match text.trim_end_matches('.').split_whitespace().next() {
                    Some(word) => AnswerScore::new(word, word == q.answer.to_lowercase()),
                    None => AnswerScore::unparsed(),
                }
            }
        }
    }
}
