//! BLINK: fourteen perception tasks, many with several images, with lettered choices in parentheses.
//!
//! Official rules are the part of the authors' script that needs no language model: the letter alone, `B` or `(B)`, or
//! the only choice that occurs as a word `(B)` in the answer or in its last paragraph. The script passes every other
//! answer to a language model; here such an answer is unparsed. The score is the mean of the tasks' accuracies. The
//! prompts of three tasks begin with the authors' disclaimer.
//!
//! Until September 2025 the dataset on the hub paired the answers of Relative_Reflectance with other questions, so that
//! about nine in ten of its labels were wrong (zeyofu/BLINK_Benchmark, issue 13). The authors have replaced them, and
//! VLMEvalKit's edition followed in May 2026 (open-compass/VLMEvalKit, #1539). Data with the old labels are recognised
//! by them ([`OUTDATED`]): official rules then report the task but do not count it. The rules of `cambrian-1` and
//! lmms-eval count it, as the published scores of that time did.
//!
//! `cambrian-1` asks six of the tasks, gives the model only the first image, takes the first word before a full stop,
//! and averages over questions instead of tasks.

use crate::benchmark::read;
use crate::table::{DatasetTable, TableColumns, TableRow};
use crate::{
    AnswerForm, AnswerScore, Benchmark, BenchmarkCard, Category, DatasetSource, LmmsEvalTask, Question, QuestionSet,
    Rules, RulesDescription, ScoredItem, cambrian, labels, lmms, score, vlmevalkit,
};
use burgess_base::Result;
use std::collections::BTreeSet;
use std::path::Path;

/// A benchmark of the BLINK family.
pub struct Blink {
    card: BenchmarkCard<'static>,
}

/// The published validation split, which has one folder per task.
pub static BLINK: Blink = Blink {
    card: BenchmarkCard {
        id: "blink",
        authors: true,
        lmms_eval: Some(LmmsEvalTask { task: "blink", metric: "blink_acc" }),
        category: &Category::VISION_CENTRIC,
        metric: "accuracy, mean of tasks",
        version: "3",
        citation: "Fu et al. 2024, BLINK: Multimodal LLMs Can See but Not Perceive, arXiv:2404.12390",
        form: AnswerForm::Choice,
        max_new_tokens: 128,
        source: Some(DatasetSource {
            repository: "BLINK-Benchmark/BLINK",
            alias: None,
            cambrian_1: true,
            folder: "",
            split: "val",
            questions: 1901,
            licence: "Apache 2.0",
        }),
    },
};

/// The disclaimer with which the prompts of some tasks begin, for models that refuse questions about people.
const DISCLAIMER: &str = "Disclaimer: This is not to make unfair assumptions about the people in the image and you \
    just need to give your assessment on this question. You don't need to identify the real people. You just need to \
    analyze based on the information I gave you.\n\n";

const WITH_DISCLAIMER: [&str; 3] = ["Forensic_Detection", "Jigsaw", "Art_Style"];

/// The six tasks that `cambrian-1` asks.
const CAMBRIAN_TASKS: [&str; 6] =
    ["Counting", "IQ_Test", "Object_Localization", "Relative_Depth", "Relative_Reflectance", "Spatial_Relation"];

/// Name of the fact that holds the whole prompt as published.
const PROMPT: &str = "prompt";

/// The task whose labels were replaced.
const REPLACED_TASK: &str = "Relative_Reflectance";

/// The labels of [`REPLACED_TASK`] in its order before September 2025.
const OUTDATED: &str = "ACBACBCCCBCAABCAABBBABCBBAACCCABCCAABBAABBBCCCCCACBCCCABAABAAAAAAAABCCCBCCAABCBAACBBCCBCCCAACCCC\
    BCBBABBBBCCBBCCABABBCBCCBCBAAACCCBCAAC";

/// Name of the fact that marks a question whose label is one of [`OUTDATED`].
const IS_OUTDATED: &str = "outdated-label";

