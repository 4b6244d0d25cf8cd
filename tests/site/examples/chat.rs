//! Runs the language model of the tests until it is stopped: `cargo run -p burgess-site --example chat -- [PORT]`.

use burgess_site::{ChatOptions, ChatSite};

fn main() {
    let port = std::env::args().skip(1).find_map(|arg| arg.parse().ok()).unwrap_or(8092);
    let chat = ChatSite::start(ChatOptions { port, ..ChatOptions::default() });
    println!("base URL: {}\nmodel:    test-writer\nCtrl-C stops it.", chat.base_url());
    loop {
        std::thread::sleep(std::time::Duration::from_secs(5));
        for request in chat.requests() {
            let question: String = request.question().chars().take(60).collect();
            eprintln!("{:9.3} s  {}  {}", request.at.as_secs_f64(), request.status, question.replace('\n', " "));
        }
        chat.clear_requests();
    }
}
