//! Open questions about images with reference answers, scored by the words that an answer shares with a reference: no
//! language model judges.
//!
//! `conversation` reads one's own questions ([`read_own`]), `nano-conversation` those of the nano world;
//! `llava-bench-wild` and `llava-bench-coco` read LLaVA-Bench as its authors publish it (`questions.jsonl` and the
//! like), as lmms-eval does (parquet on the hub), and as VLMEvalKit does (`LLaVABench.tsv`).
//!
//! **Score.** 100 · mean over the questions of the F1 of content words ([`ContentWords`]) of the answer with the
//! nearest reference. The reference itself scores 100; one word scores little, because its recall is low; a long answer
//! about something else scores little, because its precision is low, and so does one that repeats itself. An overlap of
//! words does not know whether a sentence is true. Chance is the mean score of answering with the reference of another
//! question about another image.
//!
//! The authors let GPT-4 compare two answers; see the option of a judge in `burgess eval`. These benchmarks form the
//! category `Conversation`, which is not part of the average.

use crate::benchmark::read::{self, for_each_object};
use crate::json_value::describe;
use crate::overlap::{ContentWords, Overlap, rouge_l};
use crate::table::{DatasetTable, TableColumns, TableRow, is_there};
use crate::{
    AnswerForm, AnswerScore, Benchmark, BenchmarkCard, Category, DatasetSource, ImageLocation, Question, QuestionSet,
    Rules, RulesDescription, vlmevalkit,
};
use burgess_base::{Error, Result, answer_text};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

/// A benchmark of open questions with reference answers.
pub struct Conversation {
    card: BenchmarkCard<'static>,
    /// Files and folders of the authors' edition; `None` for one's own questions.
    authors: Option<AuthorsEdition>,
    /// File name of VLMEvalKit's edition; empty if there is none.
    vlmevalkit_tsv: &'static str,
}

/// The files of LLaVA-Bench as its authors publish it.
struct AuthorsEdition {
    /// Questions: `question_id`, `image`, `text`, `category`.
    questions: &'static str,
    /// GPT-4's answers: `question_id`, `text`.
    answers: &'static str,
    /// Descriptions of the images: `image`, and `caption` or `captions`.
    context: &'static str,
    /// Folders in which the images may lie.
    folders: &'static [&'static str],
    /// What may stand before an image's name.
    prefixes: &'static [&'static str],
}

/// The publication that made the overlap of words a metric of answers.
const WORD_OVERLAP: &str = "the F1 of words is that of Rajpurkar et al. 2016, SQuAD, arXiv:1606.05250";

/// One's own questions.
pub static CONVERSATION: Conversation =
    Conversation { card: card("conversation", WORD_OVERLAP, None), authors: None, vlmevalkit_tsv: "" };

/// The nano world's requests for captions.
pub static NANO_CONVERSATION: Conversation = Conversation {
    card: BenchmarkCard { max_new_tokens: 64, ..card("nano-conversation", WORD_OVERLAP, None) },
    authors: None,
    vlmevalkit_tsv: "",
};

/// LLaVA-Bench (In-the-Wild): 60 questions about 24 images.
pub static LLAVA_BENCH_WILD: Conversation = Conversation {
    card: card(
        "llava-bench-wild",
        "Liu et al. 2023, Visual Instruction Tuning, arXiv:2304.08485, LLaVA-Bench (In-the-Wild)",
        Some(DatasetSource {
            repository: "lmms-lab/llava-bench-in-the-wild",
            alias: Some("lmms-lab-encoder/llava-bench-in-the-wild"),
            cambrian_1: false,
            folder: "",
            split: "train",
            questions: 60,
            licence: "see the card of the authors' dataset, liuhaotian/llava-bench-in-the-wild",
        }),
    ),
    authors: Some(AuthorsEdition {
        questions: "questions.jsonl",
        answers: "answers_gpt4.jsonl",
        context: "context.jsonl",
        folders: &["images", ""],
        prefixes: &[""],
    }),
    vlmevalkit_tsv: "LLaVABench.tsv",
};

