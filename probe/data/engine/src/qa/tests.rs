//! The stage over a server that answers well and badly, and images that were made by hand.

use super::*;
use crate::page::{Figure, Licence, Page, Section, StoredImage};
use crate::pipeline::claims::FileLocks;
use crate::pipeline::{NoProgress, Session, ShardState, Workspace, estimate, run, status};
use burgess_site::{ChatFault, ChatOptions, ChatSite};
use std::fs;

const TEXT: &str = "The lighthouse at Nordby was built in 1874 from 12,000 bricks. Its Fresnel lens was made in Paris by \
    Henri Lepaute and throws a beam of 21 nautical miles over the sea. Keepers lived in the small house beside it until \
    the light became automatic. The tower is painted with red bands so that it can be seen by day, and visitors climb its \
    stairs in summer to look at the harbour, the dunes and the ferries.";

/// Makes a workspace whose images are finished.
pub(crate) fn workspace(dir: &Path, url: &str, more: &str) -> Result<Workspace> {
    let toml = format!(
        "[endpoint]\nurl = \"{url}\"\nmodel = \"test\"\nfirst_wait_seconds = 0.001\nlongest_wait_seconds = 0.01\n\
         [topics]\nfile = \"t.txt\"\ntopics_per_shard = 2\n[pages.source]\nkind = \"html-folder\"\nfolder = \"none\"\n{more}"
    );
    fs::write(dir.join("engine.toml"), toml)?;
    fs::write(dir.join("t.txt"), "Lighthouse\nBeacon\nBuoy\n")?;
    let workspace = Workspace::open(dir)?;
    let session = Session::new(&FileLocks, &NoProgress);
    run(&workspace, &session, &[Stage::Topics], None)?;
    for shard in 0..workspace.shards() {
        for stage in [Stage::Pages, Stage::Images] {
            let path = workspace.path(stage, shard, ".jsonl");
            let page = |n: usize| serde_json::to_string(&page(dir, shard, n));
            let lines = (0..3).map(page).collect::<Result<Vec<_>, _>>()?.join("\n") + "\n";
            burgess_base::atomic::write(&path, lines.as_bytes())?;
            let input = workspace.input_digest(stage, shard)?.unwrap_or_default();
            let mut marker = DoneMarker::new(stage, shard, workspace.settings(stage)?, input);
            marker.add_file(&workspace.stage_directory(stage), &(shard_name(shard) + ".jsonl"))?;
            marker.write(&workspace.path(stage, shard, ".done"))?;
        }
    }
    Ok(workspace)
}

/// A page with three figures: a good one, one without a caption, one that was not stored.
fn page(dir: &Path, shard: usize, n: usize) -> Page {
    let name = format!("files/{shard}-{n}.png");
    let mut png = b"\x89PNG\r\n\x1a\n".to_vec();
    png.extend_from_slice(format!("{shard}-{n}").as_bytes());
    let path = dir.join("images").join(&name);
    fs::create_dir_all(path.parent().expect("a folder")).expect("writable");
    fs::write(&path, &png).expect("writable");
    let stored = StoredImage {
        path: name.into(),
        width: 8,
        height: 8,
        bytes: png.len() as u64,
        digest: burgess_base::digest::of_bytes(&png),
        dhash: burgess_base::digest::of_bytes(&png).chars().take(16).collect(),
        original_format: "png".into(),
    };
    let figure = Figure {
        image: format!("https://x.org/{shard}-{n}.png"),
        caption: Some(format!("The tower of Nordby, picture {n}")),
        licence: (n != 2).then(|| Licence { name: "CC BY 4.0".into(), url: None }),
        author: Some("Ada | <b>".into()),
        stored: Some(stored),
        ..Figure::default()
    };
    let other = Figure { image: "https://x.org/n.png".into(), caption: None, ..figure.clone() };
    let gone = Figure { stored: None, ..figure.clone() };
    let section =
        Section { title: "Tower".into(), level: 2, text: TEXT.into(), figures: vec![figure.clone(), other, gone] };
    let short = Section { text: "Too short.".into(), figures: vec![figure], ..Section::default() };
    Page {
        url: format!("https://x.org/{shard}-{n}"),
        title: "Nordby Lighthouse".into(),
        topic: "Lighthouse".into(),
        field: "Technology".into(),
        sections: vec![section, short],
        ..Page::default()
    }
}

use workspace as super_workspace;

pub(crate) fn go(workspace: &Workspace, stage: Stage) -> Result<crate::pipeline::RunReport> {
    let session = Session::new(&FileLocks, &NoProgress);
    run(workspace, &session, &[stage], None)
}

fn records(workspace: &Workspace) -> Result<Vec<QaRecord>> {
    let mut all = Vec::new();
    for shard in 0..workspace.shards() {
        let ShardState::Done(marker) = workspace.state(Stage::Qa, shard)? else { continue };
        all.extend(read_records(&workspace.stage_directory(Stage::Qa), &marker, &(shard_name(shard) + ".jsonl"))?);
    }
    Ok(all)
}

