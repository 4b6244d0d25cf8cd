//! The benchmarks: one file per family, and the table that lists every benchmark.
//!
//! To add a benchmark, write its file, and declare the file and list its benchmark below. The crate warns about a
//! benchmark that is not listed, because nothing else uses it.

mod ai2d;
mod blink;
mod chartqa;
mod conversation;
mod cvbench;
mod docvqa;
mod gqa;
mod mathvista;
mod mmbench;
mod mme;
mod mmmu;
mod mmmu_pro;
mod mmstar;
mod mmvp;
mod ocrbench;
mod pope;
mod qbench;
mod realworldqa;
mod scienceqa;
mod seed_bench;
mod textvqa;
mod vstar;

use crate::benchmark::Benchmark;
use crate::declared;
use burgess_base::{Error, Result, nearest};
use std::sync::LazyLock;

/// Every benchmark that is written in Rust, in the order of the columns of the published tables, then the others.
static BENCHMARKS: &[&dyn Benchmark] = &[
    &mme::MME,
    &mme::NANO_MME,
    &mmbench::MMBENCH_EN,
    &mmbench::MMBENCH_CN,
    &seed_bench::SEED_BENCH,
    &gqa::GQA,
    &gqa::NANO_GQA,
    &scienceqa::SCIENCEQA,
    &scienceqa::NANO_SCIENCEQA,
    &mmmu::MMMU,
    &mathvista::MATHVISTA,
    &ai2d::AI2D,
    &ai2d::NANO_AI2D,
    &chartqa::CHARTQA,
    &chartqa::NANO_CHARTQA,
    &ocrbench::OCRBENCH,
    &ocrbench::OCRBENCH_STRICT,
    &textvqa::TEXTVQA,
    &textvqa::TEXTVQA_OCR,
    &docvqa::NANO_DOCVQA,
    &docvqa::DOCVQA,
    &docvqa::DOCVQA_TEST,
    &docvqa::INFOVQA,
    &docvqa::ST_VQA,
    &mmvp::MMVP,
    &mmvp::NANO_MMVP,
    &realworldqa::REALWORLDQA,
    &cvbench::CV_BENCH_2D,
    &cvbench::CV_BENCH_3D,
    &cvbench::NANO_CVBENCH_2D,
    &cvbench::NANO_CVBENCH_3D,
    &vstar::V_STAR,
    &pope::POPE,
    &mmstar::MMSTAR,
    &blink::BLINK,
    &qbench::Q_BENCH,
    &mmbench::MMBENCH_V11_EN,
    &mmbench::MMBENCH_V11_CN,
    &mmmu_pro::MMMU_PRO,
    &mmmu_pro::MMMU_PRO_VISION,
    &conversation::CONVERSATION,
    &conversation::NANO_CONVERSATION,
    &conversation::LLAVA_BENCH_WILD,
    &conversation::LLAVA_BENCH_COCO,
];

/// These and the benchmarks whose files are compiled in.
static BUILT_IN: LazyLock<Vec<&'static dyn Benchmark>> =
    LazyLock::new(|| BENCHMARKS.iter().copied().chain(declared::embedded()).collect());

/// Returns every built-in benchmark: in the order of the columns of the published tables, then the others.
pub fn all() -> &'static [&'static dyn Benchmark] {
    &BUILT_IN
}

/// Returns the built-in or loaded ([`crate::load`]) benchmark called `id`. An unknown id is a usage error that suggests
/// the nearest ids.
pub fn find(id: &str) -> Result<&'static dyn Benchmark> {
    let known = || all().iter().copied().chain(declared::registered());
    known().find(|b| b.id() == id).ok_or_else(|| {
        let ids: Vec<&str> = known().map(|b| b.id()).collect();
        let near = nearest(id, ids.iter().copied());
        let hint = match near.is_empty() {
            true => format!("the benchmarks are {}", ids.join(", ")),
            false => format!("did you mean {}?", near.join(" or ")),
        };
        Error::usage(format!("no benchmark is called `{id}`")).hint(hint)
    })
}
