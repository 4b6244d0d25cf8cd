use super::*;
use std::io::Read;
use std::process::{Child, Command, Stdio};

/// Name of the variable that tells a child process of a test where to work.
const CHILD: &str = "BURGESS_TEST_LEASE";

fn acquired(attempt: Attempt) -> Lease {
    match attempt {
        Attempt::Acquired(lease) => lease,
        Attempt::Busy(owner) => panic!("owned by {owner}"),
    }
}

fn is_busy(path: &Path) -> Result<bool> {
    Ok(matches!(Lease::attempt(path)?, Attempt::Busy(_)))
}

/// Changes the text of the newest lease file, as if another machine had written it.
fn edit(path: &Path, change: impl Fn(&str) -> String) -> Result<()> {
    let file = file_of(path, newest(path)?.unwrap_or(0));
    let text = fs::read_to_string(&file)?;
    Ok(fs::write(&file, change(&text))?)
}

/// Leaves a lease of a process on another machine, whose heart has stopped.
fn foreign(path: &Path, interval: Duration) -> Result<()> {
    let mut lease = acquired(Lease::attempt_every(path, interval)?);
    lease.end();
    *lease.held.record.lock().unwrap_or_else(PoisonError::into_inner) = None;
    edit(path, |text| text.replace(burgess_base::process::machine(), "0badcafe"))
}

#[test]
fn a_lease_has_one_owner_until_it_is_dropped() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("run/lease");
    assert_eq!(Lease::owner(&path)?, None);
    let lease = acquired(Lease::attempt(&path)?);
    lease.check()?;
    assert!(is_busy(&path)?);
    let owner = Lease::owner(&path)?;
    assert!(owner.as_ref().is_some_and(|o| o.process == std::process::id() && o.age < INTERVAL), "{owner:?}");
    let text = owner.map(|o| o.to_string()).unwrap_or_default();
    assert!(text.contains(&format!(":{}", std::process::id())) && text.contains(" since 20"), "{text}");
    drop(lease);
    assert_eq!(Lease::owner(&path)?, None);
    let again = acquired(Lease::attempt(&path)?);
    let names: Vec<_> = fs::read_dir(dir.path().join("run"))?.flatten().map(|e| e.file_name()).collect();
    assert_eq!(names, [".lease-2"], "no older generation and no temporary file");
    again.remove();
    assert_eq!(fs::read_dir(dir.path().join("run"))?.count(), 0);
    Ok(())
}

#[test]
fn names_that_resemble_a_lease_are_other_files() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("lease");
    for name in [".lease-+3", ".lease-", ".lease-x", ".lease-7.tmp", "lease-9", ".lease2-4"] {
        fs::write(dir.path().join(name), "")?;
    }
    drop(acquired(Lease::attempt(&path)?));
    assert_eq!(newest(&path)?, Some(1));
    Ok(())
}

#[test]
fn an_owner_that_stopped_loses_its_lease_and_notices() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("lease");
    // A suspended process: it writes no heartbeat.
    let mut stopped = acquired(Lease::attempt_every(&path, Duration::from_millis(20))?);
    stopped.end();
    let clock = Instant::now();
    let mut waited = 0;
    let successor = Lease::acquire(&path, &mut |_| {
        waited += 1;
        Ok(())
    })?;
    assert!(waited > 0 && clock.elapsed() >= Duration::from_millis(40), "{waited}, {:?}", clock.elapsed());
    assert!(!stopped.is_lost());
    let e = stopped.check().unwrap_err();
    assert!(e.to_string().contains("was taken over by") && e.hint_text().is_some(), "{e}");
    assert!(stopped.is_lost());
    drop(stopped);
    successor.check()?;
    assert!(is_busy(&path)?, "the first owner releases nothing that is not its own");
    Ok(())
}

#[test]
fn the_heartbeat_finds_out_that_the_lease_is_lost() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("lease");
    let lease = acquired(Lease::attempt_every(&path, Duration::from_millis(20))?);
    fs::remove_file(file_of(&path, 1))?;
    let deadline = Instant::now() + Duration::from_secs(10);
    while !lease.is_lost() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(lease.is_lost());
    Ok(())
}

#[test]
fn of_several_takers_of_a_stale_lease_one_wins() -> Result<()> {
    let dir = tempfile::tempdir()?;
    for round in 0..10 {
        let path = dir.path().join(format!("lease{round}"));
        foreign(&path, Duration::from_millis(10))?;
        let deadline = Instant::now() + Duration::from_secs(20);
        let taker = || -> Result<Option<Lease>> {
            while Instant::now() < deadline {
                match Lease::attempt(&path)? {
                    Attempt::Acquired(lease) => return Ok(Some(lease)),
                    Attempt::Busy(owner) if owner.process == std::process::id() && newest(&path)? == Some(2) => {
                        return Ok(None);
                    }
                    Attempt::Busy(_) => std::thread::sleep(Duration::from_millis(1)),
                }
            }
            Err(Error::failed("nobody took the lease"))
        };
        let taken: Vec<Result<Option<Lease>>> = std::thread::scope(|scope| {
            let takers: Vec<_> = (0..6).map(|_| scope.spawn(taker)).collect();
            takers.into_iter().filter_map(|t| t.join().ok()).collect()
        });
        let taken: Vec<Lease> = taken.into_iter().collect::<Result<Vec<_>>>()?.into_iter().flatten().collect();
        assert_eq!(taken.len(), 1, "round {round}");
        taken[0].check()?;
        assert_eq!(newest(&path)?, Some(2));
    }
    Ok(())
}

