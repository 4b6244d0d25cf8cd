//! Pages over studies: a list of studies, and each study's page with its answer browser, written on demand.
//!
//! The server sends two kinds of files only: those that it wrote itself into its own temporary directories, and images
//! by number. No path of a request ever becomes a path of the file system: studies are looked up by name, and file
//! names among those in a directory.

mod pages_version;
mod reply;

use axum::Router;
use axum::extract::{Path as UrlPath, Query, State};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use burgess_base::{Error, Result};
use pages_version::{PagesVersion, PagesVersions};
pub use reply::encoded;
use reply::{error_page, file_reply, html_reply, image_reply, not_found, script_reply};
use serde::Deserialize;
use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

/// The studies of a viewer. All methods may block.
pub trait StudyPages: Send + Sync + 'static {
    /// Renders the page that lists all studies.
    ///
    /// # Errors
    /// The directory of the studies cannot be read.
    fn index(&self) -> Result<String>;

    /// Returns a text that changes when the list of studies, or with a name the results of that study, change; `None`
    /// if there is no such study.
    ///
    /// # Errors
    /// A directory cannot be read.
    fn version(&self, study: Option<&str>) -> Result<Option<String>>;

    /// Writes the page of a study and its answer browser into an empty directory, as `index.html` and `answers/`.
    ///
    /// # Errors
    /// The study has no finished run, or a file cannot be read or written.
    fn write(&self, study: &str, out: &Path) -> Result<Box<dyn StudyImages>>;
}

/// The images of a study's questions, by number.
pub trait StudyImages: Send + Sync + 'static {
    /// Returns the name of this version of the images, which requests carry.
    fn version(&self) -> &str;

    /// Reads an image, with its MIME type; `None` if there is no image with this number that may be shown.
    ///
    /// # Errors
    /// The file cannot be read, or is no image any more.
    fn read(&self, number: usize) -> Result<Option<(Vec<u8>, String)>>;
}

/// State of the routes.
struct Viewer {
    pages: Arc<dyn StudyPages>,
    /// What was written of each study, by its name.
    studies: Mutex<HashMap<String, Arc<PagesVersions>>>,
}

/// Returns the routes of a viewer, for [`Server::bind_pages`](crate::Server::bind_pages).
pub fn router(pages: Arc<dyn StudyPages>) -> Router {
    let viewer = Arc::new(Viewer { pages, studies: Mutex::default() });
    Router::new()
        .route("/", get(index))
        .route("/version", get(index_version))
        .route("/view.js", get(|| async { script_reply(include_str!("view.js")) }))
        .route("/study/{study}", get(add_slash))
        .route("/study/{study}/", get(study_page))
        .route("/study/{study}/version", get(study_version))
        .route("/study/{study}/{file}", get(study_file))
        .route("/study/{study}/answers/", get(answers_page))
        .route("/study/{study}/answers/index.html", get(answers_page))
        .route("/study/{study}/answers/{data}/{file}", get(answers_file))
        .route("/study/{study}/answers/image/{number}", get(image))
        .with_state(viewer)
}

/// Runs blocking work of a request.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let ended = tokio::task::spawn_blocking(work).await;
    ended.unwrap_or_else(|e| Err(Error::failed(format!("the work on this request ended early: {e}"))))
}

impl Viewer {
    /// Returns what was written of a study; `None` if there is no study of this name.
    fn study(&self, name: &str) -> Result<Option<(Arc<PagesVersions>, String)>> {
        let Some(version) = self.pages.version(Some(name))? else { return Ok(None) };
        let mut studies = self.studies.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(Some((studies.entry(name.to_string()).or_default().clone(), version)))
    }

    /// Returns the kept versions of a study, the latest first. Packs and images are asked for by the hundred, so
    /// whether the results have changed is left to the pages.
    fn kept(&self, study: &str) -> Vec<Arc<PagesVersion>> {
        let studies = self.studies.lock().unwrap_or_else(PoisonError::into_inner);
        studies.get(study).map(|versions| versions.all()).unwrap_or_default()
    }

