//! Benchmarks that are declared in TOML files: those in `benchmarks/`, which are compiled in, and those of one's own,
//! which [`load`] reads and registers. `benchmarks/README.md` is the guide to the format ([`format`]).

mod folder;
pub mod format;
pub(crate) mod readers;
mod registry;
mod rows;
mod rule_set;
mod score;
mod template;

use crate::benchmark::{Benchmark, read};
use crate::card::{AnswerForm, BenchmarkCard, DatasetSource, LmmsEvalTask};
use crate::explain::RulesDescription;
use crate::image_location::ImageLocation;
use crate::question::{Question, QuestionSet};
use crate::rules::Rules;
use crate::score::{AnswerScore, BenchmarkOutcome, ScoredItem};
use crate::skipped::SkippedRowsTally;
use crate::table::{DatasetTable, TableRow};
use crate::{lmms, vlmevalkit};
use burgess_base::toml_error::{self, KeyHints, WrongValue};
use burgess_base::{Category, Error, Result};
use format::{BenchmarkFile, ColumnTable, OneOrMore, RuleOwner};
use rows::QuestionColumns;
use rule_set::RuleSet;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

pub use registry::{embedded, load, registered};

/// What errors of the parser advise.
const KEY_HINTS: KeyHints = KeyHints {
    unknown: "remove the key, or move it to the table to which it belongs",
    value: "correct the value; the guide to benchmark files describes it",
};

/// Maximum length of an id.
const LONGEST_ID: usize = 64;

/// The file that declares a benchmark.
#[derive(Debug, Clone, Copy)]
pub struct BenchmarkDefinition<'a> {
    /// The path from which it was read.
    pub path: &'a Path,
    /// Its text.
    pub text: &'a str,
    /// Digest of its text.
    pub digest: &'a str,
}

/// A benchmark that a TOML file declares.
#[derive(Debug)]
pub struct DeclaredBenchmark {
    id: String,
    category: Category,
    form: AnswerForm,
    file: BenchmarkFile,
    columns: Option<QuestionColumns>,
    /// The columns of VLMEvalKit's edition.
    tsv_columns: Option<QuestionColumns>,
    own: RuleSet,
    lmms_eval: Option<RuleSet>,
    cambrian: Option<RuleSet>,
    /// The file and its digest, for a benchmark that is not compiled in.
    origin: Option<Origin>,
}

#[derive(Debug)]
struct Origin {
    path: PathBuf,
    text: String,
    digest: String,
}

impl DeclaredBenchmark {
    /// Parses the text of a benchmark file. `file` is its name in errors, `stem` the id if the file gives none.
    ///
    /// # Errors
    /// A usage error with file, line and key is returned if the text is not a valid benchmark file.
    pub fn parse(text: &str, file: &str, stem: &str) -> Result<Self> {
        let parsed: BenchmarkFile =
            toml::from_str(text).map_err(|e| toml_error::parse_error(&e, text, file, KEY_HINTS))?;
        Self::check(parsed, stem).map_err(|wrong| toml_error::value_error(as_usage(wrong), text, file))
    }

    fn check(file: BenchmarkFile, stem: &str) -> Result<Self, WrongValue> {
        let id = file.id.clone().unwrap_or_else(|| stem.to_string());
        let permitted = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.' | '_');
        if id.is_empty() || id.len() > LONGEST_ID || !id.chars().all(permitted) || id.starts_with(['.', '-']) {
            let what = Error::failed(format!("{id:?} cannot be the id of a benchmark")).hint(format!(
                "use at most {LONGEST_ID} of a–z, 0–9, `-`, `_` and `.`; the default is the name of the file"
            ));
            return Err(WrongValue::new(&["id"], what));
        }
        if file.category.trim().is_empty() {
            return Err(WrongValue::new(&["category"], Error::failed("the category is empty")));
        }
        if !(1..=32_768).contains(&file.max_new_tokens) {
            return Err(WrongValue::new(&["max_new_tokens"], Error::failed("must be between 1 and 32768")));
        }
        Self::check_data(&file)?;
        let columns = match (&file.columns, file.data.generated) {
            (Some(columns), false) => Some(QuestionColumns::parse("columns", columns, &file.data)?),
            (None, true) => None,
            (Some(_), true) => {
                let what = "generated questions have fixed fields, so the table is not allowed";
                return Err(WrongValue::new(&["columns"], Error::failed(what)));
            }
            (None, false) => {
                let what = Error::failed("the table [columns] is missing: it names the columns of a question");
                return Err(WrongValue::new(&["data"], what));
            }
        };
        let tsv_columns = match (&file.vlmevalkit, &file.data.tsv) {
            (Some(columns), Some(_)) => Some(QuestionColumns::parse("vlmevalkit", columns, &file.data)?),
            (None, _) => None,
            (Some(_), None) => {
                let what = Error::failed("`data.tsv`, the name of VLMEvalKit's file, is missing");
                return Err(WrongValue::new(&["vlmevalkit"], what));
            }
        };
        let own = RuleSet::own(&file)?;
        let lmms_eval = file.lmms_eval.as_ref().map(|table| RuleSet::lmms_eval(&file, table)).transpose()?;
        let cambrian = file.cambrian.as_ref().map(|table| RuleSet::cambrian(&file, table)).transpose()?;
        let form = own.form();
        if form == AnswerForm::Choice && !file.data.generated && !has_options(&file) {
            let what = Error::failed("the reader `letter` needs choices, but [columns] names no `options`")
                .hint("options = [\"A\", \"B\", \"C\", \"D\"], or the column that holds a list of choices");
            return Err(WrongValue::new(&["columns"], what));
        }
        Ok(Self {
            category: Category::new(file.category.clone()),
            id,
            form,
            columns,
            tsv_columns,
            own,
            lmms_eval,
            cambrian,
            file,
            origin: None,
        })
    }

