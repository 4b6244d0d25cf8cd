//! The benchmarks of an evaluation with the samples that are stored or are to be made: all questions are asked, or as
//! many as the intervals of the categories need.

use crate::data::image_files;
use crate::machine::progress::Bar;
use crate::run::asking::{self, TaskProgress};
use crate::run::eval_task::EvalTask;
use crate::run::evaluation::{EvalContext, grey};
use crate::run::store::{PartialAnswers, RunStore};
use crate::study::BlindInput;
use burgess_base::text::excerpt;
use burgess_base::{Category, Error, Result, atomic};
use burgess_probe::bench;
use burgess_probe::connector::ImageTokens;
use burgess_reports::schema::{BenchmarkResult, Sample, SequentialInterval};
use burgess_reports::sequential::LookPlan;
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;

/// The benchmarks of an evaluation, in the order of the study.
pub(super) struct AskedTasks<'a> {
    tasks: &'a [EvalTask],
    store: &'a RunStore,
    /// For each benchmark its samples, once they are stored.
    samples: Vec<Option<Vec<Sample>>>,
    /// The benchmarks without samples, and their indices.
    work: Vec<TaskProgress<'a>>,
    places: Vec<usize>,
}

/// A category whose questions are asked until its interval is narrow.
struct OpenCategory {
    category: Category,
    /// Indices of its benchmarks.
    tasks: Vec<usize>,
    plan: LookPlan,
}

impl<'a> AskedTasks<'a> {
    /// Reads the samples and answers that are stored.
    ///
    /// # Errors
    /// The options cannot be written as JSON.
    pub fn open(context: &EvalContext<'_>, tasks: &'a [EvalTask], store: &'a RunStore, bar: &Bar) -> Result<Self> {
        let read = |task: &EvalTask| store.read_samples(task.benchmark.id(), &|text| bar.line(text));
        let samples: Vec<Option<Vec<Sample>>> = tasks.iter().map(read).collect();
        let (mut work, mut places) = (Vec::new(), Vec::new());
        for (place, (task, _)) in tasks.iter().zip(&samples).enumerate().filter(|(_, (_, stored))| stored.is_none()) {
            work.push(TaskProgress::open(store, task, context.options)?);
            places.push(place);
        }
        Ok(Self { tasks, store, samples, work, places })
    }

    /// Asks all questions of the benchmarks without samples, and stores the samples of each when it is finished.
    ///
    /// # Errors
    /// As [`asking::ask_questions`].
    pub fn ask(&mut self, context: &EvalContext<'_>, title: &str, bar: &Bar) -> Result<()> {
        if self.work.is_empty() {
            return Ok(());
        }
        let grey = grey_image(context)?;
        self.announce(title, bar);
        let (store, samples, places) = (self.store, &mut self.samples, &self.places);
        asking::ask_questions(context, &mut self.work, grey.as_ref(), bar, &mut |number, progress| {
            let made = write_samples(context, progress.task, progress, store)?;
            if let Some(slot) = places.get(number).and_then(|place| samples.get_mut(*place)) {
                *slot = Some(made);
            }
            Ok(())
        })
    }

    /// Asks the questions of each category until the half-width of its interval is at most `width`, or all are asked.
    /// Benchmarks that a server scores are asked as a whole.
    ///
    /// # Errors
    /// As [`asking::ask_questions`]; also when stored samples belong to other questions.
    pub fn ask_until(
        &mut self,
        context: &EvalContext<'_>,
        width: f64,
        title: &str,
        bar: &Bar,
    ) -> Result<BTreeMap<Category, SequentialInterval>> {
        let grey = if self.work.is_empty() { None } else { grey_image(context)? };
        let orders: Vec<HashMap<String, usize>> = self.tasks.iter().map(unit_places).collect();
        let mut open = self.categories(&orders);
        let mut found = BTreeMap::new();
        let mut look = 0;
        while !open.is_empty() {
            let first: Vec<BTreeSet<usize>> = (self.tasks.iter().zip(&orders).enumerate())
                .map(|(i, (task, order))| {
                    let units = open.iter().find(|c| c.tasks.contains(&i)).map_or(usize::MAX, |c| c.plan.units(look));
                    let early = |q: &bench::Question| order.get(&q.unit).is_some_and(|place| *place < units);
                    task.questions.iter().enumerate().filter(|(_, q)| early(q)).map(|(i, _)| i).collect()
                })
                .collect();
            // Categories that were closed are not asked further.
            let is_open =
                |place: usize| open.iter().any(|c| c.tasks.contains(&place)) || is_of_server(self.tasks, place);
            for (progress, place) in self.work.iter_mut().zip(&self.places) {
                let wanted = first.get(*place).filter(|_| is_open(*place)).cloned();
                progress.want(wanted.unwrap_or_default());
            }
            self.announce(&format!("{title}, look {}", look + 1), bar);
            asking::ask_questions(context, &mut self.work, grey.as_ref(), bar, &mut |_, _| Ok(()))?;
            self.work.iter_mut().try_for_each(TaskProgress::save)?;
            let mut still_open = Vec::new();
            for category in open {
                let mut results = Vec::with_capacity(category.tasks.len());
                for place in &category.tasks {
                    results.push(self.result_of(context, *place, first.get(*place))?);
                }
                let all = category.tasks.iter().filter_map(|i| self.tasks.get(*i)).map(|t| t.questions.len()).sum();
                let interval = category.plan.interval(&results.iter().collect::<Vec<_>>(), look, width, all);
                match interval.filter(|i| i.reached || look + 1 >= category.plan.looks()) {
                    Some(interval) => {
                        for place in &category.tasks {
                            self.close(context, *place, first.get(*place))?;
                        }
                        found.insert(category.category, interval);
                    }
                    None => still_open.push(category),
                }
            }
            open = still_open;
            look += 1;
        }
        for place in 0..self.tasks.len() {
            let all = self.tasks.get(place).map(|task| (0..task.questions.len()).collect());
            self.close(context, place, all.as_ref())?;
        }
        Ok(found)
    }

