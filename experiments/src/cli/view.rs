//! `burgess view`: studies and their answers in a browser.

use super::listen;
use crate::machine::progress::Progress;
use crate::machine::stop;
use crate::machine::terminal::print_json;
use crate::view::StudyFolder;
use burgess_base::Result;
use burgess_serve::{Server, ServerConfig, view};
use serde_json::json;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

/// Show studies in a browser: the state of their runs, their pages, and every question with every arm's answer
#[derive(clap::Args)]
#[command(
    after_help = "A server for the studies in a directory, which it only reads. Pages are made when they are asked for, \
and again when results have changed, also while runs go on. It sends images that the studies' own questions name and \
that lie in the studies' data, and no other file. Ctrl-C ends it. `burgess report` writes the same pages into files.

Examples:
  burgess view                                   the studies in runs/, at http://127.0.0.1:8088
  burgess view runs/nano --port 9000             one study
  BURGESS_TOKEN=$(openssl rand -hex 16) burgess view --host 0.0.0.0     for others; the token is the password"
)]
pub struct Args {
    /// Directory of one or many studies
    #[arg(value_name = "DIR", default_value = "runs")]
    dir: PathBuf,
    /// Port to listen on; 0 for a free one
    #[arg(long, value_name = "PORT", default_value_t = 8088)]
    port: u16,
    /// Address to listen on; 0.0.0.0 for all networks of this machine
    #[arg(long, value_name = "ADDRESS", default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    host: IpAddr,
    /// Names by which browsers may reach this server besides its addresses, such as that of a reverse proxy
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    host_names: Vec<String>,
    /// File with a token that browsers must give as the password of any user [default: the environment variable
    /// BURGESS_TOKEN, or no token]
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Print the address and the studies as JSON on standard output when the server listens
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args) -> Result<()> {
    let folder = StudyFolder::open(&args.dir)?;
    let token = listen::token(args.token_file.as_deref())?;
    let names: Vec<String> = folder.studies()?.into_keys().collect();
    // From here on a signal ends the server, which removes its temporary files.
    let section = stop::section()?;
    let progress = Progress::new();
    listen::warn_if_open(args.host, token.as_deref(), "read these studies", &progress);
    let config = ServerConfig {
        address: SocketAddr::new(args.host, args.port),
        token,
        hosts: args.host_names,
        ..ServerConfig::default()
    };
    let server = Server::bind_pages(config, view::router(Arc::new(folder)))
        .map_err(|e| e.hint("choose another port with --port, or 0 for a free one"))?;
    let url = format!("http://{}", server.address());
    progress.line(&format!("{} {} at {url}", names.len(), if names.len() == 1 { "study" } else { "studies" }));
    if args.json {
        print_json(&json!({"address": url, "studies": names}))?;
    }
    server.run_blocking(listen::until_stopped())?;
    drop(section);
    Ok(())
}
