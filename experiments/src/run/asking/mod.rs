//! Asks the questions of several benchmarks at once.
//!
//! All questions form one list of prompts ([`queue`]), so that an image is encoded and processed once for its questions
//! of all benchmarks. Prompts of similar length start together, and take the places of finished ones in a
//! [`LiveBatch`]. On the CPU backend the bits of an answer do not depend on the other prompts, so an interrupted
//! evaluation gives the same answers as one without interruption.

mod progress;
mod queue;
#[cfg(test)]
mod tests;

pub(super) use progress::TaskProgress;

use crate::machine::progress::Bar;
use crate::machine::stop;
use crate::run::evaluation::EvalContext;
use crate::run::store::SAVE_INTERVAL;
use burgess_base::prefetch::prefetch;
use burgess_base::{Context, Error, Result};
use burgess_encoders::transfer;
use burgess_probe::connector::{ImageSize, ImageTokens};
use burgess_probe::generate::{
    Draws, ImagePart, ImagePrefix, LiveBatch, Prefilled, RowOptions, StepOutcome, prefill, prefill_groups,
    prefill_prefix, prefill_prefixes, score_prefilled,
};
use burgess_probe::train::{FeatureSource, PendingImages};
use burgess_reports::schema::Likelihoods;
use burn::tensor::Device;
use queue::{Ask, AskWindow, AskedSide, ImageRef};
use std::collections::{BTreeMap, HashMap};
use std::time::Instant;

/// Maximum number of images that are encoded together.
const IMAGES: usize = 32;
/// Maximum number of answers in progress.
const ANSWERS: usize = 32;
/// Maximum number of answers in progress on the CPU backend, which are then one batch of the language model.
const HOST_ANSWERS: usize = 24;

/// Answers the questions of all benchmarks that have no answer yet. `finished` gets each benchmark whose questions are
/// all answered, and its number. Answers so far are stored from time to time.
///
/// # Errors
/// An image cannot be read, a question is too long for the model, or a signal asked to stop; answers so far are kept.
pub(super) fn ask_questions(
    context: &EvalContext<'_>,
    work: &mut [TaskProgress<'_>],
    grey: Option<&ImageTokens>,
    bar: &Bar,
    finished: &mut dyn FnMut(usize, &mut TaskProgress<'_>) -> Result<()>,
) -> Result<()> {
    let _section = stop::section()?;
    for (number, progress) in work.iter_mut().enumerate().filter(|(_, progress)| progress.is_complete()) {
        finished(number, progress)?;
    }
    let asks = queue::asks(work, context.chat.image_id(context.tokenizer)?, grey.is_some());
    let windows = queue::windows(&asks, IMAGES);
    let (source, device) = (context.source, context.device);
    let mut run = AskRun {
        context,
        grey,
        stop: context.chat.stop(context.tokenizer)?,
        live: LiveBatch::new(context.model, device),
        most: if transfer::is_host(device) { HOST_ANSWERS } else { ANSWERS },
        answers: BTreeMap::new(),
        asks,
        work,
        bar,
        saved: Instant::now(),
        finished,
    };
    // On other devices than the CPU, a second thread prepares the images of the next window meanwhile.
    let prefetches = !transfer::is_host(device);
    let make = |window| PreparedWindow::prepare(window, source, device);
    let outcome = prefetch(prefetches, &windows, make, |prepared| -> Result<()> {
        let mut clock = Instant::now();
        for window in prepared {
            run.window(window?, clock)?;
            clock = Instant::now();
        }
        run.finish()
    });
    // What was answered before an error is kept.
    if outcome.is_err()
        && let Err(e) = run.save()
    {
        bar.line(&format!("note: the answers so far were not stored: {e}"));
    }
    outcome
}

/// A window of prompts whose images are read.
struct PreparedWindow<'a> {
    window: &'a AskWindow,
    sizes: Option<Vec<ImageSize>>,
    /// The images, or why they could not be read; `None` if the prompts have none.
    read: Option<Result<PendingImages<'a>>>,
}

impl<'a> PreparedWindow<'a> {
    fn prepare(window: &'a AskWindow, source: &'a dyn FeatureSource, device: &Device) -> Result<Self> {
        let (sizes, read) = match window.images.is_empty() {
            true => (None, None),
            false => (source.sizes(&window.images)?, Some(source.prepare(&window.images, device))),
        };
        Ok(Self { window, sizes, read })
    }
}

/// The prefixes of the prompts of a window, by their images and the token ids up to the last image.
type Prefixes<'a> = HashMap<(Vec<ImageRef>, &'a [u32]), ImagePrefix>;

