//! The evaluation of a model on one benchmark: its questions with tokenised prompts, and the scoring of answers.

use crate::data::{ImageIndex, benchmarks, image_files};
use crate::study::{EvalOptions, ResponsePromptUse, SeveralImagesInput};
use burgess_base::text::excerpt;
use burgess_base::{Error, Result, digest, response_format};
use burgess_probe::bench::{self, AnswerScore, Benchmark, Question, Rules};
use burgess_probe::llm::chat::Turn;
use burgess_probe::llm::{ChatTemplate, Tokenizer};
use burgess_reports::schema::{self, BenchmarkResult, JudgedScore, MostFrequentAnswer, Sample, SeveralImages};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// A benchmark with its questions and tokenised prompts.
#[derive(Clone)]
pub struct EvalTask {
    /// The benchmark whose questions are asked.
    pub benchmark: &'static dyn Benchmark,
    pub(super) questions: Vec<Question>,
    /// Digest of the text of the questions.
    pub digest: String,
    /// Rows of the data that cannot be asked, grouped by reason.
    pub skipped: Vec<bench::SkippedRows>,
    /// Number of questions of the whole benchmark, if `questions` is a sample.
    sample_of: Option<usize>,
    /// Indices of the images of each question, in the order of their placeholders in the prompt; empty for a question
    /// without an image.
    images: Vec<Vec<usize>>,
    /// The texts given to the model, with placeholders if there are several images.
    pub(super) prompts: Vec<String>,
    /// The same texts without placeholders.
    blind_texts: Vec<String>,
    /// Number of images of each question, and how several are put into the prompt.
    image_counts: Vec<usize>,
    several_images: SeveralImagesInput,
    /// Rules that are applied, with `official` resolved: `scoring` for answers and `prompting` for prompts.
    scoring: Rules,
    prompting: Rules,
    /// Whether response-format sentences of the prompts were kept; `dropped` counts those that were not, by their text.
    response_prompt: ResponsePromptUse,
    dropped: BTreeMap<&'static str, usize>,
    /// Tokens of the prompts with one placeholder per image.
    pub(super) image_prompts: Vec<Vec<u32>>,
    /// Tokens of the prompts without placeholders.
    pub(super) blind_prompts: Vec<Vec<u32>>,
}

impl EvalTask {
    /// Reads the questions of a benchmark from a data directory `dir` and assigns indices to their images.
    ///
    /// # Errors
    /// The questions are not on this machine, or are malformed.
    pub fn read(
        benchmark: &'static dyn Benchmark,
        dir: &Path,
        options: &EvalOptions,
        chat: &ChatTemplate,
        tokenizer: &Tokenizer,
        images: &mut ImageIndex,
    ) -> Result<Self> {
        let read = benchmark.read(&benchmarks::locate_in(benchmark, Some(dir))?)?;
        Self::of_questions(benchmark, read, dir, options, chat, tokenizer, images)
    }

