//! The documents that the corpus of the language model consists of.

use crate::questions::QaPair;

/// A piece of text for pretraining the language model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Document {
    /// Sentences without questions.
    Text(String),
    /// A conversation of questions and answers.
    Chat(Vec<QaPair>),
    /// A conversation about words in cells, in the form of [`Scene::cells`](crate::Scene::cells): one list per cell,
    /// row by row, with any number of words in no particular order.
    Cells(Vec<Vec<String>>, Vec<QaPair>),
}
