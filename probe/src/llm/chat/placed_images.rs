//! The places of several images in a question's text.
//!
//! Benchmarks refer to their images as `<image 1>`, `<image1>` or `<image>`. The first reference to an image is where
//! it goes; images without a reference go before the text, each on its own line.

use super::python;

/// The text of a question with several images, with placeholders, and the order of the images in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlacedImages {
    /// The text with one placeholder per image.
    pub text: String,
    /// The same text without the placeholders, for asking without the images (blind).
    pub blind: String,
    /// For each placeholder of `text`, the index of its image, from 0.
    pub order: Vec<usize>,
}

/// A piece of a question's text.
enum TextPiece<'a> {
    Text(&'a str),
    /// A reference such as `<image 2>`, with the number that it states; `None` for `<image>`.
    Reference(&'a str, Option<usize>),
}

/// Places `count` images in a text; `placeholder` is the template's text of an image.
///
/// A reference with a number that was already placed, or that no image has, stays as text. References without a number
/// stand for the images that no number names, in their order; one that is left over is removed, because a tokenizer
/// reads it as an image.
pub fn placed_images(text: &str, count: usize, placeholder: &str) -> PlacedImages {
    let pieces = pieces(text, placeholder);
    let named = |number: usize| number.checked_sub(1).filter(|index| *index < count);
    let mut by_number = vec![false; count];
    for piece in &pieces {
        if let TextPiece::Reference(_, Some(number)) = piece
            && let Some(place) = named(*number).and_then(|index| by_number.get_mut(index))
        {
            *place = true;
        }
    }
    let mut unnamed = (0..count).filter(|index| by_number.get(*index) == Some(&false));
    let (mut within, mut blind, mut order) = (String::new(), String::new(), Vec::with_capacity(count));
    for piece in pieces {
        let image = match piece {
            TextPiece::Text(text) => {
                within += text;
                blind += text;
                continue;
            }
            TextPiece::Reference(written, Some(number)) => match named(number).filter(|index| !order.contains(index)) {
                Some(index) => index,
                None => {
                    within += written;
                    blind += written;
                    continue;
                }
            },
            TextPiece::Reference(_, None) => match unnamed.next() {
                Some(index) => index,
                None => continue,
            },
        };
        within += placeholder;
        order.push(image);
    }
    let front: Vec<usize> = (0..count).filter(|index| !order.contains(index)).collect();
    let lines = format!("{placeholder}\n").repeat(front.len());
    let text = format!("{lines}{}", python::strip(&within));
    PlacedImages {
        text: python::strip(&text).to_string(),
        blind: python::strip(&blind).to_string(),
        order: front.into_iter().chain(order).collect(),
    }
}

/// Splits a text at its references to images.
fn pieces<'a>(text: &'a str, placeholder: &str) -> Vec<TextPiece<'a>> {
    let (mut pieces, mut from, mut at) = (Vec::new(), 0, 0);
    let next = |rest: &str| {
        let own = (!placeholder.is_empty()).then(|| rest.find(placeholder)).flatten();
        rest.find('<').into_iter().chain(own).min()
    };
    while let Some(found) = text.get(at..).and_then(next) {
        let start = at + found;
        let rest = text.get(start..).unwrap_or_default();
        match reference(rest, placeholder) {
            Some((length, number)) => {
                pieces.push(TextPiece::Text(text.get(from..start).unwrap_or_default()));
                pieces.push(TextPiece::Reference(rest.get(..length).unwrap_or_default(), number));
                from = start + length;
                at = from;
            }
            None => at = start + 1,
        }
    }
    pieces.push(TextPiece::Text(text.get(from..).unwrap_or_default()));
    pieces
}

/// Returns the length in bytes of the reference with which a text begins, and its number.
fn reference(text: &str, placeholder: &str) -> Option<(usize, Option<usize>)> {
    if !placeholder.is_empty() && text.starts_with(placeholder) {
        return Some((placeholder.len(), None));
    }
    let inner = text.strip_prefix("<image")?;
    let digits = inner.strip_prefix(' ').unwrap_or(inner);
    let (number, _) = digits.split_once('>')?;
    match number {
        "" if digits.len() == inner.len() => Some(("<image>".len(), None)),
        number if !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()) => {
            // A number that is too large for an index is the number of no image.
            let length = text.len() - digits.len() + number.len() + 1;
            Some((length, Some(number.parse().unwrap_or(usize::MAX))))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_stand_at_their_references_or_in_front() {
        let placed = |text: &str, count: usize| {
            let PlacedImages { text, blind, order } = placed_images(text, count, "<image>");
            assert_eq!(order.len(), count);
            assert_eq!(text.matches("<image>").count(), count, "{text}");
            (text, blind, order)
        };
        for (text, count, expected, blind, order) in [
            ("Which?", 2, "<image>\n<image>\nWhich?", "Which?", vec![0, 1]),
            ("Is <image 2> like <image 1>?", 2, "Is <image> like <image>?", "Is  like ?", vec![1, 0]),
            ("<image1>\n<image2>\nWhich?", 2, "<image>\n<image>\nWhich?", "Which?", vec![0, 1]),
            ("a <image> b <image> c", 2, "a <image> b <image> c", "a  b  c", vec![0, 1]),
            // Numbered and plain references; the second image is named by neither.
            ("a <image 3> b <image> c", 3, "<image>\na <image> b <image> c", "a  b  c", vec![1, 2, 0]),
            // Repeated references, and numbers of no image, stay as text.
            (
                "a <image 1> b <image 1> <image 0> <image 9> <image 99999999999999999999>",
                1,
                "a <image> b <image 1> <image 0> <image 9> <image 99999999999999999999>",
                "a  b <image 1> <image 0> <image 9> <image 99999999999999999999>",
                vec![0],
            ),
            ("a <image> b <image>", 1, "a <image> b", "a  b", vec![0]),
            ("<image> <image >", 0, "<image >", "<image >", vec![]),
            (
                "a < b <imagex> <<image 1> größe <image",
                1,
                "a < b <imagex> <<image> größe <image",
                "a < b <imagex> < größe <image",
                vec![0],
            ),
            ("", 2, "<image>\n<image>", "", vec![0, 1]),
        ] {
            if text.contains("<image >") {
                assert_eq!(placed_images(text, count, "<image>").text, expected);
                continue;
            }
            assert_eq!(placed(text, count), (expected.into(), blind.into(), order), "{text}");
        }
        let own = placed_images("a [IMG] <image 2>", 2, "[IMG]");
        assert_eq!((own.text.as_str(), own.order), ("a [IMG] [IMG]", vec![0, 1]));
    }
}
