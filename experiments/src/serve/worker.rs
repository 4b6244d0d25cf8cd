//! The thread of a served model, which owns its work on the device: it takes requests from the queue between two
//! decoding steps, and every step computes the next token of all answers in progress.

use super::answer_text::{AnswerText, TextDelta};
use super::images::{ImageEncoders, PreparedImage, prepare};
use super::queue::{Job, JobQueue, Work};
use crate::features::model_cards::ModelEncoder;
use burgess_base::guard::recovered;
use burgess_base::{Error, Result};
use burgess_encoders::transfer;
use burgess_probe::connector::ImageTokens;
use burgess_probe::generate::{
    ImagePrefix, LiveBatch, PrefixCache, RowOptions, StepOutcome, prefill, prefill_groups, prefill_prefixes,
    score_prefilled,
};
use burgess_probe::llm::Tokenizer;
use burgess_probe::mllm::Mllm;
use burgess_serve::{ChatEvent, Finish, ModelStats, OptionScore, Timings};
use burn::tensor::Device;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Maximum number of images that are encoded together on other devices than the CPU. On the CPU, where this saves no
/// time, each is encoded alone, so that the bits of an answer do not depend on the other requests.
const IMAGES: usize = 16;

/// A model with what its thread needs.
pub struct Worker {
    /// The multimodal model.
    pub model: Mllm,
    /// Tokenizer of the language model.
    pub tokenizer: Tokenizer,
    /// Token ids that end an answer.
    pub stop: Vec<u32>,
    /// Cards of the image encoders.
    pub cards: Vec<ModelEncoder>,
    /// The image encoders.
    pub encoders: ImageEncoders,
    /// Device that computes.
    pub device: Device,
    /// Requests and counts.
    pub queue: Arc<JobQueue>,
    /// Image prefixes that are kept.
    pub prefixes: Arc<Mutex<PrefixCache>>,
    /// Maximum number of answers in progress.
    pub max_batch: usize,
}

/// An answer in progress.
struct Answer {
    job: Job,
    text: AnswerText,
    max_new_tokens: usize,
    times: AnswerTimes,
}

/// When the phases of an answer began.
#[derive(Clone, Copy)]
struct AnswerTimes {
    arrived: Instant,
    taken: Instant,
    first_token: Option<Instant>,
}

impl AnswerTimes {
    fn finished(&self) -> Timings {
        let now = Instant::now();
        let first = self.first_token.unwrap_or(now);
        Timings {
            queued: self.taken.duration_since(self.arrived).as_secs_f64(),
            prompt: first.duration_since(self.taken).as_secs_f64(),
            generation: now.duration_since(first).as_secs_f64(),
        }
    }
}

/// A job whose image prefix is computed.
struct ReadyJob {
    job: Job,
    taken: Instant,
    prefix: Option<Arc<ImagePrefix>>,
    /// Whether the prefix was cached before.
    cached: bool,
}

impl ReadyJob {
    /// The token ids after the image.
    fn text(&self) -> &[u32] {
        let from = self.job.image.as_ref().map_or(0, |(_, at)| at + 1);
        self.job.ids.get(from..).unwrap_or_default()
    }
}

impl Worker {
    /// Answers requests until the queue is closed and empty.
    ///
    /// Panics are caught where the device works. Should one happen elsewhere, the requests in progress end without an
    /// answer, and the next ones are answered.
    pub fn supervise(self) {
        let run = || {
            self.run();
            Ok(())
        };
        while recovered(run).is_err() {
            self.queue.count(|stats| stats.failed += std::mem::take(&mut stats.active) as u64);
        }
    }

