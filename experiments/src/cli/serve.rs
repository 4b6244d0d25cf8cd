//! `burgess serve`: models behind an OpenAI-compatible API and a chat page.

use super::listen;
use crate::machine::progress::Progress;
use crate::machine::terminal::{print_raw, safe_json};
use crate::machine::{device, stop};
use crate::run::eval_model::default_name;
use crate::run::notes;
use crate::serve::{ServeOptions, ServedModel, examples};
use burgess_base::{Context, Error, Result};
use burgess_probe::llm::{Activations, Compute};
use burgess_serve::{ChatModel, Limits, Server, ServerConfig};
use serde_json::json;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Serve models over HTTP: an API that OpenAI's clients can use, and a chat page
#[derive(clap::Args)]
#[command(
    after_help = "A model is the `model` directory of a run or of `burgess train`, or a directory of a released \
Cambrian model, as for `burgess ask`. The chat page is at /, the API at /v1/chat/completions, /v1/models and /v1/score, \
counts for Prometheus at /metrics. At temperature 0 the answers are those of `burgess ask` and `burgess eval`. Ctrl-C \
and SIGTERM end the server after the requests in progress.

Examples:
  burgess serve --model runs/nano/nano-siglip/seed-0/model
  burgess serve --model a=runs/nano/nano-siglip/seed-0/model --model b=cambrian-8b/     side by side
  burgess serve --model cambrian=cambrian-8b/ --device cuda:0 --max-batch 32 --port 9000
  BURGESS_TOKEN=$(openssl rand -hex 16) burgess serve --model trained/model --host 0.0.0.0

A client:
  curl localhost:8080/v1/chat/completions -H 'Content-Type: application/json' \\
    -d '{\"messages\": [{\"role\": \"user\", \"content\": \"What is a cup?\"}], \"temperature\": 0}'"
)]
pub struct Args {
    /// Directory of a model, with the name under which requests ask for it [default: from the directory's name]; may be
    /// given several times
    #[arg(long = "model", value_name = "[NAME=]DIR", required = true)]
    models: Vec<String>,
    /// Port to listen on; 0 for a free one
    #[arg(long, value_name = "PORT", default_value_t = 8080)]
    port: u16,
    /// Address to listen on; 0.0.0.0 for all networks of this machine
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    host: String,
    /// Names by which clients may reach this server besides its addresses, such as that of a reverse proxy
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    host_names: Vec<String>,
    /// File with the token that clients must send (`Authorization: Bearer …`) [default: the environment variable
    /// BURGESS_TOKEN, or no token]
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Download images that requests give by an http or https address, never from private networks
    #[arg(long)]
    allow_remote_images: bool,
    /// Chat template, for a released model whose configuration does not determine it: llama_3, vicuna_v1,
    /// chatml_direct, phi3
    #[arg(long, value_name = "NAME")]
    chat: Option<String>,
    /// Precision of activations in products with the quantised weights of a GGUF file: f32 (exact), int16 or int8
    /// (faster)
    #[arg(long, value_name = "PRECISION", default_value = "f32")]
    activations: Activations,
    /// Precision of the language model's matrix products: f32, or bf16, on the device flex on processors with AVX-512 BF16
    #[arg(long, value_name = "f32|bf16", default_value_t)]
    precision: Compute,
    /// flex, wgpu, vulkan, tch, tch:cuda:0, cuda:0
    #[arg(long, value_name = "DEVICE", default_value = "flex")]
    device: String,
    /// Largest number of answers that a model generates at the same time
    #[arg(long, value_name = "N", default_value_t = 16)]
    max_batch: usize,
    /// Largest number of requests that wait for a model; more are refused with status 429
    #[arg(long, value_name = "N", default_value_t = 64)]
    queue: usize,
    /// Largest number of tokens of an answer
    #[arg(long, value_name = "N", default_value_t = 1024)]
    max_tokens: usize,
    /// Memory of each model for images that were already processed, in MB; a second question about the same image costs
    /// only its text. 0 keeps none
    #[arg(long, value_name = "N", default_value_t = 512)]
    prefix_cache_mb: usize,
    /// Largest number of pixels of an image
    #[arg(long, value_name = "N", default_value_t = Limits::default().image_pixels)]
    max_image_pixels: u64,
    /// Time in which a request must be answered, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    timeout: u64,
    /// Print the address and the models as a line of JSON on standard output when the server listens
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args) -> Result<()> {
    for (value, name) in [(args.max_batch, "--max-batch"), (args.queue, "--queue"), (args.max_tokens, "--max-tokens")] {
        if value == 0 {
            return Err(Error::usage(format!("{name} must be at least 1")).hint("leave it out for the default"));
        }
    }
    if args.timeout == 0 || args.max_image_pixels == 0 {
        return Err(
            Error::usage("--timeout and --max-image-pixels must be at least 1").hint("leave them out for the defaults")
        );
    }
    let named = named_models(&args.models)?;
    let token = listen::token(args.token_file.as_deref())?;
    let address = address(&args.host, args.port)?;
    // From here on a signal ends the server and not the process.
    let section = stop::section()?;
    stop::announce("answering the requests in progress");
    let progress = Progress::new();
    let device = device::open(&args.device, &progress)?;
    let mut models: Vec<Arc<ServedModel>> = Vec::with_capacity(named.len());
    for (name, dir) in named {
        let bar = progress.bar(&format!("loading {}", dir.display()), 0);
        let options = ServeOptions {
            name,
            device_name: args.device.clone(),
            chat: args.chat.clone(),
            activations: args.activations,
            precision: args.precision,
            max_batch: args.max_batch,
            queue: args.queue,
            max_tokens: args.max_tokens,
            prefix_cache_bytes: args.prefix_cache_mb.saturating_mul(1 << 20),
        };
        let model = ServedModel::open(&dir, &device, &options)?;
        drop(bar);
        notes::print_notes(&notes::of_cards(model.encoders().iter().map(|e| &e.card)), &progress);
        models.push(Arc::new(model));
        stop::check()?;
    }
    listen::warn_if_open(address.ip(), token.as_deref(), "use this server", &progress);
    let config = ServerConfig {
        address,
        token,
        hosts: args.host_names,
        limits: Limits {
            answer_tokens: args.max_tokens,
            image_pixels: args.max_image_pixels,
            request_time: Duration::from_secs(args.timeout),
            ..Limits::default()
        },
        allow_remote_images: args.allow_remote_images,
        examples: examples::nano()?,
    };
    let shared = models.iter().map(|model| Arc::clone(model) as Arc<dyn ChatModel>).collect();
    let server =
        Server::bind(config, shared).map_err(|e| e.hint("choose another port with --port, or 0 for a free one"))?;
    let url = format!("http://{}", server.address());
    progress.line(&format!("listening on {url}"));
    for model in &models {
        let info = model.info();
        progress.line(&format!(
            "model {}: {} + {} + {}, {} image tokens, {} positions, on {}",
            info.id,
            info.encoders.join("+"),
            info.connector,
            info.llm,
            info.image_tokens,
            info.max_positions,
            info.device
        ));
    }
    if args.json {
        let names: Vec<&str> = models.iter().map(|model| model.info().id.as_str()).collect();
        print_raw(&(safe_json(&serde_json::to_string(&json!({"address": url, "models": names}))?) + "\n"))?;
    }
    server.run_blocking(listen::until_stopped())?;
    for model in &models {
        model.shut_down();
        model.join();
    }
    drop(section);
    Ok(())
}

