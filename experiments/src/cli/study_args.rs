//! The arguments that choose a study, its arms and seeds, and where it runs, for the commands `rank`, `launch` and
//! `status`.

use crate::study::{Arm, BUILT_IN, StudyConfig, benchmark_files};
use burgess_base::{Error, Result};
use std::path::PathBuf;

/// A study, its arms and seeds, and where it runs.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct StudyArgs {
    /// A built-in study or the path of a TOML file
    #[arg(value_name = "STUDY")]
    pub study: Option<String>,
    /// Run the full-length study: nano-full for nano, field-full for field
    #[arg(long)]
    pub full: bool,
    /// Arms instead of the study's: a, a+b (combined), a:unfrozen, separated by commas; an encoder is a card id, a
    /// directory or owner/name of the hub, with another tap as a@7 (also a@norm=false, a@grid=8), with random weights
    /// as a@random; oracle stands for the ground truth of the data
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub encoders: Vec<String>,
    /// Seeds instead of the study's, separated by commas
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub seeds: Vec<u64>,
    /// A benchmark file, or an id, besides the benchmarks of the study; may be given several times
    #[arg(long, value_name = "FILE")]
    pub benchmark: Vec<String>,
    /// Largest number of images (or pairs) of each benchmark, a fixed random sample
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,
    /// Output directory [default: runs]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// flex, wgpu, vulkan, tch, tch:cuda:0, cuda:0; several of one kind as cuda:0,cuda:1 or cuda:all [default: flex]
    #[arg(long, value_name = "DEVICE")]
    pub device: Option<String>,
}

impl StudyArgs {
    /// Name of a built-in study or path of a TOML file.
    ///
    /// # Errors
    /// There is no full-length version of the study.
    pub fn name(&self) -> Result<String> {
        let name = self.study.clone().unwrap_or_else(|| "nano".into());
        if self.full { full_length(&name) } else { Ok(name) }
    }

    /// Opens the study and replaces its arms, seeds and limit by those on the command line.
    ///
    /// # Errors
    /// There is no such study, or it is not valid with these arms and seeds.
    pub fn open(&self) -> Result<StudyConfig> {
        self.choose(StudyConfig::open(&self.name()?)?)
    }

    /// As [`open`](Self::open), but does not require the data to exist.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_without_data(&self) -> Result<StudyConfig> {
        self.choose(StudyConfig::open_without_data(&self.name()?)?)
    }

    fn choose(&self, mut study: StudyConfig) -> Result<StudyConfig> {
        if !self.encoders.is_empty() {
            study.arms = self.encoders.iter().map(|a| Arm::parse(a)).collect::<Result<_>>()?;
            // They are series of the study's own arms.
            study.series.clear();
        }
        if !self.seeds.is_empty() {
            study.seeds.clone_from(&self.seeds);
        }
        for name in &self.benchmark {
            let id = benchmark_files::find(name)?.id();
            study.evaluator.benchmarks.push(id.to_string());
        }
        if self.limit.is_some() {
            study.evaluator.limit = self.limit;
        }
        study.check()?;
        Ok(study)
    }

    /// Output directory.
    pub fn out(&self) -> PathBuf {
        self.out.clone().unwrap_or_else(|| PathBuf::from("runs"))
    }

    /// Name of the device.
    pub fn device(&self) -> String {
        self.device.clone().unwrap_or_else(|| "flex".into())
    }
}

/// Name of the built-in full-length version of a study.
fn full_length(name: &str) -> Result<String> {
    let full = format!("{name}-full");
    match BUILT_IN.iter().any(|(built_in, _)| *built_in == full) {
        true => Ok(full),
        false => Err(Error::usage(format!("--full: there is no full-length version of the study {name}"))
            .hint("nano and field have one; for other studies, change the steps and sizes in their TOML file")),
    }
}