/// The work of asking all questions.
struct AskRun<'r, 'a, 'w> {
    context: &'r EvalContext<'a>,
    grey: Option<&'r ImageTokens>,
    /// Token ids that end an answer.
    stop: Vec<u32>,
    live: LiveBatch<'r>,
    /// Maximum number of answers in progress.
    most: usize,
    /// Answers in progress, by index of the prompt.
    answers: BTreeMap<usize, Vec<u32>>,
    asks: Vec<Ask<'w>>,
    work: &'r mut [TaskProgress<'w>],
    bar: &'r Bar,
    saved: Instant,
    finished: &'r mut dyn FnMut(usize, &mut TaskProgress<'_>) -> Result<()>,
}

impl<'w> AskRun<'_, '_, 'w> {
    /// Encodes the images of a window and asks its questions. The last answers may still be in progress afterwards.
    fn window(&mut self, prepared: PreparedWindow<'_>, clock: Instant) -> Result<()> {
        let PreparedWindow { window, sizes, read } = prepared;
        let about = |asks: &[Ask<'_>]| {
            let first = window.asks.iter().find(|i| asks.get(**i).is_some_and(|ask| !ask.images.is_empty()));
            format!("reading {} images, {}", window.images.len(), first.map_or_else(String::new, |i| self.name(&[*i])))
        };
        let encode =
            |read: Result<PendingImages<'_>>| self.context.model.encode_images_with(read?()?, sizes.as_deref(), None);
        let images = read.map(encode).transpose().with_context(|| about(&self.asks))?;
        let prefixes = self.prefixes(window, images.as_ref())?;
        self.spend(clock, &window.asks);
        let mut waiting = window.asks.as_slice();
        while !waiting.is_empty() {
            self.save_or_stop()?;
            // Small additions would copy the batch too often.
            if self.live.len() > self.most / 2 {
                self.step()?;
                continue;
            }
            let (now, later) = waiting.split_at(waiting.len().min(self.most - self.live.len()));
            waiting = later;
            self.start(now, &prefixes)?;
        }
        Ok(())
    }

    /// Completes the answers in progress.
    fn finish(&mut self) -> Result<()> {
        while !self.live.is_empty() {
            self.save_or_stop()?;
            self.step()?;
        }
        Ok(())
    }

    /// Describes prompts by the question of the first.
    fn name(&self, asks: &[usize]) -> String {
        let first = asks.first().and_then(|i| self.asks.get(*i)?.waiting.first());
        let named = first.and_then(|w| Some((w, self.work.get(w.task)?)));
        named.map_or_else(String::new, |(w, progress)| {
            let without = if w.side == AskedSide::Blind { " without images" } else { "" };
            format!("asking {}{without}, {}", progress.task.benchmark.id(), progress.task.named(w.question))
        })
    }

    /// Adds the time since `clock` to some prompts, in equal shares.
    fn spend(&mut self, clock: Instant, asks: &[usize]) {
        let share = clock.elapsed().as_secs_f64() / asks.len().max(1) as f64;
        for i in asks {
            if let Some(ask) = self.asks.get_mut(*i) {
                ask.seconds += share;
            }
        }
    }

