//! The HTTP client over a server with faults: every fault ends in a result or a failure with its reason, in time and
//! within the limits.

use burgess_engine::fetch::{Client, FailureReason, FetchPolicy};
use burgess_site::{Fault, Robots, WikiOptions, WikiSite};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

fn policy(wiki: &WikiSite) -> FetchPolicy {
    let authority = |url: String| url.trim_start_matches("http://").to_string();
    FetchPolicy {
        contact: Some("tests@example.org".into()),
        requests_per_second: 1000.0,
        tries: 2,
        backoff_seconds: 0.01,
        longest_wait_seconds: 2.0,
        answer_seconds: 1.0,
        max_bytes: 4 << 20,
        fresh_days: 0.0,
        allow_hosts: vec![authority(wiki.base_url()), authority(wiki.uploads_url())],
        ..FetchPolicy::default()
    }
}

fn client(wiki: &WikiSite, dir: &Path) -> Client {
    Client::new(&policy(wiki), dir).expect("a client")
}

#[test]
fn each_fault_has_its_reason_and_leaves_the_client_usable() {
    let wiki = WikiSite::start(WikiOptions::default());
    let dir = tempfile::tempdir().expect("a directory");
    let client = client(&wiki, dir.path());
    let url = wiki.url("/wiki/Mosaic");
    let whole = client.get(&url).expect("a page").bytes;
    let always = usize::MAX;
    let date = |seconds| httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(seconds));
    use FailureReason as R;
    // How often the fault happens, and the reason for which the request fails; none if it succeeds in the end.
    let faults: Vec<(usize, Fault, Option<R>)> = vec![
        (1, Fault::status(500), None),
        (always, Fault::status(500), Some(R::ServerError)),
        (1, Fault::retry_after(429, "1"), None),
        (1, Fault::retry_after(503, &date(1)), None),
        (1, Fault::retry_after(429, "soon"), None),
        (1, Fault::retry_after(429, "-5"), None),
        (1, Fault::retry_after(503, "Mon, 01 Jan 1990 00:00:00 GMT"), None),
        (always, Fault::status(403), Some(R::Refused)),
        (always, Fault::status(418), Some(R::Refused)),
        (always, Fault::status(404), Some(R::NotFound)),
        (always, Fault::status(204), Some(R::BadAnswer)),
        (1, Fault::Drop, None),
        (always, Fault::Drop, Some(R::Connection)),
        (1, Fault::Cut(500), None),
        (always, Fault::Cut(500), Some(R::Connection)),
        (always, Fault::WrongLength(9), Some(R::Connection)),
        (always, Fault::LengthText("-1".into()), Some(R::BadAnswer)),
        (always, Fault::LengthText("99999999999999999999999".into()), Some(R::BadAnswer)),
        (always, Fault::LengthText("18446744073709551615".into()), Some(R::Connection)),
        (always, Fault::Garbage, Some(R::BadAnswer)),
        (1, Fault::Slow(Duration::from_secs(4)), None),
        (always, Fault::Drip(Duration::from_millis(50)), Some(R::TooSlow)),
        (always, Fault::Endless, Some(R::TooLarge)),
        (always, Fault::GzipBomb(16), Some(R::TooLarge)),
        (always, Fault::Redirect("file:///etc/passwd".into()), Some(R::BadAddress)),
        (always, Fault::Redirect("ftp://127.0.0.1/x".into()), Some(R::BadAddress)),
        (always, Fault::Redirect("data:text/plain,x".into()), Some(R::BadAddress)),
        (always, Fault::Redirect(format!("http://{}/x", wiki.secret_authority())), Some(R::PrivateAddress)),
        (always, Fault::Redirect(format!("//{}/x", wiki.secret_authority())), Some(R::PrivateAddress)),
        (always, Fault::Redirect("http://169.254.169.254/latest/meta-data/".into()), Some(R::PrivateAddress)),
        (always, Fault::Redirect("http://[::ffff:127.0.0.2]/x".into()), Some(R::PrivateAddress)),
        (always, Fault::Redirect("http://0177.0.0.2/x".into()), Some(R::PrivateAddress)),
        (always, Fault::Redirect("http://2130706434/x".into()), Some(R::PrivateAddress)),
        (always, Fault::Redirect("http://me:secret@127.0.0.2/x".into()), Some(R::BadAddress)),
        (always, Fault::Redirect("http://[".into()), Some(R::BadAddress)),
        (always, Fault::Redirect("".into()), Some(R::Redirects)),
        (always, Fault::Redirect(wiki.url("/loop/1")), Some(R::Redirects)),
        (always, Fault::Redirect(wiki.url("/chain/9")), Some(R::Redirects)),
    ];
    for (times, fault, reason) in faults {
        wiki.recover();
        wiki.fail("GET /wiki/Mosaic", times, fault.clone());
        // Without a cached page, whose confirmation would have no body.
        let dir = tempfile::tempdir().expect("a directory");
        let client = self::client(&wiki, dir.path());
        let began = Instant::now();
        let got = client.get(&url);
        let said =
            format!("{fault:?}: {:?}", got.as_ref().map(|f| f.bytes.len()).map_err(|e| (e.reason, e.to_string())));
        assert!(began.elapsed() < Duration::from_secs(12), "{said} after {:?}", began.elapsed());
        match (got, reason) {
            (Ok(found), None) => assert!(found.bytes == whole, "{said}"),
            (Err(failure), Some(reason)) => assert!(failure.reason == reason, "{said}, expected {reason:?}"),
            _ => panic!("{said}, expected {reason:?}"),
        }
    }
    wiki.recover();
    assert_eq!(client.get(&url).expect("the page after all faults").bytes, whole);
    assert_eq!(client.get(&wiki.url("/chain/3")).expect("three redirects").url, wiki.url("/wiki/Lighthouse"));
    assert!(wiki.secret_requests().is_empty(), "{:?}", wiki.secret_requests());
    assert!(wiki.requests().iter().all(|r| r.header("user-agent").contains("tests@example.org")));
}

