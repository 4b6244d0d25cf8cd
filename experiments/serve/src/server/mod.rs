//! The server: it listens, guards every request, and hands it to the routes of the API or of a page.

mod connection;
mod guard;

use crate::api::{self, Api, ApiError};
use crate::metrics::Metrics;
use crate::{ChatModel, Limits, ServerConfig, page};
use axum::{Router, middleware};
use burgess_base::{Context, Error, Result};
use guard::{Guard, Realm};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

/// A server that is bound to its address and not yet running.
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    routes: Router,
    limits: Limits,
    metrics: Arc<Metrics>,
    models: Vec<Arc<dyn ChatModel>>,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Server {
    /// Binds a server of the API and the chat page for these models.
    ///
    /// # Errors
    /// There is no model, two models have the same name, or the address cannot be bound.
    pub fn bind(config: ServerConfig, models: Vec<Arc<dyn ChatModel>>) -> Result<Self> {
        if models.is_empty() {
            return Err(Error::usage("no model is given, a server needs at least one").hint("name a model to serve"));
        }
        for (i, model) in models.iter().enumerate() {
            let id = &model.info().id;
            if models.iter().take(i).any(|other| other.info().id == *id) {
                return Err(Error::usage(format!("two models have the name `{id}`, names must be unique"))
                    .hint("serve one of them, or give it another name"));
            }
        }
        let metrics = Arc::new(Metrics::default());
        let routes = page::router().merge(api::router(Api::new(&config, models.clone(), metrics.clone())));
        Self::assemble(config, routes, Realm::Api, models, metrics)
    }

    /// Binds a server of other pages only, such as those of an answer browser, behind the same limits and checks. With
    /// a token in the configuration, a browser asks for it as the password of any user.
    ///
    /// # Errors
    /// The address cannot be bound.
    pub fn bind_pages(config: ServerConfig, pages: Router) -> Result<Self> {
        Self::assemble(config, pages, Realm::Pages, Vec::new(), Arc::new(Metrics::default()))
    }

    fn assemble(
        config: ServerConfig,
        routes: Router,
        realm: Realm,
        models: Vec<Arc<dyn ChatModel>>,
        metrics: Arc<Metrics>,
    ) -> Result<Self> {
        if config.token.as_ref().is_some_and(|token| token.trim().is_empty()) {
            return Err(Error::usage("the token is empty").hint("set a token, or none"));
        }
        let step = || format!("listening on {}", config.address);
        let listener = TcpListener::bind(config.address)
            .with_context(step)
            .map_err(|e| e.hint("choose another port, or 0 for any free one, and an address of this machine"))?;
        listener.set_nonblocking(true).with_context(step)?;
        let address = listener.local_addr().with_context(step)?;
        let guard = Arc::new(Guard::new(&config, realm));
        let routes = routes
            .fallback(ApiError::no_route)
            .method_not_allowed_fallback(ApiError::wrong_method)
            .layer(middleware::from_fn_with_state(guard, guard::check))
            .layer(middleware::from_fn_with_state(metrics.clone(), crate::metrics::observe));
        Ok(Self { listener, address, routes, limits: config.limits, metrics, models })
    }

    /// Returns the address that the server is bound to, with the port that was taken.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `shutdown` is ready. Then the server accepts no more connections, lets requests in progress finish
    /// for at most [`Limits::shutdown_time`], and returns.
    ///
    /// # Errors
    /// The listener cannot be registered with the runtime.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Result<()> {
        let listener = tokio::net::TcpListener::from_std(self.listener).context("listening for connections")?;
        connection::serve(listener, self.routes, &self.limits, &self.metrics, async {
            shutdown.await;
            for model in &self.models {
                model.shut_down();
            }
        })
        .await;
        Ok(())
    }

    /// Serves as [`Server::run`] does, on a runtime of its own, and blocks until the end.
    ///
    /// # Errors
    /// The runtime cannot be built, or as [`Server::run`].
    pub fn run_blocking(self, shutdown: impl Future<Output = ()>) -> Result<()> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .max_blocking_threads(16)
            .thread_name("burgess-serve")
            .enable_all()
            .build()
            .context("starting the server's threads")?;
        let result = runtime.block_on(self.run(shutdown));
        // Requests that outlived the shutdown time are not waited for again.
        runtime.shutdown_background();
        result
    }
}
