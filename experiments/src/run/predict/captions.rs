//! Captions of the study's images, the language model's features of them, and their alignment with features of images.

use super::networks::ArmNetworks;
use crate::data::image_files;
use crate::features::ArmCard;
use crate::machine::progress::Bar;
use crate::machine::stop;
use crate::run::evaluator::Evaluator;
use burgess_base::{Error, Result};
use burgess_encoders::arch::{Tap, Tokens};
use burgess_encoders::encoder::Encoder;
use burgess_encoders::preprocess::Orientation;
use burgess_encoders::probe::alignment::{Alignment, Representation};
use burgess_encoders::probe::{Vectors, clamp_outliers};
use burgess_encoders::transfer;
use burgess_probe::data::conversation;
use burgess_probe::llm::chat::Role;
use burgess_probe::llm::{Llm, SequenceLayout, Tokenizer};
use burgess_probe::mllm::load_frozen_llm;
use burgess_reports::predictors::ArmValue;
use burn::tensor::{Device, Tensor, TensorData};
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::path::Path;

/// Quantile of absolute features at which outliers are clamped, as in platonic-rep.
const QUANTILE: f64 = 0.95;
/// Largest number of tokens of a caption that are read.
const LONGEST: usize = 512;
/// Number of captions, and of images, in a forward pass.
const BATCH: usize = 16;

/// Images of the study with a caption each.
pub struct Captions {
    /// Indices of the images among those of the study.
    pub images: Vec<usize>,
    texts: Vec<String>,
}

impl Captions {
    /// Reads the captions of the first `count` images of the align stage: the answers of an image's first conversation,
    /// joined by blanks.
    ///
    /// # Errors
    /// The study has no align stage, or fewer than `fewest` images with captions.
    pub fn read(evaluator: &Evaluator, count: usize, fewest: usize) -> Result<Self> {
        let Some(set) = &evaluator.align else {
            return Err(Error::failed(
                "the study has no align stage, whose captions would be compared with the images",
            ));
        };
        let index: BTreeMap<&str, usize> =
            evaluator.images.iter().enumerate().map(|(i, name)| (name.as_str(), i)).collect();
        let mut chosen: Vec<(usize, String)> = Vec::new();
        let mut seen = std::collections::BTreeSet::new();
        conversation::read(set.file(), |c| {
            let name = c.image.as_ref().map(|image| image_files::encode_name(Path::new(image)));
            // Images that cannot be decoded are not among those of the study.
            let Some(image) = name.and_then(|name| index.get(name.as_str()).copied()) else { return Ok(()) };
            if chosen.len() < count && seen.insert(image) {
                let answers = c.turns.iter().filter(|turn| turn.role == Role::Assistant);
                let text = answers.map(|turn| turn.text.trim()).collect::<Vec<_>>().join(" ");
                if !text.trim().is_empty() {
                    chosen.push((image, text));
                }
            }
            Ok(())
        })?;
        if chosen.len() < fewest {
            return Err(Error::failed(format!(
                "the align stage has {} images with captions, at least {fewest} are needed",
                chosen.len()
            )));
        }
        let (images, texts) = chosen.into_iter().unzip();
        Ok(Self { images, texts })
    }

    /// Number of images.
    pub fn len(&self) -> usize {
        self.images.len()
    }
}

/// The language model's features of captions: a representation for each layer, of which layer 0 is the embeddings and
/// the last one the output after the final norm.
pub struct TextLayers(Vec<Representation>);

impl TextLayers {
    /// Computes the features: hidden states averaged over the tokens of each caption.
    ///
    /// # Errors
    /// The language model cannot be loaded, or a caption cannot be tokenised.
    pub fn compute(captions: &Captions, dir: &Path, neighbours: usize, device: &Device, bar: &Bar) -> Result<Self> {
        let (llm, tokenizer) = load_frozen_llm(dir, device)?;
        let longest = llm.config().max_position_embeddings.min(LONGEST);
        let mut layers: Vec<Vec<f64>> = vec![Vec::new(); llm.blocks() + 1];
        for texts in captions.texts.chunks(BATCH) {
            stop::check()?;
            for (all, layer) in layers.iter_mut().zip(hidden_means(&llm, &tokenizer, texts, longest, device)?) {
                all.extend(layer.into_iter().map(f64::from));
            }
            bar.add(texts.len() as u64);
        }
        Ok(Self(representations(layers, captions.len(), neighbours)?))
    }
}

