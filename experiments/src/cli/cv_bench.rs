//! `burgess data cv-bench`: a vision-centric benchmark from annotated images.

use crate::machine::progress::Progress;
use crate::machine::terminal::{print, print_json};
use burgess_base::{Error, Result, output};
use burgess_cv_bench::annotations::AnnotationFormat;
use burgess_cv_bench::tasks::CvBenchTask;
use burgess_cv_bench::{AnnotationSet, CvBenchManifest, CvBenchOptions, build};
use std::path::PathBuf;

/// Make CV-Bench's four tasks from your own annotated images
#[derive(clap::Args)]
#[command(
    after_help = "Counting and spatial relations come from boxes (COCO, ADE20K), depth order and relative distance \
from boxes in space (Omni3D). Ambiguous cases are left out; manifest.json counts them by reason. The directory has \
the published schema: test_2d.parquet, test_3d.parquet, the same as JSON lines, and the images in img/ for inspection.

Examples:
  burgess data cv-bench --coco instances_val2017.json=val2017/ --out my-bench
  burgess data cv-bench --omni3d nuScenes_val.json=images/ --offset 1.0 --depth 300 --distance 300 --out my-bench
  burgess eval --model trained/model --benchmarks cv-bench-2d --data DIR      with DIR/bench/cv-bench-2d -> my-bench"
)]
pub struct CvBenchArgs {
    /// Instances in COCO's format and the directory of their images
    #[arg(long, value_name = "JSON=DIR")]
    coco: Vec<String>,
    /// ADE20K in COCO's format, or the directory of its own JSON files, and the directory of the images
    #[arg(long, value_name = "JSON=DIR")]
    ade20k: Vec<String>,
    /// Omni3D's annotations and the directory of their images
    #[arg(long, value_name = "JSON=DIR")]
    omni3d: Vec<String>,
    /// Output directory
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Random seed
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Largest number of counting questions [default: 788, as published]
    #[arg(long, value_name = "N")]
    count: Option<usize>,
    /// Largest number of questions on spatial relations [default: 650]
    #[arg(long, value_name = "N")]
    relation: Option<usize>,
    /// Largest number of questions on depth order [default: 600]
    #[arg(long, value_name = "N")]
    depth: Option<usize>,
    /// Largest number of questions on relative distance [default: 600]
    #[arg(long, value_name = "N")]
    distance: Option<usize>,
    /// Largest number of questions of a task about one image [default: 1]
    #[arg(long, value_name = "N")]
    per_image: Option<usize>,
    /// Least length of the shorter side of an object's box, in pixels [default: 12]
    #[arg(long, value_name = "PIXELS")]
    min_side: Option<f64>,
    /// Largest number of objects that a question counts [default: 9]
    #[arg(long, value_name = "N")]
    max_count: Option<usize>,
    /// Fraction of counting questions whose answer is 0 [default: 0.1]
    #[arg(long, value_name = "SHARE")]
    absent: Option<f64>,
    /// Least gap between two boxes along the axis of the question, as a fraction of the image's side [default: 0.02]
    #[arg(long, value_name = "SHARE")]
    gap: Option<f64>,
    /// Largest intersection over union of two marked boxes [default: 0.5]
    #[arg(long, value_name = "SHARE")]
    overlap: Option<f64>,
    /// Least difference between two distances that a question compares, in the annotations' unit (metres) [default:
    /// 0.5]
    #[arg(long, value_name = "DISTANCE")]
    offset: Option<f64>,
    /// Least visible fraction of an object [default: 0.5]
    #[arg(long, value_name = "SHARE")]
    visible: Option<f64>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub fn run(args: CvBenchArgs) -> Result<()> {
    let mut inputs = Vec::new();
    for (format, list) in [
        (AnnotationFormat::Coco, &args.coco),
        (AnnotationFormat::Ade20k, &args.ade20k),
        (AnnotationFormat::Omni3d, &args.omni3d),
    ] {
        for text in list {
            let (annotations, images) = text.split_once('=').ok_or_else(|| {
                Error::usage(format!("`{text}` names no directory of images")).hint("write ANNOTATIONS.json=IMAGES/")
            })?;
            inputs.push(AnnotationSet { format, annotations: annotations.into(), images: images.into() });
        }
    }
    if inputs.is_empty() {
        return Err(Error::usage("no annotations are given").hint("give --coco, --ade20k or --omni3d JSON=DIR"));
    }
    let mut options = CvBenchOptions { seed: args.seed, ..CvBenchOptions::default() };
    for (task, limit) in [
        (CvBenchTask::Count, args.count),
        (CvBenchTask::Relation, args.relation),
        (CvBenchTask::Depth, args.depth),
        (CvBenchTask::Distance, args.distance),
    ] {
        if let Some(limit) = limit {
            options.limits.insert(task, limit);
        }
    }
    options.per_image = args.per_image.unwrap_or(options.per_image);
    options.min_side = args.min_side.unwrap_or(options.min_side);
    options.max_count = args.max_count.unwrap_or(options.max_count);
    options.absent = args.absent.unwrap_or(options.absent);
    options.gap = args.gap.unwrap_or(options.gap);
    options.overlap = args.overlap.unwrap_or(options.overlap);
    options.offset = args.offset.unwrap_or(options.offset);
    options.visible = args.visible.unwrap_or(options.visible);
    output::check_directory(&args.out)?;
    let progress = Progress::new();
    let manifest = build(&inputs, &options, &args.out, &|text| progress.line(text))?;
    if args.json { print_json(&manifest) } else { print(&text(&manifest, &args.out)) }
}

fn text(manifest: &CvBenchManifest, out: &std::path::Path) -> String {
    let mut text = format!("{}: {} images with annotations\n", out.display(), manifest.scenes);
    for (task, answers) in &manifest.questions {
        let total: usize = answers.values().sum();
        let list: Vec<String> = answers.iter().map(|(answer, n)| format!("{answer} {n}")).collect();
        text += &format!("  {:<10} {total:>6}  {}\n", format!("{task:?}"), list.join(", "));
    }
    for (task, reasons) in &manifest.refused {
        for (why, n) in reasons {
            text += &format!("  not asked: {n:>8}  {task}: {why}\n");
        }
    }
    text
}
