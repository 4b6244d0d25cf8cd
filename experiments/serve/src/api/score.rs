//! `POST /v1/score`: log-probabilities of given answers.

use super::chat::{submit_blocking, until};
use super::request::Asked;
use super::respond::{Prompt, Running, finite, unexpected, usage};
use super::{Api, ApiError, body, images};
use crate::{ChatEvent, OptionScore};
use axum::Json;
use axum::extract::{Request, State};
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::time::Instant;

/// Scores the options of a question.
pub(super) async fn score(State(api): State<Arc<Api>>, request: Request) -> Result<Json<Value>, ApiError> {
    let deadline = Instant::now() + api.limits.request_time;
    let ((mut asked, options), held) = body::read(request, &api.limits, &api.budget, Asked::score).await?;
    let model = api.model(asked.model.as_deref())?.clone();
    let messages = until(deadline, &api, images::resolve(&mut asked, &api)).await??;
    let request = asked.into_request(messages, &api.limits, || 0);
    let count = options.len();
    let events = submit_blocking(deadline, &api, model.clone(), move |model| model.score(request, options)).await?;
    let mut running = Running { api, model, events, deadline, with_logprobs: false, _held: held };
    let (mut prompt, mut scores) = (Prompt::default(), Vec::new());
    loop {
        match running.next().await? {
            ChatEvent::Started { prompt_tokens, cached_tokens } => {
                prompt = Prompt { tokens: prompt_tokens, cached: cached_tokens };
            }
            ChatEvent::Scored(new) if new.len() == count => scores = new,
            ChatEvent::Done { timings, .. } if scores.len() == count => {
                running.finished(&timings);
                let usage = usage(prompt, scores.iter().map(|option| option.tokens).sum());
                let model = &running.model.info().id;
                let options = entries(&scores)?;
                let object = "score";
                return Ok(Json(
                    json!({"object": object, "model": model, "options": options, "usage": usage, "timings": timings}),
                ));
            }
            ChatEvent::Text { .. } | ChatEvent::Scored(_) | ChatEvent::Done { .. } | ChatEvent::Failed(_) => {
                return Err(unexpected());
            }
        }
    }
}

/// The options with their probabilities: the softmax of the log-probabilities.
fn entries(scores: &[OptionScore]) -> Result<Vec<Value>, ApiError> {
    if let Some(wrong) = scores.iter().find(|option| option.logprob.is_nan() || option.logprob == f64::INFINITY) {
        let text = burgess_base::text::excerpt(&wrong.text, 60);
        return Err(ApiError::internal(format!("the log-probability of `{text}` is {}", wrong.logprob)));
    }
    let largest = scores.iter().map(|option| finite(option.logprob)).fold(f64::NEG_INFINITY, f64::max);
    let weights: Vec<f64> = scores.iter().map(|option| (finite(option.logprob) - largest).exp()).collect();
    let sum: f64 = weights.iter().sum();
    let entry = |(option, weight): (&OptionScore, f64)| {
        let OptionScore { text, logprob, tokens } = option;
        json!({"text": text, "logprob": finite(*logprob), "tokens": tokens, "probability": weight / sum})
    };
    Ok(scores.iter().zip(weights).map(entry).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probabilities_are_the_softmax_and_stay_finite() {
        let option = |logprob| OptionScore { text: "a".to_owned(), logprob, tokens: 2 };
        let all = entries(&[option(-1000.0), option(-1000.0 - 3_f64.ln()), option(f64::NEG_INFINITY)]).unwrap();
        let probability = |n: usize| all[n]["probability"].as_f64().unwrap();
        assert!((probability(0) - 0.75).abs() < 1e-12 && (probability(1) - 0.25).abs() < 1e-12);
        assert_eq!((probability(2), all[2]["logprob"].as_f64()), (0.0, Some(-9999.0)));
        assert!(entries(&[option(f64::NAN)]).unwrap_err().body().to_string().contains("NaN"));
    }
}