    /// Returns each benchmark, with the questions that were asked, and its samples.
    ///
    /// # Errors
    /// Questions were not asked, or samples belong to other questions.
    pub fn finished(self) -> Result<Vec<(Cow<'a, EvalTask>, Vec<Sample>)>> {
        let pair = |(task, samples): (&'a EvalTask, Option<Vec<Sample>>)| {
            let id = task.benchmark.id();
            let samples = samples.ok_or_else(|| Error::failed(format!("the questions of {id} were not asked")))?;
            if samples.len() == task.questions.len() {
                return Ok((Cow::Borrowed(task), samples));
            }
            let ids: BTreeSet<&str> = samples.iter().map(|s| s.id.as_str()).collect();
            let kept = task.questions.iter().enumerate().filter(|(_, q)| ids.contains(q.id.as_str()));
            Ok((Cow::Owned(task.with_questions(&kept.map(|(i, _)| i).collect())), samples))
        };
        self.tasks.iter().zip(self.samples).map(pair).collect()
    }

    fn announce(&self, title: &str, bar: &Bar) {
        let names: Vec<&str> = self.work.iter().map(|progress| progress.task.benchmark.id()).collect();
        bar.message(&format!("{title}: {}", excerpt(&names.join(", "), 60)));
        let sum = |sum: [u64; 2], [all, done]: [u64; 2]| [sum[0] + all, sum[1] + done];
        let [all, done] = self.work.iter().map(TaskProgress::counts).fold([0, 0], sum);
        bar.begin(done, all);
    }

    /// Groups the benchmarks by category; those that a server scores are left out.
    fn categories(&self, orders: &[HashMap<String, usize>]) -> Vec<OpenCategory> {
        let mut by_category: BTreeMap<&Category, Vec<usize>> = BTreeMap::new();
        for (place, task) in self.tasks.iter().enumerate().filter(|(place, _)| !is_of_server(self.tasks, *place)) {
            by_category.entry(task.benchmark.category()).or_default().push(place);
        }
        let open = |(category, tasks): (&Category, Vec<usize>)| {
            let largest = tasks.iter().filter_map(|i| orders.get(*i)).map(HashMap::len).max().unwrap_or(0);
            OpenCategory { category: category.clone(), tasks, plan: LookPlan::new(largest) }
        };
        by_category.into_iter().map(open).collect()
    }

    /// The result of a benchmark on some of its questions.
    fn result_of(
        &self,
        context: &EvalContext<'_>,
        place: usize,
        questions: Option<&BTreeSet<usize>>,
    ) -> Result<BenchmarkResult> {
        let missing = || Error::failed("a benchmark of the evaluation is missing");
        let (task, questions) = self.tasks.get(place).zip(questions).ok_or_else(missing)?;
        let task = task.with_questions(questions);
        let samples = match self.samples.get(place).and_then(Option::as_ref) {
            Some(stored) => {
                let ids: BTreeSet<&str> = task.questions.iter().map(|q| q.id.as_str()).collect();
                stored.iter().filter(|s| ids.contains(s.id.as_str())).cloned().collect()
            }
            None => {
                let progress = self.places.iter().position(|p| *p == place).and_then(|number| self.work.get(number));
                make_samples(context, &task, &renumbered(&progress.ok_or_else(missing)?.now, questions))?
            }
        };
        task.score(&samples, 0.0)
    }