/// LLaVA-Bench (COCO): 90 questions about 30 images of COCO's validation split of 2014.
pub static LLAVA_BENCH_COCO: Conversation = Conversation {
    card: card(
        "llava-bench-coco",
        "Liu et al. 2023, Visual Instruction Tuning, arXiv:2304.08485, LLaVA-Bench (COCO)",
        Some(DatasetSource {
            repository: "lmms-lab/llava-bench-coco",
            alias: Some("lmms-lab-encoder/llava-bench-coco"),
            cambrian_1: false,
            folder: "",
            split: "train",
            questions: 90,
            licence: "COCO's terms for the images; none stated for the questions",
        }),
    ),
    authors: Some(AuthorsEdition {
        questions: "qa90_questions.jsonl",
        answers: "qa90_gpt4_answer.jsonl",
        context: "caps_boxes_coco2014_val_80.jsonl",
        folders: &["images", "val2014", "coco2014_val", ""],
        prefixes: &["", "COCO_val2014_"],
    }),
    vlmevalkit_tsv: "",
};

const fn card(
    id: &'static str,
    citation: &'static str,
    source: Option<DatasetSource<'static>>,
) -> BenchmarkCard<'static> {
    BenchmarkCard {
        id,
        authors: false,
        lmms_eval: None,
        category: &Category::CONVERSATION,
        metric: "F1 of content words",
        version: "1",
        citation,
        form: AnswerForm::Open,
        max_new_tokens: 512,
        source,
    }
}

/// Number of other questions, at most, whose references are tried for chance.
const OTHERS: usize = 64;

/// Returns the overlap with the reference that gives the largest F1.
fn best(answer: &str, q: &Question, of: impl Fn(&str, &str) -> Overlap) -> Overlap {
    let overlaps = q.accepted_answers().iter().map(|reference| of(answer, reference));
    overlaps.max_by(|a, b| a.f1.total_cmp(&b.f1)).unwrap_or_default()
}

fn content(answer: &str, reference: &str) -> Overlap {
    ContentWords::of(answer).overlap(&ContentWords::of(reference))
}

impl Conversation {
    /// Opens an edition in `data` and reads its questions.
    fn read_edition(&self, data: &Path, source: &DatasetSource<'_>) -> Result<QuestionSet> {
        if let Some(edition) = self.authors.as_ref().filter(|e| is_there(&data.join(e.questions))) {
            return self.read_authors(data, edition);
        }
        if let Some(table) = vlmevalkit::table(data, self.vlmevalkit_tsv) {
            let values = ["index", "question", "gpt4_ans", "caption?", "category?"];
            return read::published(self, &table, TableColumns { values: &values, images: &["image"] }, |row| {
                table_question(row, "index", &["gpt4_ans"]).map(Some)
            });
        }
        let table = DatasetTable::open(data, source)?;
        let values = ["question_id", "question", "gpt_answer?", "answer?", "caption?", "category?", "image_id?"];
        read::published(self, &table, TableColumns { values: &values, images: &["image"] }, |row| {
            table_question(row, "question_id", &["gpt_answer", "answer"]).map(Some)
        })
    }

    /// Reads the authors' files: the questions, GPT-4's answers, and the descriptions of the images if they are there.
    fn read_authors(&self, data: &Path, edition: &AuthorsEdition) -> Result<QuestionSet> {
        let answers = by_key(&data.join(edition.answers), "question_id", &["text"])?;
        let context = data.join(edition.context);
        let captions =
            if is_there(&context) { by_key(&context, "image", &["caption", "captions"])? } else { HashMap::new() };
        let table = DatasetTable::named(data, &[edition.questions])?;
        let values = ["question_id", "text", "image", "category?"];
        read::published(self, &table, TableColumns { values: &values, images: &[] }, |row| {
            let (id, image) = (row.text("question_id")?, row.text("image")?);
            let reference = answers.get(&id).ok_or_else(|| {
                Error::failed(format!("{} holds no answer to the question", edition.answers))
                    .hint("questions and answers must be of the same edition")
            })?;
            let path = image_path(data, edition, &image)?;
            Ok(Some(question(row, id, image.clone(), path, row.text("text")?, reference.clone(), {
                captions.get(&image).cloned()
            })))
        })
    }
}

