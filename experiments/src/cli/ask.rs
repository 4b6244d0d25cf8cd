//! `burgess ask`: one question about one picture.

use super::{print, print_json};
use crate::ask::{Answerer, How};
use crate::progress::Progress;
use crate::{device, notes};
use burgess_base::{Error, Result};
use burgess_probe::generate::Sampling;
use std::path::PathBuf;

/// Ask a model a question about a picture
#[derive(clap::Args)]
#[command(after_help = "The model is the `model` directory that a run or `burgess train` left, or a directory of a \
released Cambrian model (nyu-visionx/cambrian-8b, -13b, -34b, -phi3-3b); the weights of its \
encoders are looked for in the caches (`burgess fetch ID`).

Examples:
  burgess ask --model runs/nano/nano-clip/seed-0/model --image cup.png \"What is this?\"
  burgess ask --model cambrian-8b/ --image page.png \"What does the headline say?\" --max-new-tokens 64
  burgess ask --model runs/nano/nano-clip/seed-0/model \"How many cups are there?\"     without a picture")]
pub struct Args {
    /// The question
    #[arg(value_name = "QUESTION")]
    question: String,
    /// Directory of the model
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// The picture; without one the model is asked blind
    #[arg(long, value_name = "IMAGE")]
    image: Option<PathBuf>,
    /// The longest answer, in tokens
    #[arg(long, value_name = "N", default_value_t = 128)]
    max_new_tokens: usize,
    /// Draw the answer's tokens at this temperature instead of taking the likeliest
    #[arg(long, value_name = "T")]
    temperature: Option<f64>,
    /// Draw only from the likeliest tokens that together have this probability
    #[arg(long, value_name = "P", requires = "temperature", default_value_t = 1.0)]
    top_p: f64,
    /// Seed of the draws
    #[arg(long, value_name = "N", requires = "temperature", default_value_t = 0)]
    seed: u64,
    /// Chat template of a released model whose configuration does not tell: llama_3, vicuna_v1, chatml_direct, phi3
    #[arg(long, value_name = "NAME")]
    chat: Option<String>,
    /// flex, wgpu, vulkan, tch, tch:cuda:0, cuda:0
    #[arg(long, value_name = "DEVICE", default_value = "flex")]
    device: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args) -> Result<()> {
    if args.question.trim().is_empty() || args.max_new_tokens == 0 {
        return Err(Error::usage("there is nothing to ask").hint("give a question, and --max-new-tokens above 0"));
    }
    let device = device::parse(&args.device)?;
    let sampling =
        args.temperature.map(|temperature| Sampling { temperature, top_p: args.top_p, top_k: None, seed: args.seed });
    if let Some(sampling) = &sampling {
        sampling.check()?;
    }
    let progress = Progress::new();
    let bar = progress.bar(&format!("loading {}", args.model.display()), 0);
    let answerer = Answerer::open(&args.model, args.chat.as_deref(), &device)?;
    drop(bar);
    notes::announce(&notes::of_encoders(answerer.encoders.iter().map(|t| &t.card)), &progress);
    let how = How { max_new_tokens: args.max_new_tokens, sampling };
    let answer = answerer.answer(args.image.as_deref(), &args.question, how)?;
    if args.json { print_json(&answer) } else { print(&format!("{}\n", answer.answer)) }
}