    /// Stores the samples of a benchmark that is asked no further, unless they are stored.
    fn close(&mut self, context: &EvalContext<'_>, place: usize, questions: Option<&BTreeSet<usize>>) -> Result<()> {
        let progress = self.places.iter().position(|p| *p == place).and_then(|number| self.work.get_mut(number));
        let (Some(task), Some(slot), Some(progress)) = (self.tasks.get(place), self.samples.get_mut(place), progress)
        else {
            return Ok(());
        };
        if let (None, Some(questions)) = (&slot, questions) {
            progress.now = renumbered(&progress.now, questions);
            *slot = Some(write_samples(context, &task.with_questions(questions), progress, self.store)?);
        }
        Ok(())
    }
}

/// Whether a benchmark's answers are scored by a server.
fn is_of_server(tasks: &[EvalTask], place: usize) -> bool {
    tasks.get(place).is_some_and(|task| task.benchmark.server().is_some())
}

/// The place of each unit in the random order in which units are asked.
fn unit_places(task: &EvalTask) -> HashMap<String, usize> {
    let order = bench::sample::order(&task.questions, task.benchmark.id());
    order.into_iter().enumerate().map(|(place, unit)| (unit, place)).collect()
}

/// The answers to some questions, numbered as in the benchmark with these questions only.
fn renumbered(now: &PartialAnswers, questions: &BTreeSet<usize>) -> PartialAnswers {
    fn pick<T: Clone>(all: &BTreeMap<usize, T>, questions: &BTreeSet<usize>) -> BTreeMap<usize, T> {
        questions.iter().enumerate().filter_map(|(new, old)| Some((new, all.get(old)?.clone()))).collect()
    }
    PartialAnswers {
        of: now.of.clone(),
        seconds: now.seconds,
        answers: pick(&now.answers, questions),
        option_scores: pick(&now.option_scores, questions),
        blind: pick(&now.blind, questions),
    }
}

/// The grey image of blind questions, if they have one.
fn grey_image(context: &EvalContext<'_>) -> Result<Option<ImageTokens>> {
    (context.options.blind == BlindInput::Grey).then(|| grey(context)).transpose()
}

/// File of the time that a benchmark took, in seconds.
pub(super) fn seconds(store: &RunStore, benchmark: &str) -> PathBuf {
    store.samples(benchmark).with_extension("seconds.json")
}

/// Makes and stores the samples of a benchmark whose questions are all answered.
fn write_samples(
    context: &EvalContext<'_>,
    task: &EvalTask,
    progress: &mut TaskProgress<'_>,
    store: &RunStore,
) -> Result<Vec<Sample>> {
    let id = task.benchmark.id();
    let samples = make_samples(context, task, &progress.now)?;
    store.check_owned()?;
    // The time is written first, so that samples never exist without it.
    atomic::write_json(&seconds(store, id), &progress.now.seconds)?;
    store.write_samples(id, &samples)?;
    progress.close()?;
    Ok(samples)
}

/// Makes the samples of a benchmark of its answers.
///
/// # Errors
/// A question has no answer, or an answer cannot be decoded.
fn make_samples(context: &EvalContext<'_>, task: &EvalTask, now: &PartialAnswers) -> Result<Vec<Sample>> {
    let text = |ids: &[u32]| context.tokenizer.decode(ids).map(|t| t.trim().to_string());
    let mut samples = Vec::with_capacity(task.questions.len());
    for (i, question) in task.questions.iter().enumerate() {
        let (Some(answer_ids), Some(blind_ids)) = (now.answers.get(&i), now.blind.get(&i)) else {
            return Err(Error::failed(format!("{} of {} has no answer", task.named(i), task.benchmark.id())));
        };
        let (answer, blind_answer) = (text(answer_ids)?, text(blind_ids)?);
        let judged = task.judge(i, &answer);
        let blind_judged = task.judge(i, &blind_answer);
        samples.push(Sample {
            id: question.id.clone(),
            unit: question.unit.clone(),
            subtask: question.subtask.clone(),
            question: question.question.clone(),
            options: question.options.clone(),
            prompt: task.prompts[i].clone(),
            image: image_paths(context, task.images_of(i)),
            target: question.answer.clone(),
            answer,
            parsed: judged.parsed,
            score: judged.score,
            blind_answer,
            blind_score: blind_judged.score,
            likelihoods: now.option_scores.get(&i).cloned(),
            tokens: Some(answer_ids.len()),
            // The token that ends an answer is not part of it.
            at_limit: answer_ids.len() >= task.benchmark.max_new_tokens(),
            judge: None,
        });
    }
    Ok(samples)
}

/// Full paths of the images of a question, one per line, for samples.
fn image_paths(context: &EvalContext<'_>, images: &[usize]) -> String {
    let names = images.iter().filter_map(|image| context.images.get(*image));
    names.map(|name| image_files::full_paths(context.dir, name)).collect::<Vec<_>>().join("\n")
}
