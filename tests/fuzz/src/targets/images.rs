//! Fuzz targets for images in every supported format.

use crate::input_dir::InputDir;
use crate::mutate::MutationForm;
use crate::{FuzzInput, FuzzTarget};
use burgess_base::Result;
use burgess_images::{Orientation, decode_bytes_oriented, dhash, dimensions_oriented};

const fn image(name: &'static str, corpus: &'static [&'static str], form: MutationForm, share: u32) -> FuzzTarget {
    FuzzTarget {
        name,
        about: "images of this format",
        corpus,
        words: &["Exif\0\0", "IDAT", "tRNS", "acTL"],
        form,
        share,
        run,
    }
}

pub const TARGETS: &[FuzzTarget] = &[
    image(
        "png",
        &["tests/golden/preprocess/*.png", "tests/golden/pixels/*.png", "tests/golden/dhash/*.png"],
        MutationForm::Png,
        40,
    ),
    image("jpeg", &["tests/golden/preprocess/*.jpg", "tests/golden/dhash/*.jpg"], MutationForm::Binary, 20),
    image("webp", &["tests/golden/preprocess/*.webp"], MutationForm::Binary, 40),
    image("gif", &["tests/golden/preprocess/*.gif"], MutationForm::Binary, 40),
    image("bmp", &["tests/golden/preprocess/*.bmp"], MutationForm::Binary, 40),
    image("tiff", &["tests/golden/preprocess/*.tiff", "tests/golden/pixels/*.tiff"], MutationForm::Binary, 40),
];

fn run(input: &FuzzInput<'_>, place: &InputDir) -> Result<()> {
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
