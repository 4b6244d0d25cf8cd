use super::*;
use crate::study::{ArmEncoder, EncoderWeights};
use burgess_encoders::card::EncoderCard;

/// Images in a directory, and the directory of a cache.
struct Place {
    images: tempfile::TempDir,
    cache: tempfile::TempDir,
    data: DataDirectory,
    names: Vec<String>,
}

impl Place {
    fn new(count: usize) -> Result<Self> {
        let (images, cache) = (tempfile::tempdir()?, tempfile::tempdir()?);
        let names: Vec<String> = (0..count).map(|n| format!("{n}.png")).collect();
        for (n, name) in names.iter().enumerate() {
            let pixel = |x: u32, y: u32| image::Rgb([(x * 7 + n as u32 * 31) as u8, (y * 5) as u8, (x * y) as u8]);
            let image = image::RgbImage::from_fn(24, 24, pixel);
            image.save(images.path().join(name)).map_err(|e| Error::failed(e.to_string()))?;
        }
        let data = DataDirectory {
            dir: images.path().to_path_buf(),
            align: None,
            tune: images.path().join("tune.jsonl"),
            digest: "data".into(),
            earlier: None,
            generated: true,
            per_source: None,
        };
        Ok(Self { images, cache, data, names })
    }

    fn features(&self, encoder: &PreparedEncoder, lines: &Progress) -> Result<CachedFeatures> {
        let devices = [Device::flex()];
        let set = ImageSet { data: &self.data, images: &self.names, devices: &devices, fingerprint: "flex" };
        let cache = FeatureCache::open(self.cache.path(), 1 << 30)?;
        cache
            .features(&[encoder], set, &Workers::over(1, 2, 1), lines)?
            .pop()
            .unwrap_or_else(|| Err(Error::failed("no features")))
    }

    fn entry(&self) -> PathBuf {
        let found = fs::read_dir(self.cache.path().join("features")).into_iter().flatten().flatten();
        found.map(|e| e.path()).next().unwrap_or_default()
    }
}

/// An encoder whose weights are drawn from a seed.
fn encoder() -> Result<PreparedEncoder> {
    let encoder = ArmEncoder { weights: EncoderWeights::Random(0), ..ArmEncoder::plain("nano-random") };
    let card = ArmCard::Encoder(EncoderCard::find("nano-random")?);
    Ok(PreparedEncoder { encoder, card, weights_digest: "seed 0".into() })
}

fn values(features: &CachedFeatures) -> Vec<u8> {
    features.chunks.iter().flat_map(|c| (0..c.shape[0]).filter_map(|row| c.row(row)).flatten().copied()).collect()
}

/// Replaces the stored features by others with a right digest, as a wrong build would have written them.
fn falsify(place: &Place, factor: f32) -> Result<()> {
    let file = place.entry().join("00000.safetensors");
    let bytes = fs::read(&file)?;
    let (header, metadata) =
        safetensors::SafeTensors::read_metadata(&bytes).map_err(|e| Error::failed(e.to_string()))?;
    let info = metadata.info("features").ok_or_else(|| Error::failed("no features"))?.clone();
    let shape = [info.shape[0], info.shape[1], info.shape[2]];
    let first = 8 + header + info.data_offsets.0;
    let mut changed = bytes.clone();
    for value in changed[first..8 + header + info.data_offsets.1].chunks_exact_mut(4) {
        let old = f32::from_le_bytes([value[0], value[1], value[2], value[3]]);
        value.copy_from_slice(&(old * factor).to_le_bytes());
    }
    let tokens = encoder()?.card.used_grid()?;
    let key = place.entry().file_name().unwrap_or_default().to_string_lossy().into_owned();
    let digest = |bytes: &[u8]| {
        let features = &bytes[first..8 + header + info.data_offsets.1];
        crate::features::encode::digest(&format!("{key}/0"), shape, tokens, features)
    };
    let (old, new) = (digest(&bytes), digest(&changed));
    let at = changed.windows(old.len()).position(|w| w == old.as_bytes());
    let at = at.ok_or_else(|| Error::failed("the digest is not in the file"))?;
    changed[at..at + new.len()].copy_from_slice(new.as_bytes());
    atomic::write(&file, &changed)
}

#[test]
fn features_of_another_process_are_compared_with_one_image() -> Result<()> {
    let (place, encoder) = (Place::new(20)?, encoder()?);
    let silent = Progress::silent();
    let first = values(&place.features(&encoder, &silent)?);
    let what: Value = atomic::read_json(&place.entry().join("what.json"))?;
    assert_eq!(what["device"], "flex");
    // As in another process: the entry was written by this one, so it is not checked again in it.
    falsify(&place, 1.01)?;
    assert!(place.features(&encoder, &silent).is_ok());
    sample_check::forget(&place.entry());
    let e = place.features(&encoder, &silent).map(drop).unwrap_err();
    let text = e.to_string();
    assert!(text.contains(".png that ") && text.contains(" wrote differ by 9.9e-3") && text.contains("on flex"), "{e}");
    assert!(e.hint_text().is_some_and(|h| h.contains("burgess doctor") && h.contains("remove")), "{e}");
    // Rounding is accepted, and the check changes nothing.
    falsify(&place, 1.0 / 1.01)?;
    let again = place.features(&encoder, &silent)?;
    assert!(values(&again).len() == first.len());
    assert!(place.images.path().exists());
    Ok(())
}

#[test]
fn processes_share_the_chunks_of_an_entry() -> Result<()> {
    // Threads stand for processes: each has its own view of the cache.
    let (place, encoder) = (Place::new(3 * CHUNK + 5)?, encoder()?);
    let silent = Progress::silent();
    let all: Vec<Result<Vec<u8>>> = std::thread::scope(|scope| {
        let work = || place.features(&encoder, &silent).map(|features| values(&features));
        let threads: Vec<_> = (0..3).map(|_| scope.spawn(work)).collect();
        threads.into_iter().filter_map(|t| t.join().ok()).collect()
    });
    let all: Vec<Vec<u8>> = all.into_iter().collect::<Result<_>>()?;
    assert!(all.len() == 3 && all.iter().all(|v| *v == all[0] && !v.is_empty()));
    let left: Vec<_> =
        ["users", "writers"].iter().flat_map(|d| fs::read_dir(place.entry().join(d))).flatten().collect();
    assert!(left.is_empty(), "no mark and no lease is left: {left:?}");
    Ok(())
}
