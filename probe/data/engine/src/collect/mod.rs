//! The stages `pages` and `images`, over sources and images of the web or of this machine.
//!
//! Each topic (or, of a source without search, each shard) and each page is an item; what is finished is kept in a
//! journal until the shard is finished, and what was fetched in a cache.

#[cfg(test)]
mod tests;

use crate::images::ImageStage;
use crate::page::{Page, Topic};
use crate::pages::{self, PagesReport};
use crate::pipeline::{DoneMarker, Session, ShardContext, Stage, Workspace, forget, process, read_records, shard_name};
use crate::skips::Skips;
use crate::sources::Part;
use crate::topics::{Rejection, finish};
use burgess_base::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

/// The settings that determine the pages.
pub(crate) fn page_settings(workspace: &Workspace) -> Result<Value> {
    let pages = &workspace.config().pages;
    Ok(json!({"source": pages.source, "keep": pages.keep}))
}

/// The settings that determine the images.
pub(crate) fn image_settings(workspace: &Workspace) -> Result<Value> {
    Ok(serde_json::to_value(&workspace.config().images)?)
}

/// Lines of rejections for what was skipped: one for each place that is known, and one for the others of its reason.
fn rejections(skips: &Skips, all: &mut Vec<Rejection>) {
    for (reason, skipped) in skips.iter() {
        let line = |item: &str, count: u64| Rejection {
            item: item.to_string(),
            reason: reason.to_string(),
            detail: String::new(),
            count,
        };
        all.extend(skipped.first.iter().map(|place| line(place, 1)));
        let rest = skipped.count.saturating_sub(skipped.first.len() as u64);
        if rest > 0 {
            all.push(line("further ones", rest));
        }
    }
}

/// What a part of a source gives.
#[derive(Debug, Default, Serialize, Deserialize)]
struct PartOutcome {
    pages: Vec<Page>,
    report: PagesReport,
}

/// Does a shard of the stage `pages`.
pub(crate) fn pages_of(context: &ShardContext<'_>) -> Result<DoneMarker> {
    let (workspace, session, shard) = (context.workspace, context.session, context.task.shard);
    let config = &workspace.config().pages;
    let marker = context.marker_of(Stage::Topics, shard)?;
    let name = shard_name(shard) + ".jsonl";
    let topics: Vec<Topic> = read_records(&workspace.stage_directory(Stage::Topics), &marker, &name)?;
    let source =
        config.source()?.below(workspace.directory()).open(&config.keep.read, Some(&session.web(workspace)?))?;
    source.check()?;
    let parts: Vec<&[Topic]> = match source.searches() {
        true => topics.chunks(1).collect(),
        false => vec![topics.as_slice()],
    };
    let shards = workspace.shards();
    let workers = session.workers.unwrap_or(config.workers);
    let work = |_: usize, topics: &&[Topic]| {
        let mut pages = Vec::new();
        let report = pages::run(&*source, &Part { topics, shard, shards }, &config.keep, &mut |page| {
            if (session.stopped)() {
                return Err(Error::interrupted());
            }
            pages.push(page);
            Ok(())
        })?;
        Ok(PartOutcome { pages, report })
    };
    let found = process(context, &parts, workers, &mut |_: &PartOutcome| Ok(()), &work)?;
    let mut marker = context.marker()?;
    marker.items = if source.searches() { topics.len() as u64 } else { 0 };
    let (mut pages, mut rejected, mut seen) = (Vec::new(), Vec::new(), HashSet::new());
    for part in found {
        rejections(&part.report.skips, &mut rejected);
        marker.count("found", part.report.read);
        for page in part.pages {
            if seen.insert(page.url.clone()) {
                marker.count("figures", page.figures().count() as u64);
                pages.push(page);
            } else {
                let (reason, detail) = ("page is there already".to_string(), page.topic.clone());
                rejected.push(Rejection { item: page.url, reason, detail, count: 1 });
            }
        }
    }
    if !source.searches() {
        marker.items = marker.counts.get("found").copied().unwrap_or_default();
    }
    let marker = finish(context, marker, pages.into_iter(), &rejected)?;
    forget(context)?;
    Ok(marker)
}

/// What a page gives in the stage `images`.
#[derive(Debug, Serialize, Deserialize)]
struct ImagesOutcome {
    page: Option<Page>,
    figures: u64,
    skips: Skips,
}

/// Does a shard of the stage `images`.
pub(crate) fn images_of(context: &ShardContext<'_>) -> Result<DoneMarker> {
    let (workspace, session, shard) = (context.workspace, context.session, context.task.shard);
    let marker = context.marker_of(Stage::Pages, shard)?;
    let name = shard_name(shard) + ".jsonl";
    let pages: Vec<Page> = read_records(&workspace.stage_directory(Stage::Pages), &marker, &name)?;
    let options = workspace.config().images.clone().below(workspace.directory());
    let directory = workspace.stage_directory(Stage::Images);
    let stage = Mutex::new(ImageStage::new(session.web(workspace)?, &options, &directory)?);
    let locked = || stage.lock().unwrap_or_else(PoisonError::into_inner);
    // What an image repeats depends on those before it, so that pages are done in their order.
    let found = process(
        context,
        &pages,
        1,
        &mut |outcome: &ImagesOutcome| outcome.page.as_ref().map_or(Ok(()), |page| locked().resume(page)),
        &|_, page| {
            let mut stage = locked();
            let page = stage.page(page.clone())?;
            let report = stage.take_report();
            Ok(ImagesOutcome { page, figures: report.figures, skips: report.skips })
        },
    )?;
    let mut marker = context.marker()?;
    let (mut kept, mut rejected) = (Vec::new(), Vec::new());
    for outcome in found {
        marker.items += outcome.figures;
        rejections(&outcome.skips, &mut rejected);
        if let Some(page) = outcome.page {
            for figure in page.figures() {
                marker.count("images", 1);
                let stored = figure.stored.as_ref();
                marker.count("bytes", stored.map_or(0, |stored| stored.bytes));
                let format = stored.map_or("unknown", |stored| stored.original_format.as_str());
                marker.count(&format!("format/{format}"), 1);
            }
            kept.push(page);
        }
    }
    let marker = finish(context, marker, kept.into_iter(), &rejected)?;
    forget(context)?;
    Ok(marker)
}

impl Session<'_> {
    /// Returns the client that fetches pages and images, which all shards share.
    ///
    /// # Errors
    /// The settings of `[fetch]` are wrong, or the cache cannot be made.
    pub(crate) fn web(&self, workspace: &Workspace) -> Result<std::sync::Arc<crate::fetch::Client>> {
        let mut web = self.fetch.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = web.as_ref() {
            return Ok(client.clone());
        }
        let directory = self.cache.clone().unwrap_or_else(|| workspace.directory().join("cache"));
        let client = std::sync::Arc::new(crate::fetch::Client::new(&workspace.config().fetch, &directory)?);
        Ok(web.insert(client).clone())
    }
}
