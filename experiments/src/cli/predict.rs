//! `burgess predict`: predictors of the arms' scores without training a multimodal model.

use crate::cli::study_args::StudyArgs;
use crate::machine::progress::Progress;
use crate::machine::terminal::{self, colours, print, print_foreign, print_json};
use crate::run::predict::{PredictOptions, PredictOutcome, predict_study};
use crate::run::stages;
use burgess_base::{Error, Result};
use burgess_reports::predictors::published::PublishedPrediction;
use burgess_reports::predictors::{predictors_text, published_text};
use burgess_reports::sheet;
use std::path::PathBuf;

/// Predict the scores of a study's arms without training a model, and compare with its results
#[derive(clap::Args)]
#[command(after_help = "Without a connector: k-NN, linear and attentive probes (labels), C score (corresponding \
points), CKA, CKNNA, mutual k-NN and Gromov-Wasserstein (captions of the align stage and the study's language model), \
effective rank, mean and standard deviation of the features, number of parameters. With an aligned connector: A score \
and the loss of the align stage. A predictor that cannot be computed for an arm is left out with its reason.

Where the study has results, each predictor is compared with the ranking of the trained arms: Spearman and Kendall \
with bootstrap intervals over arms, the regret of the arm that it picks, R² of leave-one-out predictions, and a \
permutation test. Values, agreement and conclusions go to OUT/STUDY/predictors.json, the figure to \
OUT/STUDY/report/predictors.svg.

Studies of the nano world have labels and corresponding points of their own; others take --labels and --keypoints.

Examples:
  burgess predict nano                           before or after `burgess rank nano`
  burgess predict nano --encoders nano-sup,nano-clip,nano-mae --predictors knn,c-score,mutual-knn
  burgess predict nano --train-align --steps 96  the align loss without any run: trains 96 steps per arm
  burgess predict my-study.toml --labels imagenet-100 --keypoints SPair-71k
  burgess predict nano --format latex > predictors.tex
  burgess predict --published                    linear-probe accuracy against the scores of Cambrian-1")]
pub struct Args {
    #[command(flatten)]
    study: StudyArgs,
    /// Only this arm of the study, by its name in tables; may be given several times
    #[arg(long = "arm", value_name = "NAME")]
    arms: Vec<String>,
    /// Compare a published predictor with published scores instead: ImageNet linear probes with the tables of
    /// Cambrian-1
    #[arg(long, value_enum, value_name = "TABLES", num_args = 0..=1, default_missing_value = "cambrian-1")]
    #[arg(conflicts_with_all = ["study", "encoders", "arms", "predictors", "labels", "keypoints", "reference", "steps"])]
    published: Option<Published>,
    /// Only these predictors: knn, linear, attentive, linear-patch, c-score, cka, cka-unbiased, cknna, mutual-knn,
    /// gromov-wasserstein, effective-rank, feature-mean, feature-std, a-score, align-loss, parameters
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    predictors: Vec<String>,
    #[command(flatten)]
    sizes: Sizes,
    /// Folder of labelled images for the probes: DIR/CLASS/IMAGE, or DIR/train/CLASS/IMAGE and DIR/test/CLASS/IMAGE
    #[arg(long, value_name = "DIR")]
    labels: Option<PathBuf>,
    /// Pairs of images with corresponding points for the C score, in the layout of SPair-71k
    #[arg(long, value_name = "DIR")]
    keypoints: Option<PathBuf>,
    /// Reference arm of the A score; may be given several times [default: the arms of one CLIP encoder]
    #[arg(long, value_name = "ARM")]
    reference: Vec<String>,
    /// Numbers of steps at which the align loss is read [default: an eighth, half and all of the stage]
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    steps: Vec<usize>,
    /// Train the align stage, up to the largest of --steps, for arms whose runs have not logged it
    #[arg(long)]
    train_align: bool,
    /// What standard output holds
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = PredictFormat::Table)]
    format: PredictFormat,
    /// The same as --format json
    #[arg(long, conflicts_with = "format")]
    json: bool,
}

