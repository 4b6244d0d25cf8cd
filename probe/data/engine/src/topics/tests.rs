//! The stage over a server that answers well and badly.

use super::*;
use crate::pipeline::claims::FileLocks;
use crate::pipeline::{NoProgress, RunReport, Session, ShardState, Stage, Workspace, read_records, run};
use burgess_base::Error;
use burgess_site::{ChatFault, ChatOptions, ChatSite, Fault};
use std::fs;
use std::path::Path;

const FIELDS: &str =
    "Technology: Towers and mills, Bridges and railways, Instruments\nNature: Plants and animals, Earth\n";

/// Makes a workspace with fields and a server.
fn workspace(dir: &Path, url: &str, more: &str) -> Result<Workspace> {
    let toml = format!(
        "[endpoint]\nurl = \"{url}\"\nmodel = \"test\"\nfirst_wait_seconds = 0.001\nlongest_wait_seconds = 0.01\n\
         timeout_seconds = 5\n[topics]\nfields = \"fields.txt\"\nper_subfield = 3\nat_least = 1\nsubfields_per_shard = 2\n{more}"
    );
    fs::write(dir.join("engine.toml"), toml)?;
    fs::write(dir.join("fields.txt"), FIELDS)?;
    Workspace::open(dir)
}

fn go(workspace: &Workspace, redo: bool) -> Result<RunReport> {
    let mut session = Session::new(&FileLocks, &NoProgress);
    session.redo = redo;
    run(workspace, &session, &[Stage::Topics], None)
}

fn topics(workspace: &Workspace) -> Result<Vec<String>> {
    let mut all = Vec::new();
    for shard in 0..workspace.shards() {
        let ShardState::Done(marker) = workspace.state(Stage::Topics, shard)? else { continue };
        let records: Vec<Topic> =
            read_records(&workspace.stage_directory(Stage::Topics), &marker, &(shard_name(shard) + ".jsonl"))?;
        all.extend(records.into_iter().map(|t| format!("{}/{}/{}", t.field, t.subfield, t.topic)));
    }
    Ok(all)
}

/// Files of a directory with their contents, but for those that hold times or depend on the order of threads.
fn contents(dir: &Path) -> Result<Vec<(String, Vec<u8>)>> {
    let mut all = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if !name.starts_with('.') && !name.contains("replies") {
            all.push((name, fs::read(&path)?));
        }
    }
    all.sort();
    Ok(all)
}

#[test]
fn faults_change_nothing_but_the_number_of_requests() -> Result<()> {
    let well = ChatSite::start(ChatOptions::default());
    let dir = tempfile::tempdir()?;
    let first = workspace(dir.path(), &well.base_url(), "workers = 1\n")?;
    assert_eq!(first.shards(), 3);
    let report = go(&first, false)?;
    assert_eq!((report.finished.len(), report.failed.len()), (3, 0));
    let expected = topics(&first)?;
    assert_eq!(expected.len(), 11, "{expected:?}");
    assert_eq!(expected.first().map(String::as_str), Some("Technology/Towers and mills/Lighthouse"));
    assert_eq!(well.requests().len(), 5);
    // Nothing is asked again.
    assert_eq!(go(&first, false)?.finished_before, 3);
    assert_eq!(well.requests().len(), 5);
    for (seed, faults) in [
        (0, vec![ChatFault::Malformed, ChatFault::Empty, ChatFault::Refusal, ChatFault::WrongSchema]),
        (0, vec![ChatFault::Http(Fault::status(429)), ChatFault::Http(Fault::status(500)), ChatFault::Null]),
        (0, vec![ChatFault::Prose, ChatFault::Fenced, ChatFault::NoUsage, ChatFault::WrongBody, ChatFault::ErrorBody]),
    ] {
        let badly = ChatSite::start(ChatOptions { share: 1.0, seed, faults, ..ChatOptions::default() });
        let other = tempfile::tempdir()?;
        let second = workspace(other.path(), &badly.base_url(), "workers = 3\n")?;
        let report = go(&second, false)?;
        assert!(report.failed.is_empty(), "{seed}: {:?}", report.failed);
        assert_eq!(topics(&second)?, expected, "seed {seed}");
    }
    Ok(())
}