/// Returns the question of a row of a table that holds its image; the reference is in the first of the columns that is
/// not empty.
fn table_question(row: &TableRow, id: &str, answers: &[&str]) -> Result<Question> {
    let reference = answers.iter().find_map(|column| row.maybe(column)).ok_or_else(|| {
        Error::failed(format!("the column `{}` is empty", answers.join("` or `")))
            .hint("this column holds the reference answer")
    })?;
    let image = row.image("image")?;
    // The caption is a text, or a list of texts.
    let caption = match row.value("caption") {
        Some(Value::Array(_)) => Some(row.list("caption")?.join("\n")),
        _ => row.maybe("caption"),
    };
    let (id, text) = (row.text(id)?, row.text("question")?);
    let image_id = row.maybe("image_id").unwrap_or_else(|| shared_image_name(row, &image));
    Ok(question(row, id, image_id, image, text, reference, caption))
}

/// Returns a name by which questions about the same image are recognised: tables repeat the image in every row, so that
/// only its description tells that it is the same.
fn shared_image_name(row: &TableRow, image: &ImageLocation) -> String {
    let described = match row.value("caption") {
        Some(Value::Array(_)) => row.list("caption").ok().map(|all| all.join("\n")),
        _ => row.maybe("caption"),
    };
    described.map_or_else(|| image.name_in_table(), |text| burgess_base::digest::of_bytes(text.as_bytes()))
}

fn question(
    row: &TableRow,
    id: String,
    image_id: String,
    image: ImageLocation,
    text: String,
    reference: String,
    context: Option<String>,
) -> Question {
    Question {
        id,
        row: row.number,
        images: vec![image],
        unit: image_id.clone(),
        image_id,
        question: text,
        context,
        answer: reference.clone(),
        accepted: vec![reference],
        subtask: row.maybe("category").unwrap_or_else(|| "all".into()),
        ..Question::default()
    }
}

/// Finds the file of an image in the folders of an edition.
fn image_path(data: &Path, edition: &AuthorsEdition, image: &str) -> Result<ImageLocation> {
    let places = edition.folders.iter().flat_map(|folder| {
        edition.prefixes.iter().map(move |prefix| data.join(folder).join(format!("{prefix}{image}")))
    });
    places.into_iter().find(|path| path.is_file()).map(ImageLocation::File).ok_or_else(|| {
        let folders: Vec<String> = edition.folders.iter().map(|f| data.join(f).display().to_string()).collect();
        Error::failed("the image file is missing")
            .hint(format!("copy or link the images into one of these folders: {}", folders.join(", ")))
    })
}

/// Reads a file of JSON lines as texts by key; the text is in the first of `fields` that is there, and a list of texts
/// is joined by line breaks.
fn by_key(path: &Path, key: &str, fields: &[&str]) -> Result<HashMap<String, String>> {
    let mut found = HashMap::new();
    for_each_object(path, |_, object| {
        let key = match object.get(key) {
            Some(Value::String(key)) => key.clone(),
            Some(Value::Number(key)) => key.to_string(),
            other => return Err(expected(key, "a text or a number", other)),
        };
        let value = fields.iter().find_map(|field| object.get(*field));
        let text = match value {
            Some(Value::String(text)) => text.clone(),
            Some(Value::Array(list)) => {
                let texts: Option<Vec<&str>> = list.iter().map(Value::as_str).collect();
                texts.ok_or_else(|| expected(fields.join("` or `").as_str(), "a list of texts", value))?.join("\n")
            }
            _ => return Err(expected(fields.join("` or `").as_str(), "a text", value)),
        };
        found.entry(key).or_insert(text);
        Ok(())
    })?;
    Ok(found)
}