#[test]
fn good_replies_become_records_and_faults_change_nothing() -> Result<()> {
    let site = ChatSite::start(ChatOptions::default());
    let dir = tempfile::tempdir()?;
    let first = workspace(dir.path(), &site.base_url(), "")?;
    let before = estimate(&first, &Stage::ALL, None)?;
    assert_eq!((before[0].requests, before[0].assumed), (6, true));
    let report = go(&first, Stage::Qa)?;
    assert_eq!((report.finished.len(), report.failed.len()), (2, 0), "{:?}", report.failed);
    let found = records(&first)?;
    assert_eq!(found.len(), 6, "{:?}", report.finished);
    assert!(found[0].pairs[0].evidence.is_some() && found[0].pairs[0].kind.is_some());
    assert_eq!(report.finished[0].rejected.get("short text"), Some(&3));
    assert_eq!(report.finished[0].rejected.get("no caption"), Some(&3));
    assert_eq!(estimate(&first, &[Stage::Qa], None)?[0].requests, 0);
    for (seed, faults) in [
        (0, vec![ChatFault::Malformed, ChatFault::Empty, ChatFault::WrongSchema, ChatFault::Truncated]),
        (0, vec![ChatFault::Prose, ChatFault::Fenced, ChatFault::Null, ChatFault::WrongUsage]),
    ] {
        let badly = ChatSite::start(ChatOptions { share: 0.7, seed, faults, ..ChatOptions::default() });
        let other = tempfile::tempdir()?;
        let second = workspace(other.path(), &badly.base_url(), "[qa]\nworkers = 3\nasks = 3\n")?;
        assert!(go(&second, Stage::Qa)?.failed.is_empty());
        let same = records(&second)?;
        let pairs =
            |all: &[QaRecord]| all.iter().map(|r| (r.id.clone(), r.pairs[0].answer.clone())).collect::<Vec<_>>();
        assert_eq!(pairs(&same), pairs(&found), "seed {seed}");
    }
    Ok(())
}

#[test]
fn bad_pairs_are_counted_by_reason() -> Result<()> {
    for (fault, reason) in
        [(ChatFault::Ungrounded, "evidence is not in caption or text"), (ChatFault::Refusal, "refused")]
    {
        let site =
            ChatSite::start(ChatOptions { share: 1.0, attempts: 9, faults: vec![fault], ..ChatOptions::default() });
        let dir = tempfile::tempdir()?;
        let workspace = workspace(dir.path(), &site.base_url(), "")?;
        go(&workspace, Stage::Qa)?;
        assert!(records(&workspace)?.is_empty());
        let status = status(&workspace)?;
        let qa = &status.stages[3];
        assert_eq!((qa.done, qa.rejected.get(reason)), (2, Some(&6)), "{:?}", qa.rejected);
        assert!(qa.spent.used.total() > 0);
        let text = fs::read_to_string(workspace.path(Stage::Qa, 0, ".rejected.jsonl"))?;
        assert!(text.lines().count() == 9 && text.contains("Lighthouse") || text.contains("00000-"), "{text}");
    }
    // The paper's prompt has no evidence: then the names decide.
    let faults = vec![ChatFault::Ungrounded];
    let site = ChatSite::start(ChatOptions { share: 1.0, attempts: 9, faults, ..ChatOptions::default() });
    let dir = tempfile::tempdir()?;
    let workspace = workspace(dir.path(), &site.base_url(), "[qa]\nprompt = \"paper\"\n")?;
    go(&workspace, Stage::Qa)?;
    assert_eq!(status(&workspace)?.stages[3].rejected.get("ungrounded name"), Some(&6));
    let bodies = site.requests();
    let user = bodies[0].question();
    let record: Value = serde_json::from_str(&user)?;
    assert_eq!((&record["topic"], &record["section"]), (&json!("Lighthouse"), &json!("Tower")));
    Ok(())
}

#[test]
fn an_interrupted_shard_goes_on_where_it_stood() -> Result<()> {
    let site = ChatSite::start(ChatOptions::default());
    let dir = tempfile::tempdir()?;
    let workspace = workspace(dir.path(), &site.base_url(), "[qa]\nworkers = 1\n")?;
    let counter = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    // Each run is told to stop at its third look.
    for _ in 0..50 {
        counter.store(0, std::sync::atomic::Ordering::SeqCst);
        let looks = Arc::clone(&counter);
        let mut session = Session::new(&FileLocks, &NoProgress);
        session.stopped = Arc::new(move || looks.fetch_add(1, std::sync::atomic::Ordering::SeqCst) > 6);
        if run(&workspace, &session, &[Stage::Qa], None).is_ok() {
            break;
        }
    }
    assert_eq!(records(&workspace)?.len(), 6);
    assert_eq!(site.requests().len(), 6, "no reply is paid for twice");
    assert_eq!(status(&workspace)?.stages[3].spent.lost.total(), 0);
    let whole = tempfile::tempdir()?;
    let at_once = super_workspace(whole.path(), &site.base_url(), "[qa]\nworkers = 4\n")?;
    go(&at_once, Stage::Qa)?;
    for ending in [".jsonl", ".rejected.jsonl", ".done"] {
        let read = |workspace: &Workspace| fs::read_to_string(workspace.path(Stage::Qa, 1, ending));
        assert_eq!(read(&workspace)?, read(&at_once)?, "{ending}");
    }
    Ok(())
}