    fn check_data(file: &BenchmarkFile) -> Result<(), WrongValue> {
        let data = &file.data;
        let ways = [data.path.is_some(), data.repository.is_some(), data.generated];
        if ways.iter().filter(|way| **way).count() != 1 {
            let what = Error::failed("expected exactly one of `path`, `repository` and `generated = true`")
                .hint("path = \"questions.jsonl\" for files of your own, repository = \"OWNER/NAME\" for the hub");
            return Err(WrongValue::new(&["data"], what));
        }
        let hub_only = [("alias", data.alias.is_some()), ("split", data.split.is_some()), ("tsv", data.tsv.is_some())];
        for (key, given) in hub_only {
            if given && data.repository.is_none() {
                let what = format!("`{key}` belongs to a dataset of the hub, and `repository` is not given");
                return Err(WrongValue::new(&["data", key], Error::failed(what)));
            }
        }
        for (key, name) in [("repository", &data.repository), ("alias", &data.alias)] {
            let parts = |name: &str| name.split('/').filter(|part| !part.is_empty()).count();
            if name.as_ref().is_some_and(|name| parts(name) != 2 || name.matches('/').count() != 1) {
                let what = "a dataset of the hub is called OWNER/NAME";
                return Err(WrongValue::new(&["data", key], Error::failed(what)));
            }
        }
        for (key, path) in [("folder", Some(&data.folder)), ("tsv", data.tsv.as_ref())] {
            if path.is_some_and(|path| path.starts_with('/') || path.split('/').any(|part| part == "..")) {
                let what = "must lie inside the dataset: a relative path without `..`";
                return Err(WrongValue::new(&["data", key], Error::failed(what)));
            }
        }
        Ok(())
    }

    /// Returns the rules that are applied for a resolved set.
    fn rule_set(&self, rules: Rules) -> &RuleSet {
        match rules {
            Rules::LmmsEval => self.lmms_eval.as_ref().unwrap_or(&self.own),
            Rules::Cambrian1 => self.cambrian.as_ref().unwrap_or(&self.own),
            Rules::Official | Rules::Strict => &self.own,
        }
    }

    /// Reads a table with these columns. In files of one's own, every row must be usable.
    fn read_table(&self, table: &DatasetTable, columns: &QuestionColumns) -> Result<QuestionSet> {
        let file = table.files().first().cloned().unwrap_or_default();
        let dir = file.parent().unwrap_or(Path::new("")).to_path_buf();
        let mut next = 0;
        let read = columns.with_columns(|names| {
            read::published(self, table, names, |row| self.checked(columns, columns.questions(row, &dir, &mut next)?))
        })?;
        let read = self.with_image_size(columns, read)?;
        if read.questions.is_empty() {
            let error = match read.skipped.first() {
                Some(first) => Error::failed(format!("no row is a usable question; {}", first.text("rows"))),
                None => Error::failed("no row belongs to the benchmark")
                    .hint("check `where` in [data] of the benchmark file"),
            };
            return Err(error.context(format!("reading {}", file.display())));
        }
        self.check_names(&read)?;
        if self.file.data.path.is_some() {
            all_usable(&read, &file)?;
        }
        read::check_images(&file, &read.questions)?;
        Ok(read)
    }
}

/// Number of images that are read at once to find their sizes.
const IMAGES_AT_ONCE: usize = 64;

