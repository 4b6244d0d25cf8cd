//! Divides examples into batches, in a random order that follows from the seed.

use super::example::Examples;
use burgess_base::stream::stream;
use rand::Rng;

/// The order in which a stage uses the examples.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum ExampleOrder {
    /// Shuffled anew in every epoch.
    #[default]
    Shuffled,
    /// Shuffled, sorted by length within windows of 16 batches, and the batches shuffled: reduces padding.
    GroupedByLength,
    /// As `grouped_by_length`, but all examples of a batch have an image or none has, except in the last
    /// batches (LLaVA's `group_by_modality_length`, whose windows are one batch over all devices).
    GroupedByModality,
}

/// Number of batches in a window of examples that are sorted by length.
const WINDOW: usize = 16;

/// Returns the batches of one epoch as lists of indices of `examples`. All have length `batch`, except that the last
/// may be shorter. Every index occurs once.
///
/// `name`, `seed` and `epoch` determine the random stream.
pub fn epoch_batches(
    examples: &dyn Examples,
    batch: usize,
    order: ExampleOrder,
    name: &str,
    seed: u64,
    epoch: usize,
) -> Vec<Vec<usize>> {
    let batch = batch.max(1);
    let mut random = stream(&format!("{name}/epoch-{epoch}"), seed);
    let mut all: Vec<usize> = (0..examples.len()).collect();
    shuffle(&mut all, &mut random);
    let kinds = match order {
        ExampleOrder::Shuffled => return all.chunks(batch).map(<[usize]>::to_vec).collect(),
        ExampleOrder::GroupedByLength => vec![all],
        ExampleOrder::GroupedByModality => {
            let (has_image, text) = all.into_iter().partition(|&i| examples.has_image(i));
            vec![has_image, text]
        }
    };
    let (mut batches, mut rest): (Vec<Vec<usize>>, Vec<usize>) = Default::default();
    for mut kind in kinds {
        // Examples that do not fill a batch come last; sorting would otherwise move them to the middle.
        rest.extend(kind.split_off(kind.len() / batch * batch));
        for window in kind.chunks_mut(batch.saturating_mul(WINDOW)) {
            window.sort_by_key(|&i| (examples.length(i), i));
        }
        batches.extend(kind.chunks(batch).map(<[usize]>::to_vec));
    }
    shuffle(&mut batches, &mut random);
    batches.extend(rest.chunks(batch).map(<[usize]>::to_vec));
    batches
}

/// Shuffles `items` (Fisher–Yates) with unbiased draws (rejection sampling); the result is the same on every machine.
pub fn shuffle<T>(items: &mut [T], random: &mut impl Rng) {
    for i in (1..items.len()).rev() {
        items.swap(i, below(i as u64 + 1, random) as usize);
    }
}

/// Draws a uniform random number in `0..n`.
fn below(n: u64, random: &mut impl Rng) -> u64 {
    let limit = u64::MAX - u64::MAX % n;
    loop {
        let draw = random.next_u64();
        if draw < limit {
            return draw % n;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Example;

    /// Examples of these lengths, every third without an image.
    fn examples(lengths: impl Iterator<Item = usize>) -> Vec<Example> {
        lengths
            .enumerate()
            .map(|(i, n)| {
                let image = (i % 3 > 0).then_some(i);
                Example { image, ids: vec![0; n], loss_mask: vec![true; n], image_at: image.map(|_| 0) }
            })
            .collect()
    }

    const ORDERS: [ExampleOrder; 3] =
        [ExampleOrder::Shuffled, ExampleOrder::GroupedByLength, ExampleOrder::GroupedByModality];

    #[test]
    fn every_example_occurs_once_and_the_seed_decides() {
        let examples = examples((0..103).map(|i| i * 7 % 31));
        for order in ORDERS {
            let a = epoch_batches(&examples, 8, order, "tune", 3, 0);
            assert_eq!(a, epoch_batches(&examples, 8, order, "tune", 3, 0));
            assert_ne!(a, epoch_batches(&examples, 8, order, "tune", 4, 0));
            assert_ne!(a, epoch_batches(&examples, 8, order, "tune", 3, 1));
            let mut flat: Vec<usize> = a.concat();
            flat.sort_unstable();
            assert_eq!(flat, (0..103).collect::<Vec<_>>());
            assert_eq!((a.len(), a.last().map(Vec::len)), (13, Some(7)));
        }
    }

    #[test]
    fn a_batch_larger_than_any_memory_holds_all_examples() {
        let examples = examples(0..7);
        for order in ORDERS {
            for batch in [8, 1 << 60, usize::MAX] {
                assert_eq!(epoch_batches(&examples, batch, order, "tune", 3, 0).concat().len(), 7);
            }
        }
    }

    #[test]
    fn grouping_lowers_the_padding() {
        let examples = examples((0..800).map(|i| i * 37 % 101));
        let padded = |order| -> usize {
            epoch_batches(&examples, 8, order, "tune", 0, 0)
                .iter()
                .map(|b| b.len() * b.iter().map(|&i| examples[i].ids.len()).max().unwrap_or(0))
                .sum()
        };
        assert!(padded(ExampleOrder::GroupedByLength) * 10 < padded(ExampleOrder::Shuffled) * 7);
        assert!(padded(ExampleOrder::GroupedByModality) * 10 < padded(ExampleOrder::Shuffled) * 7);
    }

    #[test]
    fn a_batch_has_images_or_none() {
        let examples = examples((0..100).map(|i| i * 7 % 31));
        let batches = epoch_batches(&examples, 8, ExampleOrder::GroupedByModality, "tune", 0, 0);
        let mixed = |b: &Vec<usize>| b.iter().any(|i| i % 3 == 0) && b.iter().any(|i| i % 3 > 0);
        // 66 examples with an image and 34 without, in batches, leave two of each over.
        let found: Vec<usize> = (0..batches.len()).filter(|&i| mixed(&batches[i])).collect();
        assert_eq!((batches.len(), found), (13, vec![12]));
    }
}
