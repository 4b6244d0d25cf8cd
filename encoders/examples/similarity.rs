//! Lists the images of a folder that are most similar to one image: by the cosine of their mean patch features.
//!
//! ```text
//! cargo run --release -p burgess-encoders --example similarity -- nano-sup cat.png photos/
//! ```
//!
//! The encoder is the id of a card, a directory in Hugging Face layout, or a downloaded repository `owner/name`.

use burgess_encoders::{Device, Encoder, Error, Result};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Number of images that are listed.
const SHOWN: usize = 10;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("error: {e}");
            if let Some(hint) = e.hint_text() {
                eprintln!("hint: {hint}");
            }
            ExitCode::from(e.exit_code())
        }
    }
}

fn run(arguments: &[String]) -> Result<()> {
    let [encoder, image, folder] = arguments else {
        return Err(
            Error::usage("expected an encoder, an image and a folder").hint("similarity nano-sup cat.png photos/")
        );
    };
    let encoder = Encoder::from_id(encoder, &Device::default())?;
    let mut files = vec![PathBuf::from(image)];
    files.extend(images_in(folder.as_ref())?);
    let features = encoder.encode_files(&files)?;
    let vectors: Vec<Vec<f32>> = (0..features.images).filter_map(|i| features.mean_patch(i)).collect();
    let Some((wanted, others)) = vectors.split_first() else { return Ok(()) };
    let mut ranked: Vec<(f32, &PathBuf)> =
        others.iter().map(|other| cosine(wanted, other)).zip(files.iter().skip(1)).collect();
    ranked.sort_by(|a, b| b.0.total_cmp(&a.0));
    for (similarity, file) in ranked.into_iter().take(SHOWN) {
        println!("{similarity:.3}  {}", file.display());
    }
    Ok(())
}

/// The image files of a folder by their file extensions, sorted by name.
fn images_in(folder: &Path) -> Result<Vec<PathBuf>> {
    let items = std::fs::read_dir(folder)
        .map_err(|e| Error::failed(format!("reading the folder {}: {e}", folder.display())))?;
    let known = ["png", "jpg", "jpeg", "webp", "bmp", "gif", "tif", "tiff"];
    let is_image = |path: &PathBuf| {
        let extension = path.extension().map(|e| e.to_string_lossy().to_lowercase());
        extension.is_some_and(|e| known.contains(&e.as_str()))
    };
    let mut files: Vec<PathBuf> = items.flatten().map(|item| item.path()).filter(is_image).collect();
    files.sort();
    if files.is_empty() {
        return Err(Error::failed(format!("the folder {} holds no images", folder.display()))
            .hint(format!("images have one of the extensions {}", known.join(", "))));
    }
    Ok(files)
}

/// Cosine of the angle between two vectors of the same length.
fn cosine(a: &[f32], b: &[f32]) -> f32 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt().max(f32::MIN_POSITIVE)
}