    /// As [`EvalTask::read`], for questions that were read.
    pub(super) fn of_questions(
        benchmark: &'static dyn Benchmark,
        read: bench::QuestionSet,
        dir: &Path,
        options: &EvalOptions,
        chat: &ChatTemplate,
        tokenizer: &Tokenizer,
        images: &mut ImageIndex,
    ) -> Result<Self> {
        let (scoring, prompting) = (benchmark.rules(options.scoring)?, benchmark.rules(options.prompts)?);
        let bench::QuestionSet { mut questions, skipped } = read;
        let digest = digest::of_value(
            &questions.iter().map(|q| (&q.id, &q.question, &q.options, &q.answer)).collect::<Vec<_>>(),
        )?;
        let mut numbers: Vec<Vec<usize>> = Vec::with_capacity(questions.len());
        for q in &questions {
            let of_question = benchmark.prompt_images(q, prompting);
            let blocks = match options.several_images {
                SeveralImagesInput::Blocks => of_question.chunks(1),
                // The name of several images is that of one image, which joins them.
                SeveralImagesInput::SideBySide => of_question.chunks(of_question.len().max(1)),
            };
            numbers.push(blocks.map(|block| images.number(&image_files::joint_name(dir, block))).collect());
        }
        let all = questions.len();
        if let Some(limit) = options.limit {
            let kept = bench::sample::sample(&questions, limit, benchmark.id());
            let mut keep = questions.iter().map(|q| kept.contains(&q.unit)).collect::<Vec<_>>().into_iter();
            numbers.retain(|_| keep.next().unwrap_or(true));
            questions.retain(|q| kept.contains(&q.unit));
        }
        let mut prompts: Vec<String> = questions.iter().map(|q| benchmark.prompt(q, prompting)).collect();
        let mut dropped = BTreeMap::new();
        if options.response_prompt == ResponsePromptUse::Drop {
            for prompt in &mut prompts {
                let (rest, removed) = response_format::without(prompt);
                // A prompt that is nothing but such a sentence stays.
                if rest.trim().is_empty() {
                    continue;
                }
                *prompt = rest;
                removed.into_iter().for_each(|text| *dropped.entry(text).or_default() += 1);
            }
        }
        let mut blind_texts = prompts.clone();
        let mut image_prompts = Vec::with_capacity(prompts.len());
        for ((prompt, blind), images) in prompts.iter_mut().zip(&mut blind_texts).zip(&mut numbers) {
            if images.len() != 1 {
                let placed = chat.place_images(prompt, images.len());
                *images = placed.order.iter().filter_map(|i| images.get(*i).copied()).collect();
                (*prompt, *blind) = (placed.text, placed.blind);
            }
            image_prompts.push(match images.len() {
                0 | 1 => chat.prompt(tokenizer, prompt, images.len() == 1)?,
                _ => chat.prompt_with_images(tokenizer, prompt)?,
            });
        }
        let blind_prompts = blind_texts.iter().map(|p| chat.prompt(tokenizer, p, false)).collect::<Result<_>>()?;
        let image_counts = questions.iter().map(|q| benchmark.prompt_images(q, prompting).len()).collect();
        let sample_of = (questions.len() < all).then_some(all);
        Ok(Self {
            benchmark,
            digest,
            skipped,
            sample_of,
            images: numbers,
            image_prompts,
            blind_prompts,
            questions,
            prompts,
            blind_texts,
            image_counts,
            several_images: options.several_images,
            scoring,
            prompting,
            response_prompt: options.response_prompt,
            dropped,
        })
    }

    /// Returns the benchmark with some of its questions only, by their indices.
    pub(super) fn with_questions(&self, kept: &BTreeSet<usize>) -> Self {
        fn pick<T: Clone>(all: &[T], kept: &BTreeSet<usize>) -> Vec<T> {
            kept.iter().filter_map(|i| all.get(*i).cloned()).collect()
        }
        let all = self.questions.len();
        Self {
            questions: pick(&self.questions, kept),
            sample_of: self.sample_of.or((kept.len() < all).then_some(all)),
            images: pick(&self.images, kept),
            prompts: pick(&self.prompts, kept),
            blind_texts: pick(&self.blind_texts, kept),
            image_counts: pick(&self.image_counts, kept),
            image_prompts: pick(&self.image_prompts, kept),
            blind_prompts: pick(&self.blind_prompts, kept),
            ..self.clone()
        }
    }

    /// Returns notes on the rows that are not asked, by reason, and on the sentences that were dropped from prompts.
    pub fn notes(&self) -> impl Iterator<Item = String> {
        let id = self.benchmark.id();
        let skipped = self.skipped.iter().map(move |left| format!("{id}: not asked: {}", left.text("rows")));
        let (asked, nothing) = (self.questions.len(), self.dropped.is_empty());
        let dropped = self
            .dropped
            .iter()
            .map(move |(text, count)| format!("{id}: dropped from {count} of {asked} prompts: \"{text}\""));
        let none = (self.response_prompt == ResponsePromptUse::Drop && nothing)
            .then(|| format!("{id}: no prompt has a response-format sentence to drop"));
        skipped.chain(dropped).chain(none)
    }

