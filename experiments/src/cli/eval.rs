//! `burgess eval`: evaluates a model from a directory on benchmarks.

use crate::machine::device;
use crate::machine::progress::Progress;
use crate::machine::terminal::{self, print, print_json};
use crate::run::eval_model::{ModelEvalOptions, default_name, evaluate_model};
use crate::run::judge::Judge;
use crate::study::{BlindInput, EvalOptions, ResponsePromptUse, SeveralImagesInput, benchmark_files, check_until_ci};
use burgess_base::{Error, Result};
use burgess_probe::bench::Rules;
use burgess_probe::llm::{Activations, Compute};
use burgess_reports::answer_style::{AnswerStyle, style_block};
use burgess_reports::load::StudyData;
use burgess_reports::schema::{JudgedScore, SequentialInterval};
use std::path::PathBuf;

/// Confidence level of the intervals of shares.
const CONFIDENCE: f64 = 0.95;

/// Evaluate a model on benchmarks; the same command resumes after an interruption
#[derive(clap::Args)]
#[command(after_help = "The model is the `model` directory of a run or of `burgess train`, or a directory of a \
released Cambrian model. Every question is asked with its image and blind (without the image). Answers go to \
OUT/eval/<name>/seed-0/samples/, scores to results.json beside it; `burgess report OUT/eval` compares all models \
that were evaluated with the same options. Below the scores stands how the model answers open questions: lengths, \
answers of one word, refusals, loops, answers that the token limit ended.