fn expected(field: &str, what: &str, found: Option<&Value>) -> Error {
    Error::failed(match found {
        Some(value) => format!("field `{field}` must be {what}, found {}", describe(value)),
        None => format!("field `{field}` is missing"),
    })
}

const FIELDS: [&str; 9] = ["id", "image", "image_id", "question", "answer", "answers", "context", "subtask", "unit"];

/// Reads one's own questions: one JSON object per line.
///
/// ```json
/// {"id": "7", "image": "images/7.png", "question": "Why is the road closed?",
///  "answers": ["A tree has fallen on it.", "Because a fallen tree blocks it."]}
/// ```
///
/// `answer` may stand for a list of one. Optional: `image` may be a list of paths or null; `image_id` (default: the
/// image), `subtask` (default `all`), `unit` (default: `image_id`), and `context`, a description of the image for a
/// judge. Paths are relative to `data`.
fn read_own(path: &Path, data: &Path) -> Result<Vec<Question>> {
    let mut questions: Vec<Question> = Vec::new();
    let mut lines: HashMap<String, usize> = HashMap::new();
    for_each_object(path, |line, object| {
        let question = own_question(object, data, line)?;
        if let Some(first) = lines.insert(question.id.clone(), line) {
            return Err(Error::failed(format!("field `id`: `{}` is already on line {first}", question.id)));
        }
        questions.push(question);
        Ok(())
    })?;
    if questions.is_empty() {
        return Err(Error::failed(format!("{} holds no questions", path.display())).hint(OWN_HINT));
    }
    read::check_images(path, &questions)?;
    Ok(questions)
}

const OWN_HINT: &str = "write one object per line: {\"id\": …, \"image\": …, \"question\": …, \"answers\": [\"…\", …]}";

fn own_question(object: &Map<String, Value>, data: &Path, line: usize) -> Result<Question> {
    if let Some(unknown) = object.keys().find(|k| !FIELDS.contains(&k.as_str())) {
        let message = format!("field `{unknown}` is unknown");
        return Err(Error::failed(message).hint(format!("the fields are {}", FIELDS.join(", "))));
    }
    let optional = |field: &str| match object.get(field) {
        None | Some(Value::Null) => Ok(None),
        Some(_) => read::text(object, field).map(|text| Some(text.to_string())),
    };
    let listed = |field: &str| -> Result<Vec<String>> {
        match object.get(field) {
            Some(Value::Array(list)) => list
                .iter()
                .map(|item| match item {
                    Value::String(text) if !text.trim().is_empty() => Ok(text.clone()),
                    other => Err(expected(field, "a list of texts that are not blank", Some(other))),
                })
                .collect(),
            None | Some(Value::Null) => Ok(Vec::new()),
            Some(_) => read::text(object, field).map(|text| vec![text.to_string()]),
        }
    };
    let accepted = match (object.contains_key("answer"), object.contains_key("answers")) {
        (true, true) => return Err(Error::failed("fields `answer` and `answers` are both given: give one of them")),
        (true, false) => vec![read::text(object, "answer")?.to_string()],
        (false, _) => listed("answers")?,
    };
    let Some(answer) = accepted.first().cloned() else {
        return Err(Error::failed("field `answers` is missing or empty").hint(OWN_HINT));
    };
    let images = listed("image")?;
    let image_id = match optional("image_id")? {
        Some(id) => id,
        None => images.first().cloned().unwrap_or_else(|| format!("line {line}")),
    };
    Ok(Question {
        id: read::text(object, "id")?.to_string(),
        images: images.into_iter().map(|image| ImageLocation::File(data.join(image))).collect(),
        question: read::text(object, "question")?.to_string(),
        context: optional("context")?,
        answer,
        accepted,
        subtask: optional("subtask")?.unwrap_or_else(|| "all".into()),
        unit: optional("unit")?.unwrap_or_else(|| image_id.clone()),
        image_id,
        ..Question::default()
    })
}