/// Numbers of images.
#[derive(clap::Args)]
struct Sizes {
    /// Number of images of the align stage that are compared with their captions
    #[arg(long, value_name = "N", default_value_t = 1024)]
    images: usize,
    /// Number of nearest neighbours of mutual k-NN and CKNNA
    #[arg(long, value_name = "K", default_value_t = 10)]
    neighbours: usize,
    /// Largest number of training images, and of test images, of each probe
    #[arg(long, value_name = "N", default_value_t = 1000)]
    probe_images: usize,
    /// Largest number of pairs of images for the C score
    #[arg(long, value_name = "N", default_value_t = 500)]
    pairs: usize,
}

/// Published predictors and scores.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Published {
    /// Tong et al. 2024, arXiv 2406.16860: ten encoders
    #[value(name = "cambrian-1")]
    Cambrian1,
}

/// Format of the report on standard output.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum PredictFormat {
    /// Tables and conclusions for the terminal, and the paths of the files
    Table,
    /// All numbers as JSON
    Json,
    /// One row per predictor and arm
    Csv,
    /// Markdown
    Md,
    /// LaTeX with booktabs
    Latex,
}

pub fn run(args: Args) -> Result<()> {
    let format = if args.json { PredictFormat::Json } else { args.format };
    if let Some(Published::Cambrian1) = args.published {
        return published(format);
    }
    let mut study = args.study.open()?;
    stages::choose_arms(&mut study, &args.arms)?;
    if args.train_align && !args.predictors.is_empty() && !args.predictors.iter().any(|p| p == "align-loss") {
        return Err(Error::usage("--train-align trains for the predictor align-loss, which --predictors leaves out")
            .hint("add align-loss to --predictors, or leave --train-align out"));
    }
    let options = PredictOptions {
        out: args.study.out(),
        device: args.study.device(),
        predictors: args.predictors,
        images: args.sizes.images,
        neighbours: args.sizes.neighbours,
        probe_images: args.sizes.probe_images,
        pairs: args.sizes.pairs,
        labels: args.labels,
        keypoints: args.keypoints,
        references: args.reference,
        steps: args.steps,
        train_align: args.train_align,
    };
    show(&predict_study(&study, &options, &Progress::new())?, format)
}

/// Computes and prints the predictors of a study after its ranking.
pub(super) fn after_ranking(study: &crate::study::StudyConfig, out: PathBuf, device: String) -> Result<()> {
    let options = PredictOptions { out, device, ..PredictOptions::default() };
    let outcome = predict_study(study, &options, &Progress::new())?;
    print("\n")?;
    show(&outcome, PredictFormat::Table)
}

fn show(outcome: &PredictOutcome, format: PredictFormat) -> Result<()> {
    let report = &outcome.report;
    match format {
        PredictFormat::Table => {
            print(&predictors_text(report, terminal::width(), colours()))?;
            print(&format!("\nnumbers  {}\nfigure   {}\n", outcome.numbers.display(), outcome.figure.display()))
        }
        PredictFormat::Json => print_json(report),
        PredictFormat::Csv => print_foreign(&sheet::predictors_csv(report)),
        PredictFormat::Md => sheets(&sheet::predictors_sheets(report), sheet::markdown),
        PredictFormat::Latex => sheets(&sheet::predictors_sheets(report), sheet::latex),
    }
}

fn published(format: PredictFormat) -> Result<()> {
    let prediction = PublishedPrediction::compute()?;
    match format {
        PredictFormat::Table => print(&published_text(&prediction, terminal::width(), colours())),
        PredictFormat::Json => print_json(&prediction),
        PredictFormat::Csv => print_foreign(&sheet::published_prediction_csv(&prediction)),
        PredictFormat::Md => sheets(&[sheet::published_prediction_sheet(&prediction)], sheet::markdown),
        PredictFormat::Latex => sheets(&[sheet::published_prediction_sheet(&prediction)], sheet::latex),
    }
}

fn sheets(sheets: &[sheet::Sheet], write: fn(&sheet::Sheet) -> String) -> Result<()> {
    print_foreign(&sheets.iter().map(write).collect::<Vec<_>>().join("\n"))
}
