//! `burgess export`: a trained model as a directory for a hub.

use crate::export::{ExportOptions, export};
use crate::machine::progress::Progress;
use crate::machine::terminal::{print, print_json};
use crate::run::exported::ExportLayout;
use crate::run::provenance;
use burgess_base::Result;
use burgess_encoders::checkpoint::Precision;
use std::path::PathBuf;

/// Write a trained model as a directory for a hub: weights, model card, scores, checksums
#[derive(clap::Args)]
#[command(
    after_help = "A model with one CLIP- or SigLIP-shaped encoder (frozen or trained), the connector mlp2x_gelu or \
linear and a language model that transformers knows is written for its LlavaForConditionalGeneration, which then gives the \
same answers; any other in Burgess's own layout, and the card says why. Burgess reads both: `burgess ask --model OUT`.

DIR is the `model` directory of a run, a run, or an arm. The directory OUT can be uploaded with any client of the hub. It is \
complete or absent; an earlier export is replaced, anything else that exists is refused.

Examples:
  burgess export runs/nano/nano-siglip --to nano-siglip-model
  burgess export trained/model --to hub/mine --json
  hf upload me/nano-siglip-model nano-siglip-model       with the client of the hub"
)]
pub struct Args {
    /// Directory of a model, a run or an arm
    #[arg(value_name = "DIR")]
    from: PathBuf,
    /// The directory that is written
    #[arg(long, value_name = "OUT")]
    to: PathBuf,
    /// The run of an arm [default: that with the lowest seed]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Name of the model's repository on the hub, for the records of its scores
    #[arg(long, value_name = "OWNER/NAME")]
    repository: Option<String>,
    /// Use Burgess's own layout, even if transformers could compute the model
    #[arg(long)]
    own_layout: bool,
    /// Write the weights of the language model in this precision, with its adapters merged into them, if the model
    /// refers to the file of a language model that stayed quantised [default: the adapters and the reference]
    #[arg(long, value_name = "PRECISION", value_enum)]
    merge: Option<Merged>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Precision of merged weights.
#[derive(Clone, Copy, clap::ValueEnum)]
enum Merged {
    F16,
    F32,
}

pub fn run(args: Args) -> Result<()> {
    let progress = Progress::new();
    let bar = progress.bar(&format!("exporting {}", args.from.display()), 0);
    let options = ExportOptions {
        from: args.from,
        seed: args.seed,
        to: args.to,
        own_layout: args.own_layout,
        merge: args.merge.map(|precision| match precision {
            Merged::F16 => Precision::F16,
            Merged::F32 => Precision::F32,
        }),
        repository: args.repository,
        command: provenance::command(),
    };
    let outcome = export(&options)?;
    drop(bar);
    if let Some(why) = &outcome.not_llava {
        progress.line(&format!("note: not for LLaVA of transformers: {why}"));
    }
    for folded in &outcome.folded {
        progress.line(&format!("note: multiplied into weights: {folded}"));
    }
    if args.json {
        return print_json(&outcome);
    }
    let layout = match outcome.layout {
        ExportLayout::Llava => "layout of LlavaForConditionalGeneration (transformers)",
        ExportLayout::Burgess => "layout of Burgess",
    };
    print(&format!(
        "{}: {} files, {:.1} MB, {layout}\n",
        outcome.directory.display(),
        outcome.files,
        outcome.bytes as f64 / 1e6
    ))
}
