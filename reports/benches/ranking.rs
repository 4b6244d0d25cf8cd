//! `cargo bench -p burgess-reports`: time of a ranking, its table and its page.

#[path = "../tests/fixture/mod.rs"]
mod fixture;

use burgess_reports::load::StudyData;
use burgess_reports::page::{StudyInfo, page};
use burgess_reports::ranking::{RankOptions, rank};
use burgess_reports::table::ranking_table;
use divan::Bencher;

fn main() {
    divan::main();
}

/// Nine arms, nine benchmarks of 200 images, 2000 replicates.
#[divan::bench(args = [1, 3], sample_count = 5)]
fn rank_seeds(bencher: Bencher, seeds: u64) {
    let runs = fixture::runs(seeds, 200);
    bencher.bench(|| rank(&runs, &[], &RankOptions::default()).unwrap());
}

#[divan::bench]
fn table(bencher: Bencher) {
    let ranking = rank(&fixture::runs(1, 50), &[], &RankOptions { replicates: 200, ..Default::default() }).unwrap();
    bencher.bench(|| ranking_table(&ranking, 100, false));
}

#[divan::bench(sample_count = 10)]
fn load_and_page(bencher: Bencher) {
    let dir = tempfile::tempdir().unwrap();
    fixture::write_study(dir.path(), 2, 50).unwrap();
    let ranking = rank(&fixture::runs(2, 50), &[], &RankOptions { replicates: 200, ..Default::default() }).unwrap();
    bencher.bench(|| page(&StudyData::load(dir.path()).unwrap(), &ranking, &StudyInfo::default()).unwrap());
}