Examples:
  burgess eval --model trained/model --benchmarks mmvp,cv-bench-2d        questions from the Hugging Face cache
  burgess eval --model cambrian-8b/ --benchmarks mme --prompts cambrian-1 --scoring cambrian-1 --limit 200
  burgess eval --model runs/nano/nano-siglip/seed-0/model --benchmarks nano-mme --data ~/.cache/burgess/worlds/*
  burgess eval --model trained/model --benchmark my-bench.toml             a benchmark of your own
  burgess eval --model cambrian-8b/ --benchmarks gqa --response-prompt drop --out without
  burgess eval --model cambrian-8b/ --benchmarks gqa,mmbench-en,seed-bench --until-ci 1.0
  burgess eval --model cambrian-8b/ --benchmarks conversation --data mine    mine/bench/conversation.jsonl
  burgess eval --model cambrian-8b/ --benchmarks llava-bench-wild --judge http://127.0.0.1:8000/v1 --judge-model qwen3")]
pub struct Args {
    /// Directory of the model
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// Benchmarks by id (`burgess prompts` lists them), or paths of benchmark files
    #[arg(long, value_name = "LIST", value_delimiter = ',', required_unless_present = "benchmark")]
    benchmarks: Vec<String>,
    /// A benchmark file, or an id; may be given several times, besides --benchmarks
    #[arg(long, value_name = "FILE")]
    benchmark: Vec<String>,
    /// Directory with bench/<id>/ for published benchmarks that are not in the Hugging Face cache, or with
    /// bench/<id>.jsonl for benchmarks that are generated on this machine
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Name of the model in the results [default: from the directory's name]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Scoring rules: official (those of the benchmark's authors, or the strict ones if there are none), strict,
    /// cambrian-1 (those of the paper's code) or lmms-eval (those of that harness, 0.7.3)
    #[arg(long, value_name = "RULES", default_value = "official")]
    scoring: Rules,
    /// Prompts, with the same values as --scoring
    #[arg(long, value_name = "RULES", default_value = "official")]
    prompts: Rules,
    /// Sentences of the prompts that ask for a form of answer, such as "Answer the question using a single word or
    /// phrase.": keep them, or drop them to see how the model answers without; what is dropped is listed
    #[arg(long, value_name = "HOW", value_enum, default_value = "keep")]
    response_prompt: ResponsePrompt,
    /// How the images of a question with several images are put into the prompt: as blocks of image tokens, at
    /// `<image 1>` and the like in the text or else before it, or joined side by side into one image
    #[arg(long, value_name = "HOW", value_enum, default_value = "blocks")]
    several_images: SeveralImages,
    /// Largest number of units (images, or pairs scored together) of each benchmark, a fixed random sample
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Half-width, in points, of a category's confidence interval at which no more questions are asked, such as 1.0. The
    /// units are asked in a fixed random order, and the interval (95 %) is corrected for the number of looks
    #[arg(long, value_name = "HALF_WIDTH")]
    until_ci: Option<f64>,
    /// Use a grey image for the blind baseline, instead of none
    #[arg(long)]
    grey: bool,
    /// Also score the options of questions by log-likelihood
    #[arg(long)]
    likelihoods: bool,
    /// Address of an OpenAI-compatible server (such as http://127.0.0.1:8000/v1) whose model compares the answers of
    /// conversation, llava-bench-wild and llava-bench-coco with the references; its marks stand beside the score
    #[arg(long, value_name = "URL", requires = "judge_model")]
    judge: Option<String>,
    /// Name of the judge's model on its server
    #[arg(long, value_name = "MODEL", requires = "judge")]
    judge_model: Option<String>,
    /// Environment variable that holds the key of the judge's server, such as OPENAI_API_KEY [default: no key is sent]
    #[arg(long, value_name = "VARIABLE", requires = "judge")]
    judge_key: Option<String>,
    /// Chat template, for a released model whose configuration does not determine it: llama_3, vicuna_v1,
    /// chatml_direct, phi3
    #[arg(long, value_name = "NAME")]
    chat: Option<String>,
    /// Output directory
    #[arg(long, value_name = "DIR", default_value = "runs")]
    out: PathBuf,
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
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum ResponsePrompt {
    Keep,
    Drop,
}

impl From<ResponsePrompt> for ResponsePromptUse {
    fn from(choice: ResponsePrompt) -> Self {
        match choice {
            ResponsePrompt::Keep => Self::Keep,
            ResponsePrompt::Drop => Self::Drop,
        }
    }
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum SeveralImages {
    Blocks,
    SideBySide,
}

impl From<SeveralImages> for SeveralImagesInput {
    fn from(choice: SeveralImages) -> Self {
        match choice {
            SeveralImages::Blocks => Self::Blocks,
            SeveralImages::SideBySide => Self::SideBySide,
        }
    }
}

pub fn run(args: Args) -> Result<()> {
    if args.limit == Some(0) {
        return Err(Error::usage("--limit must be at least 1").hint("leave it out to ask all questions"));
    }
    if let Some(width) = args.until_ci {
        check_until_ci(width).map_err(|e| e.context("--until-ci"))?;
    }
    let judge = args.judge.as_deref().zip(args.judge_model.as_deref());
    let judge = judge.map(|(url, model)| Judge::new(url, model, args.judge_key.as_deref())).transpose()?;
    let names = args.benchmarks.iter().chain(&args.benchmark);
    let benchmarks = names.map(|name| Ok(benchmark_files::find(name)?.id().to_string())).collect::<Result<_>>()?;
    let progress = Progress::new();
    let options = ModelEvalOptions {
        name: args.name.clone().unwrap_or_else(|| default_name(&args.model)),
        model: args.model,
        benchmarks,
        data: args.data,
        options: EvalOptions {
            scoring: args.scoring,
            prompts: args.prompts,
            response_prompt: args.response_prompt.into(),
            several_images: args.several_images.into(),
            limit: args.limit,
            until_ci: args.until_ci,
            blind: if args.grey { BlindInput::Grey } else { BlindInput::Omitted },
            likelihoods: args.likelihoods,
            sampling: None,
        },
        judge,
        chat: args.chat,
        activations: args.activations,
        precision: args.precision,
        out: args.out,
        device: device::open(&args.device, &progress)?,
        device_name: args.device,
    };
    let (results, dir) = evaluate_model(&options, &progress)?;
    let style = AnswerStyle::of_study(&StudyData::load_single(&dir)?, CONFIDENCE)?;
    if args.json {
        let mut value = serde_json::to_value(&results)?;
        if let (Some(style), Some(fields)) = (&style, value.as_object_mut()) {
            fields.insert("answer_style".into(), serde_json::to_value(style)?);
        }
        return print_json(&value);
    }
    let mut text = format!(
        "{:<16} {:>16} {:>7} {:>7} {:>7} {:>9}  {:<10} prompts\n",
        "benchmark", "score", "blind", "chance", "n", "unparsed", "scoring"
    );
    for (id, r) in &results.results {
        let score = format!("{:.2} ± {:.2}", r.score, r.stderr);
        text += &format!("{id:<16} {score:>16} {:>7.2} {:>7.2} {:>7} {:>9}", r.blind, r.chance, r.n, r.n_unparsed);
        text += &format!("  {:<10} {:<10}", r.scoring, r.prompts);
        text += &r.sample_of.map_or_else(String::new, |all| format!("  a sample of {all}"));
        text += &r.several_images.as_ref().map_or_else(String::new, |several| {
            format!("  {} with {} images as {}", several.questions, several.images, several.put)
        });
        if r.n_without_image > 0 {
            text += &format!("  {} without an image", r.n_without_image);
        }
        text += "\n";
    }
    for (id, r) in &results.results {
        text += &r.judge.as_ref().map_or_else(String::new, |judge| format!("{id}: {}\n", judge_line(judge)));
    }
    for (category, interval) in &results.until_ci {
        text += &format!("{category}: {}\n", interval_line(interval));
    }
    if let Some(style) = &style {
        let name = results.run.arm.clone();
        text += &format!("\n{}\n", style_block(style, &[(name.clone(), name)], terminal::width(), false));
    }
    text += &format!("{}\n", dir.display());
    print(&text)
}

/// Describes the interval at which asking stopped.
fn interval_line(i: &SequentialInterval) -> String {
    format!(
        "{:.2}, {:.0} % interval {:.2} to {:.2} (± {:.2}, {} {}) after {} of {} questions, at look {} of {}",
        i.score,
        100.0 * i.confidence,
        i.low,
        i.high,
        i.half_width,
        if i.reached { "within" } else { "not within" },
        i.until,
        i.asked,
        i.questions,
        i.looks,
        i.planned_looks
    )
}

/// Formats the marks of a judge.
fn judge_line(judge: &JudgedScore) -> String {
    let relative = judge.relative.map_or("–".to_string(), |share| format!("{share:.1}"));
    format!(
        "marks of {} in percent of those of the references: {relative} ({} answers judged, {} replies unparsed; \
         {} + {} tokens)",
        judge.model, judge.judged, judge.unparsed, judge.prompt_tokens, judge.completion_tokens
    )
}
