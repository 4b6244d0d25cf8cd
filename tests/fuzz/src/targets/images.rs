//! Fuzz targets for images in every supported format.

use crate::mutate::Form;
use crate::place::Place;
use crate::{Input, Target};
use burgess_base::Result;
use burgess_images::{Orientation, decode_bytes_oriented, dhash, dimensions_oriented};

const fn image(name: &'static str, corpus: &'static [&'static str], form: Form, share: u32) -> Target {
    Target {
        name,
        about: "images of this format",
        corpus,
        words: &["Exif\0\0", "IDAT", "tRNS", "acTL"],
        form,
        share,
        run,
    }
}

pub const TARGETS: &[Target] = &[
    image(
        "png",
        &["tests/golden/preprocess/*.png", "tests/golden/pixels/*.png", "tests/golden/dhash/*.png"],
        Form::Png,
        40,
    ),
    image("jpeg", &["tests/golden/preprocess/*.jpg", "tests/golden/dhash/*.jpg"], Form::Binary, 20),
    image("webp", &["tests/golden/preprocess/*.webp"], Form::Binary, 40),
    image("gif", &["tests/golden/preprocess/*.gif"], Form::Binary, 40),
    image("bmp", &["tests/golden/preprocess/*.bmp"], Form::Binary, 40),
    image("tiff", &["tests/golden/preprocess/*.tiff", "tests/golden/pixels/*.tiff"], Form::Binary, 40),
];

fn run(input: &Input<'_>, place: &Place) -> Result<()> {
    let path = place.file("image", input.bytes)?;
    let size = dimensions_oriented(&path, Orientation::Upright);
    let image = decode_bytes_oriented(input.bytes, Orientation::AsStored)?;
    if image.width() * image.height() < 1 << 20 {
        drop(dhash(&image, 8));
    }
    if image.width() * image.height() < 1 << 22 {
        let upright = decode_bytes_oriented(input.bytes, Orientation::Upright)?;
        assert_eq!(size?, upright.dimensions(), "the size in the header is not that of the image");
    }
    Ok(())
}
