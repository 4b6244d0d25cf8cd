//! Fuzz targets for image annotations: COCO, ADE20K, Omni3D.

use crate::FuzzTarget;
use crate::input_dir::InputDir;
use crate::mutate::MutationForm;
use burgess_base::Result;
use burgess_cv_bench::annotations::{self, AnnotationFormat};
use burgess_cv_bench::tasks::{RefusedCounts, candidates, word};
use burgess_cv_bench::{AnnotationSet, CvBenchOptions};
use std::path::Path;

const WORDS: &[&str] = &[
    "\"bbox\"",
    "\"iscrowd\"",
    "\"image_id\"",
    "\"category_id\"",
    "\"bbox3D_cam\"",
    "\"bbox2D_tight\"",
    "\"bbox2D_trunc\"",
    "\"valid3D\"",
    "\"behind_camera\"",
    "\"visibility\"",
    "\"truncation\"",
    "\"lidar_pts\"",
    "\"depth_error\"",
    "\"imsize\"",
    "\"polygon\"",
    "\"part_level\"",
    "\"width\"",
    "\"height\"",
    "\"file_name\"",
];

pub const TARGETS: &[FuzzTarget] = &[
    FuzzTarget {
        name: "coco",
        about: "annotations of COCO",
        corpus: &[],
        words: WORDS,
        form: MutationForm::Json,
        share: 120,
        run: |input, place| read(AnnotationFormat::Coco, &place.file("coco/a.json", input.bytes)?, place),
    },
    FuzzTarget {
        name: "omni3d",
        about: "annotations of Omni3D",
        corpus: &[],
        words: WORDS,
        form: MutationForm::Json,
        share: 60,
        run: |input, place| read(AnnotationFormat::Omni3d, &place.file("omni3d/a.json", input.bytes)?, place),
    },
    FuzzTarget {
        name: "ade20k",
        about: "annotations of ADE20K's full edition",
        corpus: &[],
        words: WORDS,
        form: MutationForm::Json,
        share: 120,
        run: |input, place| {
            let file = place.file("ade20k/street/a.json", input.bytes)?;
            read(AnnotationFormat::Ade20k, file.ancestors().nth(2).unwrap_or(&file), place)
        },
    },
];

/// Reads annotations and formats everything that can be asked about them.
fn read(format: AnnotationFormat, path: &Path, place: &InputDir) -> Result<()> {
    let set = AnnotationSet { format, annotations: path.to_path_buf(), images: place.dir().to_path_buf() };
    let found = annotations::read(&set)?;
    let (options, mut refused) = (CvBenchOptions { min_side: 1.0, ..CvBenchOptions::default() }, RefusedCounts::new());
    for candidate in candidates(&found.scenes, &options, &mut refused) {
        let Some(scene) = found.scenes.get(candidate.scene) else { continue };
        drop(word(scene, &candidate.question, true, 0));
    }
    Ok(())
}