/// Returns the mean hidden state of each text at each layer, `[layers][texts · width]`.
fn hidden_means(
    llm: &Llm,
    tokenizer: &Tokenizer,
    texts: &[String],
    longest: usize,
    device: &Device,
) -> Result<Vec<Vec<f32>>> {
    let mut rows = texts.iter().map(|text| tokenizer.encode_text(text)).collect::<Result<Vec<_>>>()?;
    rows.iter_mut().for_each(|row| row.truncate(longest));
    let lengths: Vec<usize> = rows.iter().map(Vec::len).collect();
    if lengths.contains(&0) {
        return Err(Error::failed("a caption has no tokens"));
    }
    let t = lengths.iter().copied().max().unwrap_or(0);
    // Padding on the right is not attended to by the tokens before it.
    rows.iter_mut().for_each(|row| row.resize(t, 0));
    let share = |length: &usize| {
        let (length, n) = (*length, *length as f32);
        (0..t).map(move |i| if i < length { 1.0 / n } else { 0.0 })
    };
    let weights: Vec<f32> = lengths.iter().flat_map(share).collect();
    let weights: Tensor<3> = transfer::to_device(TensorData::new(weights, [rows.len(), t, 1]), device);
    let mean = |x: &Tensor<3>| -> Result<Vec<f32>> {
        let [batch, _, width] = x.dims();
        transfer::to_host::<f32, _, _>((x.clone() * weights.clone()).sum_dim(1).reshape([batch, width]))
    };
    let slices: Vec<&[u32]> = rows.iter().map(Vec::as_slice).collect();
    let embedded = llm.embed_rows(&slices, device)?;
    let (mut layers, last) = (vec![mean(&embedded)?], llm.blocks().saturating_sub(1));
    let mut after = |block: usize, x: Tensor<3>| {
        if block < last {
            layers.push(mean(&x)?);
        }
        Ok(x)
    };
    let out = llm.hidden_with(embedded, SequenceLayout::default(), Some(&mut after))?;
    layers.push(mean(&out)?);
    Ok(layers)
}

fn representations(layers: Vec<Vec<f64>>, n: usize, neighbours: usize) -> Result<Vec<Representation>> {
    let mut layers = layers.into_iter().map(|values| Vectors::new(values, n)).collect::<Result<Vec<_>>>()?;
    clamp_outliers(&mut layers, QUANTILE)?;
    layers.par_iter().map(|layer| Representation::new(layer, neighbours)).collect()
}

/// The alignment measures of an arm, each for its best pair of layers.
pub struct AlignedArm {
    /// CKA, unbiased CKA, CKNNA, mutual k-NN and Gromov-Wasserstein, in this order.
    pub values: [ArmValue; 5],
    /// Why only the arm's own features were compared and not all layers; `None` if all were.
    pub note: Option<String>,
}

