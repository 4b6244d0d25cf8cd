//! Example images of the chat page, with questions and right answers: test scenes of the nano world.

use burgess_base::{Context, Error, Result};
use burgess_serve::Example;
use burgess_world::ExampleQuestion;
use image::ImageFormat;
use std::io::Cursor;

/// Draws the example images. The same version of the world always gives the same ones.
///
/// # Errors
/// An image cannot be encoded.
pub fn nano() -> Result<Vec<Example>> {
    burgess_world::examples().into_iter().map(example).collect()
}

fn example(drawn: ExampleQuestion) -> Result<Example> {
    let mut png = Cursor::new(Vec::new());
    let written = drawn.scene.render().write_to(&mut png, ImageFormat::Png);
    written.map_err(|e| Error::failed(e.to_string())).context("encoding an example image")?;
    Ok(Example {
        name: drawn.name,
        question: drawn.question,
        options: drawn.options,
        image: png.into_inner(),
        answer: Some(drawn.answer),
    })
}