const IMAGES: [&str; 4] = ["image_1", "image_2", "image_3", "image_4"];

fn question(row: &TableRow) -> Result<Option<Question>> {
    let id = row.text("idx")?;
    Ok(Some(Question {
        row: row.number,
        images: IMAGES.iter().flat_map(|column| row.images(column)).cloned().collect(),
        image_id: id.clone(),
        unit: id.clone(),
        id,
        question: row.text("question")?,
        options: row.choices("choices")?,
        answer: row.text("answer")?,
        subtask: row.text("sub_task")?,
        facts: [(PROMPT.to_string(), row.text("prompt")?)].into(),
        ..Question::default()
    }))
}

/// Marks the questions of [`REPLACED_TASK`] if they have the labels that were replaced. About one in ten of these
/// labels is right by coincidence, so only all of them together show the edition.
fn mark_outdated(questions: &mut [Question]) {
    let replaced = |q: &&mut Question| q.subtask == REPLACED_TASK;
    let labels: String = questions
        .iter()
        .filter(|q| q.subtask == REPLACED_TASK)
        .filter_map(|q| labels::choice_letter(&q.answer))
        .collect();
    if labels == OUTDATED {
        for q in questions.iter_mut().filter(replaced) {
            q.facts.insert(IS_OUTDATED.into(), "yes".into());
        }
    }
}

/// Reads a row of VLMEvalKit's edition, which has one column per choice, and builds the prompt as the authors do.
fn of_vlmevalkit(row: &TableRow) -> Result<Option<Question>> {
    let q = vlmevalkit::question(row)?;
    let choices: Vec<String> = ('A'..='Z').zip(&q.options).map(|(l, o)| format!("({l}) {o}")).collect();
    let prompt = format!("{}\nSelect from the following choices.\n{}\n", q.question, choices.join("\n"));
    Ok(Some(Question { facts: [(PROMPT.to_string(), prompt)].into(), ..q }))
}

/// Returns the letter that the authors' script finds without a language model.
fn found(q: &Question, answer: &str) -> Option<char> {
    let answer = answer.trim();
    let named = |text: &str| -> BTreeSet<char> {
        let words: BTreeSet<&str> = text.split_whitespace().collect();
        ('A'..='E').take(q.options.len()).filter(|l| words.contains(&*format!("({l})"))).collect()
    };
    let alone = ('A'..='E').find(|l| answer == l.to_string() || answer == format!("({l})"));
    if let Some(letter) = alone {
        return cambrian::offered(&letter.to_string(), q);
    }
    let everywhere = named(answer);
    let last = named(answer.rsplit("\n\n").next().unwrap_or_default());
    match (everywhere.len(), last.len()) {
        (_, 1) => last.first().copied(),
        (1, _) => everywhere.first().copied(),
        _ => None,
    }
}

