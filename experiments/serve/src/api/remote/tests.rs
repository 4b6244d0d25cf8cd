//! Attacks through addresses of images.

use super::*;
use std::io::Write;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

/// Serves fixed responses on an address of the loopback network; returns the port and the paths asked for.
fn serve(address: &str, respond: impl Fn(&str, u16) -> Vec<u8> + Send + 'static) -> (u16, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind((address, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let log = asked.clone();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut head = Vec::new();
            let mut byte = [0];
            while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap_or(0) == 1 {
                head.push(byte[0]);
            }
            let head = String::from_utf8_lossy(&head).into_owned();
            let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
            log.lock().unwrap().push(path.clone());
            stream.write_all(&respond(&path, port)).ok();
        }
    });
    (port, asked)
}

fn png() -> Vec<u8> {
    let mut file = std::io::Cursor::new(Vec::new());
    image::RgbImage::new(3, 2).write_to(&mut file, image::ImageFormat::Png).unwrap();
    file.into_inner()
}

fn ok(body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

fn redirect(to: &str) -> Vec<u8> {
    format!("HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").into_bytes()
}

fn limits() -> Limits {
    Limits { remote_time: Duration::from_secs(2), image_bytes: 10_000, ..Limits::default() }
}

/// Only 127.0.0.2 stands for the public internet; names ending in `.test` resolve to the address before it.
fn fake_internet(limits: &Limits) -> Remote {
    let lookup = |host: &str, port| match host.strip_suffix(".test") {
        Some(name) => Ok(vec![SocketAddr::new(name.replace('-', ".").parse().unwrap(), port)]),
        None => (host, port).to_socket_addrs().map(Iterator::collect),
    };
    Remote::with(limits, Arc::new(lookup), |address| address == IpAddr::from([127, 0, 0, 2]))
}

fn fetch(remote: &Remote, url: &str) -> Result<Vec<u8>, String> {
    download(&remote.agent, url, &remote.limits)
        .map(|image| image.bytes.clone())
        .map_err(|e| e.body()["error"]["message"].as_str().unwrap().to_owned())
}

#[test]
fn addresses_that_are_not_public_are_refused_in_every_spelling() {
    let remote = Remote::new(&limits());
    for host in [
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f000001",
        "0x7f.1",
        "0177.0.0.1",
        "0",
        "0.0.0.0",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "100.64.0.1",
        "169.254.169.254",
        "224.0.0.1",
        "255.255.255.255",
        "localhost",
        "localhost.",
        "LOCALHOST",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[::127.0.0.1]",
        "[64:ff9b::7f00:1]",
        "[64:ff9b:1::7f00:1]",
        "[2002:7f00:1::]",
        "[fe80::1]",
        "[fec0::1]",
        "[fc00::1]",
        "[fd12:3456::1]",
        "[ff02::1]",
        "[2001:db8::1]",
        "user@127.0.0.1",
        "example.org@127.0.0.1",
        "example.org:80@127.0.0.1",
    ] {
        for url in [format!("http://{host}/a.png"), format!("http://{host}:8080/a.png")] {
            let error = fetch(&remote, &url).unwrap_err();
            // What the system's look-up does not know as an address is a name that does not exist.
            let unknown =
                ["0x", "0177", "2130706433", "//0", "//127.1", "localhost."].iter().any(|it| url.contains(it));
            assert!(error.contains(REFUSED) || unknown && error.contains("lookup"), "{url}: {error}");
        }
    }
}

#[test]
fn an_image_is_downloaded_and_checked_like_one_that_was_sent() {
    let (port, _) = serve("127.0.0.2", |path, _| match path {
        "/a.png" => ok(&png()),
        "/text" => ok(b"no image"),
        "/large" => ok(&vec![0; 20_000]),
        _ => b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".to_vec(),
    });
    let remote = fake_internet(&limits());
    assert_eq!(fetch(&remote, &format!("http://127.0.0.2:{port}/a.png")).unwrap(), png());
    assert_eq!(fetch(&remote, &format!("http://127-0-0-2.test:{port}/a.png")).unwrap(), png());
    let error = |path| fetch(&remote, &format!("http://127.0.0.2:{port}/{path}")).unwrap_err();
    assert!(error("text").contains("cannot be read"), "{}", error("text"));
    assert!(error("large").contains("the limit is 10000"), "{}", error("large"));
    assert!(error("absent").contains("404"), "{}", error("absent"));
}

#[test]
fn redirects_are_checked_and_counted() {
    let (secret_port, secret) = serve("127.0.0.1", |_, _| ok(&png()));
    let (port, asked) = serve("127.0.0.2", move |path, port| match path {
        "/good" => redirect("/a.png"),
        "/a.png" => ok(&png()),
        "/loop" => redirect("/loop"),
        "/file" => redirect("file:///etc/passwd"),
        "/port" => redirect("http://127.0.0.2:25/"),
        "/name" => redirect(&format!("http://127-0-0-1.test:{secret_port}/a.png")),
        "/user" => redirect(&format!("http://127.0.0.2:{port}@127.0.0.1:{secret_port}/a.png")),
        _ => redirect(&format!("http://127.0.0.1:{secret_port}/a.png")),
    });
    let remote = fake_internet(&limits());
    let get = |path: &str| fetch(&remote, &format!("http://127.0.0.2:{port}{path}"));
    assert_eq!(get("/good").unwrap(), png());
    for path in ["/address", "/name", "/user"] {
        let error = get(path).unwrap_err();
        assert!(error.contains(REFUSED), "{path}: {error}");
    }
    assert!(get("/port").unwrap_err().contains("port 25 is not allowed"));
    get("/file").unwrap_err();
    asked.lock().unwrap().clear();
    assert!(get("/loop").unwrap_err().contains("redirect"), "{}", get("/loop").unwrap_err());
    assert!(asked.lock().unwrap().len() <= 2 * (REDIRECTS as usize + 1));
    assert!(secret.lock().unwrap().is_empty(), "a private address was asked");
}

#[test]
fn a_name_with_one_private_address_is_refused_and_a_second_look_up_is_checked_again() {
    let (port, asked) = serve("127.0.0.2", |_, _| redirect("/again"));
    let both =
        |_: &str, port| Ok(vec![SocketAddr::from(([127, 0, 0, 2], port)), SocketAddr::from(([127, 0, 0, 1], port))]);
    let only = |address: IpAddr| address == IpAddr::from([127, 0, 0, 2]);
    let remote = Remote::with(&limits(), Arc::new(both), only);
    assert!(fetch(&remote, &format!("http://both.test:{port}/")).unwrap_err().contains(REFUSED));
    assert!(asked.lock().unwrap().is_empty());
    // The name changes its address after the first look-up.
    let count = std::sync::atomic::AtomicUsize::new(0);
    let changes = move |_: &str, port| {
        let last = if count.fetch_add(1, std::sync::atomic::Ordering::SeqCst) == 0 { 2 } else { 1 };
        Ok(vec![SocketAddr::from(([127, 0, 0, last], port))])
    };
    let remote = Remote::with(&limits(), Arc::new(changes), only);
    assert!(fetch(&remote, &format!("http://changes.test:{port}/")).unwrap_err().contains(REFUSED));
    assert_eq!(asked.lock().unwrap().len(), 1);
}

#[test]
fn a_server_that_is_silent_or_endless_is_left() {
    let (port, _) = serve("127.0.0.2", |path, _| {
        if path == "/silent" {
            thread::sleep(Duration::from_secs(3));
        }
        [b"HTTP/1.1 200 OK\r\n\r\n".as_slice(), &vec![0; 1 << 20]].concat()
    });
    let limits = Limits { remote_time: Duration::from_millis(300), image_bytes: 10_000, ..Limits::default() };
    let remote = fake_internet(&limits);
    assert!(fetch(&remote, &format!("http://127.0.0.2:{port}/endless")).unwrap_err().contains("the limit is 10000"));
    let began = std::time::Instant::now();
    assert!(fetch(&remote, &format!("http://127.0.0.2:{port}/silent")).is_err());
    assert!(began.elapsed() < Duration::from_secs(2));
    let slow = |_: &str, _| {
        thread::sleep(Duration::from_secs(3));
        Ok(Vec::new())
    };
    let remote = Remote::with(&limits, Arc::new(slow), is_public);
    let began = std::time::Instant::now();
    assert!(fetch(&remote, "http://slow.test/").is_err());
    assert!(began.elapsed() < Duration::from_secs(2));
}
