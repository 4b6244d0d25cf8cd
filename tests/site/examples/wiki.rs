//! Runs the wiki of the tests until it is stopped: `cargo run -p burgess-site --example wiki -- [PORT] [--hostile]`.

use burgess_site::{WikiOptions, WikiSite};

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let port = args.iter().find_map(|arg| arg.parse().ok()).unwrap_or(8091);
    let hostile = args.iter().any(|arg| arg == "--hostile");
    let wiki = WikiSite::start(WikiOptions { port, hostile, ..WikiOptions::default() });
    println!(
        "api.php: {}\na page:  {}\npages:   {}",
        wiki.api_url(),
        wiki.url("/wiki/Lighthouse"),
        wiki.titles().join(", ")
    );
    println!("Ctrl-C stops it.");
    loop {
        std::thread::sleep(std::time::Duration::from_secs(5));
        for request in wiki.requests() {
            eprintln!("{:9.3} s  {}  {} {}", request.at.as_secs_f64(), request.status, request.method, request.target);
        }
        wiki.clear_requests();
    }
}
