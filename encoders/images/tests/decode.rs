//! Damaged images (made by `tests/reference/preprocess.py`): refused, and never a panic.

use burgess_images::decode;
use std::path::PathBuf;

fn golden() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/preprocess")
}

/// Pillow says "image file is truncated" wherever a JPEG ends before its end marker.
#[test]
fn a_cut_jpeg_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("cut.jpg");
    for name in ["420.jpg", "progressive.jpg", "cmyk.jpg"] {
        let whole = std::fs::read(golden().join(name)).unwrap();
        for cut in (0..whole.len()).step_by(97).chain([whole.len() - 2, whole.len() - 1]) {
            std::fs::write(&path, &whole[..cut]).unwrap();
            let error = decode(&path).expect_err(&format!("{name} cut after {cut} bytes"));
            assert!(error.to_string().contains("cut.jpg") && error.hint_text().is_some(), "{error}");
        }
    }
}

/// All the others too, anywhere before the last bytes, which end the data and the file but add nothing to the image.
#[test]
fn a_cut_image_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    for (name, tail) in [
        ("rgb.png", 24),
        ("palette.png", 24),
        ("rgb.webp", 0),
        ("lossy.webp", 0),
        ("rgb.gif", 4),
        ("rgb.bmp", 1),
        ("rgb.tiff", 0),
        ("rgba.tiff", 0),
    ] {
        let whole = std::fs::read(golden().join(name)).unwrap();
        let path = directory.path().join(format!("cut-{name}"));
        let survive: Vec<usize> = (0..whole.len() - tail)
            .filter(|cut| {
                std::fs::write(&path, &whole[..*cut]).unwrap();
                match decode(&path) {
                    Ok(_) => true,
                    Err(error) => {
                        assert!(error.to_string().contains(name) && error.hint_text().is_some(), "{error}");
                        false
                    }
                }
            })
            .collect();
        assert!(survive.is_empty(), "{name} of {} bytes is read when cut after {survive:?}", whole.len());
    }
}

#[test]
fn a_damaged_jpeg_never_panics() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("damaged.jpg");
    for name in ["420.jpg", "progressive.jpg", "cmyk.jpg"] {
        let whole = std::fs::read(golden().join(name)).unwrap();
        for i in 0..500 {
            let mut bytes = whole.clone();
            let at = i * 7919 % bytes.len().min(2000);
            bytes[at] = bytes[at].wrapping_add((i % 255) as u8 + 1);
            std::fs::write(&path, &bytes).unwrap();
            // Other colours, or an error: both are what libjpeg makes of it.
            let _ = decode(&path);
        }
    }
}
