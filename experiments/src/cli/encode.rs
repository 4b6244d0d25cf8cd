//! `burgess encode`: writes patch features of images to a safetensors file.

use crate::data::image_files;
use crate::features::{encode, scale};
use crate::machine::device;
use crate::machine::progress::Progress;
use crate::machine::terminal::{self, print};
use crate::run::notes;
use crate::study::{ArmEncoder, InputOverrides, Resolution, TapOverrides, parse_tiling};
use burgess_base::{Error, Result, output};
use burgess_encoders::arch::Tokens;
use burgess_encoders::encoder::Encoder;
use burgess_encoders::features::{FeatureNorm, check_grid};
use burgess_encoders::precision::ComputePrecision;
use burgess_encoders::preprocess::{Fit, Pipeline, Preparation};
use burgess_encoders::tiling::Tiling;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// Compute patch features of images, as safetensors
#[derive(clap::Args)]
#[command(
    after_help = "Writes `features` [images, tokens, width] f32 and `grid` [2] (rows, columns); the metadata names \
the images and the card, and holds mean, standard deviation and effective rank of the features (`scale`). Images that keep their \
aspect ratio, and the tiles of any-res, have grids of their own: instead of `grid` there is `grids` \
[images, parts, 2], and the tokens of an image are followed by zeros up to `tokens`.

Examples:
  burgess encode cat.png dog.jpg --encoder nano-clip -o features.safetensors
  burgess encode *.png --encoder nano-sup --weights my.safetensors -o features.safetensors
  burgess encode *.png --encoder dinov2-l14-518 --layer -2 -o features.safetensors
  burgess encode *.png --encoder sam-l16-1024 --weights sam_vit_l_0b3195.pth -o f.safetensors
  burgess encode *.png --encoder openclip-convnext-l-512 --layer 0,1,2,3 --grid 24 -o f.safetensors
  burgess encode *.jpg --encoder siglip2-so400m16-naflex --max-patches 1024 -o f.safetensors
  burgess encode *.jpg --encoder nano-clip --tiling any-res -o f.safetensors"
)]
pub struct Args {
    /// Images: PNG, JPEG, WebP, GIF, BMP, TIFF
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<PathBuf>,
    /// Card id, as `burgess encoders` lists them, owner/name[@revision] of the hub once it was fetched, or a directory
    /// with weights and a config.json
    #[arg(long, value_name = "ID|DIR")]
    encoder: String,
    /// File or directory of weights, instead of the card's
    #[arg(long, value_name = "PATH")]
    weights: Option<PathBuf>,
    /// How images that are not square are prepared: correct (padded to a square), library (as the encoder's own library
    /// does: mostly cropped), or cambrian-1 (padded, with the deviations of the paper's code)
    #[arg(long, value_name = "PIPELINE", default_value = "correct")]
    preprocess: Pipeline,
    /// Rotate images by the orientation in their EXIF data; without it the pixels are used as stored
    #[arg(long)]
    exif_orientation: bool,
    /// Layer to tap instead of the card's: 0 is the first, -1 the last; the channels of several, as in 0,1,2,3, are
    /// concatenated
    #[arg(long, value_name = "N", allow_hyphen_values = true, value_delimiter = ',')]
    layer: Vec<i32>,
    /// Side of the square grid to which the features of each layer are resampled, instead of the card's
    #[arg(long, value_name = "N")]
    grid: Option<usize>,
    /// Whether the encoder's final norm is applied, instead of what the card says
    #[arg(long, value_name = "true|false")]
    norm: Option<bool>,
    /// Whether the tower's own merger of neighbouring patches is applied (Qwen-VL), instead of what the card says
    #[arg(long, value_name = "true|false")]
    merge: Option<bool>,
    /// Sizes of images: native (images keep their aspect ratio, and each has a grid of its own) or square, instead of
    /// what the card says
    #[arg(long, value_name = "native|square")]
    resolution: Option<Resolution>,
    /// Largest number of patches of an image that keeps its aspect ratio
    #[arg(long, value_name = "N")]
    max_patches: Option<usize>,
    /// Cut images into tiles: s2 or s2=3 (scales 1, 2 and 3, joined over channels), any-res (LLaVA-NeXT: the whole
    /// image, then the tiles of the best grid) or any-res=6 (grids of up to 6 tiles)
    #[arg(long, value_name = "TILING", value_parser = parse_tiling)]
    tiling: Option<Tiling>,
    /// Normalise the features: layer (each token over its channels) or standard (all tokens of an image together)
    #[arg(long, value_name = "layer|standard")]
    normalise: Option<FeatureNorm>,
    /// Precision of matrix products: f32, or bf16 on processors with AVX-512 BF16 (device flex)
    /// [default: the card's, f32]
    #[arg(long, value_name = "f32|bf16")]
    precision: Option<ComputePrecision>,
    /// Tokens to keep instead of the card's: patch, or patch-and-class
    #[arg(long, value_name = "TOKENS")]
    tokens: Option<Tokens>,
    /// flex, wgpu, vulkan, tch, tch:cuda:0, cuda:0
    #[arg(long, value_name = "DEVICE", default_value = "flex")]
    device: String,
    /// Number of images in a forward pass
    #[arg(long, value_name = "N", default_value_t = 8)]
    batch: usize,
    /// Output file; - is standard output
    #[arg(short, long, value_name = "F.safetensors")]
    out: PathBuf,
}

