//! Writes the patch features of images to a safetensors file with the tensors `features`, `[images, tokens, width]`,
//! and `grid`, `[rows, columns]`.
//!
//! ```text
//! cargo run --release -p burgess-encoders --example encode -- nano-sup features.safetensors cat.png dog.jpg
//! ```
//!
//! The encoder is the id of a card, a directory in Hugging Face layout, or a downloaded repository `owner/name`.

use burgess_encoders::{Device, Encoder, Error, Result};
use std::collections::HashMap;
use std::process::ExitCode;

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
    let [encoder, output, images @ ..] = arguments else {
        return Err(Error::usage("expected an encoder, an output file and images")
            .hint("encode nano-sup features.safetensors cat.png"));
    };
    let encoder = Encoder::from_id(encoder, &Device::default())?;
    let features = encoder.encode_files(images)?;
    let metadata = HashMap::from([("images".to_string(), serde_json::to_string(images)?)]);
    burgess_base::atomic::write(output.as_ref(), &features.to_safetensors(metadata)?)?;
    println!(
        "{output}: {} images, {} tokens ({}x{} patches), {} channels",
        features.images, features.tokens, features.grid[0], features.grid[1], features.width
    );
    Ok(())
}