    fn run(&self) {
        let mut batch = LiveBatch::new(&self.model, &self.device);
        let mut answers: BTreeMap<u64, Answer> = BTreeMap::new();
        let mut next_id = 0;
        while let Some(jobs) = self.queue.take(self.max_batch.saturating_sub(answers.len()), answers.is_empty()) {
            let clock = Instant::now();
            if !jobs.is_empty() {
                self.start(jobs, &mut batch, &mut answers, &mut next_id);
            }
            self.drop_cancelled(&mut batch, &mut answers);
            if !answers.is_empty() {
                let step = recovered(|| Ok(batch.step()));
                self.queue.count(|stats| stats.steps += 1);
                self.take_step(step, &mut batch, &mut answers);
            }
            self.queue.count(|stats| stats.busy_seconds += clock.elapsed().as_secs_f64());
        }
    }

    fn prefixes(&self) -> MutexGuard<'_, PrefixCache> {
        // A panic inside the cache can only leave a wrong sum of sizes behind.
        self.prefixes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Computes the prompts of new requests together, scores options, and adds answers to the batch.
    fn start<'a>(
        &'a self,
        jobs: Vec<Job>,
        batch: &mut LiveBatch<'a>,
        answers: &mut BTreeMap<u64, Answer>,
        next_id: &mut u64,
    ) {
        let (scored, answered): (Vec<ReadyJob>, Vec<ReadyJob>) =
            self.with_prefixes(jobs).into_iter().partition(|ready| matches!(ready.job.work, Work::Score { .. }));
        for ready in scored {
            self.score(ready);
        }
        // A batch of prompts has either images or none.
        let (with, without): (Vec<ReadyJob>, Vec<ReadyJob>) =
            answered.into_iter().partition(|ready| ready.prefix.is_some());
        for mut waiting in [with, without] {
            let lengths: Vec<usize> = waiting.iter().map(|ready| ready.text().len()).collect();
            for group in prefill_groups(&self.model, &lengths, &self.device) {
                // Groups are consecutive.
                let rest = waiting.split_off(group.len().min(waiting.len()));
                self.admit(std::mem::replace(&mut waiting, rest), batch, answers, next_id);
            }
        }
    }

    /// Finds or computes the image prefix of each job; jobs whose image fails are reported and left out.
    fn with_prefixes(&self, jobs: Vec<Job>) -> Vec<ReadyJob> {
        let taken = Instant::now();
        let mut ready: Vec<ReadyJob> = Vec::with_capacity(jobs.len());
        let mut missing: Vec<ReadyJob> = Vec::new();
        for job in jobs {
            let kept = job
                .image
                .as_ref()
                .map(|(image, at)| self.prefixes().get(&image.file.digest, job.ids.get(..*at).unwrap_or_default()));
            match kept {
                Some(None) => missing.push(ReadyJob { job, taken, prefix: None, cached: false }),
                Some(prefix) => {
                    self.queue.count(|stats| stats.prefix_hits += 1);
                    ready.push(ReadyJob { job, taken, prefix, cached: true });
                }
                None => ready.push(ReadyJob { job, taken, prefix: None, cached: false }),
            }
        }
        // Jobs about the same image share its encoding, and their prefix if the text before it is the same.
        let most = if transfer::is_host(&self.device) { 1 } else { IMAGES };
        while !missing.is_empty() {
            let mut digests: Vec<String> = Vec::new();
            let (now, later) = missing.into_iter().partition(|ready| {
                let Some((image, _)) = &ready.job.image else { return true };
                let known = digests.contains(&image.file.digest);
                if !known && digests.len() < most {
                    digests.push(image.file.digest.clone());
                }
                digests.contains(&image.file.digest)
            });
            missing = later;
            ready.extend(self.with_new_prefixes(now, &digests));
        }
        // In the order of arrival again.
        ready.sort_by_key(|ready| ready.job.arrived);
        ready
    }

    /// Encodes the images with these digests and computes the prefixes of the jobs about them.
    fn with_new_prefixes(&self, jobs: Vec<ReadyJob>, digests: &[String]) -> Vec<ReadyJob> {
        let mut prepared: Vec<(&String, PreparedImage)> = Vec::new();
        let mut failed: Vec<(&String, Arc<Error>)> = Vec::new();
        for digest in digests {
            let of_digest = jobs.iter().filter_map(|ready| ready.job.image.as_ref());
            let mut of_digest = of_digest.map(|(image, _)| image).filter(|image| image.file.digest == **digest);
            let known = of_digest.clone().find_map(|image| image.prepared.clone());
            // The prefix was cached when the request arrived, and was dropped since.
            let image = match (known, of_digest.next()) {
                (Some(known), _) => Ok(known),
                (None, Some(image)) => recovered(|| prepare(&image.file, &self.cards, &self.device)),
                (None, None) => continue,
            };
            match image {
                Ok(image) => prepared.push((digest, image)),
                Err(error) => failed.push((digest, Arc::new(error))),
            }
        }
        let mut encoded = self.encode(&prepared);
        if encoded.is_err() && prepared.len() > 1 {
            // Each image alone, to find the one that fails.
            let alone = prepared.iter().map(|image| (image.0, self.encode(std::slice::from_ref(image))));
            let mut tokens = Vec::new();
            for (digest, one) in alone {
                match one {
                    Ok(one) => tokens.extend(one),
                    Err(error) => failed.push((digest, Arc::new(error))),
                }
            }
            encoded = Ok(tokens);
        }
        let encoded = match encoded {
            Ok(encoded) => encoded,
            Err(error) => {
                let error = Arc::new(error);
                failed.extend(prepared.iter().map(|(digest, _)| (*digest, Arc::clone(&error))));
                Vec::new()
            }
        };
        let mut done: Vec<ReadyJob> = Vec::new();
        for mut ready in jobs {
            let Some((image, at)) = &ready.job.image else { continue };
            let (digest, before) = (&image.file.digest, ready.job.ids.get(..*at).unwrap_or_default());
            if let Some((_, error)) = failed.iter().find(|(failed, _)| *failed == digest) {
                self.fail(&ready.job, Arc::clone(error));
                continue;
            }
            let same = done.iter().find(|other| {
                let Some((other_image, other_at)) = &other.job.image else { return false };
                other_image.file.digest == *digest && other.job.ids.get(..*other_at) == Some(before)
            });
            let prefix = match same.and_then(|other| other.prefix.clone()) {
                Some(prefix) => Ok(prefix),
                None => match encoded.iter().find(|(known, _, _)| *known == digest) {
                    Some((_, images, index)) => self.prefix(images, *index, digest, before),
                    None => Err(Error::failed("the image was not encoded")),
                },
            };
            match prefix {
                Ok(prefix) => {
                    ready.prefix = Some(prefix);
                    done.push(ready);
                }
                Err(error) => self.fail(&ready.job, Arc::new(error)),
            }
        }
        done
    }

    /// Encodes images together; returns for each its digest, the batch of image tokens, and its index there.
    fn encode<'a>(
        &self,
        prepared: &[(&'a String, PreparedImage)],
    ) -> Result<Vec<(&'a String, Arc<ImageTokens>, usize)>> {
        if prepared.is_empty() {
            return Ok(Vec::new());
        }
        let images: Vec<&PreparedImage> = prepared.iter().map(|(_, image)| image).collect();
        let tokens = Arc::new(recovered(|| self.encoders.encode(&self.model, &images))?);
        self.queue.count(|stats| stats.images_encoded += images.len() as u64);
        Ok(prepared.iter().enumerate().map(|(i, (digest, _))| (*digest, Arc::clone(&tokens), i)).collect())
    }

    /// Computes a prefix and keeps it.
    fn prefix(&self, images: &ImageTokens, index: usize, digest: &str, before: &[u32]) -> Result<Arc<ImagePrefix>> {
        let computed = recovered(|| prefill_prefixes(&self.model, images, &[index], before, &self.device))?;
        let prefix = Arc::new(computed.into_iter().next().ok_or_else(|| Error::failed("the image has no prefix"))?);
        self.queue.count(|stats| stats.prompt_tokens += prefix.positions() as u64);
        self.prefixes().insert(digest, before, Arc::clone(&prefix));
        Ok(prefix)
    }

    /// Computes the texts of prompts together and adds them to the batch; if that fails, each alone.
    fn admit<'a>(
        &'a self,
        group: Vec<ReadyJob>,
        batch: &mut LiveBatch<'a>,
        answers: &mut BTreeMap<u64, Answer>,
        next_id: &mut u64,
    ) {
        let rows: Vec<(Option<&ImagePrefix>, &[u32])> =
            group.iter().map(|ready| (ready.prefix.as_deref(), ready.text())).collect();
        let prefilled = match recovered(|| prefill(&self.model, &rows, &self.device)) {
            Ok(prefilled) => prefilled,
            Err(error) if group.len() == 1 => {
                let error = Arc::new(error);
                group.iter().for_each(|ready| self.fail(&ready.job, Arc::clone(&error)));
                return;
            }
            Err(_) => {
                for ready in group {
                    self.admit(vec![ready], batch, answers, next_id);
                }
                return;
            }
        };
        let mut options = Vec::with_capacity(group.len());
        for mut ready in group {
            let Work::Answer { draws, logprobs, stop, max_new_tokens } = &mut ready.job.work else { continue };
            let max_new_tokens = *max_new_tokens;
            *next_id += 1;
            options.push(RowOptions {
                id: *next_id,
                name: "the request".into(),
                draws: draws.take(),
                alternatives: *logprobs,
                max_new_tokens,
            });
            let text = AnswerText::new(std::mem::take(stop));
            self.started(&ready);
            let ReadyJob { job, taken, .. } = ready;
            let times = AnswerTimes { arrived: job.arrived, taken, first_token: None };
            answers.insert(*next_id, Answer { job, text, max_new_tokens, times });
        }
        let admitted = recovered(|| batch.admit(prefilled, options));
        self.take_step(admitted, batch, answers);
    }

    /// Reports that the prompt of a job was computed.
    fn started(&self, ready: &ReadyJob) {
        let prefix = ready.prefix.as_ref().map_or(0, |prefix| prefix.positions());
        let cached_tokens = if ready.cached { prefix } else { 0 };
        self.queue.count(|stats| stats.prompt_tokens += ready.text().len() as u64);
        ready.job.send(ChatEvent::Started { prompt_tokens: ready.job.positions, cached_tokens });
    }

    /// Sends the tokens of a step to their clients, and removes answers that are complete, failed or cancelled.
    fn take_step<'a>(
        &'a self,
        step: Result<StepOutcome>,
        batch: &mut LiveBatch<'a>,
        answers: &mut BTreeMap<u64, Answer>,
    ) {
        let outcome = match step {
            Ok(outcome) => outcome,
            Err(error) => {
                // After a panic the batch may be half-changed: all of its answers fail, and the next ones begin anew.
                *batch = LiveBatch::new(&self.model, &self.device);
                let error = Arc::new(error);
                for (_, answer) in std::mem::take(answers) {
                    self.fail(&answer.job, Arc::clone(&error));
                }
                return;
            }
        };
        for failure in outcome.failures {
            let error = Arc::new(failure.error);
            for answer in failure.rows.iter().filter_map(|id| answers.remove(id)) {
                self.fail(&answer.job, Arc::clone(&error));
            }
        }
        let mut leaving = Vec::new();
        for (id, choice) in outcome.tokens {
            let Some(answer) = answers.get_mut(&id) else {
                leaving.push(id);
                continue;
            };
            answer.times.first_token.get_or_insert_with(Instant::now);
            let ended = self.stop.contains(&choice.id);
            let mut delta = Ok(TextDelta::default());
            if !ended {
                self.queue.count(|stats| stats.generated_tokens += 1);
                delta = answer.text.push(&self.tokenizer, choice.id, choice.scored.as_ref());
            }
            let finish = if ended || answer.text.is_stopped() {
                Some(Finish::Stop)
            } else {
                (answer.text.len() >= answer.max_new_tokens).then_some(Finish::Length)
            };
            let delta = match delta {
                Ok(delta) => delta,
                Err(error) => {
                    leaving.push(id);
                    if let Some(answer) = answers.remove(&id) {
                        self.fail(&answer.job, Arc::new(error));
                    }
                    continue;
                }
            };
            let connected = send(&answer.job, delta);
            if finish.is_some() || !connected {
                leaving.push(id);
                if let Some(answer) = answers.remove(&id) {
                    match finish {
                        Some(finish) => self.finish(answer, finish),
                        None => self.cancelled(),
                    }
                }
            }
        }
        batch.retire(&leaving);
    }

    /// Sends the rest of an answer.
    fn finish(&self, answer: Answer, finish: Finish) {
        let Answer { job, text, times, .. } = answer;
        let completion_tokens = text.len();
        match text.finish(&self.tokenizer) {
            Ok(delta) => {
                send(&job, delta);
                // Counted first, so that a client that has its answer finds it in the counts.
                self.left(|stats| stats.completed += 1);
                job.send(ChatEvent::Done { finish, completion_tokens, timings: times.finished() });
            }
            Err(error) => self.fail(&job, Arc::new(error)),
        }
    }

    /// Scores the options of a job.
    fn score(&self, ready: ReadyJob) {
        let Work::Score { texts, options } = &ready.job.work else { return };
        if ready.job.events.is_closed() {
            return self.cancelled();
        }
        let scored = recovered(|| {
            let prefilled = prefill(&self.model, &[(ready.prefix.as_deref(), ready.text())], &self.device)?;
            score_prefilled(&self.model, &prefilled, &[options], &self.device)
        });
        match scored {
            Ok(scores) => {
                self.started(&ready);
                let scores = scores.into_iter().flatten();
                let scored = texts.iter().zip(options).zip(scores).map(|((text, ids), logprob)| OptionScore {
                    text: text.clone(),
                    logprob,
                    tokens: ids.len(),
                });
                ready.job.send(ChatEvent::Scored(scored.collect()));
                self.left(|stats| stats.completed += 1);
                let times = AnswerTimes { arrived: ready.job.arrived, taken: ready.taken, first_token: None };
                let timings = times.finished();
                ready.job.send(ChatEvent::Done { finish: Finish::Stop, completion_tokens: 0, timings });
            }
            Err(error) => self.fail(&ready.job, Arc::new(error)),
        }
    }

    /// Removes answers whose clients are gone.
    fn drop_cancelled(&self, batch: &mut LiveBatch<'_>, answers: &mut BTreeMap<u64, Answer>) {
        let gone: Vec<u64> =
            answers.iter().filter(|(_, answer)| answer.job.events.is_closed()).map(|(id, _)| *id).collect();
        batch.retire(&gone);
        for _ in gone.iter().filter_map(|id| answers.remove(id)) {
            self.cancelled();
        }
    }

    /// Counts a request that is no longer in progress; `outcome` counts how it ended.
    fn left(&self, outcome: impl FnOnce(&mut ModelStats)) {
        self.queue.count(|stats| {
            outcome(stats);
            stats.active = stats.active.saturating_sub(1);
        });
    }

    fn cancelled(&self) {
        self.left(|stats| stats.cancelled += 1);
    }

    fn fail(&self, job: &Job, error: Arc<Error>) {
        self.left(|stats| stats.failed += 1);
        job.fail(error);
    }
}

/// Sends new text; whether the client is still there.
fn send(job: &Job, delta: TextDelta) -> bool {
    if delta.text.is_empty() && delta.tokens.is_empty() {
        return !job.events.is_closed();
    }
    job.send(ChatEvent::Text { text: delta.text, tokens: delta.tokens })
}
