//! Indices of the images that training data and benchmarks name.

use std::collections::HashMap;

/// Assigns indices to images in the order in which they are first named.
#[derive(Default)]
pub struct ImageIndex {
    /// Names of the images, by index.
    pub names: Vec<String>,
    numbers: HashMap<String, usize>,
    /// For each image that a conversation names, the index in `source_names` of the source that the conversation
    /// states.
    sources: Vec<usize>,
    source_names: Vec<String>,
}

impl ImageIndex {
    /// Index of an image, which is assigned when the name is new.
    pub fn number(&mut self, name: &str) -> usize {
        *self.numbers.entry(name.to_string()).or_insert_with(|| {
            self.names.push(name.to_string());
            self.names.len() - 1
        })
    }

    /// As [`number`](Self::number), for an image of a conversation that states `source`.
    pub fn number_from(&mut self, name: &str, source: &str) -> usize {
        let number = self.number(name);
        if number == self.sources.len() {
            let known = self.source_names.iter().position(|s| s == source);
            self.sources.push(known.unwrap_or(self.source_names.len()));
            if known.is_none() {
                self.source_names.push(source.to_string());
            }
        }
        number
    }

    /// Source that the first conversation about an image states; empty if none does.
    pub fn source(&self, number: usize) -> &str {
        self.sources.get(number).and_then(|s| self.source_names.get(*s)).map_or("", String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_image_has_one_index_and_one_source() {
        let mut p = ImageIndex::default();
        assert_eq!([("a", "x"), ("b", "y"), ("a", "z")].map(|(n, s)| p.number_from(n, s)), [0, 1, 0]);
        assert_eq!((p.source(0), p.source(1), p.source(2)), ("x", "y", ""));
    }
}
