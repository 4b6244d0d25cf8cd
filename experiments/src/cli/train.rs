//! `burgess train`: trains one model outside a study.

use crate::machine::progress::Progress;
use crate::machine::terminal::{print, print_json};
use crate::run::cost::fit::PeakMemory;
use crate::run::cost::gigabytes;
use crate::run::store::SAVE_INTERVAL;
use crate::run::train_model::{TrainOptions, plan_training, train_model};
use crate::study::RunConfig;
use burgess_base::{Error, Result};
use std::path::PathBuf;
use std::time::Duration;

/// Train one model on conversations about images; the same command resumes after an interruption
#[derive(clap::Args)]
#[command(after_help = "A run is written like a study with one arm:

  name = \"my-run\"
  encoders = [\"openai-clip-l14-336\"]
  freeze = \"frozen\"                       # or \"unfrozen\"
  seed = 0
  [evaluator]
  llm = \"path/to/a/language-model\"
  connector = \"mlp2x_gelu\"
  [evaluator.data.files]                    # LLaVA's JSON or JSON lines, also .gz and .zst
  align = \"blip_laion_cc_sbu_558k.json\"
  tune = \"llava_v1_5_mix665k.json\"
  images = \"images\"
  [evaluator.recipe.align]                  # optional
  epochs = 1.0
  batch = 256
  lr = 1e-3
  trainable = [\"connector\"]
  [evaluator.recipe.tune]
  epochs = 1.0
  batch = 128
  accumulate = 16                           # gradient accumulation over 16 parts of the batch
  lr = 2e-5
  trainable = [\"connector\", \"llm\"]
  max_length = 2048
  order = \"grouped_by_modality\"
  lora = { rank = 128, alpha = 256 }        # optional

Its directory holds config.json, train.jsonl (one line per step) and model/.

Examples:
  burgess train my-run.toml
  burgess train my-run.toml --dry-run           all checks, without training
  burgess train my-run.toml --out trained --device cuda:0")]
pub struct Args {
    /// File of the run
    #[arg(value_name = "RUN.toml")]
    run: PathBuf,
    /// Output directory [default: runs/<name>]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// flex, wgpu, vulkan, tch, tch:cuda:0, cuda:0
    #[arg(long, value_name = "DEVICE", default_value = "flex")]
    device: String,
    /// Number of CPU threads [default: one per core]
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// Seconds between two saved states, from which an interrupted training resumes
    #[arg(long, value_name = "S", default_value_t = SAVE_INTERVAL.as_secs())]
    keep_every: u64,
    /// Make all checks, print the planned stages, and stop
    #[arg(long)]
    dry_run: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args) -> Result<()> {
    if args.threads == Some(0) {
        return Err(Error::usage("--threads must be at least 1").hint("leave it out for one thread per core"));
    }
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let options = TrainOptions {
        out: args.out,
        device: args.device,
        threads: args.threads.unwrap_or(cores),
        save_interval: Duration::from_secs(args.keep_every),
    };
    let run = RunConfig::open(&args.run)?;
    if args.dry_run {
        let rehearsal = plan_training(&run, &options, &Progress::new())?;
        if args.json {
            return print_json(&rehearsal);
        }
        let stage = |(name, conversations, steps): &(String, usize, usize)| {
            format!("{name:<5} {conversations} conversations, {steps} steps\n")
        };
        let stages: String = rehearsal.stages.iter().map(stage).collect();
        let (directory, tokens) = (rehearsal.directory.display(), rehearsal.tokens);
        let PeakMemory { part, estimate } = rehearsal.memory;
        let memory = format!("peak memory: about {} (stage {part})", gigabytes(estimate.device));
        return print(&format!("{stages}image tokens: {tokens}\n{memory}\ndirectory of the run: {directory}\n"));
    }
    let outcome = train_model(&run, &options, &Progress::new())?;
    if args.json {
        return print_json(&outcome);
    }
    print(&format!(
        "model {}\nlog   {}\n{:.0} s of training\n",
        outcome.model.display(),
        outcome.log.display(),
        outcome.train_seconds
    ))
}