#[test]
fn rules_for_robots_and_waits_are_obeyed() {
    let get = |robots: Robots, path: &str| {
        let wiki = WikiSite::start(WikiOptions { robots, ..WikiOptions::default() });
        let dir = tempfile::tempdir().expect("a directory");
        let got = client(&wiki, dir.path()).get(&wiki.url(path)).map(|_| ()).map_err(|f| f.reason);
        (got, wiki.requests().iter().any(|r| r.path() == path))
    };
    let forbidden = (Err(FailureReason::Robots), false);
    assert_eq!(get(Robots::Ordinary, "/private/page"), forbidden);
    assert_eq!(get(Robots::Ordinary, "/wiki/Mosaic"), (Ok(()), true));
    assert_eq!(get(Robots::Status(404), "/private/page"), (Ok(()), true));
    assert_eq!(get(Robots::Status(500), "/wiki/Mosaic"), (Err(FailureReason::ServerError), false));
    let text = |text: &str| Robots::Text(text.into());
    assert_eq!(
        get(text("User-agent: burgess\nDisallow: /wiki/\n\nUser-agent: *\nAllow: /"), "/wiki/Mosaic"),
        forbidden
    );
    assert_eq!(get(text("User-agent: other\nDisallow: /"), "/wiki/Mosaic"), (Ok(()), true));
    assert_eq!(get(text("\u{feff}USER-AGENT: *\r\nDISALLOW: /wiki/M*c$\r\n"), "/wiki/Mosaic"), forbidden);
    assert_eq!(get(text("<!DOCTYPE html><title>Not found</title>"), "/wiki/Mosaic"), (Ok(()), true));
    assert_eq!(get(text(&"\u{0}".repeat(100_000)), "/wiki/Mosaic"), (Ok(()), true));
    // Only the first part of a huge file counts, and it must not take long.
    assert_eq!(get(Robots::Huge, "/wiki/Mosaic"), (Ok(()), true));

    let wiki = WikiSite::start(WikiOptions { robots: Robots::CrawlDelay(0.3), ..WikiOptions::default() });
    let dir = tempfile::tempdir().expect("a directory");
    let client = client(&wiki, dir.path());
    for title in ["Mosaic", "Sundial", "Lighthouse"] {
        client.get(&wiki.url(&format!("/wiki/{title}"))).expect(title);
    }
    let log = wiki.requests();
    let pages: Vec<Duration> = log.iter().filter(|r| r.path().starts_with("/wiki/")).map(|r| r.at).collect();
    assert!(pages.windows(2).all(|pair| pair[1] - pair[0] >= Duration::from_millis(280)), "{pages:?}");

    // A server that asks for a longer wait than is allowed is left, for all clients that share the directory.
    wiki.fail("/wiki/Watermill", 1, Fault::retry_after(429, "86400"));
    let failure = client.get(&wiki.url("/wiki/Watermill")).expect_err("a day is too long");
    assert_eq!(failure.reason, FailureReason::TooManyRequests);
    let before = wiki.requests().len();
    let other = Client::new(&policy(&wiki), dir.path()).expect("a client");
    assert!(other.get(&wiki.url("/wiki/Windmill")).is_err());
    assert_eq!(wiki.requests().len(), before, "the host is asked although it wants a day of rest");
}
