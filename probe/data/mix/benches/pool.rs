//! Throughput of the readers of pools (`cargo bench -p burgess-mix --bench pool`) on 32 MB of conversations like those
//! of Cambrian-10M: JSON lines, a JSON array, gzip.

#[path = "../examples/pool/generate.rs"]
mod generate;

use burgess_mix::pool::{Pool, PoolSpec};
use divan::Bencher;
use divan::counter::BytesCount;
use flate2::Compression;
use flate2::write::GzEncoder;
use generate::Generator;
use std::io::Write;

fn main() {
    divan::main();
}

/// Returns a pool of 32 MB in a form.
fn pool(dir: &std::path::Path, name: &str) -> (Pool, usize) {
    let mut generator = Generator::new(0);
    let mut text = String::new();
    while text.len() < 32 << 20 {
        generator.line(&mut text);
    }
    if name.ends_with(".json") {
        text = format!("[{}]", text.trim_end().replace('\n', ",\n"));
    }
    let path = dir.join(name);
    let mut file = std::fs::File::create(&path).unwrap();
    match name.ends_with(".gz") {
        true => {
            let mut encoder = GzEncoder::new(file, Compression::default());
            encoder.write_all(text.as_bytes()).unwrap();
            encoder.finish().unwrap();
        }
        false => file.write_all(text.as_bytes()).unwrap(),
    }
    (Pool::open(&PoolSpec::new(path.display().to_string())).unwrap(), text.len())
}

/// Measures a scan that does nothing with the entries.
#[divan::bench(args = ["pool.jsonl", "pool.json", "pool.jsonl.gz"], sample_count = 10)]
fn scan(bencher: Bencher, name: &str) {
    let dir = tempfile::tempdir().unwrap();
    let (pool, bytes) = pool(dir.path(), name);
    bencher.counter(BytesCount::new(bytes)).bench(|| pool.scan(&mut |_| Ok(())).unwrap().entries);
}

/// Measures a second pass over every thousandth entry.
#[divan::bench(sample_count = 10)]
fn read_at(bencher: Bencher) {
    let dir = tempfile::tempdir().unwrap();
    let (pool, bytes) = pool(dir.path(), "pool.jsonl");
    let mut positions = Vec::new();
    pool.scan(&mut |entry| {
        positions.push(entry.at);
        Ok(())
    })
    .unwrap();
    let some: Vec<_> = positions.into_iter().step_by(1000).collect();
    bencher.counter(BytesCount::new(bytes)).bench(|| pool.read_at(&some, &mut |_| Ok(())).unwrap().entries);
}
