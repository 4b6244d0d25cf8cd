//! `burgess ask`: answers one question about one image, or continues a text with a language model alone.

use crate::machine::device;
use crate::machine::progress::Progress;
use crate::machine::terminal::{print, print_foreign, print_json};
use crate::run::ask::{Answer, AnswerOptions, MultimodalModel, TextModel};
use crate::run::notes;
use burgess_base::text::escaped;
use burgess_base::{Error, Result};
use burgess_probe::generate::Sampling;
use burgess_probe::llm::{Activations, Compute};
use std::path::PathBuf;

/// Ask a multimodal model a question about an image, or a language model a question
#[derive(clap::Args)]
#[command(after_help = "The model is the `model` directory of a run or of `burgess train`, or a directory of a \
released Cambrian model (nyu-visionx/cambrian-8b, -13b, -34b, -phi3-3b); the weights of its encoders must be in the \
caches (`burgess fetch ID`). --llm takes any language model that a study can name: a directory in Hugging Face's \
layout, a .gguf file, owner/name of the hub, a name in the zoo.

Examples:
  burgess ask --model runs/nano/nano-siglip/seed-0/model --image cup.png \"What is this?\"
  burgess ask --model cambrian-8b/ --image page.png \"What does the headline say?\" --max-new-tokens 64
  burgess ask --model runs/nano/nano-siglip/seed-0/model \"How many cups are there?\"     without an image
  burgess ask --llm HuggingFaceTB/SmolLM2-135M-Instruct \"What is a lynx?\" --max-new-tokens 40
  burgess ask --llm model.gguf --raw \"Once upon a time\" --logprobs --json     a line of JSON per token
  burgess ask --llm model/ --raw \"The capital of France is\" --continuation \" Paris\"     its log-probability")]
pub struct Args {
    /// The question
    #[arg(value_name = "QUESTION")]
    question: String,
    /// Directory of the model
    #[arg(long, value_name = "DIR", required_unless_present = "llm", conflicts_with = "llm")]
    model: Option<PathBuf>,
    /// Language model to ask without images
    #[arg(long, value_name = "FILE-or-DIR-or-NAME")]
    llm: Option<String>,
    /// The image; without one the model reads the question alone
    #[arg(long, value_name = "IMAGE", conflicts_with = "llm")]
    image: Option<PathBuf>,
    /// Continue the text as it is, without a chat template
    #[arg(long, requires = "llm", conflicts_with = "chat")]
    raw: bool,
    /// Print each token's id and log-probability (in nats, before --temperature and --top-p), and the five most
    /// probable tokens
    #[arg(long)]
    logprobs: bool,
    /// Score this answer instead of generating one: the log-probability of each of its tokens, and their sum
    #[arg(long, value_name = "TEXT", conflicts_with_all = ["temperature", "max_new_tokens"])]
    continuation: Option<String>,
    /// Largest number of tokens of the answer
    #[arg(long, value_name = "N", default_value_t = 128)]
    max_new_tokens: usize,
    /// Sample the answer's tokens at this temperature [default: greedy decoding]
    #[arg(long, value_name = "T")]
    temperature: Option<f64>,
    /// Sample only from the most probable tokens whose probabilities sum to this
    #[arg(long, value_name = "P", requires = "temperature", default_value_t = 1.0)]
    top_p: f64,
    /// Random seed of the sampling
    #[arg(long, value_name = "N", requires = "temperature", default_value_t = 0)]
    seed: u64,
    /// Chat template, for a released model whose configuration does not determine it, or for a language model instead
    /// of its own: llama_3, vicuna_v1, chatml_direct, phi3
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
    /// Print JSON; with --logprobs or --continuation a line for each token, and one for the whole
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args) -> Result<()> {
    if args.question.trim().is_empty() {
        return Err(
            Error::usage("the question is empty").hint("give a question, as in `burgess ask … \"What is this?\"`")
        );
    }
    if args.max_new_tokens == 0 {
        return Err(Error::usage("--max-new-tokens must be at least 1").hint("leave it out for 128"));
    }
    if args.continuation.as_deref() == Some("") {
        return Err(Error::usage("--continuation is empty").hint("give the text of an answer"));
    }
    let progress = Progress::new();
    let device = device::open(&args.device, &progress)?;
    let sampling =
        args.temperature.map(|temperature| Sampling { temperature, top_p: args.top_p, top_k: None, seed: args.seed });
    if let Some(sampling) = &sampling {
        sampling.check()?;
    }
    let how = AnswerOptions {
        max_new_tokens: args.max_new_tokens,
        sampling,
        logprobs: args.logprobs,
        continuation: args.continuation,
    };
    let answer = match (&args.llm, &args.model) {
        (Some(name), _) => {
            let _bar = progress.bar(&format!("loading {name}"), 0);
            let model = TextModel::open(name, args.chat.as_deref(), args.raw, &device)?;
            model.answering_in(args.activations, args.precision)?.answer(&args.question, &how)?
        }
        (None, Some(dir)) => {
            let bar = progress.bar(&format!("loading {}", dir.display()), 0);
            let answerer = MultimodalModel::open(dir, args.chat.as_deref(), &device)?;
            let answerer = answerer.answering_in(args.activations, args.precision)?;
            drop(bar);
            notes::print_notes(&notes::of_cards(answerer.encoders.iter().map(|t| &t.card)), &progress);
            answerer.answer(args.image.as_deref(), &args.question, &how)?
        }
        (None, None) => return Err(Error::usage("no model is named").hint("name one with --model or --llm")),
    };
    match (answer.logprob, args.json) {
        (None, true) => print_json(&answer),
        (None, false) => print_foreign(&format!("{}\n", answer.answer)),
        (Some(_), true) => print(&lines(answer)?),
        (Some(_), false) => print_foreign(&table(&answer)),
    }
}

/// Formats the answer as JSON lines: one per token, and one for the whole answer.
fn lines(mut answer: Answer) -> Result<String> {
    let mut text = String::new();
    for token in std::mem::take(&mut answer.tokens) {
        text += &(serde_json::to_string(&token)? + "\n");
    }
    Ok(text + &serde_json::to_string(&answer)? + "\n")
}

/// Formats the answer as a table with one row per token.
fn table(answer: &Answer) -> String {
    let quoted = |text: &str| format!("`{}`", escaped(text));
    let mut text = format!("{}\n\n{:>7}  {:>9}  {:<16} most probable\n", answer.answer, "id", "logprob", "token");
    for token in &answer.tokens {
        let top = token.top.iter().map(|t| format!("{} {:.3}", quoted(&t.text), t.token.logprob));
        let (name, own) = (quoted(&token.token.text), token.token.token);
        let top = top.collect::<Vec<_>>().join("  ");
        text += &format!("{:>7}  {:>9.4}  {name:<16} {top}\n", own.id, own.logprob);
    }
    if let Some(sum) = answer.logprob {
        text += &format!("{:>7}  {sum:>9.4}  of {} tokens\n", "sum", answer.tokens.len());
    }
    text
}
