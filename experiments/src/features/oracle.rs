//! The oracle baseline: a stand-in for an encoder whose features are the ground truth of the data. It shows what the
//! evaluator of a study could reach with perfect vision.
//!
//! A data directory may hold `truth.jsonl` beside its images, with one line for each image that the study uses:
//!
//! ```text
//! {"image": "images/align/000000.png", "grid": [4, 4], "cells": [["red", "cup"], [], …]}
//! ```
//!
//! `grid` is [rows, columns] over the image, which is first padded to a square, and is the same in all lines. `cells`
//! lists the attribute words of each cell, row by row; a cell that shows only background has no words.
//!
//! The feature of a cell is a fixed random projection of the one-hot vector of its words (Achlioptas 2003): each word
//! has a vector of [`WIDTH`] random signs from the stream `oracle/<word>`, and a cell with n different words has the
//! sum of their vectors divided by √n. A cell without words has its own vector of signs, from the stream `oracle`. So
//! each channel has variance 1 over the draw of the signs, however many words the cell has.

use crate::data::image_files;
use crate::study::ORACLE;
use burgess_base::digest::Digest;
use burgess_base::stream::{stream, uniform};
use burgess_base::text::excerpt;
use burgess_base::{Context, Error, Result, json};
use burgess_encoders::features::check_grid;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

/// File name of the ground truth, which lies in the directory to which image names are relative.
pub const FILE: &str = "truth.jsonl";
/// Number of channels of a cell's feature.
pub const WIDTH: usize = 128;
/// Version of the projection; it must change whenever the same ground truth gives other features.
const VERSION: u32 = 1;
/// Seed of the random streams from which the signs are drawn.
const SEED: u64 = 0;
/// Form of a line of `truth.jsonl`, for error hints.
const FORM: &str =
    "one line per image: {\"image\": \"a.png\", \"grid\": [rows, columns], \"cells\": [[\"red\", \"cup\"], [], …]}";

/// Everything that determines the oracle's features except the ground truth itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OracleCard {
    /// Version of the projection from words to features.
    pub version: u32,
    /// Number of cells, `[rows, columns]`.
    pub grid: [usize; 2],
    /// Number of channels of a cell's feature.
    pub width: usize,
    /// Digest of `truth.jsonl`; empty in the plan of a study whose data do not exist yet.
    pub truth: String,
}

impl OracleCard {
    /// Makes the card for a ground truth with this grid and digest.
    pub fn new(grid: [usize; 2], truth: &str) -> Self {
        Self { version: VERSION, grid, width: WIDTH, truth: truth.to_string() }
    }

    /// Checks a card that was read from a file.
    ///
    /// # Errors
    /// The grid has no cells or too many, or the card is of another projection version or width.
    pub fn validate(&self) -> Result<()> {
        check_grid(self.grid)?;
        if (self.version, self.width) != (VERSION, WIDTH) {
            return Err(Error::failed(format!(
                "the oracle's features are of version {} with {} channels, expected version {VERSION} with {WIDTH}",
                self.version, self.width
            ))
            .hint("another version of burgess made the model: run the study again"));
        }
        Ok(())
    }

    /// Notes on the oracle, which the results list.
    pub fn notes(&self) -> Vec<String> {
        vec![format!(
            "features are the ground truth in {FILE}, as a random projection to {} channels; no image is read, and \
             there are no parameters and no operations",
            self.width
        )]
    }
}

/// Makes the error for a caller that needs a network's card or weights, but the arm has the oracle.
pub fn no_encoder() -> Error {
    Error::usage(format!(
        "`{ORACLE}` is no encoder: its features are the ground truth of a study's data, not computed from images"
    ))
    .hint(format!("add it to a study as an arm: encoders = [\"{ORACLE}\"]; a directory of this name is ./{ORACLE}"))
}

/// The ground truth of a data directory as features.
pub struct GroundTruth {
    file: PathBuf,
    digest: String,
    grid: [usize; 2],
    /// For each image name, the index of each cell's feature in `vectors`.
    images: HashMap<String, Box<[u32]>>,
    /// Features of all distinct cells, `[cells, WIDTH]`; the first is that of a background cell.
    vectors: Vec<f32>,
}

