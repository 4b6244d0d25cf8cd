//! MMVP: the same question about two images that differ in one visual detail, so that the right answers differ.
//!
//! A pair counts only if both answers are right: chance is 25, and the constant-answer baseline 0.
//!
//! The authors' script asks question and choices in one line and leaves grading to people or GPT-4; here the strict
//! parser reads a letter or the text of a choice. Four labels of `Questions.csv` are wrong, those of two pairs being
//! swapped (99/100, 279/280: tsb0601/MMVP issues 14 and 30; lmms-eval's edition corrects them). Strict rules use the
//! right labels ([`ERRATA`]), `cambrian-1` rules the published ones. `cambrian-1` accepts only the letter alone or the
//! text of the right choice, after "answer is" (`mmvp_test.py`).

use crate::benchmark::read;
use crate::table::{TableColumns, TableRow};
use crate::{
    AnswerForm, AnswerScore, Benchmark, BenchmarkCard, BenchmarkOutcome, Category, DatasetSource, ImageLocation,
    LmmsEvalTask, Question, QuestionSet, Rules, RulesDescription, ScoredItem, cambrian, edition, explain, labels, lmms,
    score, vlmevalkit,
};
use burgess_base::{Error, Result};
use std::path::Path;

/// A benchmark of the MMVP family.
pub struct Mmvp {
    card: BenchmarkCard<'static>,
}

const CITATION: &str =
    "Tong et al. 2024, Eyes Wide Shut? Exploring the Visual Shortcomings of Multimodal LLMs, arXiv:2401.06209";

/// The published benchmark.
pub static MMVP: Mmvp = Mmvp {
    card: BenchmarkCard {
        id: "mmvp",
        authors: false,
        lmms_eval: Some(LmmsEvalTask { task: "mmvp", metric: "mmvp_pair_accuracy" }),
        category: &Category::VISION_CENTRIC,
        metric: "pair accuracy",
        version: "2",
        citation: CITATION,
        form: AnswerForm::Choice,
        max_new_tokens: 16,
        source: Some(DatasetSource {
            repository: "MMVP/MMVP",
            alias: None,
            cambrian_1: true,
            folder: "",
            split: "Questions",
            questions: 300,
            licence: "MIT",
        }),
    },
};

/// The nano variant: pairs of nano-world images.
pub static NANO_MMVP: Mmvp = Mmvp {
    card: BenchmarkCard {
        id: "nano-mmvp",
        authors: false,
        lmms_eval: None,
        category: &Category::VISION_CENTRIC,
        metric: "pair accuracy",
        version: "2",
        citation: CITATION,
        form: AnswerForm::Choice,
        max_new_tokens: 4,
        source: None,
    },
};

/// Questions whose published label is wrong: their `Index` and the text of the right choice.
pub const ERRATA: [(u64, &str); 4] = [(99, "short"), (100, "long"), (279, "sitting"), (280, "standing")];

/// The labels of the two choices, as the file writes them.
const LABELS: [&str; 2] = ["(a)", "(b)"];

