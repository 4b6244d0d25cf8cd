//! `burgess pretrain`: trains the weights of the nano encoders and the nano language model.

use crate::machine::device;
use crate::machine::progress::Progress;
use crate::machine::terminal::{self, print};
use crate::run::pretraining;
use crate::run::probes;
use crate::run::probes::ProbeRecord;
use burgess_base::{Error, Result, output};
use burgess_encoders::resolve;
use burgess_encoders::resolve::is_path;
use burgess_encoders::shipped::new_language_model_folder;
use burn::tensor::Device;
use std::path::PathBuf;

/// Pretrain a nano encoder or the nano language model
#[derive(clap::Args)]
#[command(
    after_help = "Pretrain the language model first: its tokenizer encodes the captions of clip, siglip and convnext.

The record beside an encoder's weights holds the accuracies of direct probes; `burgess encoders ID` shows them.

Examples:
  burgess pretrain nano/lm
  burgess pretrain nano/clip
  burgess pretrain nano/dinov2 --out dinov2.safetensors --device tch
  burgess pretrain nano/clip --probes-only
  burgess pretrain my-encoder.toml --out my-encoder.safetensors"
)]
pub struct Args {
    /// nano/lm, a nano encoder (nano/clip, nano/siglip, nano/convnext, nano/dinov2, nano/mae, nano/moco, nano/ijepa,
    /// nano/sup, nano/sam, nano/midas, nano/diffusion, nano/random), or your own card with a [pretrain] table
    #[arg(value_name = "nano/ID|CARD.toml")]
    id: String,
    /// Output file (for nano/lm: directory) [default: its path in the zoo]
    #[arg(long, value_name = "PATH")]
    out: Option<PathBuf>,
    /// Do not train; run the direct probes on the existing weights and store the results in their record
    #[arg(long)]
    probes_only: bool,
    /// flex, wgpu, vulkan, tch, tch:cuda:0, cuda:0
    #[arg(long, value_name = "DEVICE", default_value = "flex")]
    device: String,
}

pub fn run(args: Args) -> Result<()> {
    let progress = Progress::new();
    let device = device::open(&args.device, &progress)?;
    let id = if is_path(&args.id) { args.id } else { args.id.replacen('/', "-", 1) };
    if args.probes_only {
        return probe(&id, args.out, &device, &progress);
    }
    let (record, path) = if id == pretraining::LLM {
        let dir = match args.out {
            Some(dir) => dir,
            None => new_language_model_folder(pretraining::LLM)?,
        };
        output::check_directory(&dir)?;
        (pretraining::llm(&dir, &device, &args.device, &progress)?, dir)
    } else {
        let card = pretraining::card(&id)?;
        let path = match args.out {
            Some(path) => path,
            None if is_path(&id) => {
                return Err(Error::usage(format!("{id} is not in the zoo: its weights have no default path"))
                    .hint("name the output file: --out FILE.safetensors"));
            }
            None => pretraining::default_weights(&card)?,
        };
        output::check(&path)?;
        output::check(&path.with_extension("json"))?;
        (pretraining::encoder(&card, &path, &device, &args.device, &progress)?, path)
    };
    let last = record.losses.last().map_or(String::new(), |(_, loss, _)| format!(", final loss {loss:.4}"));
    print(&format!("{}: {} in {:.0} s{last}\n", record.id, path.display(), record.seconds))?;
    show(&record.id, &record.probes)
}

fn probe(id: &str, weights: Option<PathBuf>, device: &Device, progress: &Progress) -> Result<()> {
    if id == pretraining::LLM {
        return Err(Error::usage("--probes-only is for encoders: a language model has no features of images")
            .hint("leave it out, or name an encoder such as nano/clip"));
    }
    let card = pretraining::card(id)?;
    let path = weights.map_or_else(|| resolve::weights_path(&card), Ok)?;
    show(id, &probes::store_probes(&card, &path, None, device, progress)?)
}

/// Prints the probes of an encoder, with those of the untrained encoder for comparison.
fn show(id: &str, probed: &[ProbeRecord]) -> Result<()> {
    if probed.is_empty() {
        return Ok(());
    }
    let compared = probes::compare(probed, &probes::recorded_random(id));
    print(&probes::table(&compared, "", terminal::list_width()))
}
