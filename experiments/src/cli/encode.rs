//! `burgess encode`: patch features of pictures.

use super::print;
use crate::{device, features};
use burgess_base::{Error, Result, atomic};
use burgess_encoders::card::EncoderCard;
use burgess_encoders::encoder::Encoder;
use std::collections::HashMap;
use std::path::PathBuf;

/// Patch features of pictures, as safetensors
#[derive(clap::Args)]
#[command(after_help = "Writes `features` [pictures, tokens, width] f32 and `grid` [2] (rows, columns); the metadata
names the pictures and the card.

Examples:
  burgess encode cat.png dog.jpg --encoder nano-clip -o features.safetensors
  burgess encode *.png --encoder nano-sup --weights my.safetensors -o features.safetensors")]
pub struct Args {
    /// Pictures: PNG, JPEG, WebP, GIF, BMP, TIFF
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<PathBuf>,
    /// Card id, as `burgess encoders` lists them
    #[arg(long, value_name = "ID")]
    encoder: String,
    /// Weights instead of the card's
    #[arg(long, value_name = "PATH")]
    weights: Option<PathBuf>,
    /// flex, wgpu, vulkan, tch, tch:cuda:0, cuda:0
    #[arg(long, value_name = "DEVICE", default_value = "flex")]
    device: String,
    /// Pictures a forward pass takes
    #[arg(long, value_name = "N", default_value_t = 8)]
    batch: usize,
    /// The file to write
    #[arg(short, long, value_name = "F.safetensors")]
    out: PathBuf,
}

pub fn run(args: Args) -> Result<()> {
    if args.batch == 0 {
        return Err(Error::usage("--batch 0 encodes nothing"));
    }
    let card = EncoderCard::find(&args.encoder)?;
    let device = device::parse(&args.device)?;
    let encoder = Encoder::load(card.clone(), args.weights.as_deref(), &device)?;
    let encoded = features::encode(&encoder, &args.images, args.batch, &|_| ())?;
    let names: Vec<String> = args.images.iter().map(|p| p.display().to_string()).collect();
    let bytes = encoded.pack(HashMap::from([
        ("images".to_string(), serde_json::to_string(&names)?),
        ("card".to_string(), serde_json::to_string(&card)?),
    ]))?;
    atomic::write(&args.out, &bytes)?;
    let ([pictures, tokens, width], [rows, columns]) = (encoded.shape, encoded.grid);
    print(&format!("{}: {pictures} pictures × {tokens} tokens ({rows}×{columns}) × {width}\n", args.out.display()))
}