#[test]
fn a_process_with_an_old_listing_withdraws() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("lease");
    drop(acquired(Lease::attempt(&path)?));
    drop(acquired(Lease::attempt(&path)?));
    let third = acquired(Lease::attempt(&path)?);
    assert_eq!(newest(&path)?, Some(3));
    // It saw generation 1, which was released, and now creates the second, whose file does not exist any more.
    assert!(Lease::create(&path, 2, INTERVAL)?.is_none());
    assert_eq!(generations(&path)?, [3]);
    third.check()
}

#[test]
fn clocks_of_other_machines_do_not_matter() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("lease");
    let interval = Duration::from_millis(40);
    let now = std::time::SystemTime::now();
    for time in [now - Duration::from_hours(100), now + Duration::from_hours(100)] {
        foreign(&path, interval)?;
        let file = file_of(&path, newest(&path)?.unwrap_or(0));
        let stamp = || -> Result<()> { Ok(File::options().write(true).open(&file)?.set_modified(time)?) };
        // While the heartbeat goes on, the lease is kept, whatever the time of the file.
        let begun = Instant::now();
        let mut beat = 0;
        while begun.elapsed() < interval * (MISSED + 2) {
            beat += 1;
            edit(&path, |text| text.replace(&format!("\"beat\":{}", beat - 1), &format!("\"beat\":{beat}")))?;
            stamp()?;
            assert!(is_busy(&path)?, "{:?}", begun.elapsed());
            std::thread::sleep(interval / 4);
        }
        // Once it stops, the lease is free: an old file a little earlier than one from the future.
        let begun = Instant::now();
        while is_busy(&path)? {
            assert!(begun.elapsed() < Duration::from_secs(20), "nobody gets the lease");
            std::thread::sleep(interval / 8);
        }
        let waited = begun.elapsed();
        assert!(waited >= interval * WATCHED.min(MISSED) / 2, "{waited:?}");
    }
    Ok(())
}

#[test]
fn who_only_looks_finds_a_stale_lease_as_well() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("lease");
    foreign(&path, Duration::from_millis(20))?;
    let begun = Instant::now();
    while Lease::owner(&path)?.is_some() {
        assert!(begun.elapsed() < Duration::from_secs(20), "the owner has ended");
        std::thread::sleep(Duration::from_millis(2));
    }
    // Once it is known to be stale, it can be taken without watching it again.
    assert!(Lease::owner(&path)?.is_none());
    acquired(Lease::attempt(&path)?).check()
}

#[test]
fn an_unreadable_lease_is_watched_like_any_other() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("lease");
    fs::write(file_of(&path, 4), "{\"host\":")?;
    assert!(is_busy(&path)?);
    assert_eq!(Lease::owner(&path)?.map(|o| o.host), Some("unknown".into()));
    Ok(())
}

/// What a child process does: takes the lease again and again, and checks that it is alone in the critical section.
#[test]
fn child() -> Result<()> {
    let Ok(dir) = std::env::var(CHILD) else { return Ok(()) };
    let (dir, mine) = (PathBuf::from(dir), std::process::id().to_string());
    let (path, inside) = (dir.join("lease"), dir.join("inside"));
    let deadline = Instant::now() + Duration::from_secs(20);
    let mut done = 0;
    while done < 30 && Instant::now() < deadline {
        let Attempt::Acquired(lease) = Lease::attempt(&path)? else {
            std::thread::sleep(Duration::from_micros(300));
            continue;
        };
        // A killed process leaves its file; a living one must not be inside.
        let own = fs::metadata(&dir)?;
        if let Ok(other) = fs::read_to_string(&inside)
            && let Ok(id) = other.parse()
            && burgess_base::process::state(id, &own) != burgess_base::process::ProcessState::Ended
        {
            return Err(Error::failed(format!("{mine} and {other} are inside at once")));
        }
        fs::write(&inside, &mine)?;
        std::thread::sleep(Duration::from_micros(500));
        lease.check()?;
        if fs::read_to_string(&inside)? != mine {
            return Err(Error::failed("another process came in"));
        }
        fs::remove_file(&inside)?;
        drop(lease);
        done += 1;
    }
    println!("done {done}");
    Ok(())
}

fn spawn(dir: &Path) -> Result<Child> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["--exact", "machine::lease::tests::child", "--nocapture"]).env(CHILD, dir);
    Ok(command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?)
}

/// On the machine of the killed processes nobody waits for heartbeats.
#[cfg(target_os = "linux")]
#[test]
fn processes_are_never_inside_at_once_and_killed_ones_block_nobody() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let clock = Instant::now();
    let mut living: Vec<Child> = (0..4).map(|_| spawn(dir.path())).collect::<Result<_>>()?;
    for victim in 0..6_u64 {
        let mut killed = spawn(dir.path())?;
        std::thread::sleep(Duration::from_millis(15 + 17 * victim));
        killed.kill()?;
        killed.wait()?;
    }
    for child in &mut living {
        let status = child.wait()?;
        let mut text = String::new();
        child.stdout.take().map(|mut out| out.read_to_string(&mut text)).transpose()?;
        assert!(status.success() && text.contains("done 30"), "{status}: {text}");
    }
    assert!(clock.elapsed() < INTERVAL * WATCHED, "{:?}", clock.elapsed());
    assert!(!is_busy(&dir.path().join("lease"))?);
    Ok(())
}