    /// Returns the bytes of a page of a study, which is written again if the results have changed.
    fn page(&self, name: &str, parts: &[&str]) -> Result<Option<Vec<u8>>> {
        let Some((versions, version)) = self.study(name)? else { return Ok(None) };
        versions.current(&version, |out| self.pages.write(name, out))?.read(parts).map(Some)
    }
}

async fn index(State(viewer): State<Arc<Viewer>>) -> Response {
    match blocking(move || viewer.pages.index()).await {
        Ok(html) => html_reply(html.into_bytes()),
        Err(e) => error_page(&e),
    }
}

async fn index_version(State(viewer): State<Arc<Viewer>>) -> Response {
    version(blocking(move || viewer.pages.version(None)).await)
}

async fn study_version(State(viewer): State<Arc<Viewer>>, UrlPath(study): UrlPath<String>) -> Response {
    version(blocking(move || viewer.pages.version(Some(&study))).await)
}

fn version(found: Result<Option<String>>) -> Response {
    match found {
        Ok(Some(version)) => version.into_response(),
        Ok(None) => not_found(),
        Err(e) => error_page(&e),
    }
}

async fn add_slash(UrlPath(study): UrlPath<String>) -> Response {
    Redirect::permanent(&format!("/study/{}/", encoded(&study))).into_response()
}

async fn study_page(State(viewer): State<Arc<Viewer>>, UrlPath(study): UrlPath<String>) -> Response {
    page(viewer, study, &["index.html"]).await
}

async fn answers_page(State(viewer): State<Arc<Viewer>>, UrlPath(study): UrlPath<String>) -> Response {
    page(viewer, study, &["answers", "index.html"]).await
}

async fn page(viewer: Arc<Viewer>, study: String, parts: &'static [&str]) -> Response {
    match blocking(move || viewer.page(&study, parts)).await {
        Ok(Some(html)) => html_reply(html),
        Ok(None) => not_found(),
        Err(e) => error_page(&e),
    }
}

/// A file beside the study's page, such as `ranking.json`.
async fn study_file(State(viewer): State<Arc<Viewer>>, UrlPath((study, file)): UrlPath<(String, String)>) -> Response {
    if file == "index.html" {
        return page(viewer, study, &["index.html"]).await;
    }
    let read = move || -> Result<Option<Response>> {
        let Some((versions, version)) = viewer.study(&study)? else { return Ok(None) };
        let pages = versions.current(&version, |out| viewer.pages.write(&study, out))?;
        pages.file(&[&file]).map(|bytes| Ok(file_reply(&file, bytes?, false))).transpose()
    };
    reply(blocking(read).await)
}

/// A pack or the script of the answer browser. A page of an earlier version still finds its own.
async fn answers_file(
    State(viewer): State<Arc<Viewer>>,
    UrlPath((study, data, file)): UrlPath<(String, String, String)>,
) -> Response {
    let read = move || -> Result<Option<Response>> {
        let kept = viewer.kept(&study);
        let found = kept.iter().find_map(|pages| pages.file(&["answers", &data, &file]));
        found.map(|bytes| Ok(file_reply(&file, bytes?, true))).transpose()
    };
    reply(blocking(read).await)
}

#[derive(Deserialize)]
struct ImageQuery {
    /// Version of the images.
    g: Option<String>,
}

async fn image(
    State(viewer): State<Arc<Viewer>>,
    UrlPath((study, number)): UrlPath<(String, usize)>,
    Query(query): Query<ImageQuery>,
) -> Response {
    let read = move || -> Result<Option<Response>> {
        let asked = query.g.unwrap_or_default();
        let kept = viewer.kept(&study);
        let Some(pages) = kept.iter().find(|pages| pages.images().version() == asked) else {
            return Ok(None);
        };
        Ok(pages.images().read(number)?.map(|(bytes, kind)| image_reply(bytes, &kind)))
    };
    reply(blocking(read).await)
}

fn reply(found: Result<Option<Response>>) -> Response {
    match found {
        Ok(Some(response)) => response,
        Ok(None) => not_found(),
        Err(e) => error_page(&e),
    }
}

#[cfg(test)]
mod tests;
