//! MMBench: lettered choices, where each question is asked as many times as it has choices, with the choices rotated. A
//! question is right only if all its rotations are (CircularEval). English and Chinese dev splits.
//!
//! Rotations of a question have the same index modulo 1,000,000. Official prompt and matching are those of the authors'
//! toolkit (VLMEvalKit, `matching_util.py`): one letter among the last words; else the letter after "answer is", so
//! that "the answer is a dog" is A; else the text of exactly one choice within a short answer. The toolkit passes every
//! other answer to a language model; here it is unparsed, as in the toolkit's `exact_matching`.
//!
//! `cambrian-1` takes the first character after "answer is" or "answer:" in an English answer and the first word of a
//! Chinese one, and groups rotations by category, question, image and source.
//!
//! lmms-eval uses an older version of the toolkit's matching. Its English task has a variant without GPT
//! (`mmbench_en_dev_static`), which passes unmatched answers to its shared parser. Its Chinese task asks GPT; here such
//! answers are unparsed.

use crate::benchmark::read;
use crate::table::{DatasetTable, TableColumns, TableRow};
use crate::{
    AnswerForm, AnswerScore, Benchmark, BenchmarkCard, BenchmarkOutcome, Category, DatasetSource, ImageLocation,
    LmmsEvalTask, Question, QuestionSet, Rules, RulesDescription, ScoredItem, cambrian, lmms, read_images, score,
    vlmevalkit,
};
use burgess_base::{Error, Result};
use std::collections::BTreeMap;
use std::path::Path;

/// A benchmark of the MMBench family.
pub struct MmBench {
    card: BenchmarkCard<'static>,
    /// Whether questions and prompts are in Chinese.
    chinese: bool,
    /// File name of VLMEvalKit's edition.
    tsv: &'static str,
}

const CITATION: &str = "Liu et al. 2023, MMBench: Is Your Multi-modal Model an All-around Player?, arXiv:2307.06281";

/// The English dev split, in the edition that `cambrian-1` uses.
pub static MMBENCH_EN: MmBench = MmBench {
    card: card(
        "mmbench-en",
        "2",
        Some(LmmsEvalTask { task: "mmbench_en_dev_static", metric: "gpt_eval_score" }),
        DatasetSource { questions: 4377, ..source("lmms-lab/MMBench_EN", true) },
    ),
    chinese: false,
    tsv: "MMBench_DEV_EN.tsv",
};

/// The Chinese dev split.
pub static MMBENCH_CN: MmBench = MmBench {
    card: card(
        "mmbench-cn",
        "2",
        Some(LmmsEvalTask { task: "mmbench_cn_dev", metric: "gpt_eval_score" }),
        DatasetSource { questions: 4329, ..source("lmms-lab/MMBench_CN", true) },
    ),
    chinese: true,
    tsv: "MMBench_DEV_CN.tsv",
};

/// The English dev split of version 1.1, which its authors corrected and pruned; only VLMEvalKit publishes it.
pub static MMBENCH_V11_EN: MmBench = MmBench {
    card: card(
        "mmbench-v11-en",
        "1",
        None,
        source("https://opencompass.openxlab.space/utils/benchmarks/MMBench/MMBench_DEV_EN_V11.tsv", false),
    ),
    chinese: false,
    tsv: "MMBench_DEV_EN_V11.tsv",
};

/// The Chinese dev split of version 1.1, which its authors corrected and pruned; only VLMEvalKit publishes it.
pub static MMBENCH_V11_CN: MmBench = MmBench {
    card: card(
        "mmbench-v11-cn",
        "1",
        None,
        source("https://opencompass.openxlab.space/utils/benchmarks/MMBench/MMBench_DEV_CN_V11.tsv", false),
    ),
    chinese: true,
    tsv: "MMBench_DEV_CN_V11.tsv",
};

/// A dev split; the number of its questions is not stated.
const fn source(repository: &'static str, cambrian_1: bool) -> DatasetSource<'static> {
    DatasetSource {
        repository,
        alias: None,
        cambrian_1,
        folder: "",
        split: "dev",
        questions: 0,
        licence: "Apache 2.0 (annotations; the images belong to their makers)",
    }
}

const fn card(
    id: &'static str,
    version: &'static str,
    lmms_eval: Option<LmmsEvalTask<'static>>,
    source: DatasetSource<'static>,
) -> BenchmarkCard<'static> {
    BenchmarkCard {
        id,
        authors: true,
        lmms_eval,
        category: &Category::GENERAL,
        metric: "CircularEval accuracy",
        version,
        citation: CITATION,
        form: AnswerForm::Choice,
        max_new_tokens: 128,
        source: Some(source),
    }
}