/// One line of `truth.jsonl`.
#[derive(Deserialize)]
struct Line {
    image: String,
    grid: [usize; 2],
    cells: Vec<Vec<String>>,
}

/// State while `truth.jsonl` is read: it assigns an index to each distinct set of words.
struct Reader {
    grid: Option<[usize; 2]>,
    /// Index of each set of words; the words are sorted.
    sets: HashMap<Vec<String>, u32>,
    signs: HashMap<String, [f32; WIDTH]>,
    images: HashMap<String, Box<[u32]>>,
    vectors: Vec<f32>,
}

impl GroundTruth {
    /// Reads the ground truth of the data in `dir`.
    ///
    /// # Errors
    /// There is no `truth.jsonl`, or a line is malformed or does not fit the grid; the error names file and line.
    pub fn read(dir: &Path) -> Result<Self> {
        let file = dir.join(FILE);
        let step = || format!("reading {}", file.display());
        match fs::metadata(&file) {
            Ok(meta) if meta.is_file() => {}
            // Only regular files are read: reading a FIFO or a device could block forever.
            Ok(_) => return Err(Error::failed(format!("{} is not a regular file", file.display())).hint(FORM)),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Err(absent(&file)),
            Err(e) => return Err(e).with_context(step),
        }
        let mut input = BufReader::new(File::open(&file).with_context(step)?);
        let (mut digest, mut bytes, mut number) = (Digest::default(), Vec::new(), 0);
        let mut reader = Reader {
            grid: None,
            sets: HashMap::from([(Vec::new(), 0)]),
            signs: HashMap::new(),
            images: HashMap::new(),
            vectors: signs(ORACLE).to_vec(),
        };
        while input.read_until(b'\n', &mut bytes).with_context(step)? > 0 {
            number += 1;
            digest.update(&bytes);
            let line = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes).trim_ascii();
            if !line.is_empty() {
                let in_line = |e: Error| e.context(format!("{}:{number}", file.display())).hint(FORM);
                reader.line(line).map_err(in_line)?;
            }
            bytes.clear();
        }
        let Reader { grid, images, vectors, .. } = reader;
        let grid = grid.ok_or_else(|| Error::failed(format!("{} has no lines", file.display())).hint(FORM))?;
        Ok(Self { file, digest: digest.finish(), grid, images, vectors })
    }

    /// Makes the card of this ground truth.
    pub fn card(&self) -> OracleCard {
        OracleCard::new(self.grid, &self.digest)
    }

    /// Reads the ground truth in `dir` again and checks that it is still that of `card`.
    ///
    /// # Errors
    /// The file changed since the card was made, or cannot be read.
    pub fn read_matching(card: &OracleCard, dir: &Path) -> Result<Self> {
        let truth = Self::read(dir)?;
        match truth.card() == *card {
            true => Ok(truth),
            false => Err(Error::failed(format!("{} changed while the study ran", truth.file.display()))
                .hint("run the command again")),
        }
    }

    /// Checks that every one of these images has ground truth.
    ///
    /// # Errors
    /// An image has no line; the error names the first.
    pub fn check(&self, images: &[String]) -> Result<()> {
        let mut absent = images.iter().filter(|name| !self.images.contains_key(*name));
        match absent.next() {
            None => Ok(()),
            Some(first) => Err(self.unknown(first, &format!(", one of {} of {}", 1 + absent.count(), images.len()))),
        }
    }

    fn unknown(&self, image: &str, count: &str) -> Error {
        Error::failed(format!(
            "{} has no line for the image {}{count}",
            self.file.display(),
            image_files::display_name(image)
        ))
        .hint(format!("the oracle needs the ground truth of every image that the study names: {FORM}"))
    }

    /// Looks up the features of images by name, `[images, cells, WIDTH]`.
    ///
    /// # Errors
    /// An image has no line in the file.
    pub fn features<S: AsRef<str>>(&self, images: &[S]) -> Result<Vec<f32>> {
        let mut features = Vec::with_capacity(images.len() * self.cells() * WIDTH);
        for image in images {
            let cells = self.images.get(image.as_ref()).ok_or_else(|| self.unknown(image.as_ref(), ""))?;
            for cell in cells {
                let first = *cell as usize * WIDTH;
                features.extend(self.vectors.get(first..first + WIDTH).into_iter().flatten());
            }
        }
        Ok(features)
    }

    /// Number of cells of an image.
    pub fn cells(&self) -> usize {
        self.grid[0] * self.grid[1]
    }

    /// Number of cells, `[rows, columns]`.
    pub fn grid(&self) -> [usize; 2] {
        self.grid
    }
}

