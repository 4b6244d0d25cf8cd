//! Probes with labels: k-NN, linear and attentive, on scenes of the nano world or on folders of images.

use super::networks::ArmNetworks;
use crate::data::image_files;
use crate::machine::progress::Bar;
use crate::machine::stop;
use burgess_base::stream::{stream, uniform};
use burgess_base::{Context, Error, Result};
use burgess_encoders::encoder::Features;
use burgess_encoders::preprocess::Orientation;
use burgess_encoders::probe::attentive::{AttentiveConfig, TokenSamples, run_attentive};
use burgess_encoders::probe::{self, ProbeConfig, ProbeSamples, features};
use burgess_reports::predictors::ArmValue;
use burgess_world::CELLS;
use burgess_world::probing::{ProbeLevel, ProbeTarget, probe_sets};
use image::RgbImage;
use rayon::prelude::*;
use std::path::{Path, PathBuf};

/// Seed of the nano world's probe sets, which is that of the recorded direct probes.
const SEED: u64 = 0;
/// Number of images that are rendered or read, and encoded, at a time.
const CHUNK: usize = 64;
/// Seed of the split of folders that have no test part.
const SPLIT: u64 = 0;

/// The labelled images of all tasks.
pub struct LabelledImages {
    sets: Vec<LabelledSet>,
    /// What the images are, as a sentence.
    pub about: String,
}

/// Images with the tasks that use them.
struct LabelledSet {
    train: ImageList,
    test: ImageList,
    tasks: Vec<LabelledTask>,
}

/// Images that are rendered or read when they are needed.
enum ImageList {
    Scenes(Vec<burgess_world::Scene>),
    Files(PathBuf, Vec<String>),
}

struct LabelledTask {
    name: String,
    is_patch: bool,
    classes: usize,
    train: Vec<ProbeTarget>,
    test: Vec<ProbeTarget>,
}

impl ImageList {
    fn len(&self) -> usize {
        match self {
            Self::Scenes(scenes) => scenes.len(),
            Self::Files(_, names) => names.len(),
        }
    }

    fn open(&self, range: std::ops::Range<usize>) -> Result<Vec<RgbImage>> {
        match self {
            Self::Scenes(scenes) => {
                Ok(scenes.get(range).unwrap_or_default().par_iter().map(burgess_world::Scene::render).collect())
            }
            Self::Files(dir, names) => {
                let names = names.get(range).unwrap_or_default();
                image_files::open_all(dir, names, Orientation::default()).into_iter().collect()
            }
        }
    }
}

impl LabelledImages {
    /// The probe sets of the nano world, with at most `limit` training images and test images each.
    pub fn of_world(limit: usize) -> Self {
        let sets = probe_sets(SEED, Some(limit)).into_iter().map(|set| LabelledSet {
            train: ImageList::Scenes(set.train),
            test: ImageList::Scenes(set.test),
            tasks: set
                .tasks
                .into_iter()
                .map(|task| LabelledTask {
                    name: task.attribute.to_string(),
                    is_patch: task.level == ProbeLevel::Patch,
                    classes: task.classes.len(),
                    train: task.train,
                    test: task.test,
                })
                .collect(),
        });
        let about = format!(
            "Probes: held-out scenes of the nano world, version {}, at most {limit} training and test images per set.",
            burgess_world::VERSION
        );
        Self { sets: sets.collect(), about }
    }

