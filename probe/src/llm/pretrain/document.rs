//! Documents of a pretraining corpus, and their token ids with a loss mask.

use crate::llm::chat::{ChatTemplate, Turn};
use crate::llm::tokenizer::{EOS, Tokenizer};
use burgess_base::{Error, Result};

/// One document of a pretraining corpus.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PretrainDocument {
    /// Running text; all its tokens are supervised.
    Text(String),
    /// A conversation; its answers are supervised.
    Chat(Vec<Turn>),
    /// A conversation about an image that is given as words: its answers are supervised.
    Cells(CellGrid, Vec<Turn>),
}

/// An image described in words, cell by cell. Each cell takes the place of one image token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CellGrid {
    /// Number of rows and columns.
    pub grid: [usize; 2],
    /// Words of each cell, row by row; an empty list for a cell that shows nothing.
    pub words: Vec<Vec<String>>,
}

/// A document as token ids.
#[derive(Debug, Clone, PartialEq)]
pub struct PretrainRow {
    /// Token ids; each cell of a [`CellGrid`] is one image placeholder.
    pub ids: Vec<u32>,
    /// Loss mask: `true` for supervised tokens, as long as `ids`.
    pub loss_mask: Vec<bool>,
    /// The cells, for a conversation about cells.
    pub cells: Option<CellBlock>,
}

/// The tokenised cells of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CellBlock {
    /// Index of the first cell in the row's ids; the others follow it.
    pub start: usize,
    /// Number of rows and columns.
    pub grid: [usize; 2],
    /// Token ids of the words of each cell, row by row; never empty.
    pub words: Vec<Vec<u32>>,
}

impl PretrainDocument {
    /// Tokenises the document: a text with EOS behind it, a conversation in the form of the chat template. Cells stand
    /// where the template puts the image, one position each.
    ///
    /// # Errors
    /// When the tokenizer lacks a token of the template, or the number of cells is not that of their grid.
    pub fn encode(&self, tokenizer: &Tokenizer, chat: &ChatTemplate) -> Result<PretrainRow> {
        match self {
            Self::Text(text) => {
                let mut ids = tokenizer.encode(text)?;
                ids.push(tokenizer.id(EOS)?);
                let loss_mask = vec![true; ids.len()];
                Ok(PretrainRow { ids, loss_mask, cells: None })
            }
            Self::Chat(turns) => {
                let encoded = chat.encode(tokenizer, turns, false)?;
                Ok(PretrainRow { ids: encoded.ids, loss_mask: encoded.loss_mask, cells: None })
            }
            Self::Cells(cells, turns) => {
                let encoded = chat.encode(tokenizer, turns, true)?;
                let start =
                    encoded.image_at.ok_or_else(|| Error::failed("the chat template writes no image placeholder"))?;
                let count = cells.words.len();
                if count != cells.grid[0] * cells.grid[1] {
                    let [rows, columns] = cells.grid;
                    return Err(Error::failed(format!("a grid of {rows}x{columns} cells has words for {count}")));
                }
                let (mut ids, mut loss_mask) = (encoded.ids, encoded.loss_mask);
                let image = ids[start];
                ids.splice(start..=start, std::iter::repeat_n(image, count));
                loss_mask.splice(start..=start, std::iter::repeat_n(false, count));
                let words = cells.words.iter().map(|cell| cell_ids(cell, tokenizer)).collect::<Result<_>>()?;
                Ok(PretrainRow { ids, loss_mask, cells: Some(CellBlock { start, grid: cells.grid, words }) })
            }
        }
    }

    /// The texts of the document that stand between special tokens, for training a tokenizer.
    pub fn texts(self) -> Vec<String> {
        match self {
            Self::Text(text) => vec![text],
            Self::Chat(turns) | Self::Cells(_, turns) => turns.into_iter().map(|turn| turn.text).collect(),
        }
    }
}

/// Token ids of the words of one cell, or of `.` for a cell without words: its embedding must not be zero, because the
/// norm that follows would amplify the noise on it.
fn cell_ids(words: &[String], tokenizer: &Tokenizer) -> Result<Vec<u32>> {
    if words.is_empty() {
        return tokenizer.encode(".");
    }
    let ids: Vec<Vec<u32>> = words.iter().map(|word| tokenizer.encode(word)).collect::<Result<_>>()?;
    Ok(ids.concat())
}
