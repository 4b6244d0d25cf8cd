//! A server of models without weights, for people who work on the chat page or on a client:
//! `cargo run -p burgess-serve --example fake -- 8080 [TOKEN]`. The model `slow` answers with five words per second,
//! `quick` at once, and `fails` breaks off after three; all repeat the question.

use burgess_base::{Error, Result};
use burgess_serve::{Example, FakeModel, Server, ServerConfig};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

fn main() -> Result<()> {
    let port = match std::env::args().nth(1) {
        None => 8080,
        Some(text) => text.parse().map_err(|_| {
            Error::usage(format!("the port is `{text}`, must be a number up to 65535"))
                .hint("pass a free port, such as 8080")
        })?,
    };
    let examples = vec![example("Circle", [200, 40, 40], 0.8)?, example("Ring", [40, 90, 200], 0.5)?];
    let config = ServerConfig {
        address: SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
        token: std::env::args().nth(2),
        allow_remote_images: true,
        examples,
        ..ServerConfig::default()
    };
    let slow = FakeModel::new("slow").with_interval(Duration::from_millis(200));
    let fails = FakeModel::new("fails").with_interval(Duration::from_millis(50)).with_failure_at(3);
    let server = Server::bind(config, vec![Arc::new(slow), Arc::new(FakeModel::new("quick")), Arc::new(fails)])?;
    println!("http://{}", server.address());
    server.run_blocking(async {
        // Without a handler for Ctrl-C the signal ends the process, as it should.
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    })
}

/// A disc of one colour on white, as an example of the page.
fn example(name: &str, colour: [u8; 3], radius: f32) -> Result<Example> {
    let image = image::RgbImage::from_fn(160, 120, |x, y| {
        let distance = (x as f32 - 80.0).hypot(y as f32 - 60.0) / 60.0;
        image::Rgb(if distance < radius { colour } else { [255; 3] })
    });
    let mut png = std::io::Cursor::new(Vec::new());
    image.write_to(&mut png, image::ImageFormat::Png).map_err(|e| Error::failed(e.to_string()))?;
    Ok(Example {
        name: name.to_owned(),
        question: "What colour is the disc?".to_owned(),
        options: ["red", "green", "blue"].map(str::to_owned).to_vec(),
        image: png.into_inner(),
        answer: Some(if colour[0] > colour[2] { "red" } else { "blue" }.to_owned()),
    })
}
