//! The API: chat completions as OpenAI's clients send them, the list of models, scores of given answers, and the state
//! of the server.

mod body;
mod chat;
mod error;
mod fields;
mod images;
mod info;
mod remote;
mod request;
mod respond;
mod score;

pub(crate) use error::{ApiError, Scheme};

use crate::metrics::Metrics;
use crate::{ChatModel, Example, Limits, ServerConfig};
use axum::Router;
use axum::routing::{get, post};
use body::Budget;
use burgess_base::nearest;
use remote::Remote;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// What the routes of the API share.
pub(crate) struct Api {
    models: Vec<Arc<dyn ChatModel>>,
    limits: Limits,
    examples: Vec<Example>,
    /// Downloads images; `None` if only images inside requests are accepted.
    remote: Option<Remote>,
    budget: Budget,
    metrics: Arc<Metrics>,
    /// Makes the ids of answers, and the seeds of requests without one.
    random: RandomState,
    count: AtomicU64,
}

impl Api {
    pub fn new(config: &ServerConfig, models: Vec<Arc<dyn ChatModel>>, metrics: Arc<Metrics>) -> Self {
        Self {
            models,
            limits: config.limits.clone(),
            examples: config.examples.clone(),
            remote: config.allow_remote_images.then(|| Remote::new(&config.limits)),
            budget: Budget::new(config.limits.total_body_bytes),
            metrics,
            random: RandomState::new(),
            count: AtomicU64::new(0),
        }
    }

    /// Returns the model of this name; an absent or empty name is that of the only model.
    fn model(&self, name: Option<&str>) -> Result<&Arc<dyn ChatModel>, ApiError> {
        let names = || self.models.iter().map(|model| model.info().id.as_str());
        let list = || names().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        let Some(name) = name.filter(|name| !name.is_empty()) else {
            return match self.models.as_slice() {
                [only] => Ok(only),
                _ => Err(ApiError::invalid("`model` is missing and this server has several models")
                    .with_hint(format!("name one of {}", list()))
                    .at("model")),
            };
        };
        self.models.iter().find(|model| model.info().id == name).ok_or_else(|| {
            let near = nearest(name, names());
            let hint = match near.first() {
                Some(near) => format!("did you mean `{near}`? There are {}", list()),
                None => format!("use one of {}", list()),
            };
            ApiError::no_model(name).with_hint(hint)
        })
    }

    /// Returns a number that clients cannot predict.
    fn random(&self) -> u64 {
        self.random.hash_one(self.count.fetch_add(1, Ordering::Relaxed))
    }
}

/// Returns the time in seconds since 1970.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}

/// The routes of the API.
pub(crate) fn router(api: Api) -> Router {
    Router::new()
        .route("/v1/chat/completions", post(chat::complete))
        .route("/v1/score", post(score::score))
        .route("/v1/models", get(info::models))
        .route("/v1/models/{*id}", get(info::model))
        .route("/healthz", get(info::health))
        .route("/metrics", get(info::metrics))
        .route("/examples", get(info::examples))
        .route("/examples/{file}", get(info::example_image))
        .with_state(Arc::new(api))
}