#[test]
fn files_are_the_same_whatever_the_number_of_threads() -> Result<()> {
    let site = ChatSite::start(ChatOptions::default());
    let mut all = Vec::new();
    for workers in [1, 4] {
        let dir = tempfile::tempdir()?;
        let workspace = workspace(dir.path(), &site.base_url(), &format!("workers = {workers}\n"))?;
        go(&workspace, false)?;
        all.push(contents(&workspace.stage_directory(Stage::Topics))?);
    }
    assert_eq!(all[0], all[1]);
    Ok(())
}

#[test]
fn other_settings_are_never_mixed_with_what_is_there() -> Result<()> {
    let site = ChatSite::start(ChatOptions::default());
    let dir = tempfile::tempdir()?;
    go(&workspace(dir.path(), &site.base_url(), "")?, false)?;
    let asked = site.requests().len();
    // A smaller number of topics is asked for in the request, so that replies are of no use.
    let other = workspace(dir.path(), &site.base_url(), "asks = 2\n")?;
    let e = go(&other, false).expect_err("stale");
    assert!(e.to_string().contains("topics.asks: 3 stored, 2 now"), "{e}");
    assert_eq!(go(&other, true)?.finished.len(), 3);
    assert_eq!(site.requests().len(), asked, "the requests have not changed, so their replies are used again");
    fs::write(dir.path().join("fields.txt"), "Technology: Towers and mills\n")?;
    let fewer = Workspace::open(dir.path())?;
    let e = go(&fewer, false).expect_err("left over");
    assert!(e.to_string().contains("topics/shard-00001 is left over"), "{e}");
    go(&fewer, true)?;
    assert_eq!(topics(&fewer)?.len(), 3);
    assert_eq!(site.requests().len(), asked);
    Ok(())
}

#[test]
fn topics_from_a_file_need_no_endpoint() -> Result<()> {
    let dir = tempfile::tempdir()?;
    fs::write(dir.path().join("engine.toml"), "[topics]\nfile = \"t.txt\"\ntopics_per_shard = 2\n")?;
    fs::write(dir.path().join("t.txt"), "Moss\nFern\nmoss\nOak\n")?;
    let workspace = Workspace::open(dir.path())?;
    assert_eq!(go(&workspace, false)?.finished.len(), 2);
    assert_eq!(topics(&workspace)?, ["//Moss", "//Fern", "//Oak"]);
    Ok(())
}

#[test]
fn the_budget_stops_the_work_and_keeps_it() -> Result<()> {
    let site = ChatSite::start(ChatOptions::default());
    let dir = tempfile::tempdir()?;
    let limited = |tokens: u64| {
        workspace(
            dir.path(),
            &site.base_url(),
            &format!("max_tokens = 100\nworkers = 1\n[budget]\nmax_tokens = {tokens}\n"),
        )
    };
    let e = go(&limited(1000)?, false).expect_err("spent");
    assert!(crate::pipeline::budget::is_spent(&e) && e.hint_text().is_some(), "{e}");
    let asked = site.requests().len();
    assert!((1..5).contains(&asked), "{asked}");
    go(&limited(1_000_000)?, false)?;
    assert_eq!(site.requests().len(), 5, "no reply is paid for twice");
    // The ledger is made again from the replies.
    let known = crate::pipeline::budget::ledger(dir.path())?.total(None);
    fs::remove_file(dir.path().join("budget.json"))?;
    assert_eq!(crate::pipeline::budget::ledger(dir.path())?.total(None).spent(), known.spent());
    Ok(())
}

#[test]
fn a_server_that_is_gone_ends_the_work() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let gone = workspace(dir.path(), "http://127.0.0.1:9", "")?;
    let report = go(&gone, false)?;
    let errors: Vec<&Error> = report.failed.iter().map(|f| &f.error).collect();
    assert!(errors.iter().all(|e| e.to_string().contains("got no reply")), "{errors:?}");
    let site = ChatSite::start(ChatOptions { key: Some("secret".into()), ..ChatOptions::default() });
    let locked = workspace(dir.path(), &site.base_url(), "")?;
    let e = go(&locked, false).expect_err("no key");
    assert!(e.to_string().contains("401") && site.requests().len() < 5, "{e}");
    Ok(())
}
