//! `burgess bench`: throughput and memory on this machine.

use crate::machine::device;
use crate::machine::progress::Progress;
use crate::machine::terminal::{self, print};
use crate::run::notes;
use crate::throughput::{self, BenchmarkLlm};
use burgess_base::{Error, Result, atomic};
use burgess_encoders::card::EncoderCard;
use burgess_encoders::precision::ComputePrecision;
use burgess_probe::llm::card::LlmCard;
use burgess_probe::llm::{Activations, Compute, Weights};
use clap::ValueEnum;
use std::path::Path;
use std::time::Duration;

/// Measure throughput and memory on this machine
#[derive(clap::Args)]
#[command(after_help = "Weights are random numbers: none have to be on this machine, and the speed does not depend \
on their values. Those of a GGUF file are used as they are, since the speed depends on their number formats.

Examples:
  burgess bench encoders                                   one per dialect, at batch 1 and 8
  burgess bench encoders openai-clip-l14-336 --batch 1,4 --precision bf16
  burgess bench encoders mae-l16 --device tch --json
  burgess bench evaluator --llm smollm2-135m-instruct      prefill, decoding, answering, training
  burgess bench evaluator --precision bf16 --work align,tune
  burgess bench evaluator --llm model-q4_k_m.gguf --work prompt,decode --batch 1")]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(clap::Subcommand)]
enum What {
    Encoders(Encoders),
    Evaluator(Evaluator),
}

/// Images per second and peak memory of encoders at full size
#[derive(clap::Args)]
struct Encoders {
    /// Card ids or directories; without any, the smallest published encoder of each checkpoint dialect
    #[arg(value_name = "ID|DIR")]
    ids: Vec<String>,
    /// Images per forward pass
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_value = "1,8")]
    batch: Vec<usize>,
    /// Precision of matrix products: f32, or bf16 on processors with AVX-512 BF16 (device flex)
    #[arg(long, value_name = "f32|bf16", default_value_t)]
    precision: ComputePrecision,
    #[command(flatten)]
    how: How,
}

/// Tokens, questions and training samples per second; copies between host and device
///
/// The copies, the times that the host waits for the device, and the kernel launches depend only on the work, not on the
/// speed of the machine. flex computes in host memory and has no kernels: there the copies only move buffers, and
/// launches are not counted.
#[derive(clap::Args)]
struct Evaluator {
    /// A published language model (vicuna-7b, llama-3-8b-instruct …), a directory with a config.json, or a GGUF file,
    /// which is measured with its own weights
    #[arg(long, value_name = "ID|DIR|FILE", default_value = "smollm2-135m-instruct")]
    llm: String,
    /// Precision of activations in products with the quantised weights of a GGUF file: f32 (exact), int16 or int8
    /// (faster)
    #[arg(long, value_name = "PRECISION", default_value = "f32")]
    activations: Activations,
    /// Precision of the language model's matrix products: f32, or bf16, on the device flex on processors with AVX-512 BF16
    #[arg(long, value_name = "f32|bf16", default_value_t)]
    precision: Compute,
    /// The kinds of work to measure [default: all]. With tune, the weights of a GGUF file are unpacked to f32
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    work: Vec<throughput::WorkKind>,
    /// The encoder, a card id or directory
    #[arg(long, value_name = "ID|DIR", default_value = "mocov3-b16")]
    encoder: String,
    /// Side of the square grid to which features are resampled [default: the encoder's own grid]
    #[arg(long, value_name = "N")]
    grid: Option<usize>,
    /// Number of tokens of a prompt
    #[arg(long, value_name = "N", default_value_t = 512)]
    prompt: usize,
    /// Batch sizes of decoding and answering, in sequences
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_value = "1,8")]
    batch: Vec<usize>,
    /// Number of sequences of a training step
    #[arg(long, value_name = "N", default_value_t = 4)]
    samples: usize,
    /// Number of text tokens of a training sequence
    #[arg(long, value_name = "N", default_value_t = 64)]
    text: usize,
    #[command(flatten)]
    how: How,
}

/// Options of all measurements
#[derive(clap::Args)]
struct How {
    /// Least number of measured passes
    #[arg(long, value_name = "N", default_value_t = 3)]
    runs: usize,
    /// Least duration of each measurement in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 3)]
    seconds: u64,
    /// flex, wgpu, vulkan, tch, tch:cuda:0, cuda:0
    #[arg(long, value_name = "DEVICE", default_value = "flex")]
    device: String,
    /// Print JSON, one line per measurement
    #[arg(long)]
    json: bool,
}

impl How {
    fn effort(&self) -> throughput::Effort {
        throughput::Effort { runs: self.runs, time: Duration::from_secs(self.seconds) }
    }
}

pub fn run(args: Args) -> Result<()> {
    match args.what {
        What::Encoders(args) => encoders(args),
        What::Evaluator(args) => evaluator(args),
    }
}