    /// Indices of the images of all questions, in their order; an image of several questions occurs several times.
    pub fn images(&self) -> impl Iterator<Item = usize> {
        self.images.iter().flatten().copied()
    }

    /// Returns the id of a question about the image with this index, if one is asked.
    pub fn question_about(&self, image: usize) -> Option<&str> {
        let at = self.images.iter().position(|images| images.contains(&image))?;
        self.questions.get(at).map(|q| q.id.as_str())
    }

    /// Number of positions of the longest prompt if an image takes `image` of them; 0 if there are no questions.
    pub fn longest_prompt(&self, image: usize) -> usize {
        let length = |(ids, images): (&Vec<u32>, &Vec<usize>)| ids.len() + images.len() * image;
        self.image_prompts.iter().zip(&self.images).map(length).max().unwrap_or(0)
    }

    /// Returns whether a question has several images.
    pub fn has_several_images(&self) -> bool {
        self.image_counts.iter().any(|count| *count > 1)
    }

    /// Checks that all questions fit into `most` positions of the language model; an image takes `image` of them.
    ///
    /// # Errors
    /// A question is too long; the error names the first.
    pub fn check_lengths(&self, image: usize, most: usize) -> Result<()> {
        let questions = self.image_prompts.iter().zip(&self.images).zip(&self.questions);
        // Each placeholder is replaced by the tokens of its image.
        let mut lengths =
            questions.map(|((ids, images), q)| (ids.len() - images.len() + images.len() * image, images, q));
        let Some((length, images, question)) = lengths.find(|(length, ..)| *length > most) else { return Ok(()) };
        let (whose, hint) = match images.len() {
            0 => (String::new(), "leave the benchmark out"),
            1 => (
                " with its image".to_string(),
                "use fewer image tokens (another connector or a smaller grid), or leave the benchmark out",
            ),
            n => (
                format!(" with its {n} images of {image} tokens each"),
                "join the images of such questions side by side (`several_images = \"side-by-side\"` in [evaluator] of a \
                 study, `--several-images side-by-side` of `burgess eval`), use fewer image tokens, or leave the \
                 benchmark out",
            ),
        };
        Err(Error::failed(format!(
            "question {} of {} has {length} tokens{whose}, the language model reads at most {most}",
            question.id,
            self.benchmark.id(),
        ))
        .hint(hint))
    }

    /// Tokenises an answer to question `i` as in training: the answer and the token that ends it.
    ///
    /// # Errors
    /// The chat template rejects the conversation.
    pub(super) fn answer_tokens(
        &self,
        chat: &ChatTemplate,
        tokenizer: &Tokenizer,
        i: usize,
        answer: &str,
    ) -> Result<Vec<u32>> {
        let text = self.blind_texts.get(i).map_or("", String::as_str);
        let turns = [Turn::user(text), Turn::assistant(answer)];
        let encoded = chat.encode(tokenizer, &turns, self.images.get(i).is_some_and(|images| !images.is_empty()))?;
        let supervised = encoded.ids.iter().zip(&encoded.loss_mask).filter(|(_, supervised)| **supervised);
        Ok(supervised.map(|(id, _)| *id).collect())
    }

    /// Describes question `i` by its id, for messages.
    pub(super) fn named(&self, i: usize) -> String {
        format!("question {}", self.questions.get(i).map_or_else(String::new, |q| excerpt(&q.id, 80)))
    }

    /// Indices of the images of question `i`, in the order of their placeholders.
    pub(super) fn images_of(&self, i: usize) -> &[usize] {
        self.images.get(i).map_or(&[], Vec::as_slice)
    }

    /// Token ids of question `i` with one placeholder per image.
    pub(super) fn image_prompt(&self, i: usize) -> &[u32] {
        self.image_prompts.get(i).map_or(&[], Vec::as_slice)
    }

    /// Token ids of question `i` without placeholders.
    pub(super) fn blind_prompt(&self, i: usize) -> &[u32] {
        self.blind_prompts.get(i).map_or(&[], Vec::as_slice)
    }