/// The line with which `cambrian-1` asks for a letter in Chinese.
const CHINESE_LINE: &str = "请直接回答选项字母。";

/// Modulus of the index that rotations of one question share.
const ROTATION: i64 = 1_000_000;

/// Name of the fact (an additional value of a [`Question`]) that identifies its group of rotations.
const GROUP: &str = "group";
/// Name of the fact that is `true` for the first rotation of a group.
const MAIN: &str = "main";
/// Name of the fact that identifies the group under `cambrian-1` rules.
const CAMBRIAN_GROUP: &str = "study-group";
/// Name of the fact that lists those of the columns `hint` and `A` to `D` whose text is `nan`, which lmms-eval does not
/// treat as empty.
const NAN: &str = "nan";
/// The line with which lmms-eval asks for a letter in Chinese.
const LMMS_CHINESE_LINE: &str = "请直接使用所提供的选项字母作为答案回答。";

/// Number of images that are held in memory while groups are compared for `cambrian-1` rules.
const IMAGES: usize = 256;

/// Reads a question, which is one rotation, from a row of either edition.
fn question(row: &TableRow) -> Result<Option<Question>> {
    let index = row.int("index")?;
    let group = index.rem_euclid(ROTATION).to_string();
    let facts = [
        (GROUP, group.clone()),
        (MAIN, (index < ROTATION).to_string()),
        ("source", vlmevalkit::present(row, "source").unwrap_or_default()),
    ];
    let nan =
        ["hint", "A", "B", "C", "D"].into_iter().filter(|c| row.maybe(c).is_some_and(|text| text.trim() == "nan"));
    let nan: Vec<&str> = nan.collect();
    let mut facts: BTreeMap<String, String> = facts.map(|(name, value)| (name.to_string(), value)).into();
    if !nan.is_empty() {
        facts.insert(NAN.into(), nan.join(","));
    }
    Ok(Some(Question { id: index.to_string(), unit: group, facts, ..vlmevalkit::question(row)? }))
}

/// Adds to each question its group under `cambrian-1` rules: the first group among those with the same category,
/// question, source and image. Images are compared by a hash of their bytes, and only where the other values are equal.
fn add_cambrian_groups(questions: &mut [Question]) {
    let key = |q: &Question| (q.subtask.clone(), q.question.clone(), q.fact("source").to_string());
    let mut alike: BTreeMap<_, BTreeMap<String, Option<&ImageLocation>>> = BTreeMap::new();
    for q in questions.iter() {
        alike.entry(key(q)).or_default().entry(q.fact(GROUP).to_string()).or_insert(q.images.first());
    }
    let mut first_of: BTreeMap<String, String> = BTreeMap::new();
    let mut compared: Vec<(usize, &String, &ImageLocation)> = Vec::new();
    for (number, groups) in alike.values().enumerate() {
        match groups.len() {
            1 => first_of.extend(groups.keys().map(|group| (group.clone(), group.clone()))),
            _ => compared.extend(groups.iter().filter_map(|(group, p)| p.map(|p| (number, group, p)))),
        }
    }
    let mut seen: BTreeMap<(usize, u64), String> = BTreeMap::new();
    for part in compared.chunks(IMAGES) {
        let images: Vec<&ImageLocation> = part.iter().map(|(_, _, image)| *image).collect();
        for ((number, group, _), bytes) in part.iter().zip(read_images(&images)) {
            // If an image cannot be read, its group stays unset, and scoring by `cambrian-1` rules reports it.
            if let Ok(bytes) = bytes {
                let first = seen.entry((*number, hash(&bytes))).or_insert_with(|| (*group).clone());
                first_of.insert((*group).clone(), first.clone());
            }
        }
    }
    for q in questions {
        if let Some(first) = first_of.get(q.fact(GROUP)).cloned() {
            q.facts.insert(CAMBRIAN_GROUP.to_string(), first);
        }
    }
}

/// Computes the 64-bit FNV-1a hash.
fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3))
}

/// Returns the letter that lmms-eval's evaluator finds without asking GPT: one letter from A to E that is a word by
/// itself or has certain characters around it; else the only choice whose text is contained.
fn prefetched(answer: &str, choices: &[(char, String)]) -> Option<char> {
    let words: Vec<&str> = answer.split_whitespace().collect();
    let named = |before: &str, after: &str| -> Vec<char> {
        ('A'..='E').filter(|l| words.contains(&format!("{before}{l}{after}").as_str())).collect()
    };
    if !answer.contains("Failed to obtain answer via API") {
        // An A among more than three words may be an article.
        let article = words.contains(&"A") && words.len() > 3;
        let forms = [
            ("", ""),
            ("", "."),
            ("", ","),
            ("", ":"),
            ("", ")"),
            ("", ")."),
            ("(", ")"),
            ("(", ")."),
            (":", ""),
            (":", ","),
            (":", "."),
            (":", ")"),
            (":", ")."),
        ];
        for (before, after) in forms {
            let bare = before.is_empty() && after.is_empty();
            match named(before, after).as_slice() {
                [letter] if !(bare && article) => return Some(*letter),
                _ => {}
            }
        }
    }
    let low = answer.to_lowercase();
    let mut contained = choices.iter().filter(|(_, option)| low.contains(option)).map(|(letter, _)| *letter);
    match (contained.next(), contained.next()) {
        (Some(letter), None) => Some(letter),
        _ => None,
    }
}