impl Mmvp {
    fn published(&self, row: &TableRow, file: &Path, from_vlmevalkit: bool) -> Result<Question> {
        // Some editions misspell the header as `lndex`.
        let index = match (from_vlmevalkit, row.value("Index")) {
            (true, _) => row.number + 1,
            (false, Some(_)) => positive(row.int("Index")?)?,
            (false, None) => positive(row.int("lndex")?)?,
        };
        let image = match from_vlmevalkit {
            true => row.image("image")?,
            false => {
                let dir = file.parent().unwrap_or(Path::new(""));
                ImageLocation::File(dir.join("MMVP Images").join(format!("{index}.jpg")))
            }
        };
        let (line, options) = match from_vlmevalkit {
            true => {
                let options = vlmevalkit::choices(row)?;
                (None, options)
            }
            false => {
                let line = row.text("Options")?;
                let options = edition::choices_within(&line.to_lowercase(), |l| format!("({})", l.to_lowercase())).1;
                (Some(line), options)
            }
        };
        if options.len() != LABELS.len() {
            return Err(Error::failed(format!("the question has {} choices instead of 2", options.len())));
        }
        let said = row.text(if from_vlmevalkit { "answer" } else { "Correct Answer" })?;
        let published = labels::choice_letter(said.trim())
            .and_then(|l| LABELS.iter().zip('A'..).find(|(_, c)| *c == l).map(|(label, _)| (*label).to_string()))
            .ok_or_else(|| Error::failed(format!("the right answer {said:?} is neither (a) nor (b)")))?;
        let erratum = ERRATA.iter().find(|(wrong, _)| *wrong == index);
        let answer = match erratum {
            None => published.clone(),
            Some((_, right)) => options
                .iter()
                .zip(LABELS)
                .find(|(option, _)| option.to_lowercase() == **right)
                .map(|(_, label)| label.to_string())
                .ok_or_else(|| {
                    Error::failed(format!("question {index} has no choice `{right}`, which is its right answer"))
                        .hint("check that the file is MMVP's own Questions.csv")
                })?,
        };
        // The choices are read again because the line was lower-cased for comparison.
        let options = line.as_deref().map_or(options, in_line);
        let line = line.unwrap_or_else(|| labelled(&options));
        Ok(Question {
            id: if from_vlmevalkit { row.text("index")? } else { index.to_string() },
            row: row.number,
            images: vec![image],
            image_id: index.to_string(),
            question: row.text("question").or_else(|_| row.text("Question"))?,
            options,
            answer,
            subtask: "all".into(),
            unit: format!("{:03}", (index - 1) / 2),
            facts: [("Options".to_string(), line), ("published".to_string(), published)].into(),
            ..Question::default()
        })
    }
}

fn positive(index: i64) -> Result<u64> {
    u64::try_from(index)
        .ok()
        .filter(|i| *i > 0)
        .ok_or_else(|| Error::failed(format!("questions are numbered from 1, found {index}")))
}

/// Returns the choices in a line such as `(a) Open (b) Closed`.
fn in_line(line: &str) -> Vec<String> {
    let small = edition::choices_within(line, |l| format!("({})", l.to_lowercase())).1;
    if small.len() == LABELS.len() { small } else { edition::choices_within(line, |l| format!("({l})")).1 }
}

/// Formats the choices as one line: `(a) … (b) …`.
fn labelled(options: &[String]) -> String {
    let options: Vec<String> = ('a'..='z').zip(options).map(|(l, o)| format!("({l}) {o}")).collect();
    options.join(" ")
}

/// Returns the choices as the `cambrian-1` code splits them: the text after each `(` and the next `)`.
fn cambrian_options(line: &str) -> Vec<String> {
    let part = |part: &str| part.split(')').nth(1).unwrap_or_default().trim().to_lowercase();
    line.split('(').skip(1).map(part).collect()
}

