//! ChartQA: read values and labels from charts, scored by relaxed accuracy (5 % for numbers).
//!
//! The metric is defined in the paper (end of §5.1); its authors publish neither a scorer nor a prompt. The rule that
//! all harnesses use is that of google-research/pix2struct (`metrics.py`): `12%` equals 0.12, and an expected answer of
//! 0 is compared as text. Unlike that file, and like every harness, white space around an answer is removed first,
//! because models often end an answer with a line break. The prompt ends with the usual line for short answers.
//! `cambrian-1` asks for "a single number or phrase" and does not parse percent signs: it compares `12%` as text, and
//! accepts `0.0` for 0.
//!
//! The published table does not say which questions share a chart, so every question is a unit of its own. In
//! VLMEvalKit's edition rows refer to each other's images, so questions about one chart form one unit.

use crate::benchmark::{CONSTANTS, read};
use crate::table::TableColumns;
use crate::{
    AnswerForm, AnswerScore, Benchmark, BenchmarkCard, BenchmarkOutcome, Category, DatasetSource, LmmsEvalTask,
    Question, QuestionSet, Rules, RulesDescription, edition, lmms, score,
};
use burgess_base::Result;
use std::collections::BTreeSet;
use std::path::Path;

/// A benchmark of the ChartQA family.
pub struct ChartQa {
    card: BenchmarkCard<'static>,
}

const CITATION: &str = "Masry et al. 2022, ChartQA: Question Answering about Charts, arXiv:2203.10244";

/// The published benchmark: half of its questions are written by people, half are generated from summaries (`type`).
pub static CHARTQA: ChartQa = ChartQa {
    card: BenchmarkCard {
        id: "chartqa",
        authors: true,
        lmms_eval: Some(LmmsEvalTask { task: "chartqa", metric: "relaxed_overall" }),
        category: &Category::OCR_CHART,
        metric: "relaxed accuracy (5 %)",
        version: "2",
        citation: CITATION,
        form: AnswerForm::Open,
        max_new_tokens: 16,
        source: Some(DatasetSource {
            repository: "lmms-lab/ChartQA",
            alias: Some("lmms-lab-encoder/ChartQA"),
            cambrian_1: true,
            folder: "",
            split: "test",
            questions: 2500,
            licence: "GPL-3.0 (authors' repository)",
        }),
    },
};

/// The nano variant: questions about charts of the nano world.
pub static NANO_CHARTQA: ChartQa = ChartQa {
    card: BenchmarkCard {
        id: "nano-chartqa",
        authors: false,
        lmms_eval: None,
        category: &Category::OCR_CHART,
        metric: "relaxed accuracy (5 %)",
        version: "2",
        citation: CITATION,
        form: AnswerForm::Open,
        max_new_tokens: 12,
        source: None,
    },
};

