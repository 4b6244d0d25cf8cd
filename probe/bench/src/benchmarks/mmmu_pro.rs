//! MMMU-Pro: the questions of MMMU that need the image, with up to ten choices; accuracy over all questions. In the
//! vision edition, question and choices are written in the image.
//!
//! Official prompt and rule are those of the authors' scripts (`mmmu-pro/infer/infer_gpt.py`, direct prompts, and
//! `mmmu-pro/evaluate.py`): the letter after the last "Answer:", else MMMU's forms. The script draws a random letter if
//! it finds none; here the answer is unparsed. The scripts replace each `<image 1>` by `<image>` and send the images in
//! the order in which the text names them, an image that is named twice two times; images that are not named are not
//! sent.
//!
//! lmms-eval leaves the names in the text and sends each named image once, in the order of the columns. Where this is
//! another list, [`Question::images`] holds it after the authors' list.

use crate::benchmark::read;
use crate::table::{DatasetTable, TableColumns, TableRow};
use crate::{
    AnswerForm, AnswerScore, Benchmark, BenchmarkCard, BenchmarkOutcome, Category, DatasetSource, ImageLocation,
    LmmsEvalTask, Question, QuestionSet, Rules, RulesDescription, explain, lmms, mmmu_letters, score,
};
use burgess_base::{Error, Result};
use std::collections::BTreeSet;
use std::path::Path;

/// A benchmark of the MMMU-Pro family.
pub struct MmmuPro {
    card: BenchmarkCard<'static>,
    /// Whether question and choices are written in the image.
    vision: bool,
}

const CITATION: &str = "Yue et al. 2024, MMMU-Pro: A More Robust Multi-discipline Multimodal Understanding Benchmark, \
    arXiv:2409.02813";

/// The edition with up to ten choices in the text.
pub static MMMU_PRO: MmmuPro =
    MmmuPro { card: card("mmmu-pro", "mmmu_pro_standard", "standard (10 options)"), vision: false };

/// The edition in which question and choices are written in the image.
pub static MMMU_PRO_VISION: MmmuPro =
    MmmuPro { card: card("mmmu-pro-vision", "mmmu_pro_vision", "vision"), vision: true };

