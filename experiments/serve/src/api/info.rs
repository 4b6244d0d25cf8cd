//! What there is: models, examples, and the state of the server.

use super::{Api, ApiError};
use crate::ModelInfo;
use axum::Json;
use axum::extract::{Path, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use std::sync::Arc;

/// A model in OpenAI's form, with the description under `burgess`.
fn entry(info: &ModelInfo) -> Value {
    json!({"id": info.id, "object": "model", "created": info.created, "owned_by": "burgess", "burgess": info})
}

/// `GET /v1/models`.
pub(super) async fn models(State(api): State<Arc<Api>>) -> Json<Value> {
    let data: Vec<Value> = api.models.iter().map(|model| entry(model.info())).collect();
    Json(json!({"object": "list", "data": data}))
}

/// `GET /v1/models/{id}`.
pub(super) async fn model(State(api): State<Arc<Api>>, Path(id): Path<String>) -> Result<Json<Value>, ApiError> {
    Ok(Json(entry(api.model(Some(&id))?.info())))
}

/// `GET /healthz`.
pub(super) async fn health() -> &'static str {
    "ok\n"
}

/// `GET /metrics` in the text format of Prometheus.
pub(super) async fn metrics(State(api): State<Arc<Api>>) -> Response {
    let models: Vec<_> = api.models.iter().map(|model| (model.info().id.as_str(), model.stats())).collect();
    let kind = "text/plain; version=0.0.4; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], api.metrics.text(&models)).into_response()
}

/// `GET /examples`: the questions of the chat page with the addresses of their images.
pub(super) async fn examples(State(api): State<Arc<Api>>) -> Json<Value> {
    let items = api.examples.iter().enumerate().map(|(n, example)| {
        let mut item = json!(example);
        item["image"] = format!("/examples/{n}.png").into();
        item
    });
    Json(Value::Array(items.collect()))
}

/// `GET /examples/{n}.png`.
pub(super) async fn example_image(State(api): State<Arc<Api>>, Path(file): Path<String>) -> Result<Response, ApiError> {
    let number = file.strip_suffix(".png").and_then(|number| number.parse::<usize>().ok());
    let example = number.and_then(|number| api.examples.get(number)).ok_or_else(|| {
        ApiError::not_found("there is no such example").with_hint("see /examples for the addresses of the images")
    })?;
    Ok(([(header::CONTENT_TYPE, "image/png"), (header::CACHE_CONTROL, "private, max-age=3600")], example.image.clone())
        .into_response())
}