impl Benchmark for ChartQa {
    fn card(&self) -> BenchmarkCard<'_> {
        self.card
    }

    fn metric(&self, rules: Rules) -> &str {
        match rules {
            Rules::Cambrian1 => "relaxed accuracy (5 %), percent as text",
            Rules::Official | Rules::Strict | Rules::LmmsEval => self.card.metric,
        }
    }

    fn read_published(&self, data: &Path, source: &DatasetSource<'_>) -> Result<QuestionSet> {
        let (table, from_vlmevalkit) = edition::open(data, source, "ChartQA_TEST.tsv")?;
        let values: &[&str] =
            if from_vlmevalkit { &["index", "question", "answer", "split?"] } else { &["type", "question", "answer"] };
        read::published(self, &table, TableColumns { values, images: &["image"] }, |row| {
            let image = row.image("image")?;
            let name = image.name_in_table();
            let id = if from_vlmevalkit { row.text("index")? } else { row.number.to_string() };
            // VLMEvalKit writes an answer either as plain text or as a list with one element.
            let answer = match from_vlmevalkit.then(|| row.list("answer").ok()).flatten().as_deref() {
                Some([answer]) => answer.clone(),
                _ => row.text("answer")?,
            };
            Ok(Some(Question {
                unit: if from_vlmevalkit { name.clone() } else { id.clone() },
                id,
                row: row.number,
                images: vec![image],
                image_id: name,
                question: row.text("question")?,
                answer,
                subtask: if from_vlmevalkit {
                    row.maybe("split").unwrap_or_else(|| "all".into())
                } else {
                    row.text("type")?
                },
                ..Question::default()
            }))
        })
    }

    /// Returns relaxed accuracy overall, and for the human and the augmented questions alone.
    fn lmms_eval_numbers(
        &self,
        qs: &[Question],
        judged: &[AnswerScore],
        outcome: &BenchmarkOutcome,
    ) -> Vec<(String, f64)> {
        let of = |human: bool| {
            let kind = |q: &Question| (q.subtask == "human_test") == human;
            score::mean(qs.iter().zip(judged).filter(|(q, _)| kind(q)).map(|(_, j)| j.score))
        };
        let splits = [("relaxed_human_split", of(true)), ("relaxed_augmented_split", of(false))];
        let splits = splits.into_iter().filter_map(|(name, value)| Some((name.to_string(), value?)));
        [("relaxed_overall".to_string(), outcome.score / 100.0)].into_iter().chain(splits).collect()
    }

    fn explain(&self, rules: Rules) -> RulesDescription<'_> {
        match rules {
            Rules::Official | Rules::Strict => RulesDescription {
                prompt: "Question, then \"Answer the question using a single word or phrase.\"; the authors publish \
                    no prompt.",
                scoring: "Two numbers must be within 5 % of the expected one (\"12%\" is 0.12); if one of them is \
                    not a number as a whole, or 0 is expected, the texts must be the same up to case.",
                source: "the paper, end of section 5.1, as google-research/pix2struct, pix2struct/metrics.py \
                    (relaxed_correctness) computes it",
                difference: "White space around an answer is removed first, which that file does not do (there \" \
                    Red\" differs from \"red\"): it depends on where a model stops, and every harness removes it. An \
                    empty answer is unparsed.",
            },
            Rules::Cambrian1 => RulesDescription {
                prompt: "Question, then \"Answer the question using a single number or phrase.\"",
                scoring: "As the official rule, but percent signs are not parsed (\"12%\" is text), and \"0.0\" \
                    matches 0.",
                source: "cambrian-mllm/cambrian, eval/eval/chartqa/chartqa_test.py",
                difference: "",
            },
            Rules::LmmsEval => RulesDescription {
                prompt: "Question, then \"Answer the question with a single word.\"",
                scoring: "As the official rule; reported overall, and for human-written and machine-generated \
                    questions.",
                source: "lmms-eval 0.7.3, tasks/chartqa/chartqa.yaml and utils.py",
                difference: "",
            },
        }
    }

    fn build_prompt(&self, q: &Question, rules: Rules) -> String {
        match rules {
            Rules::Official | Rules::Strict => score::short_answer_prompt(&q.question),
            Rules::Cambrian1 => format!("{}\nAnswer the question using a single number or phrase.", q.question),
            Rules::LmmsEval => format!("{}\nAnswer the question with a single word.", q.question),
        }
    }

    fn verdict(&self, q: &Question, answer: &str, rules: Rules) -> AnswerScore {
        if rules == Rules::LmmsEval {
            let said = lmms::cleaned(answer);
            return lmms::on_text(&said, score::relaxed_equal(&said, &q.answer));
        }
        match answer.trim() {
            "" => AnswerScore::unparsed(),
            said if rules == Rules::Cambrian1 => AnswerScore::new(said, cambrian_equal(said, &q.answer)),
            said => AnswerScore::new(said, score::relaxed_equal(said, &q.answer)),
        }
    }

    /// Returns candidates for the constant-answer baseline: the most frequent answers, and the ends of their tolerance
    /// intervals. A number is right for every expected value within 5 %, so the best constant answer may lie between
    /// two answers; then an end of some tolerance interval scores as high. The ends are moved inwards by one part in
    /// 10⁹ to allow for rounding.
    fn constant_candidates(&self, qs: &[Question]) -> BTreeSet<String> {
        let frequent = score::most_frequent(qs.iter().map(|q| q.answer.as_str()), CONSTANTS);
        let edge = score::RELAXED_TOLERANCE * (1.0 - 1e-9);
        let mut set: BTreeSet<String> = frequent.iter().cloned().collect();
        for value in frequent.iter().filter_map(|answer| score::number(answer)).filter(|v| v.is_finite()) {
            set.extend([value * (1.0 - edge), value * (1.0 + edge)].map(|v| v.to_string()));
        }
        set
    }
}

/// Compares by `cambrian-1`'s relaxed match (`chartqa_test.py`): numbers within 5 %, else the same text up to case.
fn cambrian_equal(answer: &str, expected: &str) -> bool {
    match (score::plain_number(answer), score::plain_number(expected)) {
        (Some(a), Some(e)) => (a - e).abs() <= e.abs() * score::RELAXED_TOLERANCE,
        _ => answer.to_lowercase() == expected.to_lowercase(),
    }
}