pub fn run(args: Args) -> Result<()> {
    if args.batch == 0 {
        return Err(Error::usage("--batch must be at least 1").hint("leave it out for 8"));
    }
    output::check(&args.out)?;
    let chosen: ArmEncoder = args.encoder.parse()?;
    let preparation = Preparation { pipeline: args.preprocess, upright: args.exif_orientation };
    let mut card = chosen.card(preparation)?;
    for note in notes::of_encoders([&card]) {
        terminal::eprint_line(&format!("note: {note}"));
    }
    let overrides =
        TapOverrides { layers: args.layer, norm: args.norm, merge: args.merge, grid: args.grid, tokens: args.tokens };
    overrides.apply(&mut card);
    let input = InputOverrides {
        resolution: args.resolution,
        max_patches: args.max_patches,
        tiling: args.tiling,
        normalise: args.normalise,
        precision: args.precision,
    };
    input.apply(&mut card)?;
    overrides.resample_each_layer(&mut card);
    if args.grid == Some(0) {
        return Err(Error::usage("--grid must be at least 1").hint("leave it out for the encoder's own grid"));
    }
    if let Some(grid) = card.grid {
        check_grid(grid).map_err(|e| e.context("--grid"))?;
    }
    card.architecture.check_tap(&card.tap)?;
    let progress = Progress::new();
    let device = device::open(&args.device, &progress)?;
    let encoder = match args.weights.as_deref() {
        None => chosen.load(card.clone(), &device)?,
        weights => Encoder::load(card.clone(), weights, &device)?,
    };
    for note in encoder.card.notes.iter().filter(|note| !card.notes.contains(note)) {
        terminal::eprint_line(&format!("note: {}: {note}", card.id));
    }
    if let (Some(asked), found) = (&chosen.prefix, &encoder.card.source.prefix)
        && !found.as_deref().unwrap_or_default().starts_with(asked.trim_end_matches('.'))
    {
        return Err(Error::usage(format!("the weights do not fit under the prefix `{asked}`"))
            .hint(format!("use the prefix `{}`, under which they fit", found.as_deref().unwrap_or_default())));
    }
    let names: Vec<String> = args.images.iter().map(|p| image_files::encode_name(p)).collect();
    let bar = progress.bar("encoding images", names.len() as u64);
    // Without a grid that the user asks for, each image keeps its own.
    let own_grids = encoder.has_own_grids() && args.grid.is_none();
    let encode = if own_grids { encode::encode_own_grids } else { encode::encode };
    let encoded = encode(&encoder, Path::new(""), &names, args.batch, &|n| bar.add(n))?;
    drop(bar);
    if encoded.not_square > 0 && !encoder.has_own_grids() {
        let preprocess = &card.preprocess;
        let other = match preprocess.library.filter(|_| preprocess.fit == Fit::Pad) {
            Some(fit) => {
                format!("; with --preprocess library they are {}, as in {}'s own library", fit.words(), card.id)
            }
            None => String::new(),
        };
        let count = format!("{} of {} images are not square", encoded.not_square, names.len());
        terminal::eprint_line(&format!("note: {count}: they are {}{other}", preprocess.fit.words()));
    }
    let shown: Vec<String> = args.images.iter().map(|p| p.display().to_string()).collect();
    let scale = encoded.scale(&card.id)?;
    let bytes = encoded.pack(HashMap::from([
        ("images".to_string(), serde_json::to_string(&shown)?),
        ("card".to_string(), serde_json::to_string(&encoder.card)?),
        ("scale".to_string(), serde_json::to_string(&scale)?),
    ]))?;
    output::write(&args.out, &bytes)?;
    terminal::eprint_line(&format!("features of {}: {}", card.id, scale::words(&scale)));
    let [images, tokens, width] = encoded.shape;
    let line = match encoded.own_grids.as_slice() {
        [] => {
            let [rows, columns] = encoded.grid;
            format!("{}: {images} images × {tokens} tokens ({rows}×{columns}) × {width}", args.out.display())
        }
        grids => {
            let shown = |parts: &Vec<[usize; 2]>| {
                let parts: Vec<String> = parts.iter().map(|[rows, columns]| format!("{rows}×{columns}")).collect();
                parts.join(" + ")
            };
            let shown: Vec<String> = grids.iter().map(shown).collect();
            let listed = if shown.len() > 8 { format!("{}, …", shown[..8].join(", ")) } else { shown.join(", ") };
            format!("{}: {images} images × up to {tokens} tokens ({listed}) × {width}", args.out.display())
        }
    };
    if output::is_stdout(&args.out) {
        terminal::eprint_line(&line);
        return Ok(());
    }
    print(&(line + "\n"))
}