    /// Processes the beginnings of the prompts of a window, each once.
    fn prefixes(&self, window: &AskWindow, images: Option<&ImageTokens>) -> Result<Prefixes<'w>> {
        let (model, device) = (self.context.model, self.context.device);
        let mut prefixes = Prefixes::new();
        // Prompts with one image, by the text before it: they are processed together.
        let mut single: BTreeMap<&[u32], Vec<(usize, usize, &Ask<'w>)>> = BTreeMap::new();
        let locate = |image: ImageRef| match image {
            None => self.grey.map(|grey| (grey, 0)),
            Some(image) => images.zip(window.images.binary_search(&image).ok()),
        };
        for i in &window.asks {
            let Some(ask) = self.asks.get(*i).filter(|ask| !ask.images.is_empty()) else { continue };
            let located: Vec<_> = ask.images.iter().filter_map(|(image, at)| Some((locate(*image)?, *at))).collect();
            let missing = || Error::failed("an image of the prompt was not encoded").context(self.name(&[*i]));
            match (ask.images.as_slice(), located.as_slice()) {
                ([(Some(_), at)], [((_, index), _)]) => {
                    let known = single.entry(ask.ids.get(..*at).unwrap_or_default()).or_default();
                    if known.iter().all(|(known, ..)| known != index) {
                        known.push((*index, *i, ask));
                    }
                }
                (wanted, located) if wanted.len() == located.len() => {
                    let key = (ask.image_list(), ask.prefix());
                    if prefixes.contains_key(&key) {
                        continue;
                    }
                    let (mut parts, mut from) = (Vec::with_capacity(located.len()), 0);
                    for ((images, index), at) in located {
                        let before = ask.ids.get(from..*at).unwrap_or_default();
                        parts.push(ImagePart { before, images, index: *index });
                        from = at + 1;
                    }
                    let prefix = prefill_prefix(model, &parts, device).with_context(|| self.name(&[*i]))?;
                    prefixes.insert(key, prefix);
                }
                _ => return Err(missing()),
            }
        }
        for (before, asks) in single {
            let Some(images) = images else { continue };
            let which: Vec<usize> = asks.iter().map(|(index, ..)| *index).collect();
            let computed = prefill_prefixes(model, images, &which, before, device);
            let first = asks.first().map_or(0, |(_, i, _)| *i);
            let computed = computed.with_context(|| self.name(&[first]))?;
            for ((_, _, ask), prefix) in asks.into_iter().zip(computed) {
                prefixes.insert((ask.image_list(), ask.prefix()), prefix);
            }
        }
        Ok(prefixes)
    }

    /// Starts the answers to some prompts.
    fn start(&mut self, asks: &[usize], prefixes: &Prefixes<'w>) -> Result<()> {
        // A batch of prompts has either images or none.
        let has_images = |i: &usize| self.asks.get(*i).is_some_and(|ask| !ask.images.is_empty());
        let (with, without): (Vec<usize>, Vec<usize>) = asks.iter().partition(|i| has_images(i));
        for asks in [with, without] {
            let lengths: Vec<usize> = asks.iter().filter_map(|i| Some(self.asks.get(*i)?.text().len())).collect();
            for group in prefill_groups(self.context.model, &lengths, self.context.device) {
                let group: Vec<usize> = group.into_iter().filter_map(|at| asks.get(at).copied()).collect();
                self.admit(&group, prefixes)?;
            }
        }
        Ok(())
    }

    /// Processes the texts of some prompts together, scores options, and adds them to the answers in progress.
    fn admit(&mut self, group: &[usize], prefixes: &Prefixes<'w>) -> Result<()> {
        let clock = Instant::now();
        let (model, device) = (self.context.model, self.context.device);
        let mut rows: Vec<(Option<&ImagePrefix>, &[u32])> = Vec::with_capacity(group.len());
        let mut options = Vec::with_capacity(group.len());
        for i in group {
            let Some(ask) = self.asks.get(*i) else { continue };
            rows.push((prefixes.get(&(ask.image_list(), ask.prefix())), ask.text()));
            let draws = self.context.options.sampling.map(|sampling| Draws::new(sampling, ask.ids)).transpose()?;
            options.push(RowOptions {
                id: *i as u64,
                name: "the question".into(),
                draws,
                alternatives: None,
                max_new_tokens: ask.max_new_tokens,
            });
        }
        let prefilled = prefill(model, &rows, device).map_err(|e| {
            // Each prompt alone, to find the one that fails.
            let fails = |row: &(Option<&ImagePrefix>, &[u32])| prefill(model, &[*row], device).err();
            let culprit = rows.iter().zip(group).find_map(|(row, i)| Some((fails(row)?, *i)));
            let (e, culprit) = culprit.map_or((e, group.to_vec()), |(e, i)| (e, vec![i]));
            e.context(self.name(&culprit))
        })?;
        if self.context.options.likelihoods {
            self.score_options(group, &prefilled)?;
        }
        self.answers.extend(group.iter().map(|i| (*i, Vec::new())));
        let outcome = self.live.admit(prefilled, options).with_context(|| self.name(group))?;
        self.spend(clock, group);
        self.take(outcome)
    }

    /// Computes the next token of all answers in progress.
    fn step(&mut self) -> Result<()> {
        let clock = Instant::now();
        let outcome = self.live.step();
        let asks: Vec<usize> = outcome.tokens.iter().map(|(id, _)| *id as usize).collect();
        self.spend(clock, &asks);
        self.take(outcome)
    }