impl Benchmark for Mmvp {
    fn card(&self) -> BenchmarkCard<'_> {
        self.card
    }

    fn read_published(&self, data: &Path, source: &DatasetSource<'_>) -> Result<QuestionSet> {
        let (table, from_vlmevalkit) = edition::open_named(data, source, "MMVP.tsv", "Questions.csv")?;
        let file = table.files().first().cloned().unwrap_or_default();
        let columns = match from_vlmevalkit {
            true => TableColumns { values: &["index", "question", "A", "B", "answer"], images: &["image"] },
            false => {
                TableColumns { values: &["Index?", "lndex?", "Question", "Options", "Correct Answer"], images: &[] }
            }
        };
        let questions =
            read::published(self, &table, columns, |row| Ok(Some(self.published(row, &file, from_vlmevalkit)?)))?;
        read::check_images(&file, &questions)?;
        Ok(questions)
    }

    /// Returns the accuracies over questions and over pairs.
    fn lmms_eval_numbers(
        &self,
        _: &[Question],
        judged: &[AnswerScore],
        outcome: &BenchmarkOutcome,
    ) -> Vec<(String, f64)> {
        let single = score::mean(judged.iter().map(|j| j.score)).map(|mean| ("mmvp_accuracy".to_string(), mean));
        [("mmvp_pair_accuracy".to_string(), outcome.score / 100.0)].into_iter().chain(single).collect()
    }

    fn explain(&self, rules: Rules) -> RulesDescription<'_> {
        match rules {
            Rules::Official | Rules::Strict if self.card.source.is_none() => RulesDescription {
                prompt: "Question, the choices as \"(a) … (b) …\" in a line, \"Answer with the option's letter \
                    from the given choices directly.\"",
                scoring: explain::STRICT_LETTER,
                source: "ours, after MMVP; a pair counts if both questions are right",
                difference: "",
            },
            Rules::Official | Rules::Strict => RulesDescription {
                prompt: "Question and choices in one line, \"… (a) … (b) …\", as the authors' script asks.",
                scoring: explain::STRICT_LETTER,
                source: "ours: the authors leave grading to people or GPT-4 (tsb0601/MMVP, scripts/gpt_grader.py); a \
                    pair counts if both questions are right, as in the paper",
                difference: "Four wrong labels of Questions.csv (99, 100, 279, 280: issues 14 and 30 there) are \
                    corrected.",
            },
            Rules::Cambrian1 => RulesDescription {
                prompt: "Question, \" Options:\" with a line \"A. …\" for each, \"Answer with the option's letter \
                    from the given choices directly.\"",
                scoring: "The text after the last \"answer is\" or \"answer:\" must be the letter or the text of a \
                    choice. Labels as published; pairs.",
                source: "cambrian-mllm/cambrian, eval/eval/mmvp/mmvp_test.py",
                difference: "",
            },
            Rules::LmmsEval => RulesDescription {
                prompt: "Question, a line \"A. …\" for each choice, \"Answer with the option's letter from the \
                    given choices directly.\"",
                scoring: "A or B in either case: alone or at the beginning; after \"answer is\" or \"option\"; any \
                    with a space or the end after it, also at the end of a word; the first character. Its numbers \
                    are the accuracies over questions and over pairs; the score is that over pairs.",
                source: "lmms-eval 0.7.3, tasks/mmvp/_default_template_yaml and utils.py",
                difference: "",
            },
        }
    }

    /// Builds the prompt; the nano variant's choices are in one line, `(a) … (b) …`, as in the published file.
    fn build_prompt(&self, q: &Question, rules: Rules) -> String {
        match (&self.card.source, rules) {
            (None, _) => format!("{}\n{}\n{}", q.question, labelled(&q.options), score::LETTER_LINE),
            (Some(_), Rules::LmmsEval) => {
                format!("{}\n{}\n{}", q.question, lmms::lines(&lmms_options(q.fact("Options"))), score::LETTER_LINE)
            }
            (Some(_), Rules::Official | Rules::Strict) => format!("{} {}", q.question, q.fact("Options")),
            (Some(_), Rules::Cambrian1) => cambrian::options_prompt(q, score::LETTER_LINE),
        }
    }

    fn verdict(&self, q: &Question, answer: &str, rules: Rules) -> AnswerScore {
        if rules == Rules::Cambrian1 {
            return judge_as_cambrian(q, answer);
        }
        if rules == Rules::LmmsEval {
            return score::judge_choice_letter(q, lmms_letter(&lmms::cleaned(answer)));
        }
        let judged = score::judge_letter(q, answer);
        AnswerScore { parsed: judged.parsed.map(|l| format!("({})", l.to_lowercase())), ..judged }
    }

    fn items(&self, qs: &[Question], p: &[f64], _: Rules) -> Result<Vec<ScoredItem>> {
        Ok(score::pairs(qs, p, |q| &q.unit)?.into_iter().map(|(q, [a, b])| ScoredItem::new(q, a * b)).collect())
    }
}