impl DeclaredBenchmark {
    /// Checks the questions of a row, unless the sizes of their images must be read first.
    fn checked(&self, columns: &QuestionColumns, mut questions: Vec<Question>) -> Result<Vec<Question>> {
        if !columns.with_image_size() {
            questions.iter_mut().try_for_each(|q| self.check_and_complete(q))?;
        }
        Ok(questions)
    }

    /// Checks that no number has the name of a subtask, beside which it is reported.
    fn check_names(&self, read: &QuestionSet) -> Result<()> {
        let subtasks: BTreeSet<&str> = read.questions.iter().map(|q| q.subtask.as_str()).collect();
        match self.own.number_names().find(|name| subtasks.contains(name)) {
            None => Ok(()),
            Some(name) => Err(Error::usage(format!("the number `{name}` has the name of a subtask"))
                .hint("give it another `name` in [score] of the benchmark file")),
        }
    }

    fn check_and_complete(&self, q: &mut Question) -> Result<()> {
        self.own.check_question(q)?;
        self.own.complete(q);
        Ok(())
    }

    /// Adds the facts `width` and `height` if the file asks for them, and skips the questions that then cannot be
    /// asked.
    fn with_image_size(&self, columns: &QuestionColumns, read: QuestionSet) -> Result<QuestionSet> {
        if !columns.with_image_size() {
            return Ok(read);
        }
        let images: BTreeSet<&ImageLocation> = read.questions.iter().filter_map(|q| q.images.first()).collect();
        let images: Vec<&ImageLocation> = images.into_iter().collect();
        let mut sizes: BTreeMap<ImageLocation, Result<(u32, u32)>> = BTreeMap::new();
        for part in images.chunks(IMAGES_AT_ONCE) {
            let found = crate::read_images(part).into_iter();
            let found = found.map(|bytes| bytes.and_then(|bytes| burgess_images::dimensions_of_bytes(&bytes)));
            sizes.extend(part.iter().map(|image| (*image).clone()).zip(found));
        }
        let (mut questions, mut skipped) = (Vec::new(), SkippedRowsTally::from(read.skipped));
        let mut first = None;
        for mut q in read.questions {
            let size = q.images.first().and_then(|image| sizes.get(image));
            let checked = match size {
                Some(Ok((width, height))) => {
                    q.facts.extend([("width".into(), width.to_string()), ("height".into(), height.to_string())]);
                    self.check_and_complete(&mut q)
                }
                Some(Err(e)) => Err(Error::failed(e.to_string()).context("reading the size of the image")),
                None => self.check_and_complete(&mut q),
            };
            match checked {
                Ok(()) => questions.push(q),
                Err(e) => {
                    skipped.add(&e.to_string(), &format!("question {}", q.id));
                    first.get_or_insert(e);
                }
            }
        }
        match first {
            Some(e) if questions.is_empty() => Err(e.context("none of the questions is usable")),
            _ => Ok(QuestionSet { questions, skipped: skipped.into_reasons() }),
        }
    }
}

/// Turns a wrong value into a usage error, keeping its message and hint.
fn as_usage(wrong: WrongValue) -> WrongValue {
    let mut error = Error::usage(wrong.what.to_string());
    if let Some(hint) = wrong.what.hint_text() {
        error = error.hint(hint);
    }
    WrongValue { path: wrong.path, what: error }
}

fn has_options(file: &BenchmarkFile) -> bool {
    file.columns
        .as_ref()
        .and_then(|c: &ColumnTable| c.options.as_ref())
        .is_some_and(|o: &OneOrMore| !o.texts().is_empty())
}

/// Checks that no row was skipped: files of one's own can be corrected.
fn all_usable(read: &QuestionSet, file: &Path) -> Result<()> {
    let Some(first) = read.skipped.first() else { return Ok(()) };
    let (skipped, all) = (read.skipped_count(), read.questions.len() + read.skipped_count());
    Err(Error::failed(format!("{skipped} of {all} rows are not usable questions; {}", first.text("rows")))
        .context(format!("reading {}", file.display()))
        .hint("correct these rows, or leave them out by `where` in [data] of the benchmark file"))
}