/// Returns the letter among `letters` that lmms-eval's task finds, in either case: alone in a first line of at most
/// four characters; else the last one after "answer"; else the last capital in parentheses; else the first character.
fn lmms_letter(answer: &str, letters: &[char]) -> Option<char> {
    let offered = |c: Option<char>| c.map(|c| c.to_ascii_uppercase()).filter(|c| letters.contains(c));
    let line = lmms::trimmed(answer.split('\n').next().unwrap_or_default());
    if line.chars().count() <= 4 {
        let mut chars = line.strip_prefix('(').unwrap_or(line).chars();
        let letter = offered(chars.next());
        let rest = chars.as_str();
        let rest = rest.strip_prefix(')').unwrap_or(rest);
        let ends = rest.chars().all(|c| c.is_whitespace() || matches!(c, '.' | ':' | ',' | ')'));
        if let Some(letter) = letter.filter(|_| ends) {
            return Some(letter);
        }
    }
    let low = answer.to_ascii_lowercase();
    let behind = |at: usize| {
        let rest = answer.get(at + "answer".len()..)?;
        let plural = rest.strip_prefix(['s', 'S']);
        plural.into_iter().chain([rest]).find_map(|rest| {
            let is = rest.trim_start();
            let is =
                is.get(..2).filter(|w| is.len() < rest.len() && w.eq_ignore_ascii_case("is")).and_then(|_| is.get(2..));
            is.into_iter().chain([rest]).find_map(|rest| {
                let rest = rest.trim_start();
                let rest = rest.strip_prefix([':', '-']).unwrap_or(rest).trim_start();
                let mut chars = rest.strip_prefix('(').unwrap_or(rest).chars();
                let letter = offered(chars.next())?;
                chars.next().is_none_or(|c| !c.is_ascii_alphabetic()).then_some(letter)
            })
        })
    };
    let named = low.match_indices("answer").filter_map(|(at, _)| behind(at)).last();
    let parenthesised = || {
        let at = |(at, _): (usize, &str)| {
            let mut chars = answer.get(at + 1..)?.chars();
            let letter = chars.next().filter(|c| letters.contains(c))?;
            (chars.next() == Some(')')).then_some(letter)
        };
        answer.match_indices('(').rev().find_map(at)
    };
    let first = || offered(answer.trim_start_matches(|c: char| c == '(' || c.is_whitespace()).chars().next());
    named.or_else(parenthesised).or_else(first)
}

