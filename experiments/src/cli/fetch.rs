//! `burgess fetch`: downloads published weights.

use crate::machine::progress::{Bar, Progress};
use crate::machine::terminal::{print, print_json};
use crate::study::StudyConfig;
use burgess_base::Result;
use burgess_encoders::download::{ModelFiles, request, request_for};
use burgess_encoders::preprocess::Preparation;
use burgess_hub::Repository;
use burgess_hub::download::{
    Client, DownloadProgress, DownloadedFile, FileProgress, FileState, Limits, Session, Settings, Verification,
    decimal_size,
};
use serde_json::json;
use std::time::Duration;

/// Download published weights into the Hugging Face cache, with resuming and verification
#[derive(clap::Args)]
#[command(
    after_help = "Files of the hub go into its ordinary cache, shared with Python; files of other servers go to \
BURGESS_CACHE. Files that are already on this machine are not downloaded again; interrupted downloads are resumed.

Examples:
  burgess fetch dinov2-l14-518                   the weights of a card
  burgess fetch facebook/dinov2-base@main        any model of the hub, by its own name
  burgess fetch Qwen/Qwen2.5-0.5B-Instruct-GGUF:qwen2.5-0.5b-instruct-q8_0.gguf
                                                 one of its files
  burgess fetch --study my-study.toml            all weights of a study's encoders
  burgess fetch sam-h16-1024 sd21-512 --dry-run  files and sizes

Environment, as for huggingface_hub: HF_ENDPOINT, HF_TOKEN, HF_HOME, HF_HUB_CACHE, HF_HUB_OFFLINE, \
HF_HUB_DOWNLOAD_TIMEOUT (time without data after which a connection counts as broken, 30 s); for the connection: \
HTTPS_PROXY, SSL_CERT_FILE."
)]
pub struct Args {
    /// Card ids, owner/name, owner/name@revision or owner/name:file of the hub, or addresses of files
    #[arg(value_name = "ID", required_unless_present = "study")]
    ids: Vec<String>,
    /// Download the weights of all encoders of this study: a built-in study or the path of a TOML file
    #[arg(long, value_name = "STUDY")]
    study: Option<String>,
    /// Ask the hub for the present commit of the branch, even if its files are on this machine
    #[arg(long)]
    update: bool,
    /// Time limit for all downloads; partial files are kept
    #[arg(long, value_name = "TIME", env = "BURGESS_FETCH_TIME_LIMIT", default_value = "24h", value_parser = Limits::parse_time)]
    time_limit: Duration,
    /// Size limit for files whose size the server does not state
    #[arg(long, value_name = "SIZE", env = "BURGESS_FETCH_MAX_SIZE", default_value = "64GB", value_parser = Limits::parse_size)]
    max_size: u64,
    /// Show files and sizes, and stop
    #[arg(long)]
    dry_run: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args) -> Result<()> {
    let mut wanted = Vec::new();
    for id in &args.ids {
        wanted.push((id.clone(), request(id)?));
    }
    if let Some(study) = &args.study {
        for encoder in StudyConfig::open_without_data(study)?.arms.into_iter().flat_map(|arm| arm.encoders) {
            if encoder.is_oracle() {
                continue;
            }
            let what = match Repository::parse(&encoder.source) {
                Some(_) => request(&encoder.source)?,
                None => request_for(&encoder.card(Preparation::default())?)?,
            };
            wanted.push((encoder.source, what));
        }
    }
    let limits = Limits { time: args.time_limit, unnamed: args.max_size };
    let client = Client::new(Settings { limits, ..Settings::from_environment()? }, Progress::new())?;
    let session = Session { client, dry_run: args.dry_run, update: args.update };
    let mut results = Vec::new();
    for (number, (id, what)) in wanted.iter().enumerate() {
        // Cards may share their weights.
        if wanted.iter().take(number).any(|(_, before)| before == what) {
            continue;
        }
        let mut files = Vec::new();
        let path = session.download(what, &ModelFiles, &mut |fetched| {
            if !args.json {
                print(&format!("{}\n", line(&fetched)))?;
            }
            files.push(fetched);
            Ok(())
        });
        let path = path.map_err(|e| match number {
            0 => e,
            _ => e.context(format!("downloading {id}, after {number} of {} were downloaded", wanted.len())),
        })?;
        if !args.json && !args.dry_run {
            print(&format!("{id}: {}\n", path.display()))?;
        }
        results.push(json!({"id": id, "path": Some(path).filter(|_| !args.dry_run), "files": files}));
    }
    if args.json {
        return print_json(&results);
    }
    Ok(())
}

/// Formats the state of one file on one line.
fn line(file: &DownloadedFile) -> String {
    let size = file.size.map_or("size unknown".into(), decimal_size);
    let state = match &file.state {
        FileState::Present => "here already".to_string(),
        FileState::Absent => "would be fetched".to_string(),
        FileState::Downloaded { received, verification } => {
            let rest = match file.size {
                Some(size) if *received < size => format!(" ({} of it before)", decimal_size(size - received)),
                _ => String::new(),
            };
            let verified = match verification {
                Verification::Sha256 => "SHA-256 as published",
                Verification::GitSha1 => "git hash as published",
                Verification::Size => "size as published, the server names no digest",
                Verification::Nothing => "not verified: the server names neither digest nor size",
            };
            format!("fetched{rest}, {verified}")
        }
    };
    format!("{:<44}  {size:>10}  {state}", file.name)
}

impl DownloadProgress for Progress {
    fn message(&self, text: &str) {
        self.line(text);
    }

    fn start(&self, name: &str, total: u64) -> Box<dyn FileProgress> {
        Box::new(self.bytes(name, total))
    }
}

impl FileProgress for Bar {
    fn set(&self, done: u64, total: u64) {
        Bar::set(self, done, total);
    }

    fn add(&self, bytes: u64) {
        Bar::add(self, bytes);
    }
}

/// Describes the hub for `burgess doctor`: the server, and whether a token is set.
pub fn hub_summary() -> Result<String> {
    let settings = Settings::from_environment()?;
    let token = if settings.token.is_some() { "with a token" } else { "no token" };
    let offline = if settings.offline { ", offline (HF_HUB_OFFLINE)" } else { "" };
    Ok(format!("{}, {token}{offline}", settings.endpoint))
}