    /// Images in folders named after their classes: `DIR/train/<class>/` and `DIR/test/<class>/` (or `val`), or
    /// `DIR/<class>/`, of which a random half is for tests; at most `limit` for training and as many for tests.
    ///
    /// # Errors
    /// The folders cannot be read, or there are fewer than two classes with images in both parts.
    pub fn of_folder(dir: &Path, limit: usize) -> Result<Self> {
        let test = ["test", "val", "validation"].into_iter().find(|name| dir.join(name).is_dir());
        let parts = match (dir.join("train").is_dir(), test) {
            (true, Some(test)) => [class_files(dir, "train")?, class_files(dir, test)?],
            _ => {
                let all = class_files(dir, "")?;
                let drawn = |file: &str| uniform(&mut stream(&format!("labels/{file}"), SPLIT));
                let is_test = |(_, file): &(String, String)| drawn(file) < 0.5;
                let (test, train): (Vec<_>, Vec<_>) = all.into_iter().partition(is_test);
                [train, test]
            }
        };
        let [train, test] = parts.map(|files| spread(files, limit));
        let mut classes: Vec<String> = train.iter().map(|(class, _)| class.clone()).collect();
        classes.sort();
        classes.dedup();
        let targets = |files: &[(String, String)]| -> Vec<ProbeTarget> {
            let class = |class: &String| classes.binary_search(class).ok();
            let target = |(scene, (name, _)): (usize, &(String, String))| {
                Some(ProbeTarget { scene, cell: None, class: class(name)? })
            };
            files.iter().enumerate().filter_map(target).collect()
        };
        let task = LabelledTask {
            name: "class".into(),
            is_patch: false,
            classes: classes.len(),
            train: targets(&train),
            test: targets(&test),
        };
        if task.classes < 2 || task.test.is_empty() {
            return Err(Error::usage(format!(
                "{} has {} classes with training images and {} test images of them, expected at least 2 classes and \
                 1 test image",
                dir.display(),
                task.classes,
                task.test.len()
            ))
            .hint("--labels takes DIR/<class>/<image>, or DIR/train/<class>/<image> and DIR/test/<class>/<image>"));
        }
        let about = format!(
            "Probes: {} classes of {}, {} training and {} test images.",
            task.classes,
            dir.display(),
            task.train.len(),
            task.test.len()
        );
        let files = |files: Vec<(String, String)>| {
            ImageList::Files(dir.to_path_buf(), files.into_iter().map(|(_, file)| file).collect())
        };
        let set = LabelledSet { train: files(train), test: files(test), tasks: vec![task] };
        Ok(Self { sets: vec![set], about })
    }

    /// Number of images of all sets.
    pub fn len(&self) -> usize {
        self.sets.iter().map(|set| set.train.len() + set.test.len()).sum()
    }
}

/// Returns at most `limit` files, evenly over the list, so that all classes are represented.
fn spread<T>(files: Vec<T>, limit: usize) -> Vec<T> {
    let n = files.len();
    let keep = |i: usize| n <= limit || (i * limit / n) != ((i + 1) * limit / n);
    files.into_iter().enumerate().filter(|(i, _)| keep(*i)).map(|(_, file)| file).collect()
}

/// Lists the files of a folder with a subfolder per class, as (class, name relative to `dir`), in order.
fn class_files(dir: &Path, part: &str) -> Result<Vec<(String, String)>> {
    let folder = if part.is_empty() { dir.to_path_buf() } else { dir.join(part) };
    let step = || format!("reading the labelled images in {}", folder.display());
    let entries = |path: &Path| -> Result<Vec<PathBuf>> {
        let read = std::fs::read_dir(path).with_context(step)?;
        let mut paths = read.map(|entry| Ok(entry.with_context(step)?.path())).collect::<Result<Vec<_>>>()?;
        paths.sort();
        Ok(paths)
    };
    let mut out = Vec::new();
    for class in entries(&folder)?.into_iter().filter(|path| path.is_dir()) {
        let name = class.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        for file in entries(&class)?.into_iter().filter(|file| file.is_file()) {
            let relative = file.strip_prefix(dir).unwrap_or(&file);
            out.push((name.clone(), image_files::encode_name(relative)));
        }
    }
    Ok(out)
}

/// Accuracies of the probes of an arm, mean over tasks, with those of each task.
pub struct ProbedArm {
    /// k-NN on image vectors.
    pub knn: ArmValue,
    /// Linear probe on image vectors.
    pub linear: ArmValue,
    /// Attentive probe on patch tokens.
    pub attentive: ArmValue,
    /// Linear probe on patches.
    pub linear_patch: ArmValue,
}

/// Which probes are run.
#[derive(Clone, Copy)]
pub struct ProbeChoice {
    /// k-NN and linear probe, of images and patches.
    pub vectors: bool,
    /// The attentive probe.
    pub attentive: bool,
}

/// Vectors and tokens of one task.
#[derive(Default)]
struct TaskSamples {
    vectors: ProbeSamples,
    tokens: TokenSamples,
}