impl Benchmark for DeclaredBenchmark {
    fn card(&self) -> BenchmarkCard<'_> {
        let data = &self.file.data;
        BenchmarkCard {
            id: &self.id,
            category: &self.category,
            metric: &self.own.metric,
            version: &self.file.version,
            citation: &self.file.citation,
            form: self.form,
            max_new_tokens: self.file.max_new_tokens,
            source: data.repository.as_deref().map(|repository| DatasetSource {
                repository,
                alias: data.alias.as_deref(),
                cambrian_1: self.cambrian.is_some(),
                folder: &data.folder,
                split: data.split.as_deref().unwrap_or("test"),
                questions: data.questions,
                licence: &data.licence,
            }),
            authors: self.file.rules == RuleOwner::Official,
            lmms_eval: self
                .file
                .lmms_eval
                .as_ref()
                .map(|table| LmmsEvalTask { task: &table.task, metric: &table.metric }),
        }
    }

    fn explain(&self, rules: Rules) -> RulesDescription<'_> {
        self.rule_set(rules).explain()
    }

    fn metric(&self, rules: Rules) -> &str {
        &self.rule_set(rules).metric
    }

    fn build_prompt(&self, q: &Question, rules: Rules) -> String {
        self.rule_set(rules).prompt(q)
    }

    fn verdict(&self, q: &Question, answer: &str, rules: Rules) -> AnswerScore {
        match rules {
            Rules::LmmsEval if !self.rule_set(rules).filters_first(q) => {
                self.rule_set(rules).verdict(q, &lmms::cleaned(answer))
            }
            Rules::LmmsEval | Rules::Official | Rules::Strict | Rules::Cambrian1 => {
                self.rule_set(rules).verdict(q, answer)
            }
        }
    }

    fn read_published(&self, data: &Path, source: &DatasetSource<'_>) -> Result<QuestionSet> {
        if let Some(table) = self.file.data.tsv.as_ref().and_then(|name| vlmevalkit::table(data, name)) {
            return match &self.tsv_columns {
                Some(columns) => self.read_table(&table, columns),
                None => read::published(self, &table, vlmevalkit::COLUMNS, |row| {
                    let question = vlmevalkit::question(row)?;
                    self.own.check_question(&question).map(|()| Some(question))
                }),
            };
        }
        match &self.columns {
            Some(columns) => self.read_table(&DatasetTable::open(data, source)?, columns),
            None => read::generated(self, data),
        }
    }

    /// Reads the hub's dataset, the questions that were generated in `data`, or the table or folder `data` of one's
    /// own.
    fn read(&self, data: &Path) -> Result<QuestionSet> {
        match (&self.card().source, &self.columns) {
            (Some(source), _) => self.read_published(data, source),
            (None, Some(columns)) if data.is_dir() => match folder::metadata(data)? {
                Some(table) => self.read_table(&table, columns),
                None => folder::read(self, data, columns),
            },
            (None, Some(columns)) => self.read_table(&DatasetTable::find(data, "", "")?, columns),
            (None, None) => read::generated(self, data),
        }
    }

    fn own_data(&self) -> Option<PathBuf> {
        let path = self.file.data.path.as_ref()?;
        let dir = self.origin.as_ref().and_then(|origin| origin.path.parent()).unwrap_or(Path::new(""));
        Some(dir.join(path))
    }

    fn definition(&self) -> Option<BenchmarkDefinition<'_>> {
        let origin = self.origin.as_ref()?;
        Some(BenchmarkDefinition { path: &origin.path, text: &origin.text, digest: &origin.digest })
    }

    fn allows_no_image(&self) -> bool {
        self.file.columns.as_ref().is_some_and(|columns| columns.image_optional)
    }

    /// Returns the unit of a row whose questions are scored together, if the unit can be told from the row alone.
    fn scored_together(&self, row: &TableRow) -> Option<String> {
        let together = self.own.scores_groups();
        let columns = [&self.columns, &self.tsv_columns].into_iter().flatten();
        columns.filter(|_| together).find_map(|columns| columns.unit(row))
    }

    fn items(&self, qs: &[Question], p: &[f64], rules: Rules) -> Result<Vec<ScoredItem>> {
        self.rule_set(rules).items(qs, p)
    }

    fn further_numbers(&self, qs: &[Question], judged: &[AnswerScore]) -> Vec<(String, f64)> {
        self.own.numbers(qs, judged, 100.0)
    }

    fn lmms_eval_numbers(
        &self,
        qs: &[Question],
        judged: &[AnswerScore],
        outcome: &BenchmarkOutcome,
    ) -> Vec<(String, f64)> {
        let numbers = self.rule_set(Rules::LmmsEval).numbers(qs, judged, 1.0);
        let Some(table) = &self.file.lmms_eval else { return numbers };
        match numbers.iter().any(|(name, _)| *name == table.metric) {
            true => numbers,
            false => [(table.metric.clone(), outcome.score / 100.0)].into_iter().chain(numbers).collect(),
        }
    }

    fn guess_probability(&self, q: &Question) -> f64 {
        self.own.guess_probability(q)
    }
}