    /// Returns the possible answers to question `i`; empty for an open question.
    pub(super) fn possible_answers(&self, i: usize) -> Vec<String> {
        self.questions.get(i).map_or_else(Vec::new, |q| self.benchmark.possible_answers(q))
    }

    /// Judges an answer to question `i`.
    pub(super) fn judge(&self, i: usize, answer: &str) -> AnswerScore {
        let judge = |q| self.benchmark.judge(q, answer, self.scoring);
        self.questions.get(i).map_or_else(AnswerScore::unparsed, judge)
    }

    /// Counts the questions with several images.
    fn several_images(&self) -> Option<SeveralImages> {
        let several: Vec<usize> = self.image_counts.iter().copied().filter(|count| *count > 1).collect();
        (!several.is_empty()).then(|| SeveralImages {
            questions: several.len(),
            images: several.iter().sum(),
            put: self.several_images.as_str().into(),
        })
    }

    /// Computes the result of a benchmark from its samples, with the image and blind.
    ///
    /// # Errors
    /// The samples do not belong to these questions.
    pub(super) fn score(&self, samples: &[Sample], seconds: f64) -> Result<BenchmarkResult> {
        let (b, rules) = (self.benchmark, self.scoring);
        if samples.len() != self.questions.len() || samples.iter().zip(&self.questions).any(|(s, q)| s.id != q.id) {
            return Err(Error::failed(format!("the samples of {} belong to other questions", b.id()))
                .hint("remove the run's samples/ directory and run the command again"));
        }
        let judged: Vec<AnswerScore> =
            samples.iter().map(|s| AnswerScore { parsed: s.parsed.clone(), score: s.score }).collect();
        // Samples do not record whether a blind answer could be parsed; only its score counts.
        let blind: Vec<AnswerScore> = samples
            .iter()
            .map(|s| AnswerScore { parsed: Some(s.blind_answer.clone()), score: s.blind_score })
            .collect();
        let outcome = b.aggregate(&self.questions, &judged, rules)?;
        let blind = b.aggregate(&self.questions, &blind, rules)?;
        // Open questions have no options and keep the score of the generated answer.
        let likelihood = samples
            .iter()
            .any(|s| s.likelihoods.is_some())
            .then(|| {
                let taken = |s: &Sample| match &s.likelihoods {
                    Some(l) => AnswerScore { parsed: Some(l.answer.clone()), score: l.score },
                    None => AnswerScore { parsed: s.parsed.clone(), score: s.score },
                };
                b.aggregate(&self.questions, &samples.iter().map(taken).collect::<Vec<_>>(), rules)
            })
            .transpose()?
            .map(|o| o.score);
        let units = outcome
            .units
            .iter()
            .zip(&blind.units)
            .map(|(u, v)| schema::UnitScore { id: u.id.clone(), sum: u.sum, weight: u.weight, blind: v.sum })
            .collect();
        Ok(BenchmarkResult {
            category: b.category().clone(),
            metric: b.metric(rules).to_string(),
            scoring: rules.as_str().into(),
            prompts: match self.dropped.is_empty() {
                true => self.prompting.as_str().into(),
                false => format!("{} without response-format sentences", self.prompting.as_str()),
            },
            sample_of: self.sample_of,
            score: outcome.score,
            stderr: outcome.stderr,
            chance: b.chance(&self.questions, rules),
            blind: blind.score,
            n: outcome.n,
            n_unparsed: outcome.n_unparsed,
            most_frequent_answer: MostFrequentAnswer::of(samples.iter().map(|s| s.parsed.as_deref())),
            several_images: self.several_images(),
            n_without_image: self.image_counts.iter().filter(|count| **count == 0).count(),
            n_reasoning: samples.iter().filter(|s| bench::reasoning::split(&s.answer).reasoning).count(),
            higher_is_better: true,
            seconds,
            likelihood,
            judge: JudgedScore::of(samples),
            units,
        })
    }
}
