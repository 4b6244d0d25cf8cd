//! `burgess encoders`: the zoo.

use super::{print, print_json};
use crate::columns::{self, Side};
use burgess_base::Result;
use burgess_encoders::card::{self, EncoderCard};
use burgess_encoders::encoder;
use serde_json::json;

/// List the zoo, or show one card
#[derive(clap::Args)]
#[command(after_help = "Examples:
  burgess encoders                               every encoder, and whether its weights are here
  burgess encoders nano-clip                     one card with its sources
  burgess encoders dinov2-base/                  the card of a directory from the hub
  burgess encoders facebook/dinov2-base          the same, once it was fetched
  burgess encoders --json")]
pub struct Args {
    /// Show this card, or the one that a directory, or owner/name of the hub, amounts to
    #[arg(value_name = "ID|DIR")]
    id: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args) -> Result<()> {
    match args.id {
        Some(id) => one(&EncoderCard::open(&id)?, args.json),
        None => list(args.json),
    }
}

fn list(as_json: bool) -> Result<()> {
    let cards = card::zoo()?;
    if as_json {
        let rows: Vec<_> = cards.iter().map(|c| json!({"card": c, "weights": encoder::weights_path(c).ok()})).collect();
        return print_json(&rows);
    }
    let mut rows = vec![
        ["id", "family", "supervision", "params", "pixels", "tokens × width", "weights"].map(String::from).to_vec(),
    ];
    for c in &cards {
        let grid = c.used_grid()?;
        rows.push(vec![
            c.id.clone(),
            c.family.clone(),
            c.supervision.as_str().to_string(),
            format!("{:.2} M", c.source.parameters as f64 / 1e6),
            c.preprocess.size.to_string(),
            format!("{}×{} × {}", grid[0], grid[1], c.architecture.width(&c.tap)?),
            if encoder::is_available(c) { "here" } else { "not here" }.to_string(),
        ]);
    }
    print(&columns::table(&rows, &[Side::Left; 7], "", super::list_width()))
}

fn one(card: &EncoderCard, as_json: bool) -> Result<()> {
    let weights = encoder::weights_path(card);
    if as_json {
        return print_json(&json!({"card": card, "weights": weights.ok()}));
    }
    let text = toml::to_string_pretty(card)
        .map_err(|e| burgess_base::Error::failed(e.to_string()).context(format!("showing the card {}", card.id)))?;
    let here = match &weights {
        Ok(path) => format!("# weights: {}\n", path.display()),
        Err(e) => format!("# weights: not on this machine: {e}\n"),
    };
    print(&format!("{text}\n{here}"))
}