/// Features of an image that shows only background, `[cells, WIDTH]`.
pub fn background(card: &OracleCard) -> Vec<f32> {
    signs(ORACLE).repeat(card.grid[0] * card.grid[1])
}

impl Reader {
    fn line(&mut self, line: &[u8]) -> Result<()> {
        let Line { image, grid, cells } = json::from_slice(line).map_err(|e| {
            let (what, column) = (e.to_string(), e.column());
            // serde_json counts lines within this one line, so its line number is always 1.
            let what = what.rsplit_once(" at line ").map_or(what.as_str(), |(what, _)| what);
            Error::failed(format!("column {column}: {}", excerpt(what, 200)))
        })?;
        check_grid(grid)?;
        let shown = |[rows, columns]: [usize; 2]| format!("{rows}×{columns}");
        match self.grid {
            Some(first) if first != grid => {
                return Err(Error::failed(format!(
                    "the grid is {}, that of the lines before is {}: all images must have the same grid",
                    shown(grid),
                    shown(first)
                )));
            }
            _ => self.grid = Some(grid),
        }
        if cells.len() != grid[0] * grid[1] {
            return Err(Error::failed(format!(
                "there are {} cells, expected {} for the grid {}",
                cells.len(),
                grid[0] * grid[1],
                shown(grid)
            )));
        }
        if let Some(cell) = cells.iter().position(|words| words.iter().any(String::is_empty)) {
            return Err(Error::failed(format!("a word of cell {} is empty", cell + 1)));
        }
        let cells = cells.into_iter().map(|words| self.cell(words)).collect::<Result<_>>()?;
        let name = image_files::encode_name(Path::new(&image));
        match self.images.insert(name, cells) {
            None => Ok(()),
            Some(_) => Err(Error::failed(format!("the image {} is listed twice", excerpt(&image, 200)))),
        }
    }

    /// Returns the index of a cell's feature and computes the feature for the first cell with these words.
    fn cell(&mut self, mut words: Vec<String>) -> Result<u32> {
        words.sort();
        words.dedup();
        if let Some(number) = self.sets.get(&words) {
            return Ok(*number);
        }
        let number = u32::try_from(self.sets.len()).map_err(|_| Error::failed("there are too many different cells"))?;
        let mut sum = [0.0; WIDTH];
        for word in &words {
            let signs = self.signs.entry(word.clone()).or_insert_with(|| signs(&format!("{ORACLE}/{word}")));
            sum.iter_mut().zip(signs).for_each(|(sum, sign)| *sum += *sign);
        }
        // Sums of signs are exact, and IEEE 754 defines the rounding of the division: every machine gives the same
        // bits.
        let deviation = (words.len() as f32).sqrt();
        self.vectors.extend(sum.map(|value| value / deviation));
        self.sets.insert(words, number);
        Ok(number)
    }
}

/// Draws [`WIDTH`] random signs, ±1, from the stream of this name.
fn signs(name: &str) -> [f32; WIDTH] {
    let mut stream = stream(name, SEED);
    std::array::from_fn(|_| if uniform(&mut stream) < 0.5 { -1.0 } else { 1.0 })
}

