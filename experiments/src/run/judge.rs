//! Marks of a judge: a language model behind an OpenAI-compatible endpoint compares answers to open questions with the
//! reference answers.
//!
//! The procedure is that of LLaVA-Bench: the judge reads a description of the image, the question, the reference as
//! answer 1 and the model's answer as answer 2, and gives both a mark from 1 to 10 on the first line of its reply. The
//! result is the sum of the answers' marks in percent of the references'. It stands beside the score of the benchmark's
//! rules and is never mixed with it; the replies are kept in the samples. The wording of the request is ours.

use crate::machine::progress::Bar;
use crate::machine::stop;
use crate::run::eval_task::EvalTask;
use crate::run::store::RunStore;
use burgess_base::text::excerpt;
use burgess_base::{Error, Result, answer_text};
use burgess_engine::llm::{ChatClient, ChatError, ChatMessage, ChatReply, ChatRequest, Endpoint};
use burgess_probe::bench::Question;
use burgess_reports::schema::{JudgeVerdict, Sample};
use std::sync::Arc;

/// Number of requests that are under way at a time.
const PARALLEL: usize = 4;
/// Number of verdicts after which the samples are written.
const SAVED: usize = 16;
/// Largest number of tokens of a reply, as in LLaVA-Bench.
const REPLY: u32 = 1024;
/// Number of refused requests in a row after which the judge is asked no more.
const REFUSED: usize = 8;

/// A judge behind an endpoint.
#[derive(Debug)]
pub struct Judge {
    client: ChatClient,
    model: String,
}

impl Judge {
    /// Sets up a judge; `key` is the name of the environment variable that holds the key, if the server needs one.
    ///
    /// # Errors
    /// The address is wrong, no model is named, or the variable is not set.
    pub fn new(url: &str, model: &str, key: Option<&str>) -> Result<Self> {
        let endpoint = Endpoint {
            key_variable: key.map(String::from),
            temperature: Some(0.0),
            max_tokens: Some(REPLY),
            ..Endpoint::new(url, model)
        };
        let client = ChatClient::stoppable(&endpoint, Arc::new(stop::requested)).map_err(|e| e.context("the judge"))?;
        Ok(Self { client, model: model.to_string() })
    }

    /// Asks for the verdicts on the samples that have none of this judge yet, and stores them with the samples from
    /// time to time. A request that the server refuses leaves its sample without a verdict, is counted and named.
    ///
    /// # Errors
    /// The server cannot be used, refuses many requests in a row, or a signal asked to stop; verdicts so far are kept.
    pub fn judge(&self, task: &EvalTask, samples: &mut [Sample], store: &RunStore, bar: &Bar) -> Result<()> {
        let id = task.benchmark.id();
        let has = |sample: &Sample| sample.judge.as_ref().is_some_and(|verdict| verdict.model == self.model);
        let pending: Vec<usize> = samples.iter().enumerate().filter(|(_, s)| !has(s)).map(|(i, _)| i).collect();
        if pending.is_empty() {
            return Ok(());
        }
        bar.message(&format!("{id}: asking the judge {}", excerpt(&self.model, 40)));
        let _section = stop::section()?;
        let (mut done, mut unsaved, mut in_a_row) = (0, 0, 0);
        let (mut refused, mut first) = (0, None);
        for chunk in pending.chunks(PARALLEL) {
            let replies = self.replies(task, samples, chunk);
            let mut fatal = None;
            for (i, reply) in chunk.iter().zip(replies) {
                let Some(sample) = samples.get_mut(*i) else { continue };
                let Some(reply) = reply else {
                    fatal.get_or_insert(Error::failed(format!("{id}: a request to the judge ended in a panic")));
                    continue;
                };
                match reply {
                    Ok(reply) => {
                        sample.judge = Some(self.verdict(&reply));
                        (unsaved, in_a_row) = (unsaved + 1, 0);
                    }
                    Err(e) if e.kind.is_of_request() && in_a_row + 1 < REFUSED => {
                        (refused, in_a_row) = (refused + 1, in_a_row + 1);
                        first.get_or_insert_with(|| format!("question {}: {e}", excerpt(&sample.id, 80)));
                    }
                    Err(e) => {
                        let step = format!("asking the judge about question {} of {id}", excerpt(&sample.id, 80));
                        fatal.get_or_insert(Error::from(e).context(step));
                    }
                }
                done += 1;
            }
            self.client.take_notes().iter().for_each(|note| bar.line(&format!("note: the judge: {note}")));
            bar.set(done, pending.len() as u64);
            if unsaved >= SAVED || (unsaved > 0 && (fatal.is_some() || stop::requested())) {
                store.write_samples(id, samples)?;
                unsaved = 0;
            }
            if let Some(e) = fatal {
                return Err(e);
            }
            stop::check()?;
        }
        if unsaved > 0 {
            store.write_samples(id, samples)?;
        }
        if let Some(first) = first {
            bar.line(&format!(
                "note: {id}: the judge's server refused {refused} of {} requests, which have no marks (first: {first})",
                pending.len()
            ));
        }
        Ok(())
    }

