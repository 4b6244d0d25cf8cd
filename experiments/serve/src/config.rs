//! Settings of a server: where it listens, who may ask, and how much one client may use.

use serde::Serialize;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

/// Settings of a [`Server`](crate::Server).
#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// Address to listen on; port 0 takes a free port.
    pub address: SocketAddr,
    /// Bearer token that requests must carry; `None` for a server without a token.
    pub token: Option<String>,
    /// Host names of this server besides its addresses, `localhost` and the name of the machine, such as the name of
    /// a reverse proxy. A request whose `Host` header has another name is refused unless there is a token.
    pub hosts: Vec<String>,
    /// Limits on connections and requests.
    pub limits: Limits,
    /// Whether images may be given by an `http:` or `https:` address, which the server then downloads.
    pub allow_remote_images: bool,
    /// Questions with images that the chat page offers.
    pub examples: Vec<Example>,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)),
            token: None,
            hosts: Vec::new(),
            limits: Limits::default(),
            allow_remote_images: false,
            examples: Vec::new(),
        }
    }
}

/// Limits on what one client and all clients together may use. What exceeds one is refused with an error that names
/// the limit.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Maximum number of open connections; more wait until one ends.
    pub connections: usize,
    /// Maximum number of bytes of a request's body.
    pub body_bytes: usize,
    /// Maximum number of bytes that the bodies of all requests in progress hold together. Each byte counts twice: in
    /// the text, and in what is read from it.
    pub total_body_bytes: usize,
    /// Maximum depth of nested arrays and objects in a body.
    pub json_depth: usize,
    /// Maximum number of values in a body: strings, numbers, arrays, objects.
    pub json_values: usize,
    /// Maximum number of messages of a request.
    pub messages: usize,
    /// Maximum number of bytes of all texts of a request together.
    pub text_bytes: usize,
    /// Maximum number of images of a request.
    pub images: usize,
    /// Maximum number of bytes of an image file.
    pub image_bytes: usize,
    /// Maximum number of pixels of an image, by its header.
    pub image_pixels: u64,
    /// Maximum number of generated tokens of a request; a higher `max_tokens` is lowered to it.
    pub answer_tokens: usize,
    /// Maximum number of options of a `/v1/score` request.
    pub options: usize,
    /// Time in which the head of a request must arrive, from the connection or from the end of the last response on.
    pub header_time: Duration,
    /// Time in which the body of a request must arrive.
    pub body_time: Duration,
    /// Time in which a request must be answered completely.
    pub request_time: Duration,
    /// Time for which a client may refuse to take more of a response.
    pub write_time: Duration,
    /// Time between comments that keep the connection of a streamed answer alive while there is no text.
    pub comment_time: Duration,
    /// Time for which requests in progress may go on after the shutdown has begun.
    pub shutdown_time: Duration,
    /// Time in which the image of an address must be downloaded.
    pub remote_time: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 256,
            body_bytes: 20 << 20,
            total_body_bytes: 1 << 30,
            json_depth: 32,
            json_values: 20_000,
            messages: 256,
            text_bytes: 1 << 20,
            images: 8,
            image_bytes: 15 << 20,
            image_pixels: 64_000_000,
            answer_tokens: 4096,
            options: 64,
            // Longer than common clients keep an idle connection, so that they do not send into one that closes.
            header_time: Duration::from_secs(20),
            body_time: Duration::from_secs(60),
            request_time: Duration::from_secs(600),
            write_time: Duration::from_secs(30),
            comment_time: Duration::from_secs(15),
            shutdown_time: Duration::from_secs(30),
            remote_time: Duration::from_secs(20),
        }
    }
}

/// A question with an image that the chat page offers; `GET /examples` lists all of them.
#[derive(Debug, Clone, Serialize)]
pub struct Example {
    /// Short name of the example.
    pub name: String,
    /// The question.
    pub question: String,
    /// Possible answers; empty for an open question.
    pub options: Vec<String>,
    /// The image as a PNG file, served at `/examples/<n>.png`.
    #[serde(skip)]
    pub image: Vec<u8>,
    /// The right answer, if it is known.
    pub answer: Option<String>,
}
