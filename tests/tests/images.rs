//! Images as users have them: not square, rotated by their EXIF data, of extreme shapes and sizes.

use burgess_tests::{TestDir, stderr};
use safetensors::SafeTensors;
use std::path::{Path, PathBuf};

fn golden(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden").join(path)
}

/// Encodes one image; returns the bytes of the features and the messages.
fn encode(place: &TestDir, image: &Path, encoder: &str, more: &[&str]) -> (Vec<u8>, String) {
    let image = image.display().to_string();
    let args = [&["encode", &image, "--encoder", encoder, "-o", "f.safetensors"], more].concat();
    let output = place.run(&args);
    assert!(output.status.success(), "{args:?}: {}", stderr(&output));
    let bytes = std::fs::read(place.path().join("f.safetensors")).expect("features");
    let features =
        SafeTensors::deserialize(&bytes).expect("safetensors").tensor("features").expect("features").data().to_vec();
    (features, stderr(&output))
}

#[test]
fn what_happens_to_an_image_that_is_not_square_is_said_and_chosen() {
    let place = TestDir::new();
    let encoder = golden("directories/timm-deit3").display().to_string();
    let tall = golden("preprocess/tall.png");
    let (padded, said) = encode(&place, &tall, &encoder, &[]);
    assert!(said.contains("note: 1 of 1 images are not square: they are padded to a square"), "{said}");
    assert!(said.contains("--preprocess library"), "{said}");
    let (cropped, said) = encode(&place, &tall, &encoder, &["--preprocess", "library"]);
    assert!(said.contains("resized by the shorter side, and their centre cut out"), "{said}");
    assert!(padded != cropped);
    let square = golden("preprocess/square.png");
    let (padded, said) = encode(&place, &square, &encoder, &[]);
    assert!(!said.contains("not square"), "{said}");
    assert!(padded == encode(&place, &square, &encoder, &["--preprocess", "library"]).0);
    // An encoder that has no library of its own.
    let tall = tall.display().to_string();
    let output =
        place.run(&["encode", &tall, "--encoder", "nano-clip", "--preprocess", "library", "-o", "x.safetensors"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        stderr(&output).contains("how the library of nano-clip prepares images is not known"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn orientation_is_applied_when_asked_for() {
    let place = TestDir::new();
    let turned = golden("preprocess/exif6.jpg");
    let upright = encode(&place, &golden("pixels/upright-6.png"), "nano-clip", &[]).0;
    assert!(encode(&place, &turned, "nano-clip", &["--exif-orientation"]).0 == upright);
    assert!(encode(&place, &turned, "nano-clip", &[]).0 != upright, "EXIF rotation is applied only on request");
}

/// Extreme shapes are encoded quickly (an image of 472 bytes once took a minute), and the size limit is adjustable.
#[test]
fn absurd_shapes_and_sizes() {
    let place = TestDir::new();
    let tall = place.path().join("tall.png");
    image::RgbImage::from_pixel(1, 100_000, image::Rgb([200, 30, 30])).save(&tall).expect("an image");
    encode(&place, &tall, "nano-clip", &[]);
    let mut command = place.burgess(&["encode", "tall.png", "--encoder", "nano-clip", "-o", "x.safetensors"]);
    let output = command.env("BURGESS_MAX_PIXELS", "99999").output().expect("burgess starts");
    assert_eq!(output.status.code(), Some(1));
    let said = stderr(&output);
    assert!(
        said.contains("1×100000 pixels, the limit is 99999") && said.contains("BURGESS_MAX_PIXELS=100000"),
        "{said}"
    );
    let mut command = place.burgess(&["encode", "tall.png", "--encoder", "nano-clip", "-o", "x.safetensors"]);
    let output = command.env("BURGESS_MAX_PIXELS", "many").output().expect("burgess starts");
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
}