    /// Asks about some samples at the same time; the replies are in their order, `None` where a thread panicked.
    fn replies(
        &self,
        task: &EvalTask,
        samples: &[Sample],
        chunk: &[usize],
    ) -> Vec<Option<Result<ChatReply, ChatError>>> {
        let requests: Vec<Option<ChatRequest>> =
            chunk.iter().map(|i| Some(request(task.questions.get(*i)?, samples.get(*i)?))).collect();
        std::thread::scope(|scope| {
            let ask = |request: &'_ ChatRequest| self.client.chat(request);
            let asked: Vec<_> =
                requests.iter().map(|request| request.as_ref().map(|r| scope.spawn(move || ask(r)))).collect();
            asked.into_iter().map(|thread| thread.and_then(|thread| thread.join().ok())).collect()
        })
    }

    fn verdict(&self, reply: &ChatReply) -> JudgeVerdict {
        let mut usage = reply.usage;
        usage.add(reply.lost);
        JudgeVerdict {
            model: self.model.clone(),
            marks: marks(&reply.text),
            text: reply.text.clone(),
            prompt_tokens: usage.prompt_tokens,
            completion_tokens: usage.completion_tokens,
            estimated: usage.estimated,
        }
    }
}

/// Makes the request about one answer.
fn request(question: &Question, sample: &Sample) -> ChatRequest {
    let answer = answer_text::without_reasoning(&sample.answer);
    let image = match &question.context {
        Some(context) => format!("[Description of the image]\n{context}\n[End of the description]\n\n"),
        None => String::new(),
    };
    let text = format!(
        "{image}[Question about the image]\n{}\n[End of the question]\n\n[Answer 1]\n{}\n[End of answer 1]\n\n[Answer 2]\n\
         {answer}\n[End of answer 2]\n\nMark both answers for how helpful, relevant, correct and detailed they are, each \
         from 1 (worst) to 10 (best). Which answer comes first must not matter. Write only the two marks on the first \
         line, that of answer 1 first, separated by a space. Explain them on the lines below.",
        question.question, question.answer
    );
    let system = "You compare answers to questions about images, carefully and fairly.";
    ChatRequest::new(vec![ChatMessage::system(system), ChatMessage::user(text)])
}

/// Reads the marks: the first line that is not blank holds two numbers from 1 to 10, alone or as `8/10`, and no words.
fn marks(reply: &str) -> Option<[f64; 2]> {
    let text = burgess_base::reasoning::split(reply).answer;
    let line = text.lines().find(|line| !line.trim().is_empty())?.replace("/10", " ");
    if line.chars().any(char::is_alphabetic) {
        return None;
    }
    let numbers: Vec<f64> = line
        .split(|c: char| !(c.is_ascii_digit() || c == '.' || c == '-'))
        .map(|part| part.trim_end_matches('.'))
        .filter(|part| part.chars().any(|c| c.is_ascii_digit()))
        .map(|part| part.parse().unwrap_or(f64::NAN))
        .collect();
    match numbers.as_slice() {
        [a, b] if [a, b].iter().all(|mark| (1.0..=10.0).contains(*mark)) => Some([*a, *b]),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_two_numbers_on_the_first_line() {
        for (reply, expected) in [
            ("8 10\nBoth are good: 3 points more.", Some([8.0, 10.0])),
            ("\n 9, 6.5 \n…", Some([9.0, 6.5])),
            ("8/10 7/10", Some([8.0, 7.0])),
            ("**8 7**", Some([8.0, 7.0])),
            ("<think>maybe 3 4</think>5 6", Some([5.0, 6.0])),
            ("8.", None),
            ("Assistant 1: 8, Assistant 2: 7", None),
            ("Both deserve 8 of 10.", None),
            ("0 5", None),
            ("11 5", None),
            ("-3 5", None),
            ("1.2.3 5", None),
            ("I cannot mark these answers.", None),
            ("", None),
        ] {
            assert_eq!(marks(reply), expected, "{reply}");
        }
    }
}