impl MmBench {
    /// Returns the letter that lmms-eval's evaluator finds without GPT.
    fn lmms_letter(&self, q: &Question, answer: &str) -> Option<char> {
        let nan = q.fact(NAN);
        // Missing choices have the text `nan`.
        let missing = ('A'..='D').skip(q.options.len()).filter(|l| nan.split(',').any(|c| c.chars().eq([*l])));
        let choices: Vec<(char, String)> = ('A'..='D')
            .zip(q.options.iter().map(|o| o.to_lowercase()))
            .chain(missing.map(|l| (l, NAN.to_string())))
            .collect();
        prefetched(answer, &choices).or_else(|| {
            let letters: Vec<char> = choices.iter().map(|(l, _)| *l).collect();
            if self.chinese { None } else { lmms::extracted(answer, &letters) }
        })
    }
}

impl Benchmark for MmBench {
    fn card(&self) -> BenchmarkCard<'_> {
        self.card
    }

    fn read_published(&self, data: &Path, source: &DatasetSource<'_>) -> Result<QuestionSet> {
        let mut questions = match vlmevalkit::table(data, self.tsv) {
            Some(table) => read::published(self, &table, vlmevalkit::COLUMNS, question)?,
            None => {
                let columns = TableColumns {
                    values: &["index", "question", "hint?", "A", "B", "C", "D", "answer", "category", "source"],
                    images: &["image"],
                };
                read::published(self, &DatasetTable::open(data, source)?, columns, question)?
            }
        };
        add_cambrian_groups(&mut questions);
        Ok(questions)
    }

    fn metric(&self, rules: Rules) -> &str {
        match rules {
            Rules::LmmsEval if self.chinese => "CircularEval accuracy, without what lmms-eval asks GPT for",
            _ => self.card.metric,
        }
    }

    /// Returns the score as a percentage, as lmms-eval prints it.
    fn lmms_eval_numbers(&self, _: &[Question], _: &[AnswerScore], outcome: &BenchmarkOutcome) -> Vec<(String, f64)> {
        vec![("gpt_eval_score".into(), outcome.score)]
    }

    fn explain(&self, rules: Rules) -> RulesDescription<'_> {
        match rules {
            Rules::Official | Rules::Strict => RulesDescription {
                prompt: "\"Hint: …\" where there is one, \"Question: …\", \"Options:\" with a line \"A. …\" \
                    for each, \"Please select the correct answer from the options above.\"",
                scoring: "One letter among the last five words; else the letter after \"answer is\", by which \"the \
                    answer is a dog\" is A; else the text of exactly one choice in a short answer. A question is \
                    right if all its rotations are (CircularEval).",
                source: "the authors' toolkit: open-compass/VLMEvalKit, vlmeval/utils/matching_util.py \
                    (exact_matching) and vlmeval/dataset/image_mcq.py",
                difference: "",
            },
            Rules::Cambrian1 => RulesDescription {
                prompt: match self.chinese {
                    true => "Hint, question, \" Options:\" with a line for each, \"请直接回答选项字母。\"",
                    false => {
                        "Hint, question, \" Options:\" with a line for each, \"Answer with the option's letter from \
                            the given choices directly.\""
                    }
                },
                scoring: match self.chinese {
                    true => {
                        "The first word must be the letter. Questions with the same category, text, image and source \
                            are rotations of one question; all must be right."
                    }
                    false => {
                        "The first character after the last \"answer is\" or \"answer:\" is the letter. Questions \
                            with the same category, text, image and source are rotations of one question; all must \
                            be right."
                    }
                },
                source: match self.chinese {
                    true => "cambrian-mllm/cambrian, eval/eval/mmbench_cn/mmbench_cn_test.py",
                    false => "cambrian-mllm/cambrian, eval/eval/mmbench_en/mmbench_en_test.py",
                },
                difference: "",
            },
            Rules::LmmsEval => RulesDescription {
                prompt: match self.chinese {
                    true => {
                        "Hint, question, \"There are several options:\" with a line for each, an empty line, \
                            \"请直接使用所提供的选项字母作为答案回答。\""
                    }
                    false => {
                        "Hint, question, \"There are several options:\" with a line for each, an empty line, \
                            \"Answer with the option's letter from the given choices directly.\""
                    }
                },
                scoring: match self.chinese {
                    true => {
                        "One letter that is a word by itself (but not an A among more than three words) or has . , : \
                            ) ( around it; else the text of exactly one choice. All rotations must be right."
                    }
                    false => {
                        "One letter that is a word by itself (but not an A among more than three words) or has . , : \
                            ) ( around it; else the text of exactly one choice; else what its shared parser \
                            mcq_extract.py finds. All rotations must be right."
                    }
                },
                source: match self.chinese {
                    true => "lmms-eval 0.7.3, tasks/mmbench/mmbench_cn_dev.yaml, cn_utils.py and mmbench_evals.py",
                    false => {
                        "lmms-eval 0.7.3, tasks/mmbench/mmbench_en_dev_static.yaml, en_utils.py and mmbench_evals.py"
                    }
                },
                difference: match self.chinese {
                    true => {
                        "Answers that these rules do not decide are passed to GPT by its task; here they are \
                            unparsed. Its full number needs a run of lmms-eval with an API key."
                    }
                    false => {
                        "Its task mmbench_en_dev asks GPT instead of using the shared parser; the static task, which \
                            is followed here, does not."
                    }
                },
            },
        }
    }

    /// Returns the rotation group, whose questions are scored together, because a question with fewer of them would be
    /// easier.
    fn scored_together(&self, row: &TableRow) -> Option<String> {
        row.int("index").ok().map(|index| index.rem_euclid(ROTATION).to_string())
    }

    fn build_prompt(&self, q: &Question, rules: Rules) -> String {
        match rules {
            Rules::LmmsEval => {
                let hint = match &q.context {
                    Some(hint) => format!("{hint} "),
                    None if self.chinese && q.fact(NAN).split(',').any(|c| c == "hint") => "nan ".into(),
                    None => String::new(),
                };
                let line = if self.chinese { LMMS_CHINESE_LINE } else { score::LETTER_LINE };
                format!("{hint}{} There are several options:{}\n\n{line}", q.question, cambrian::choices(&q.options))
            }
            Rules::Official | Rules::Strict => {
                let hint = q.context.as_ref().map_or_else(String::new, |hint| format!("Hint: {hint}\n"));
                format!(
                    "{hint}Question: {}\nOptions:{}\nPlease select the correct answer from the options above. \n",
                    q.question,
                    cambrian::choices(&q.options)
                )
            }
            Rules::Cambrian1 => {
                let hint = q.context.as_ref().map_or_else(String::new, |hint| format!("{hint}\n"));
                let line = if self.chinese { CHINESE_LINE } else { score::LETTER_LINE };
                format!("{hint}{}", cambrian::options_prompt(q, line))
            }
        }
    }

    fn verdict(&self, q: &Question, answer: &str, rules: Rules) -> AnswerScore {
        match rules {
            Rules::Official | Rules::Strict => {
                score::judge_choice_letter(q, vlmevalkit::matched(answer.trim(), &q.options))
            }
            Rules::LmmsEval => score::judge_choice_letter(q, self.lmms_letter(q, &lmms::cleaned(answer))),
            Rules::Cambrian1 if self.chinese => cambrian::judge_first_word(q, answer),
            Rules::Cambrian1 => cambrian::judge_first_character(q, answer, &cambrian::STOPS),
        }
    }

    fn items(&self, qs: &[Question], p: &[f64], rules: Rules) -> Result<Vec<ScoredItem>> {
        let mut groups: BTreeMap<&str, (&Question, f64, bool)> = BTreeMap::new();
        for (q, p) in qs.iter().zip(p) {
            let group = match rules {
                Rules::Official | Rules::Strict | Rules::LmmsEval => q.fact(GROUP),
                Rules::Cambrian1 => q.fact(CAMBRIAN_GROUP),
            };
            if group.is_empty() {
                return Err(Error::failed(format!("the rotation group of question `{}` is unknown", q.id)).hint(
                    "the `cambrian-1` rules group rotations by their images: download the edition with the \
                        images inside",
                ));
            }
            let (_, all, complete) = groups.entry(group).or_insert((q, 1.0, false));
            *all *= p;
            *complete |= q.fact(MAIN) == "true";
        }
        let item = |(group, (q, all, complete)): (&str, (&Question, f64, bool))| match complete {
            true => Ok(ScoredItem::new(q, all)),
            false => Err(Error::failed(format!("the first rotation of question `{group}` is missing"))
                .hint("keep or drop all rotations of a question")),
        };
        groups.into_iter().map(item).collect()
    }
}