impl Benchmark for Conversation {
    fn card(&self) -> BenchmarkCard<'_> {
        self.card
    }

    fn read(&self, data: &Path) -> Result<QuestionSet> {
        match &self.card.source {
            Some(source) => self.read_edition(data, source),
            None if data.is_file() => Ok(read_own(data, data.parent().unwrap_or(Path::new("")))?.into()),
            None => Ok(read_own(&data.join("bench").join(format!("{}.jsonl", self.card.id)), data)?.into()),
        }
    }

    fn explain(&self, _: Rules) -> RulesDescription<'_> {
        RulesDescription {
            prompt: "The question alone.",
            scoring: "F1 of content words with the nearest reference: words in lower case without English function \
                words, zero to ten as digits, each as often as it stands in both texts. Also reported: ROUGE-L, precision \
                and recall of content words, refusals, loops, and answers of one word or shorter than half of the \
                shortest reference.",
            source: match self.card.source {
                Some(_) => {
                    "ours; the authors let GPT-4 compare the answer with its own \
                    (haotian-liu/LLaVA, llava/eval/eval_gpt_review_bench.py)"
                }
                None => "ours, for one's own questions and the nano world",
            },
            difference: match self.card.source {
                Some(_) => "The published scores are ratios of GPT-4's marks; they cannot be compared with these.",
                None => "",
            },
        }
    }

    fn build_prompt(&self, q: &Question, _: Rules) -> String {
        q.question.clone()
    }

    fn verdict(&self, q: &Question, answer: &str, _: Rules) -> AnswerScore {
        match answer.trim() {
            "" => AnswerScore::unparsed(),
            said => AnswerScore { parsed: Some(said.to_string()), score: best(said, q, content).f1 },
        }
    }

    fn chance(&self, qs: &[Question], _: Rules) -> f64 {
        let texts: Vec<ContentWords> = qs.iter().map(|q| ContentWords::of(&q.answer)).collect();
        let step = qs.len().div_ceil(OTHERS).max(1);
        let mut scores = Vec::new();
        for (i, q) in qs.iter().enumerate() {
            let wanted: Vec<ContentWords> = q.accepted_answers().iter().map(|r| ContentWords::of(r)).collect();
            // Every `step`-th question, starting elsewhere for each question.
            let others = qs.iter().zip(&texts).skip(i % step).step_by(step);
            for (_, text) in others.filter(|(other, _)| other.unit != q.unit && other.image_id != q.image_id) {
                let overlap = wanted.iter().map(|reference| text.overlap(reference).f1).fold(0.0, f64::max);
                scores.push(overlap);
            }
        }
        // Questions about a single image have no other reference with which one could guess.
        let lone = if qs.is_empty() { f64::NAN } else { 0.0 };
        mean_in_order(scores).map_or(lone, |mean| 100.0 * mean)
    }

    fn further_numbers(&self, qs: &[Question], judged: &[AnswerScore]) -> Vec<(String, f64)> {
        let mut values: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
        for (q, judged) in qs.iter().zip(judged) {
            let said = judged.parsed.as_deref().unwrap_or_default();
            let overlap = best(said, q, content);
            let reference = q.accepted_answers().iter().map(|r| answer_text::word_count(r)).min().unwrap_or(0).max(1);
            let yes = |holds: bool| f64::from(u8::from(holds));
            for (name, value) in [
                ("ROUGE-L F1", best(said, q, rouge_l).f1),
                ("precision of content words", overlap.precision),
                ("recall of content words", overlap.recall),
                ("refusals", yes(answer_text::is_refusal(said))),
                ("loops", yes(answer_text::has_loop(said))),
                ("answers of one word", yes(answer_text::word_count(said) == 1)),
                ("answers shorter than half the shortest reference", {
                    yes(2 * answer_text::word_count(said) < reference)
                }),
            ] {
                values.entry(name).or_default().push(value);
            }
        }
        let named = |(name, values): (&str, Vec<f64>)| Some((name.to_string(), 100.0 * mean_in_order(values)?));
        values.into_iter().filter_map(named).collect()
    }
}

/// Returns the mean, computed in ascending order, so that it does not depend on the order of the questions.
fn mean_in_order(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}