/// Returns the choices as lmms-eval splits the line: after `(a)` and `(b)`, in either case, up to the next label or
/// parenthesis.
fn lmms_options(line: &str) -> Vec<String> {
    let label = |at: usize| {
        let inner = line.get(at + 1..).filter(|_| line.get(at..).is_some_and(|t| t.starts_with('(')))?;
        inner.chars().next().filter(char::is_ascii_alphabetic)?;
        inner.get(1..)?.strip_prefix(')')
    };
    let mut found = Vec::new();
    for (at, _) in line.match_indices('(') {
        let Some(rest) = label(at) else { continue };
        let end = rest.find('(').unwrap_or(rest.len());
        let text = lmms::trimmed(rest.get(..end).unwrap_or_default());
        // A parenthesis that is not a label ends no choice, so the text before it is dropped.
        let ends = end == rest.len() || label(line.len() - rest.len() + end).is_some();
        if ends && !text.is_empty() {
            found.push(text.to_string());
        }
    }
    found
}

/// Returns the letter that lmms-eval's task finds, A or B in either case: alone or at the beginning; after "answer is"
/// or "option"; any that is followed by a space or the end, also at the end of a word; else the first character.
fn lmms_letter(answer: &str) -> Option<char> {
    let letter = |c: Option<char>| c.map(|c| c.to_ascii_uppercase()).filter(|c| matches!(c, 'A' | 'B'));
    let lead = answer.strip_prefix('(').unwrap_or(answer);
    if let Some(first) = letter(lead.chars().next()) {
        let rest = lead.get(1..).unwrap_or_default();
        let closed = rest.strip_prefix(')').unwrap_or(rest);
        let sign = |t: &str| t.starts_with(|c: char| c == '.' || c.is_whitespace());
        if closed.is_empty() || sign(closed) || sign(rest) {
            return Some(first);
        }
    }
    let low = answer.to_ascii_lowercase();
    let behind = |phrase: &'static [&'static str]| {
        let (head, tail) = phrase.split_first()?;
        low.match_indices(head).find_map(|(at, _)| {
            let mut rest = answer.get(at + head.len()..)?;
            for word in tail {
                let spaced = rest.trim_start();
                let next =
                    spaced.get(..word.len()).filter(|w| w.eq_ignore_ascii_case(word) && spaced.len() < rest.len())?;
                rest = spaced.get(next.len()..)?;
            }
            let spaced = rest.trim_start();
            let inner = spaced.strip_prefix('(').unwrap_or(spaced);
            letter(inner.chars().next()).filter(|_| spaced.len() < rest.len())
        })
    };
    let standing = || {
        answer.char_indices().find_map(|(at, c)| {
            let found = letter(Some(c))?;
            let ends = |t: &str| t.is_empty() || t.starts_with(char::is_whitespace);
            let rest = answer.get(at + 1..)?;
            (ends(rest) || rest.strip_prefix(')').is_some_and(ends)).then_some(found)
        })
    };
    behind(&["answer", "is"])
        .or_else(|| behind(&["option"]))
        .or_else(standing)
        .or_else(|| letter(answer.chars().next()))
}

/// Judges by `cambrian-1` rules: the letter alone, or the text of the choice, against the published label.
fn judge_as_cambrian(q: &Question, answer: &str) -> AnswerScore {
    let said = cambrian::choice(answer, &cambrian::STOPS);
    let options = cambrian_options(q.fact("Options"));
    let right = LABELS.iter().position(|label| *label == q.fact("published"));
    let letter = ('a'..='b').position(|l| said.chars().eq([l]));
    let fits = |i: usize| letter == Some(i) || options.get(i).is_some_and(|text| *text == said);
    match (0..LABELS.len()).any(fits) {
        true => AnswerScore::new(&*said, right.is_some_and(fits)),
        false => AnswerScore::unparsed(),
    }
}
