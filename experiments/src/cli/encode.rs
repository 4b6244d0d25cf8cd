//! `burgess encode`: patch features of pictures.

use super::print;
use crate::device;
use burgess_base::{Context, Error, Result, atomic};
use burgess_encoders::card::EncoderCard;
use burgess_encoders::encoder::Encoder;
use burn::tensor::{Tensor, TensorData};
use safetensors::{Dtype, tensor::TensorView};
use std::collections::HashMap;
use std::io::Write;
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
    let size = encoder.card.preprocess.size;
    let (mut values, mut shape, mut grid) = (Vec::<u8>::new(), [args.images.len(), 0, 0], [0, 0]);
    for images in args.images.chunks(args.batch) {
        let mut pixels = Vec::with_capacity(images.len() * 3 * size * size);
        for image in images {
            pixels.extend(encoder.card.preprocess.load(image)?);
        }
        let pixels = Tensor::<4>::from_data(TensorData::new(pixels, [images.len(), 3, size, size]), &device);
        let map = encoder.forward(pixels)?;
        let [_, tokens, width] = map.tokens.dims();
        (shape[1], shape[2], grid) = (tokens, width, map.grid);
        let host: Vec<f32> = map
            .tokens
            .into_data()
            .try_into_vec_as()
            .map_err(|e| Error::failed(format!("features are not f32: {e}")))?;
        values.extend(host.iter().flat_map(|v| v.to_le_bytes()));
    }
    let grid_bytes: Vec<u8> = grid.iter().flat_map(|v| (*v as u64).to_le_bytes()).collect();
    let invalid = |e: safetensors::SafeTensorError| Error::failed(e.to_string());
    let tensors = [
        ("features", TensorView::new(Dtype::F32, shape.to_vec(), &values).map_err(invalid)?),
        ("grid", TensorView::new(Dtype::U64, vec![2], &grid_bytes).map_err(invalid)?),
    ];
    let names: Vec<String> = args.images.iter().map(|p| p.display().to_string()).collect();
    let metadata = HashMap::from([
        ("images".to_string(), serde_json::to_string(&names)?),
        ("card".to_string(), serde_json::to_string(&card)?),
    ]);
    let bytes = safetensors::serialize(tensors, Some(metadata)).map_err(invalid).context("packing the features")?;
    atomic::write_with(&args.out, |w| Ok(w.write_all(&bytes)?))?;
    print(&format!(
        "{}: {} pictures × {} tokens ({}×{}) × {}\n",
        args.out.display(),
        shape[0],
        shape[1],
        grid[0],
        grid[1],
        shape[2]
    ))
}