    /// Adds the tokens of a step to the answers, and delivers those that are complete.
    fn take(&mut self, outcome: StepOutcome) -> Result<()> {
        if let Some(failure) = outcome.failures.into_iter().next() {
            let asks: Vec<usize> = failure.rows.iter().map(|id| *id as usize).collect();
            return Err(failure.error.context(self.name(&asks)));
        }
        let mut complete = Vec::new();
        for (id, choice) in outcome.tokens {
            let ask = id as usize;
            let most = self.asks.get(ask).map_or(0, |ask| ask.max_new_tokens);
            let Some(answer) = self.answers.get_mut(&ask) else { continue };
            if !self.stop.contains(&choice.id) && answer.len() < most {
                answer.push(choice.id);
                if answer.len() < most {
                    continue;
                }
            }
            complete.push(ask);
        }
        self.live.retire(&complete.iter().map(|ask| *ask as u64).collect::<Vec<_>>());
        complete.into_iter().try_for_each(|ask| self.deliver(ask))
    }

    /// Gives the answer to a prompt to its questions.
    fn deliver(&mut self, ask: usize) -> Result<()> {
        let (Some(answer), Some(ask)) = (self.answers.remove(&ask), self.asks.get(ask)) else { return Ok(()) };
        let share = ask.seconds / ask.waiting.len().max(1) as f64;
        for waiting in &ask.waiting {
            let Some(progress) = self.work.get_mut(waiting.task) else { continue };
            progress.add(waiting.question, waiting.side, &answer, share);
            self.bar.add(1);
            if progress.is_complete() {
                (self.finished)(waiting.task, progress)?;
            }
        }
        Ok(())
    }

    /// Scores the options of the questions that wait for some prompts, by log-likelihood.
    fn score_options(&mut self, group: &[usize], prefilled: &Prefilled) -> Result<()> {
        let EvalContext { model, chat, tokenizer, device, .. } = *self.context;
        let mut questions = Vec::new();
        for (row, i) in group.iter().enumerate() {
            let waiting = self.asks.get(*i).map(|ask| ask.waiting.as_slice()).unwrap_or_default();
            for w in waiting.iter().filter(|w| w.side == AskedSide::Image) {
                let Some(task) = self.work.get(w.task).map(|progress| progress.task) else { continue };
                let names = task.possible_answers(w.question);
                let ids = names.iter().map(|name| task.answer_tokens(chat, tokenizer, w.question, name));
                questions.push((row, *w, ids.collect::<Result<Vec<_>>>()?, names));
            }
        }
        // On the CPU backend the number of rows affects the bits, so each question is scored alone.
        let together = if transfer::is_host(device) { 1 } else { questions.len().max(1) };
        let mut scores = Vec::with_capacity(questions.len());
        for questions in questions.chunks(together) {
            let mut rows: Vec<Vec<Vec<u32>>> = vec![Vec::new(); group.len()];
            for (row, _, ids, _) in questions {
                if let Some(options) = rows.get_mut(*row) {
                    options.extend(ids.iter().cloned());
                }
            }
            let rows: Vec<&[Vec<u32>]> = rows.iter().map(Vec::as_slice).collect();
            let of_rows = score_prefilled(model, prefilled, &rows, device).with_context(|| self.name(group))?;
            let mut of_rows: Vec<_> = of_rows.into_iter().map(Vec::into_iter).collect();
            // The options of several questions with the same prompt follow each other.
            for (row, _, ids, _) in questions {
                let of_row = of_rows.get_mut(*row).map(|of_row| of_row.take(ids.len()).collect::<Vec<_>>());
                scores.push(of_row.unwrap_or_default());
            }
        }
        for ((_, w, _, names), scores) in questions.into_iter().zip(scores) {
            let options: Vec<(String, f64)> = names.into_iter().zip(scores).collect();
            let Some(progress) = self.work.get_mut(w.task) else { continue };
            // Ties go to the first option; open questions have none.
            let best = options.iter().rev().max_by(|a, b| a.1.total_cmp(&b.1)).map(|(name, _)| name.clone());
            if let Some(answer) = best {
                let score = progress.task.judge(w.question, &answer).score;
                progress.add_options(w.question, Likelihoods { options, answer, score });
            }
        }
        Ok(())
    }

    fn save(&mut self) -> Result<()> {
        self.work.iter_mut().try_for_each(TaskProgress::save)?;
        self.saved = Instant::now();
        Ok(())
    }

    fn save_or_stop(&mut self) -> Result<()> {
        if stop::requested() || self.saved.elapsed() >= SAVE_INTERVAL {
            self.save()?;
        }
        stop::check()
    }
}
