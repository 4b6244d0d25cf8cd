//! Writes a pool like Cambrian-10M, and measures how fast it is read.
//!
//! ```sh
//! cargo run --release -p burgess-mix --example pool -- write pool.jsonl 10000000
//! cargo run --release -p burgess-mix --example pool -- measure pool.jsonl
//! ```

mod generate;

use burgess_base::{Error, Result};
use burgess_mix::pool::{Pool, PoolSpec};
use generate::Generator;
use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Read, Write};
use std::path::Path;
use std::time::Instant;

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["write", file, entries] => write(Path::new(file), entries.parse()?),
        ["measure", file] => measure(Path::new(file)),
        _ => Err(Error::usage("expected `write FILE ENTRIES` or `measure FILE`")),
    }
}

fn write(file: &Path, entries: u64) -> Result<()> {
    let mut generator = Generator::new(0);
    let mut out = BufWriter::with_capacity(1 << 20, File::create(file)?);
    let mut line = String::new();
    for _ in 0..entries {
        line.clear();
        generator.line(&mut line);
        out.write_all(line.as_bytes())?;
    }
    out.flush()?;
    Ok(())
}

/// Returns the processor time of this process in seconds, with that of finished child processes.
fn processor_seconds() -> f64 {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // utime, stime, cutime, cstime in hundredths of a second; the name before them can have spaces.
    let after = text.rsplit_once(')').map_or("", |(_, after)| after);
    after.split_whitespace().skip(11).take(4).filter_map(|n| n.parse::<f64>().ok()).sum::<f64>() / 100.0
}

/// Prints a row: what was done, seconds, MB/s, the ratio to the first row, MB per second of processor time, and a
/// count. On a busy machine only the processor time tells.
fn row(name: &str, bytes: u64, first: &mut Option<f64>, work: impl FnOnce() -> Result<u64>) -> Result<()> {
    let (start, used) = (Instant::now(), processor_seconds());
    let count = work()?;
    let (seconds, used) = (start.elapsed().as_secs_f64(), processor_seconds() - used);
    let rate = bytes as f64 / 1e6 / seconds;
    let base = *first.get_or_insert(rate);
    let (ratio, of_processor) = (rate / base, bytes as f64 / 1e6 / used.max(0.01));
    println!("{name:44} {seconds:8.2} s {rate:8.0} MB/s {ratio:6.2}x  {of_processor:8.0} MB/s of a core {count:>12}");
    Ok(())
}

fn measure(file: &Path) -> Result<()> {
    let bytes = file.metadata()?.len();
    println!("{} MB, {} threads", bytes / 1_000_000, rayon::current_num_threads());
    let mut first = None;
    row("wc -l", bytes, &mut first, || {
        let output = std::process::Command::new("wc").arg("-l").arg(file).output()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        Ok(text.split_whitespace().next().unwrap_or_default().parse()?)
    })?;
    row("read only, 1 MiB at a time", bytes, &mut first, || {
        let (mut reader, mut buffer, mut sum) = (File::open(file)?, vec![0; 1 << 20], 0);
        loop {
            match reader.read(&mut buffer)? {
                0 => return Ok(sum),
                count => sum += count as u64,
            }
        }
    })?;
    row("serde_json, values ignored, one thread", bytes, &mut first, || {
        let (mut reader, mut line, mut count) = (BufReader::with_capacity(1 << 20, File::open(file)?), Vec::new(), 0);
        while reader.read_until(b'\n', &mut line)? > 0 {
            serde_json::from_slice::<serde::de::IgnoredAny>(&line)?;
            count += 1;
            line.clear();
        }
        Ok(count)
    })?;
    let pool = Pool::open(&PoolSpec::new(file.display().to_string()))?;
    for threads in [1, rayon::current_num_threads()] {
        let limited =
            rayon::ThreadPoolBuilder::new().num_threads(threads).build().map_err(|e| Error::failed(e.to_string()))?;
        row(&format!("Pool::scan, {threads} threads"), bytes, &mut first, || {
            limited.install(|| Ok(pool.scan(&mut |_| Ok(()))?.entries))
        })?;
    }
    row("Pool::scan_map, words counted on the threads", bytes, &mut first, || {
        let mut words = 0;
        pool.scan_map(
            &|entry| entry.turns.iter().map(|t| t.text.split_ascii_whitespace().count()).sum::<usize>(),
            &mut |count| {
                words += count as u64;
                Ok(())
            },
        )?;
        Ok(words)
    })?;
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    if let Some(peak) = status.lines().find(|l| l.starts_with("VmHWM")) {
        println!("peak memory {}", peak.trim_start_matches("VmHWM:").trim());
    }
    Ok(())
}