fn evaluator(args: Evaluator) -> Result<()> {
    let smallest_batch = args.batch.iter().copied().min().unwrap_or(0);
    for (option, value, least) in [
        ("batch", smallest_batch, 1),
        ("grid", args.grid.unwrap_or(1), 1),
        ("samples", args.samples, 1),
        ("prompt", args.prompt, 4),
        ("text", args.text, 2),
    ] {
        if value < least {
            return Err(Error::usage(format!("--{option} is {value}, must be at least {least}")));
        }
    }
    let progress = Progress::new();
    let device = device::open(&args.how.device, &progress)?;
    let path = Path::new(&args.llm);
    let work = throughput::EvaluatorWork {
        llm: match LlmCard::find(&args.llm)? {
            Some(card) => BenchmarkLlm::Random(Box::new(card.config)),
            None if path.is_file() => BenchmarkLlm::Loaded(Box::new(Weights::open_path(path)?)),
            None => BenchmarkLlm::Random(Box::new(atomic::read_json(&path.join("config.json"))?)),
        },
        activations: args.activations,
        precision: args.precision,
        kinds: match args.work.as_slice() {
            [] => throughput::WorkKind::value_variants().to_vec(),
            kinds => kinds.to_vec(),
        },
        card: EncoderCard::open(&args.encoder)?,
        grid: args.grid,
        prompt: args.prompt,
        batches: args.batch,
        samples: args.samples,
        text: args.text,
    };
    let effort = args.how.effort();
    notes::print_notes(&notes::of_encoders([&work.card]), &progress);
    let _bar = progress.bar("measuring the evaluator", 0);
    if !args.how.json {
        print(&format!("device {}, {} threads\n", args.how.device, rayon::current_num_threads()))?;
        print("work             batch  per second           peak GB\n")?;
    }
    let mut transfers = String::new();
    throughput::measure_evaluator(&work, &device, effort, |m| {
        if args.how.json {
            return print(&(serde_json::to_string(&m)? + "\n"));
        }
        transfers += &transfer_line(m);
        print(&format!(
            "{:<16} {:>5}  {:>10.2} {:<9} {:>7.2}\n",
            m.work,
            m.batch,
            m.per_second,
            m.unit,
            m.peak_bytes as f64 / 1e9
        ))
    })?;
    if args.how.json {
        return Ok(());
    }
    print("\nCopies between host and device, times the host waits, and kernel launches\n")?;
    print("work             batch  per        uploads        kB  downloads        kB  waits  launches\n")?;
    print(&transfers)
}

/// Formats the copies between host and device of one kind of work as a line of the table.
fn transfer_line(m: &throughput::EvaluatorThroughput) -> String {
    let t = &m.transfers;
    format!(
        "{:<16} {:>5}  {:<9} {:>8.2} {:>9.2}  {:>9.2} {:>9.2}  {:>5.2}  {:>8}\n",
        m.work,
        m.batch,
        t.per,
        t.uploads,
        t.uploaded_bytes / 1e3,
        t.downloads,
        t.downloaded_bytes / 1e3,
        t.synchronisations,
        t.launches.map_or("-".into(), |n| format!("{n:.1}"))
    )
}

fn encoders(args: Encoders) -> Result<()> {
    if args.batch.contains(&0) {
        return Err(Error::usage("--batch must be at least 1").hint("as in --batch 1,8"));
    }
    let progress = Progress::new();
    let device = device::open(&args.how.device, &progress)?;
    let mut cards = match args.ids.as_slice() {
        [] => throughput::representatives()?,
        ids => ids.iter().map(|id| EncoderCard::open(id)).collect::<Result<_>>()?,
    };
    for card in &mut cards {
        card.precision = args.precision;
        card.architecture.check_precision(card.precision).map_err(|e| e.context(card.id.clone()))?;
    }
    let effort = args.how.effort();
    notes::print_notes(&notes::of_encoders(&cards), &progress);
    // The numbers take 66 characters; an id that does not fit beside them is printed on a line of its own.
    let longest = cards.iter().map(|c| c.id.len()).max().unwrap_or(0).max("encoder".len());
    let width = longest.min(terminal::list_width().saturating_sub(66)).max("encoder".len());
    if !args.how.json {
        let threads = rayon::current_num_threads();
        print(&format!("device {}, {threads} threads\n", args.how.device))?;
        print(&format!(
            "{:<width$}  batch  images/s  s/pass  Tflop/s  weights GB  peak GB  peak/weights\n",
            "encoder"
        ))?;
    }
    for card in &cards {
        let bar = progress.bar(&format!("measuring {}", card.id), 0);
        let rows = throughput::measure_encoder(card, &args.batch, &device, effort)?;
        drop(bar);
        for m in rows {
            if args.how.json {
                print(&(serde_json::to_string(&m)? + "\n"))?;
                continue;
            }
            let (weights, peak) = (m.weight_bytes as f64, m.peak_bytes as f64);
            let id = if m.encoder.len() > width { format!("{}\n{}", m.encoder, " ".repeat(width)) } else { m.encoder };
            print(&format!(
                "{id:<width$}  {:>5}  {:>10.2}  {:>6.2}  {:>7.3}  {:>10.2}  {:>7.2}  {:>12.2}\n",
                m.batch,
                m.images_per_second,
                m.seconds,
                m.tflops,
                weights / 1e9,
                peak / 1e9,
                peak / weights
            ))?;
        }
    }
    Ok(())
}