const fn card(id: &'static str, task: &'static str, folder: &'static str) -> BenchmarkCard<'static> {
    BenchmarkCard {
        id,
        authors: true,
        lmms_eval: Some(LmmsEvalTask { task, metric: "mmmu_acc" }),
        category: &Category::KNOWLEDGE,
        metric: "accuracy",
        version: "1",
        citation: CITATION,
        form: AnswerForm::Choice,
        max_new_tokens: 128,
        source: Some(DatasetSource {
            repository: "MMMU/MMMU_Pro",
            alias: None,
            cambrian_1: false,
            folder,
            split: "test",
            questions: 1730,
            licence: "Apache 2.0 (questions; images and texts belong to their makers)",
        }),
    }
}

/// The line with which the authors' direct prompts and lmms-eval ask for a letter.
const LINE: &str = "Answer with the option letter from the given choices directly.";

/// What the authors' direct prompt of the vision edition says after [`LINE`].
const LAST_LINE: &str = "The last line of your response should be of the following format: 'Answer: $LETTER' (without \
    quotes) where LETTER is one of options.";

/// Name of the fact that holds the position in [`Question::images`] at which lmms-eval's list begins, if it differs.
const LMMS_FROM: &str = "lmms-eval-images-from";

/// Reads a row of the edition with choices in the text.
fn standard(row: &TableRow) -> Result<Option<Question>> {
    let (question, options) = (row.text("question")?, row.choices("options")?);
    let text = format!("{question}\n{}", lmms::lines(&options));
    let image = |number: &usize| {
        row.image(&format!("image_{number}"))
            .map_err(|e| Error::failed(format!("the text names <image {number}>, but {e}")))
    };
    let (_, order) = without_numbers(&text);
    let mut images: Vec<ImageLocation> = order.iter().map(image).collect::<Result<_>>()?;
    let once: BTreeSet<usize> = order.iter().copied().collect();
    let mut q = Question { question, ..of_row(row, options)? };
    if !once.iter().eq(&order) {
        q.facts.insert(LMMS_FROM.into(), images.len().to_string());
        images.extend(once.iter().map(image).collect::<Result<Vec<_>>>()?);
    }
    Ok(Some(Question { images, ..q }))
}

/// Reads a row of the vision edition.
fn vision(row: &TableRow) -> Result<Option<Question>> {
    let options = row.choices("options")?;
    Ok(Some(Question { images: vec![row.image("image")?], ..of_row(row, options)? }))
}

/// Reads what the rows of both editions hold.
fn of_row(row: &TableRow, options: Vec<String>) -> Result<Question> {
    let id = row.text("id")?;
    Ok(Question {
        row: row.number,
        image_id: id.clone(),
        unit: id.clone(),
        id,
        options,
        answer: row.text("answer")?,
        subtask: row.text("subject")?,
        ..Question::default()
    })
}

/// Replaces every `<image 2>` by `<image>`, and returns the numbers in their order.
fn without_numbers(text: &str) -> (String, Vec<usize>) {
    let (mut plain, mut numbers) = (String::new(), Vec::new());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("<image") {
        plain += before;
        plain += "<image";
        let number = after.split_once('>').filter(|(inner, _)| inner.starts_with(char::is_whitespace));
        rest = match number.and_then(|(inner, behind)| Some((inner.trim_start().parse().ok()?, behind))) {
            Some((number, behind)) => {
                numbers.push(number);
                plain += ">";
                behind
            }
            None => after,
        };
    }
    (plain + rest, numbers)
}

impl Benchmark for MmmuPro {
    fn card(&self) -> BenchmarkCard<'_> {
        self.card
    }

    fn read_published(&self, data: &Path, source: &DatasetSource<'_>) -> Result<QuestionSet> {
        let table = DatasetTable::open(data, source)?;
        if self.vision {
            let columns = TableColumns { values: &["id", "options", "answer", "subject"], images: &["image"] };
            return read::published(self, &table, columns, vision);
        }
        let columns = TableColumns {
            values: &["id", "question", "options", "answer", "subject"],
            images: &["image_1", "image_2?", "image_3?", "image_4?", "image_5?", "image_6?", "image_7?"],
        };
        read::published(self, &table, columns, standard)
    }

    fn explain(&self, rules: Rules) -> RulesDescription<'_> {
        match rules {
            Rules::LmmsEval => RulesDescription {
                prompt: match self.vision {
                    true => "The image, and \"Answer with the option letter from the given choices directly.\"",
                    false => {
                        "Question, a line \"A. …\" for each choice, an empty line, \"Answer with the option letter \
                            from the given choices directly.\" Each image that the text names, once."
                    }
                },
                scoring: if self.vision { "The whole answer must be the capital letter." } else { explain::LAST_NAMED },
                source: match self.vision {
                    true => "lmms-eval 0.7.3, tasks/mmmu_pro/mmmu_pro_vision.yaml and utils.py",
                    false => {
                        "lmms-eval 0.7.3, tasks/mmmu_pro/mmmu_pro_standard.yaml, utils.py and \
                            tasks/_task_utils/mmmu_mcq_utils.py"
                    }
                },
                difference: if self.vision { "" } else { explain::NO_DRAW },
            },
            Rules::Official | Rules::Strict | Rules::Cambrian1 => RulesDescription {
                prompt: match self.vision {
                    true => {
                        "The image, and \"Answer with the option letter from the given choices directly. The last \
                            line of your response should be of the following format: 'Answer: $LETTER' (without \
                            quotes) where LETTER is one of options.\""
                    }
                    false => {
                        "Question, a line \"A. …\" for each choice, \"Answer with the option letter from the given \
                            choices directly.\" Each <image 1> in the text becomes <image>; the images follow in \
                            this order."
                    }
                },
                scoring: "The only letter of a choice after the last \"Answer:\", also in a word; if there is none or \
                    several, the letter as (B), else any such letter before a space or else before a full stop, and \
                    of several the last that stands alone; if there is none and the answer has more than five words, \
                    the choice whose text comes last.",
                source: "the authors' scripts: MMMU-Benchmark/MMMU, mmmu-pro/infer/infer_gpt.py, mmmu-pro/prompts.yaml \
                    (direct) and mmmu-pro/evaluate.py",
                difference: "The script draws a random letter if it finds none; here the answer is unparsed.",
            },
        }
    }

    fn prompt_images<'a>(&self, q: &'a Question, rules: Rules) -> &'a [ImageLocation] {
        let from: Option<usize> = q.fact(LMMS_FROM).parse().ok();
        let part = match (rules, from) {
            (_, None) => Some(q.images.as_slice()),
            (Rules::LmmsEval, Some(from)) => q.images.get(from..),
            (_, Some(from)) => q.images.get(..from),
        };
        part.unwrap_or(&q.images)
    }

    fn build_prompt(&self, q: &Question, rules: Rules) -> String {
        match (rules, self.vision) {
            (Rules::LmmsEval, true) => LINE.into(),
            (Rules::LmmsEval, false) => format!("{}\n{}\n\n{LINE}", q.question, lmms::lines(&q.options)),
            (_, true) => format!("{LINE} {LAST_LINE}"),
            (_, false) => without_numbers(&format!("{}\n{}\n{LINE}", q.question, lmms::lines(&q.options))).0,
        }
    }

    fn verdict(&self, q: &Question, answer: &str, rules: Rules) -> AnswerScore {
        match (rules, self.vision) {
            (Rules::LmmsEval, true) => {
                let said = lmms::cleaned(answer);
                lmms::on_text(&said, said == q.answer)
            }
            (Rules::LmmsEval, false) => {
                score::judge_choice_letter(q, lmms::last_named(&lmms::cleaned(answer), &q.options))
            }
            _ => score::judge_choice_letter(q, mmmu_letters::mmmu_pro(answer.trim(), &q.options)),
        }
    }

    /// Returns lmms-eval's accuracy, rounded to five decimals.
    fn lmms_eval_numbers(&self, _: &[Question], _: &[AnswerScore], outcome: &BenchmarkOutcome) -> Vec<(String, f64)> {
        vec![("mmmu_acc".into(), (outcome.score * 1000.0).round_ties_even() / 1e5)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_found_by_their_names() {
        let (text, numbers) = without_numbers("<image 2> or <image  11>? <image> <images 1> <image x> <image 3");
        assert_eq!(text, "<image> or <image>? <image> <images 1> <image x> <image 3");
        assert_eq!(numbers, [2, 11]);
    }
}