/// Trains and tests the probes of an arm.
///
/// # Errors
/// An image cannot be read, a feature is not finite, or a signal asked to stop.
pub fn probe_arm(networks: &ArmNetworks, images: &LabelledImages, choice: ProbeChoice, bar: &Bar) -> Result<ProbedArm> {
    let (mut knn, mut linear, mut attentive, mut patch) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for set in &images.sets {
        let train = samples(networks, &set.train, set, choice, |task| &task.train, bar)?;
        let test = samples(networks, &set.test, set, choice, |task| &task.test, bar)?;
        let outcomes = set.tasks.par_iter().zip(train.par_iter().zip(&test)).map(|(task, (train, test))| {
            let run = || probe::run(&train.vectors, &test.vectors, task.classes, &ProbeConfig::default());
            let vectors = choice.vectors.then(run).transpose();
            let attends = choice.attentive && !task.is_patch;
            let run = || run_attentive(&train.tokens, &test.tokens, task.classes, &AttentiveConfig::default());
            let tokens = attends.then(run).transpose();
            let of = || format!("the probe of {}", task.name);
            Ok((task, vectors.with_context(of)?, tokens.with_context(of)?))
        });
        for (task, vectors, tokens) in outcomes.collect::<Result<Vec<_>>>()? {
            let share = |right: usize| (task.name.clone(), 100.0 * right as f64 / task.test.len().max(1) as f64);
            if let Some(outcome) = vectors {
                match task.is_patch {
                    true => patch.push(share(outcome.linear_correct)),
                    false => {
                        knn.push(share(outcome.knn_correct));
                        linear.push(share(outcome.linear_correct));
                    }
                }
            }
            attentive.extend(tokens.map(share));
        }
        stop::check()?;
    }
    let mean = |tasks: Vec<(String, f64)>, what: &str| match tasks.len() {
        0 => ArmValue::missing(what),
        n => {
            let detail: Vec<String> = tasks.iter().map(|(name, share)| format!("{name} {share:.1}")).collect();
            ArmValue::known(tasks.iter().map(|(_, share)| share).sum::<f64>() / n as f64, detail.join(", "))
        }
    };
    Ok(ProbedArm {
        knn: mean(knn, NO_TASK),
        linear: mean(linear, NO_TASK),
        attentive: mean(attentive, NO_TASK),
        linear_patch: mean(patch, "the labels are of whole images, not of patches"),
    })
}

const NO_TASK: &str = "there is no task with labels of whole images";

/// Encodes images and collects the vectors and tokens of all tasks. Features are dropped after each chunk of images.
fn samples<'a>(
    networks: &ArmNetworks,
    images: &ImageList,
    set: &'a LabelledSet,
    choice: ProbeChoice,
    targets: impl Fn(&'a LabelledTask) -> &'a [ProbeTarget],
    bar: &Bar,
) -> Result<Vec<TaskSamples>> {
    let mut all: Vec<TaskSamples> = set.tasks.iter().map(|_| TaskSamples::default()).collect();
    let mut first = 0;
    while first < images.len() {
        stop::check()?;
        let range = first..(first + CHUNK).min(images.len());
        let encoded = networks.encode(&images.open(range.clone())?)?;
        for (task, samples) in set.tasks.iter().zip(&mut all) {
            // Targets are sorted by image.
            let of = targets(task);
            let from = of.partition_point(|t| t.scene < range.start);
            for target in of.iter().skip(from).take_while(|t| t.scene < range.end) {
                add(samples, &encoded, target, target.scene - range.start, choice.attentive && !task.is_patch);
            }
        }
        bar.add(range.len() as u64);
        first = range.end;
    }
    Ok(all)
}

fn add(samples: &mut TaskSamples, encoded: &Features, target: &ProbeTarget, image: usize, tokens: bool) {
    let vector = match target.cell {
        None => features::image(encoded, image),
        Some(cell) => features::cell(encoded, image, CELLS, [cell / CELLS, cell % CELLS]),
    };
    samples.vectors.width = vector.len();
    samples.vectors.values.extend(vector);
    samples.vectors.labels.push(target.class);
    samples.vectors.images.push(target.scene);
    if tokens {
        (samples.tokens.tokens, samples.tokens.width) = (encoded.tokens, encoded.width);
        samples.tokens.values.extend(encoded.image(image).unwrap_or_default());
        samples.tokens.labels.push(target.class);
    }
}