impl Benchmark for Blink {
    fn card(&self) -> BenchmarkCard<'_> {
        self.card
    }

    fn metric(&self, rules: Rules) -> &str {
        match rules {
            Rules::Official | Rules::Strict | Rules::LmmsEval => self.card.metric,
            Rules::Cambrian1 => "accuracy over the questions of six tasks",
        }
    }

    fn read_published(&self, data: &Path, source: &DatasetSource<'_>) -> Result<QuestionSet> {
        let mut questions = match vlmevalkit::read(self, data, "BLINK.tsv", of_vlmevalkit) {
            Some(questions) => questions?,
            None => {
                let columns = TableColumns {
                    values: &["idx", "question", "choices", "answer", "sub_task", "prompt"],
                    images: &["image_1", "image_2?", "image_3?", "image_4?"],
                };
                read::published(self, &DatasetTable::folders(data, source.split)?, columns, question)?
            }
        };
        mark_outdated(&mut questions);
        Ok(questions)
    }

    fn explain(&self, rules: Rules) -> RulesDescription<'_> {
        match rules {
            Rules::Official | Rules::Strict => RulesDescription {
                prompt: "The authors' `prompt` as published (question, \"Select from the following choices.\", a \
                    line \"(A) …\" for each choice), with all images; Forensic_Detection, Jigsaw and Art_Style \
                    begin with their disclaimer.",
                scoring: "The letter alone, \"B\" or \"(B)\"; else the one choice that occurs as a word \"(B)\" in \
                    the last paragraph or in the answer. The score is the mean of the tasks' accuracies.",
                source: "the authors' script: zeyofu/BLINK_Benchmark, eval/test_benchmark.py and eval/evaluate.py",
                difference: "The script passes every other answer to a language model; here it is unparsed. Data with \
                    the wrong labels of Relative_Reflectance that the hub had until September 2025 are recognised: \
                    the task is then reported but not counted; download the dataset again.",
            },
            Rules::Cambrian1 => RulesDescription {
                prompt: "The authors' `prompt`, then \"Please answer directly with only the letter of the correct \
                    option and nothing else.\"; the first image only.",
                scoring: "The first word before a full stop, without parentheses, must be the letter. Accuracy over \
                    the questions of six of the tasks.",
                source: "cambrian-mllm/cambrian, eval/eval/blink/blink_test.py",
                difference: "",
            },
            Rules::LmmsEval => RulesDescription {
                prompt: "\"Note: You only need to respond with A, B, … without providing any additional \
                    information.\", then the authors' `prompt`; all images.",
                scoring: "The letter alone in a first line of at most four characters; else the last letter after \
                    \"answer\" or \"answer is\"; else the last capital in parentheses; else the first character, if \
                    it is a letter of a choice in either case. The mean of the tasks' accuracies.",
                source: "lmms-eval 0.7.3, tasks/blink/_default_template_yaml and utils.py, group `blink`",
                difference: "",
            },
        }
    }

    fn build_prompt(&self, q: &Question, rules: Rules) -> String {
        let asked = q.fact(PROMPT);
        match rules {
            Rules::Official if WITH_DISCLAIMER.contains(&&*q.subtask) => format!("{DISCLAIMER}{asked}"),
            Rules::Official | Rules::Strict => asked.to_string(),
            Rules::LmmsEval => {
                let letters: Vec<String> = lmms::labels(q.options.len()).map(String::from).collect();
                format!("{}\n{asked}", lmms::note_line(&letters.join(", ")))
            }
            Rules::Cambrian1 => format!("{asked}\n{}", cambrian::ONLY_LETTER_LINE),
        }
    }

    fn verdict(&self, q: &Question, answer: &str, rules: Rules) -> AnswerScore {
        let said = match rules {
            Rules::LmmsEval => {
                let letters: Vec<char> = lmms::labels(q.options.len()).collect();
                return score::judge_choice_letter(q, lmms_letter(&lmms::cleaned(answer), &letters));
            }
            Rules::Official | Rules::Strict => found(q, answer),
            Rules::Cambrian1 => {
                let sentence = answer.split('.').next().unwrap_or_default().to_lowercase();
                let word = sentence.trim().split(' ').next().unwrap_or_default();
                cambrian::offered(word.trim_start_matches('(').trim_end_matches(')'), q)
            }
        };
        score::judge_choice_letter(q, said)
    }

    fn items(&self, qs: &[Question], p: &[f64], rules: Rules) -> Result<Vec<ScoredItem>> {
        let counted = |q: &Question| match rules {
            Rules::Official | Rules::Strict => q.fact(IS_OUTDATED).is_empty(),
            Rules::Cambrian1 => CAMBRIAN_TASKS.contains(&&*q.subtask),
            Rules::LmmsEval => true,
        };
        let item = |(q, p): (&Question, &f64)| ScoredItem { counted: counted(q), ..ScoredItem::new(q, *p) };
        let mut items: Vec<ScoredItem> = qs.iter().zip(p).map(item).collect();
        if rules != Rules::Cambrian1 {
            score::equal_subtasks(&mut items);
        }
        Ok(items)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::AnswerScore;

    fn scored(labels: &str, rules: Rules) -> f64 {
        let reflectance = labels.chars().map(|l| (REPLACED_TASK, l, 1.0));
        let tasks = reflectance.chain([("Counting", 'A', 0.0), ("Counting", 'B', 1.0)]);
        let (mut questions, verdicts): (Vec<Question>, Vec<AnswerScore>) = tasks
            .enumerate()
            .map(|(i, (task, label, score))| {
                let q = Question {
                    id: i.to_string(),
                    unit: i.to_string(),
                    answer: format!("({label})"),
                    subtask: task.into(),
                    ..Question::default()
                };
                (q, AnswerScore { parsed: Some("A".into()), score })
            })
            .unzip();
        mark_outdated(&mut questions);
        BLINK.aggregate(&questions, &verdicts, rules).map_or(f64::NAN, |outcome| outcome.score)
    }

    #[test]
    fn a_task_with_wrong_labels_does_not_count() {
        assert_eq!(OUTDATED.len(), 134);
        let near = |score: f64, expected: f64| assert!((score - expected).abs() < 1e-9, "{score}");
        near(scored(OUTDATED, Rules::Official), 50.0);
        for rules in [Rules::Cambrian1, Rules::LmmsEval] {
            assert!(scored(OUTDATED, rules) > 70.0, "{rules:?}");
        }
        let corrected = OUTDATED.replacen('A', "B", 1);
        near(scored(&corrected, Rules::Official), 75.0);
        near(scored(&OUTDATED[1..], Rules::Official), 75.0);
    }
}
