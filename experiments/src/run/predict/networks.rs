//! The encoders of an arm, which compute features of any images, and features of the study's images.

use crate::features::cache::FeatureCache;
use crate::features::{ArmCard, EncoderFeatures, FrozenFeatures, ImageSet, PreparedEncoder};
use crate::machine::paths;
use crate::run::study_runs::copy_error;
use crate::study::{Arm, FeatureSourceKind};
use burgess_base::{Error, Result};
use burgess_encoders::encoder::{Encoder, Features};
use burgess_encoders::features::FeatureMap;
use burgess_encoders::transfer;
use burn::tensor::Device;
use image::RgbImage;
use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Number of images in a forward pass.
const BATCH: usize = 16;

/// The encoders of an arm.
pub struct ArmNetworks<'a> {
    prepared: Vec<&'a PreparedEncoder>,
    device: Device,
    set: ImageSet<'a>,
    source: FeatureSourceKind,
    networks: OnceCell<Vec<Encoder>>,
    features: OnceCell<Vec<EncoderFeatures>>,
}

impl<'a> ArmNetworks<'a> {
    /// Chooses the encoders of an arm from those of the study.
    ///
    /// # Errors
    /// The weights of an encoder are not on this machine.
    pub fn new(
        arm: &Arm,
        encoders: &'a BTreeMap<String, Result<PreparedEncoder>>,
        set: ImageSet<'a>,
        source: FeatureSourceKind,
    ) -> Result<Self> {
        let prepared = arm.encoders.iter().map(|encoder| match encoders.get(&encoder.to_string()) {
            Some(Ok(prepared)) => Ok(prepared),
            Some(Err(e)) => Err(copy_error(e)),
            None => Err(Error::failed(format!("{encoder} is not in the study"))),
        });
        let device = set.devices.first().cloned().unwrap_or_default();
        let prepared = prepared.collect::<Result<_>>()?;
        Ok(Self { prepared, device, set, source, networks: OnceCell::new(), features: OnceCell::new() })
    }

    /// Cards of the encoders.
    pub fn cards(&self) -> impl Iterator<Item = &ArmCard> {
        self.prepared.iter().map(|p| &p.card)
    }

    /// The encoders with their weights, loaded at the first call.
    ///
    /// # Errors
    /// One of them is the oracle, which has no network, or the weights do not fit.
    pub fn networks(&self) -> Result<&[Encoder]> {
        if self.networks.get().is_none() {
            let load = |p: &&PreparedEncoder| match &p.card {
                ArmCard::Encoder(card) => p.encoder.load(card.clone(), &self.device),
                ArmCard::Oracle(_) => Err(Error::failed(ORACLE_REASON)),
            };
            let loaded = self.prepared.iter().map(load).collect::<Result<_>>()?;
            self.networks.get_or_init(|| loaded);
        }
        Ok(self.networks.get().map_or(&[], Vec::as_slice))
    }

    /// The features of the study's images: from the cache if all of them are there, else computed when they are
    /// requested.
    ///
    /// # Errors
    /// The cache cannot be read, or an encoder cannot be loaded.
    pub fn features(&self) -> Result<&[EncoderFeatures]> {
        if self.features.get().is_none() {
            let cache = match self.source {
                FeatureSourceKind::Cached => Some(FeatureCache::open(&paths::cache()?, paths::cache_limit()?)?),
                FeatureSourceKind::Computed => None,
            };
            let open = |p: &&PreparedEncoder| -> Result<EncoderFeatures> {
                let cached = cache.as_ref().map(|cache| cache.find(p, self.set)).transpose()?.flatten();
                let (dir, images, devices) = (&self.set.data.dir, self.set.images, self.set.devices);
                let features = match cached {
                    Some(cached) => FrozenFeatures::Cached(cached),
                    None => FrozenFeatures::computed(&p.encoder, &p.card, dir, images, devices)?,
                };
                Ok(EncoderFeatures { encoder: p.encoder.clone(), card: p.card.clone(), features: Arc::new(features) })
            };
            let opened = self.prepared.iter().map(open).collect::<Result<_>>()?;
            self.features.get_or_init(|| opened);
        }
        Ok(self.features.get().map_or(&[], Vec::as_slice))
    }

    /// Whether the features of the study's images come from the cache.
    pub fn is_cached(&self) -> bool {
        let features = self.features.get().map_or(&[][..], Vec::as_slice);
        !features.is_empty() && features.iter().all(|f| matches!(*f.features, FrozenFeatures::Cached(_)))
    }

    /// Encodes images; the channels of several encoders are concatenated on the finest of their grids. The result has
    /// patch tokens only.
    ///
    /// # Errors
    /// As [`networks`](Self::networks), or a feature is not finite.
    pub fn encode(&self, images: &[RgbImage]) -> Result<Features> {
        let networks = self.networks()?;
        let mut out = Joined::default();
        for batch in images.chunks(BATCH) {
            let name = |n: usize| format!("image {n}");
            let encode = |encoder: &Encoder| Ok(encoder.encode_batch(batch, &name)?.features);
            out.add(networks.iter().map(encode).collect::<Result<_>>()?)?;
        }
        out.finish()
    }

    /// Returns the features of some of the study's images, by index, joined as in [`encode`](Self::encode).
    ///
    /// # Errors
    /// As [`features`](Self::features), or there is no image with an index.
    pub fn of_study(&self, images: &[usize]) -> Result<Features> {
        let features = self.features()?;
        let mut out = Joined::default();
        for batch in images.chunks(BATCH) {
            let maps = features.iter().map(|f| f.features.batch(batch, &self.device)).collect::<Result<_>>()?;
            out.add(maps)?;
        }
        out.finish()
    }
}

/// Why the oracle has no features of other images.
const ORACLE_REASON: &str = "the oracle has no network: it knows the images of the study only";

/// Features of several encoders on one grid, in host memory.
#[derive(Default)]
struct Joined {
    all: Option<Features>,
}

impl Joined {
    fn add(&mut self, maps: Vec<FeatureMap>) -> Result<()> {
        let grid = maps.iter().map(|m| m.grid).max_by_key(|g| g[0] * g[1]).unwrap_or([0, 0]);
        let patches = |map: FeatureMap| {
            let ([batch, tokens, width], prefix) = (map.tokens.dims(), map.prefix());
            let tokens = map.tokens.slice([0..batch, prefix..tokens, 0..width]);
            FeatureMap { tokens, grid: map.grid }.resample(grid)
        };
        let maps = maps.into_iter().map(patches).collect::<Result<Vec<_>>>()?;
        let joined = FeatureMap::concat(&maps)?;
        let [images, tokens, width] = joined.tokens.dims();
        let values = transfer::to_host::<f32, _, _>(joined.tokens)?;
        let all = self.all.get_or_insert_with(|| Features { values: Vec::new(), images: 0, tokens, width, grid });
        all.images += images;
        all.values.extend(values);
        Ok(())
    }

    fn finish(self) -> Result<Features> {
        self.all.ok_or_else(|| Error::failed("there are no images to encode"))
    }
}
