//! All stages over a wiki and a language model of this machine, interrupted and not.

use crate::pipeline::claims::FileLocks;
use crate::pipeline::{NoProgress, Session, Stage, Workspace, run, status};
use burgess_base::Result;
use burgess_site::{ChatOptions, ChatSite, WikiOptions, WikiSite};
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

fn workspace(dir: &Path, wiki: &WikiSite, chat: &ChatSite) -> Result<Workspace> {
    let host = wiki.url("").trim_start_matches("http://").trim_end_matches('/').to_string();
    let toml = format!(
        "[endpoint]\nurl = \"{}\"\nmodel = \"test\"\nfirst_wait_seconds = 0.001\n[topics]\nfile = \"t.txt\"\n\
         topics_per_shard = 2\n[pages.source]\nkind = \"mediawiki\"\napi = \"{}\"\npages_per_topic = 1\n[fetch]\n\
         allow_hosts = [\"{host}\"]\nrequests_per_second = 1000.0\nbackoff_seconds = 0.01\n[images]\nmin_side = 16\n\
         [qa]\nmore_words_than = 20\n",
        chat.base_url(),
        wiki.url("/w/api.php"),
    );
    fs::write(dir.join("engine.toml"), toml)?;
    fs::write(dir.join("t.txt"), "Lighthouse\nWindmill\nSundial\n")?;
    Workspace::open(dir)
}

/// The files of all stages with their contents, without those that depend on the order of threads or on time.
fn contents(dir: &Path) -> Result<Vec<(String, Vec<u8>)>> {
    let mut all = Vec::new();
    for stage in Stage::ALL {
        for entry in fs::read_dir(dir.join(stage.as_str()))? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if path.is_file() && name.starts_with("shard-") && !name.contains("replies") {
                all.push((format!("{stage}/{name}"), fs::read(&path)?));
            }
        }
    }
    all.sort();
    Ok(all)
}

#[test]
fn the_whole_engine_gives_the_same_files_with_and_without_interruptions() -> Result<()> {
    let (wiki, chat) = (WikiSite::start(WikiOptions::default()), ChatSite::start(ChatOptions::default()));
    let (at_once, interrupted) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let whole = workspace(at_once.path(), &wiki, &chat)?;
    let report = run(&whole, &Session::new(&FileLocks, &NoProgress), &Stage::ALL, None)?;
    assert!(report.failed.is_empty() && report.waiting.is_empty(), "{:?}", report.failed);
    let published = report.published.expect("published");
    let state = status(&whole)?;
    assert!(published.entries > 1 && state.stages.iter().all(|s| s.done == 2), "{state:#?}");
    let asked = chat.requests().len();
    let parts = workspace(interrupted.path(), &wiki, &chat)?;
    let looks = Arc::new(AtomicUsize::new(0));
    let mut runs = 0;
    loop {
        looks.store(0, Ordering::SeqCst);
        let (count, limit) = (Arc::clone(&looks), 9 + 4 * runs);
        let mut session = Session::new(&FileLocks, &NoProgress);
        session.stopped = Arc::new(move || count.fetch_add(1, Ordering::SeqCst) > limit);
        runs += 1;
        if run(&parts, &session, &Stage::ALL, None).is_ok() || runs == 200 {
            break;
        }
    }
    assert!((3..200).contains(&runs), "{runs}");
    assert_eq!(chat.requests().len(), 2 * asked, "no reply is paid for twice");
    let (a, b) = (contents(at_once.path())?, contents(interrupted.path())?);
    assert_eq!(a.iter().map(|f| &f.0).collect::<Vec<_>>(), b.iter().map(|f| &f.0).collect::<Vec<_>>());
    for (a, b) in a.iter().zip(&b) {
        assert_eq!(String::from_utf8_lossy(&a.1), String::from_utf8_lossy(&b.1), "{}", a.0);
    }
    Ok(())
}

#[test]
fn files_are_read_without_topics_and_a_missing_source_is_named() -> Result<()> {
    let dir = tempfile::tempdir()?;
    fs::create_dir(dir.path().join("html"))?;
    for n in 0..3 {
        let page = format!(
            "<h1>P{n}</h1><h2>A</h2><p>Some words.</p><figure><img src=\"a.png\"><figcaption>C</figcaption></figure>"
        );
        fs::write(dir.path().join(format!("html/{n}.html")), page)?;
    }
    let toml = "[pages]\nshards = 2\n[pages.source]\nkind = \"html-folder\"\nfolder = \"html\"\n";
    fs::write(dir.path().join("engine.toml"), toml)?;
    let workspace = Workspace::open(dir.path())?;
    let stages = [Stage::Topics, Stage::Pages];
    run(&workspace, &Session::new(&FileLocks, &NoProgress), &stages, None)?;
    let status = status(&workspace)?;
    assert_eq!((status.shards, status.stages[1].done, status.stages[1].records), (2, 2, 3), "{:?}", status.stages[1]);
    fs::write(dir.path().join("engine.toml"), "[topics]\nfile = \"t.txt\"\n")?;
    fs::write(dir.path().join("t.txt"), "Moss\n")?;
    let bare = Workspace::open(dir.path())?;
    let mut session = Session::new(&FileLocks, &NoProgress);
    session.redo = true;
    let e = run(&bare, &session, &stages, None).expect_err("no source").to_string();
    assert!(e.contains("[pages.source]"), "{e}");
    fs::write(dir.path().join("engine.toml"), "[topics]\nper_subfield = 3\n")?;
    assert!(Workspace::open(dir.path()).expect_err("neither").to_string().contains("neither `fields` nor `file`"));
    Ok(())
}
