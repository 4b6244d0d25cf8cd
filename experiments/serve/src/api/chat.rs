//! `POST /v1/chat/completions`.

use super::request::Asked;
use super::respond::{self, Running};
use super::{Api, ApiError, body, images};
use crate::{ChatEvent, ChatModel, SubmitError};
use axum::extract::{Request, State};
use axum::response::Response;
use std::sync::Arc;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{Instant, timeout_at};

/// Answers a conversation. If the client disconnects, the future of this function is dropped, and with it the receiver of
/// the model's events, which cancels the request.
pub(super) async fn complete(State(api): State<Arc<Api>>, request: Request) -> Result<Response, ApiError> {
    let deadline = Instant::now() + api.limits.request_time;
    let (mut asked, held) = body::read(request, &api.limits, &api.budget, Asked::completion).await?;
    let model = api.model(asked.model.as_deref())?.clone();
    let messages = until(deadline, &api, images::resolve(&mut asked, &api)).await??;
    let stream = asked.stream;
    let request = asked.into_request(messages, &api.limits, || api.random());
    let with_logprobs = request.logprobs.is_some();
    let events = submit_blocking(deadline, &api, model.clone(), move |model| model.submit(request)).await?;
    let running = Running { api, model, events, deadline, with_logprobs, _held: held };
    match stream {
        None => respond::whole(running).await,
        Some(options) => respond::stream(running, options).await,
    }
}

/// Awaits `work`; fails with a timeout error once `deadline` has passed.
pub(super) async fn until<T>(deadline: Instant, api: &Api, work: impl Future<Output = T>) -> Result<T, ApiError> {
    timeout_at(deadline, work).await.map_err(|_| ApiError::timeout(api.limits.request_time.as_secs_f64()))
}

/// Hands a request to a model, on a thread that may block: the model decodes the image before it queues the request.
pub(super) async fn submit_blocking(
    deadline: Instant,
    api: &Api,
    model: Arc<dyn ChatModel>,
    submit: impl FnOnce(&dyn ChatModel) -> Result<UnboundedReceiver<ChatEvent>, SubmitError> + Send + 'static,
) -> Result<UnboundedReceiver<ChatEvent>, ApiError> {
    let work = tokio::task::spawn_blocking(move || submit(&*model));
    let done = until(deadline, api, work).await?;
    done.map_err(|_| ApiError::internal("internal error: the model panicked while it checked and queued the request"))?
        .map_err(submit_error)
}

/// Returns the error of a request that a model did not accept.
pub(super) fn submit_error(error: SubmitError) -> ApiError {
    match error {
        SubmitError::Full { retry_after } => ApiError::busy(retry_after),
        SubmitError::ShuttingDown => ApiError::shutting_down(),
        SubmitError::Invalid { error, param } => {
            let new = ApiError::invalid(error.to_string()).at(param).coded("invalid_value");
            match error.hint_text() {
                Some(hint) => new.with_hint(hint),
                None => new,
            }
        }
    }
}
