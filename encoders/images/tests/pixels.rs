//! Pixels that Pillow gives (made by `tests/reference/pixels.py`), and images that cost more than they should.

use burgess_images::{
    Interpolation, Orientation, PaddedSquare, decode, decode_bytes, decode_oriented, dimensions_oriented,
};
use image::{Rgb, RgbImage};
use std::error::Error;
use std::path::{Path, PathBuf};

fn golden(folder: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden").join(folder)
}

/// Largest difference of two images of one size.
fn difference(a: &RgbImage, b: &RgbImage) -> Option<u8> {
    let pairs = a.as_raw().iter().zip(b.as_raw());
    (a.dimensions() == b.dimensions()).then(|| pairs.map(|(a, b)| a.abs_diff(*b)).max().unwrap_or_default())
}

#[test]
fn jpeg_inside_tiff_is_libjpegs() -> Result<(), Box<dyn Error>> {
    let mut wrong = Vec::new();
    let mut compared = 0;
    for entry in std::fs::read_dir(golden("pixels"))? {
        let path = entry?.path();
        if path.extension().is_some_and(|e| e == "tiff") {
            compared += 1;
            let found = difference(&decode(&path)?, &decode(&path.with_extension("png"))?);
            if found != Some(0) {
                wrong.push(format!("{}: {found:?}", path.display()));
            }
            let whole = std::fs::read(&path)?;
            for cut in (0..whole.len()).step_by(61) {
                // Refused or, where what is missing is not needed, read: never a panic.
                let _ = decode_bytes(&whole[..cut]);
            }
        }
    }
    assert!(compared > 5 && wrong.is_empty(), "{compared}: {wrong:?}");
    Ok(())
}

#[test]
fn upright_images_are_exif_transposes() -> Result<(), Box<dyn Error>> {
    for orientation in 1..=8 {
        let path = golden("preprocess").join(format!("exif{orientation}.jpg"));
        let expected = decode(&golden("pixels").join(format!("upright-{orientation}.png")))?;
        let upright = decode_oriented(&path, Orientation::Upright)?;
        assert_eq!(difference(&upright, &expected), Some(0), "{orientation}");
        assert_eq!(dimensions_oriented(&path, Orientation::Upright)?, expected.dimensions());
        assert_eq!(decode(&path)?.dimensions(), (20, 13), "as stored unless asked for");
    }
    Ok(())
}

#[test]
fn squares_around_lines_are_pillows() -> Result<(), Box<dyn Error>> {
    for (width, height) in [(1, 4000), (4000, 1), (3, 2999), (2999, 2), (1, 24), (700, 500)] {
        let line = RgbImage::from_fn(width, height, |x, y| {
            let n = u64::from(y) * u64::from(width) + u64::from(x);
            Rgb([n * 7919 % 256, n * 104_729 % 251, n * n % 253].map(|v| v as u8))
        });
        let expected = decode(&golden("pixels").join(format!("square-{width}x{height}.png")))?;
        let square = PaddedSquare::around(&line, [123, 117, 104]).resize(24, Interpolation::Bicubic);
        assert_eq!(&square, expected.as_raw(), "{width}×{height}");
    }
    Ok(())
}

/// A square of 100,000 pixels would have 10^10; what is computed is the line.
#[test]
fn a_line_costs_what_it_holds() {
    for (width, height) in [(1, 400_000), (400_000, 1)] {
        let line = RgbImage::from_pixel(width, height, Rgb([9, 99, 199]));
        let square = PaddedSquare::around(&line, [9, 99, 199]).resize(96, Interpolation::Bilinear);
        assert_eq!(square.len(), 96 * 96 * 3);
    }
}

fn too_much(bytes: &[u8], says: &str) {
    let error = decode_bytes(bytes).expect_err(says);
    assert!(error.to_string().contains(says), "{error}");
    assert!(error.hint_text().is_some_and(|hint| hint.contains("BURGESS_MAX_PIXELS")), "{:?}", error.hint_text());
}

/// Size and number of scans are read from the file's own words, before anything is done for them.
#[test]
fn what_costs_too_much_is_refused_before_it_costs() -> Result<(), Box<dyn Error>> {
    // A PNG that says it has 30,000 × 30,000 pixels.
    let mut png = std::fs::read(golden("preprocess").join("grey.png"))?;
    for at in [16, 20] {
        png[at..at + 4].copy_from_slice(&30_000_u32.to_be_bytes());
    }
    let header = crc(&png[12..29]);
    png[29..33].copy_from_slice(&header.to_be_bytes());
    too_much(&png, "30000×30000 pixels");
    // A progressive JPEG of 6,000 × 6,000 pixels whose last scan is there a hundred times.
    let mut jpeg = std::fs::read(golden("preprocess").join("progressive.jpg"))?;
    let frame = jpeg.windows(2).position(|w| w == [0xff, 0xc2]).ok_or("no frame")?;
    jpeg[frame + 5..frame + 9].copy_from_slice(&[0x17, 0x70, 0x17, 0x70]);
    let last = jpeg.windows(2).rposition(|w| w == [0xff, 0xda]).ok_or("no scan")?;
    let scan = jpeg[last..jpeg.len() - 2].to_vec();
    jpeg.truncate(jpeg.len() - 2);
    for _ in 0..100 {
        jpeg.extend_from_slice(&scan);
    }
    jpeg.extend_from_slice(&[0xff, 0xd9]);
    too_much(&jpeg, "scans of 6000×6000 pixels");
    Ok(())
}

fn crc(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 })
    })
}

#[cfg(unix)]
#[test]
fn what_is_no_file_is_named_and_not_waited_for() -> Result<(), Box<dyn Error>> {
    let directory = tempfile::tempdir()?;
    let fifo = directory.path().join("a.png");
    assert!(std::process::Command::new("mkfifo").arg(&fifo).status()?.success());
    for path in [fifo.as_path(), directory.path(), Path::new("/dev/zero")] {
        let error = decode(path).expect_err("no file").to_string();
        assert!(error.contains("not a file") && error.contains(&path.display().to_string()), "{error}");
    }
    Ok(())
}
