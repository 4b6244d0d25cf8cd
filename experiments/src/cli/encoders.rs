//! `burgess encoders`: lists the zoo, shows one card, and runs direct probes of an encoder.

use crate::machine::device;
use crate::machine::progress::Progress;
use crate::machine::terminal::{self, print, print_json};
use crate::machine::text_table;
use crate::machine::text_table::Align;
use crate::run::{notes, probes};
use crate::study::ArmEncoder;
use burgess_base::{Error, Result};
use burgess_encoders::card::{self, EncoderCard};
use burgess_encoders::preprocess::Preparation;
use burgess_encoders::resolve;
use serde_json::json;

/// List the zoo, show one card, or probe one encoder
#[derive(clap::Args)]
#[command(after_help = "Direct probes are a linear classifier and k-NN on frozen features. They are trained on \
images of the nano world and tested on other images: which thing, colour, count, position, depth, word and glyph an \
image shows, and which thing covers a patch. The record beside the weights of a nano encoder holds their accuracies; \
--probe computes them for any encoder.

Examples:
  burgess encoders                               all encoders, and which weights are here
  burgess encoders nano-clip                     one card, its sources and its direct probes
  burgess encoders dinov2-base/                  the card of a directory from the hub
  burgess encoders facebook/dinov2-base          the same, once it was fetched
  burgess encoders facebook/dinov2-base --probe  accuracies of direct probes on its features
  burgess encoders --json")]
pub struct Args {
    /// Card id, directory or owner/name of the hub whose card is shown
    #[arg(value_name = "ID|DIR")]
    id: Option<String>,
    /// Run the direct probes of this encoder, and of nano-random for comparison
    #[arg(long, requires = "id")]
    probe: bool,
    /// Largest number of training images and of test images of each probe
    #[arg(long, value_name = "N", requires = "probe")]
    limit: Option<usize>,
    /// flex, wgpu, vulkan, tch, tch:cuda:0, cuda:0
    #[arg(long, value_name = "DEVICE", default_value = "flex", requires = "probe")]
    device: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args) -> Result<()> {
    match &args.id {
        Some(id) if args.probe => probe(id, &args),
        Some(id) => one(&EncoderCard::open(id)?, args.json),
        None => list(args.json),
    }
}

fn list(as_json: bool) -> Result<()> {
    let cards = card::zoo()?;
    if as_json {
        let rows: Vec<_> = cards.iter().map(|c| json!({"card": c, "weights": resolve::weights_path(c).ok()})).collect();
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
            format!("{}×{} × {}", grid[0], grid[1], c.width()?),
            if resolve::is_available(c) { "here" } else { "not here" }.to_string(),
        ]);
    }
    print(&text_table::table(&rows, &[Align::Left; 7], "", terminal::list_width()))
}

fn one(card: &EncoderCard, as_json: bool) -> Result<()> {
    let weights = resolve::weights_path(card);
    let compared = probes::compare(&probes::recorded(card), &probes::recorded_random(&card.id));
    if as_json {
        let mut value = json!({"card": card, "weights": weights.ok()});
        if !compared.is_empty() {
            value["probes"] = json!(compared);
        }
        return print_json(&value);
    }
    let text = toml::to_string_pretty(card)
        .map_err(|e| Error::failed(e.to_string()).context(format!("showing the card {}", card.id)))?;
    let here = match &weights {
        Ok(path) => format!("# weights: {}\n", path.display()),
        Err(e) => format!("# weights: not on this machine: {e}\n"),
    };
    let probed = match compared.as_slice() {
        [] => String::new(),
        compared => format!("\n{}", probes::table(compared, "# ", terminal::list_width())),
    };
    print(&format!("{text}\n{here}{probed}"))
}

fn probe(id: &str, args: &Args) -> Result<()> {
    if args.limit == Some(0) {
        return Err(Error::usage("--limit must be at least 1").hint("leave it out for all images"));
    }
    let chosen: ArmEncoder = id.parse()?;
    let card = chosen.card(Preparation::default())?;
    for note in notes::of_encoders([&card]) {
        terminal::eprint_line(&format!("note: {note}"));
    }
    let progress = Progress::new();
    let device = device::open(&args.device, &progress)?;
    let probed = probes::probe_encoder(&chosen.load(card.clone(), &device)?, args.limit, &progress)?;
    let random = if chosen == ArmEncoder::plain(probes::RANDOM) {
        Vec::new()
    } else {
        probes::random_baseline(&probed, args.limit, &device, &progress)?
    };
    let compared = probes::compare(&probed, &random);
    if args.json {
        return print_json(&json!({"card": card, "probes": compared}));
    }
    print(&probes::table(&compared, "", terminal::list_width()))
}