/// Compares the features of an arm with those of the captions: patch features averaged over an image, of every layer
/// of a single encoder and of the arm's own tap.
///
/// # Errors
/// An image cannot be read, a feature is not finite, or a signal asked to stop.
pub fn align(
    networks: &ArmNetworks,
    captions: &Captions,
    text: &TextLayers,
    evaluator: &Evaluator,
    neighbours: usize,
    bar: &Bar,
) -> Result<AlignedArm> {
    let n = captions.len();
    let own = networks.of_study(&captions.images)?;
    let own_means = (0..n).flat_map(|i| own.mean_patch(i).unwrap_or_default()).map(f64::from).collect();
    let (mut layers, mut names, note) = match layer_means(networks, captions, evaluator, bar)? {
        Ok(layers) => {
            let names = (0..layers.len()).map(|l| format!("encoder layer {l}")).collect();
            (layers, names, None)
        }
        Err(reason) => (Vec::new(), Vec::new(), Some(reason)),
    };
    layers.push(own_means);
    names.push("the arm's features".to_string());
    let layers = representations(layers, n, neighbours)?;
    let pairs: Vec<(usize, usize)> = (0..layers.len()).flat_map(|x| (0..text.0.len()).map(move |y| (x, y))).collect();
    let compared = pairs.par_iter().map(|(x, y)| layers[*x].compare(&text.0[*y]));
    let compared = compared.collect::<Result<Vec<_>>>()?;
    stop::check()?;
    let best = |measure: fn(&Alignment) -> f64, sign: f64| {
        let measured = compared.iter().zip(&pairs).map(|(a, pair)| (measure(a), pair));
        let best = measured.reduce(|a, b| if sign * b.0 > sign * a.0 { b } else { a });
        match best {
            Some((value, (x, y))) => ArmValue::known(value, format!("{}, language model layer {y}", names[*x])),
            None => ArmValue::missing("there are no layers"),
        }
    };
    let values = [
        best(|a| a.cka, 1.0),
        best(|a| a.cka_unbiased, 1.0),
        best(|a| a.cknna, 1.0),
        best(|a| a.mutual_knn, 1.0),
        best(|a| a.gromov_wasserstein, -1.0),
    ];
    Ok(AlignedArm { values, note })
}

/// What is done where there are no features of each layer.
const OWN_ONLY: &str = "only the arm's own features are compared";

/// Returns the mean patch features of each layer, `[layers][images · width]`; in the inner error why there are none.
fn layer_means(
    networks: &ArmNetworks,
    captions: &Captions,
    evaluator: &Evaluator,
    bar: &Bar,
) -> Result<std::result::Result<Vec<Vec<f64>>, String>> {
    let cards: Vec<&ArmCard> = networks.cards().collect();
    let [ArmCard::Encoder(card)] = cards.as_slice() else {
        return Ok(Err(format!("the arm is no single network: {OWN_ONLY}")));
    };
    let single = |layer: usize| Tap { layer: layer as i32, norm: false, tokens: Tokens::Patch, ..Tap::default() };
    let count = (0..1024).take_while(|layer| card.architecture.check_tap(&single(*layer)).is_ok()).count();
    let [network] = networks.networks()? else {
        return Ok(Err(format!("the arm is no single network: {OWN_ONLY}")));
    };
    let tap = Tap { layers: (0..count as i32).collect(), grid: Some(card.used_grid()?), ..Tap::default() };
    let widths = (0..count).map(|layer| card.architecture.width(&single(layer))).collect::<Result<Vec<_>>>();
    let widths = match (card.architecture.check_tap(&tap), widths) {
        (Ok(()), Ok(widths)) if count > 0 => widths,
        _ => return Ok(Err(format!("its architecture cannot tap all layers at once: {OWN_ONLY}"))),
    };
    let mut all = (*card).clone();
    // The layers are those of the whole image, without what the arm does to its own features.
    (all.tap, all.grid, all.tiling, all.normalise) = (tap, None, None, None);
    let encoder = Encoder::new(all, network.arch.clone(), network.device());
    let orientation: Orientation = card.preprocess.orientation();
    let mut layers = vec![Vec::new(); count];
    for batch in captions.images.chunks(BATCH) {
        stop::check()?;
        let name = |i: &usize| evaluator.images.get(*i).ok_or_else(|| Error::failed(format!("no image {i}")));
        let names = batch.iter().map(name).collect::<Result<Vec<_>>>()?;
        let images = image_files::open_all(&evaluator.data.dir, &names, orientation);
        let encoded = encoder.encode(&images.into_iter().collect::<Result<Vec<_>>>()?, BATCH)?;
        for image in 0..encoded.images {
            let mean = encoded.mean_patch(image).unwrap_or_default();
            let mut first = 0;
            for (layer, width) in layers.iter_mut().zip(&widths) {
                layer.extend(mean.iter().skip(first).take(*width).map(|v| f64::from(*v)));
                first += width;
            }
        }
        bar.add(batch.len() as u64);
    }
    Ok(Ok(layers))
}