/// Splits `NAME=DIR` arguments; names are unique.
fn named_models(models: &[String]) -> Result<Vec<(String, PathBuf)>> {
    let mut named: Vec<(String, PathBuf)> = Vec::with_capacity(models.len());
    for model in models {
        let (name, dir) = match model.split_once('=') {
            // A directory may have `=` in its name.
            Some((name, dir)) if !Path::new(model).exists() => (name.to_string(), PathBuf::from(dir)),
            _ => (default_name(Path::new(model)), PathBuf::from(model)),
        };
        if name.is_empty() || name.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return Err(Error::usage(format!("`{model}` gives a model the name `{name}`"))
                .hint("write --model NAME=DIR with a name without spaces"));
        }
        if let Some((_, other)) = named.iter().find(|(other, _)| *other == name) {
            return Err(Error::usage(format!(
                "two models have the name {name}: {} and {}",
                other.display(),
                dir.display()
            ))
            .hint("give one of them another name: --model NAME=DIR"));
        }
        named.push((name, dir));
    }
    Ok(named)
}

/// Resolves the address to listen on.
fn address(host: &str, port: u16) -> Result<SocketAddr> {
    if let Ok(ip) = host.trim_matches(['[', ']']).parse::<IpAddr>() {
        return Ok(SocketAddr::new(ip, port));
    }
    let found = (host, port).to_socket_addrs().with_context(|| format!("looking up --host {host}"))?;
    // A name such as localhost may have addresses of both versions; clients try IPv4 too.
    let found: Vec<SocketAddr> = found.collect();
    found.iter().find(|a| a.is_ipv4()).or(found.first()).copied().ok_or_else(|| {
        Error::usage(format!("--host {host} has no address")).hint("give an address, such as 127.0.0.1 or 0.0.0.0")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_have_unique_names() -> Result<()> {
        let list = |all: &[&str]| named_models(&all.iter().map(ToString::to_string).collect::<Vec<_>>());
        let named = list(&["runs/nano/a/seed-0/model", "b=runs/nano/a/seed-0/model", "cambrian-8b/"])?;
        let names: Vec<&str> = named.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["nano-a-seed-0", "b", "cambrian-8b"]);
        assert_eq!(named[1].1, PathBuf::from("runs/nano/a/seed-0/model"));
        for wrong in [&["a/model", "a/model"][..], &["x=a", "x=b"], &["=a"], &["a b=c"]] {
            assert!(list(wrong).is_err_and(|e| e.hint_text().is_some()), "{wrong:?}");
        }
        Ok(())
    }

    #[test]
    fn hosts_are_addresses_or_names() -> Result<()> {
        assert_eq!(address("127.0.0.1", 80)?.to_string(), "127.0.0.1:80");
        assert_eq!(address("[::1]", 0)?.to_string(), "[::1]:0");
        assert!(address("localhost", 1)?.ip().is_loopback());
        Ok(())
    }
}