fn absent(file: &Path) -> Error {
    Error::failed(format!("the data have no ground truth for the oracle: {} does not exist", file.display()))
        .hint(format!("leave the oracle out, or write this file beside the images, {FORM}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(lines: &str) -> Result<GroundTruth> {
        let dir = tempfile::tempdir()?;
        fs::write(dir.path().join(FILE), lines)?;
        GroundTruth::read(dir.path())
    }

    fn line(image: &str, cells: &str) -> String {
        format!("{{\"image\": \"{image}\", \"grid\": [1, 3], \"cells\": {cells}}}\n")
    }

    fn dot(a: &[f32], b: &[f32]) -> f32 {
        a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>() / WIDTH as f32
    }

    #[test]
    fn a_cell_is_the_normalised_sum_of_its_words() -> Result<()> {
        let truth = read(
            &(line("a", r#"[["red"], ["cup", "red"], []]"#) + &line("b", r#"[["red", "cup", "red"], [], ["7"]]"#)),
        )?;
        assert_eq!((truth.grid(), truth.cells()), ([1, 3], 3));
        let features = truth.features(&["a", "b"])?;
        let cells: Vec<&[f32]> = features.chunks(WIDTH).collect();
        let [red, both, empty, same, background, seven] = cells.as_slice() else { panic!("{}", cells.len()) };
        assert_eq!((both, empty), (same, background), "order and repetition of words do not matter");
        assert_eq!(super::background(&truth.card()), background.repeat(3));
        for cell in [red, empty, seven] {
            assert_eq!(dot(cell, cell), 1.0);
        }
        // The signs of two words agree in about half of the channels.
        assert!((dot(both, both) - 1.0).abs() < 0.3, "{}", dot(both, both));
        assert!((dot(both, red) - 0.5f32.sqrt()).abs() < 0.3 && dot(red, seven).abs() < 0.3);
        // These bits must not change between machines or versions.
        let bits = red.iter().take(64).rev().fold(0_u64, |bits, sign| bits << 1 | u64::from(*sign > 0.0));
        assert_eq!(bits, 0x96fbc03a9362c767);
        Ok(())
    }

    #[test]
    fn the_card_follows_the_contents() -> Result<()> {
        let one = line("a", "[[], [], []]");
        let (first, same, other) =
            (read(&one)?.card(), read(&one)?.card(), read(&line("a", r#"[["x"], [], []]"#))?.card());
        assert_eq!(first, same);
        assert_ne!(first, other);
        first.validate()?;
        assert!(OracleCard { width: 64, ..first.clone() }.validate().is_err_and(|e| e.hint_text().is_some()));
        assert!(OracleCard { grid: [0, 6], ..first }.validate().is_err());
        Ok(())
    }

    #[test]
    fn lines_that_do_not_fit_are_named() {
        let good = line("a", "[[], [], []]");
        let say = |lines: &str| {
            let e = read(lines).map(|_| ()).expect_err(lines);
            assert!(e.hint_text().is_some(), "{e}");
            e.to_string()
        };
        for (bad, expected) in [
            (line("b", "[[], []]"), ":2: there are 2 cells, expected 3 for the grid 1×3"),
            (line("b", "[[], [], [3]]"), ":2: column 51: invalid type: integer `3`, expected a string"),
            (line("b", "[[], [], [\"\"]]"), ":2: a word of cell 3 is empty"),
            (line("a", "[[], [], []]"), ":2: the image a is listed twice"),
            (line("b", "[[], [], []]").replace("1, 3", "3, 1"), ":2: the grid is 3×1, that of the lines before is 1×3"),
            (line("b", "[]").replace("1, 3", "0, 3"), ":2: a feature grid of 0x3 has no tokens"),
            (line("b", "[]").replace("\"grid\"", "\"gird\""), ":2: column"),
            ("{\"image\": \"b\"\n".to_string(), ":2: column"),
        ] {
            let told = say(&format!("{good}{bad}"));
            assert!(told.contains(FILE) && told.contains(expected), "{told}");
        }
        assert!(say("\n").contains("has no lines"));
        assert!(read(&format!("\u{feff}{good}\n\n")).is_ok());
    }

    #[test]
    fn images_without_ground_truth_are_named() -> Result<()> {
        let truth = read(&line("a", "[[], [], []]"))?;
        truth.check(&["a".into()])?;
        let e = truth.check(&["a".into(), "x/b.png".into(), "c".into()]).unwrap_err();
        assert!(e.to_string().ends_with("truth.jsonl has no line for the image x/b.png, one of 2 of 3"), "{e}");
        assert!(e.hint_text().is_some() && truth.features(&["b"]).is_err());
        let dir = tempfile::tempdir()?;
        let e = GroundTruth::read(dir.path()).map(|_| ()).unwrap_err();
        assert!(e.to_string().contains("no ground truth for the oracle") && e.hint_text().is_some(), "{e}");
        fs::create_dir(dir.path().join(FILE))?;
        assert!(GroundTruth::read(dir.path()).is_err_and(|e| e.to_string().contains("not a regular file")));
        Ok(())
    }
}
