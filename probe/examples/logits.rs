//! Computes the logits of a pretrained language model for some token ids, for comparison with other programs.
//!
//! ```text
//! cargo run --release --example logits -- MODEL OUT.safetensors ID ID …
//! ```
//!
//! Writes `logits` `[ids, vocabulary]` and `greedy`, the next 16 ids of greedy decoding; prints the time of loading and
//! the peak memory.

use burgess_base::{Error, Result};
use burgess_probe::llm::{KvCache, Llm, Weights};
use burn::tensor::{Device, Tensor};
use safetensors::tensor::{Dtype, TensorView};
use std::time::Instant;

const STEPS: usize = 16;

fn main() {
    if let Err(e) = run() {
        eprintln!("error: {e}\nhint: {}", e.hint_text().unwrap_or("none"));
        std::process::exit(e.exit_code().into());
    }
}

fn run() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let (Some(model), Some(out)) = (arguments.next(), arguments.next()) else {
        return Err(Error::usage("expected a model, a file to write, and token ids"));
    };
    let ids: Vec<u32> = arguments.map(|id| Ok(id.parse()?)).collect::<Result<_>>()?;

    let device = Device::flex();
    let start = Instant::now();
    let weights = Weights::open(&model)?;
    let opened = start.elapsed();
    let (llm, report) = weights.load(&device)?;
    println!(
        "{} numbers in {} tensors, opened in {opened:.0?}, loaded in {:.0?}; peak {}; {} tensors ignored",
        report.elements,
        report.tensors,
        start.elapsed(),
        peak(),
        report.ignored.len()
    );

    let logits = logits(&llm, llm.hidden(llm.embed_rows(&[&ids], &device)?)?)?;
    let mut cache = KvCache::new();
    let (mut next, mut greedy): (Vec<u32>, Vec<u32>) = (ids.clone(), Vec::new());
    for _ in 0..STEPS {
        let hidden = llm.extend(llm.embed_rows(&[&next], &device)?, &[next.len()], &mut cache, None)?;
        let [_, t, _] = hidden.dims();
        let last = self::logits(&llm, hidden.narrow(1, t - 1, 1))?;
        let best = last.iter().zip(0u32..).max_by(|a, b| a.0.total_cmp(b.0)).map(|(_, id)| id);
        next = best.into_iter().collect();
        greedy.extend(&next);
    }

    let bytes = |values: &[f32]| values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
    let (logits, greedy) = (bytes(&logits), greedy.iter().flat_map(|id| id.to_le_bytes()).collect::<Vec<u8>>());
    let foreign = |e: safetensors::SafeTensorError| Error::failed(e.to_string());
    let shape = vec![ids.len(), llm.config().vocab_size];
    let views = [
        ("logits", TensorView::new(Dtype::F32, shape, &logits).map_err(foreign)?),
        ("greedy", TensorView::new(Dtype::U32, vec![STEPS], &greedy).map_err(foreign)?),
    ];
    std::fs::write(out, safetensors::serialize(views, None).map_err(foreign)?)?;
    Ok(())
}

fn logits(llm: &Llm, hidden: Tensor<3>) -> Result<Vec<f32>> {
    let [b, t, d] = hidden.dims();
    llm.logits(hidden.reshape([b * t, d])).try_into_vec_as().map_err(|e| Error::failed(e.to_string()))
}

/// The peak memory of this process, if the system reports it.
fn peak() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.map_or_else(|| "unknown".into(), |kib| kib.trim().to_string())
}
