//! Class labels of images, for supervised pretraining.

use std::sync::LazyLock;

use crate::chart::ChartKind;
use crate::facts::THINGS;
use crate::scene::{Content, Scene};
use crate::solids::SolidForm;

const KINDS: [ChartKind; 3] = [ChartKind::Bar, ChartKind::Line, ChartKind::Pie];
const OTHERS: [&str; 4] = ["text", "number", "table", "diagram"];

static NAMES: LazyLock<Vec<String>> = LazyLock::new(|| {
    let things = THINGS.iter().map(|t| t.name.clone());
    let solids = SolidForm::ALL.iter().map(|f| f.name().to_string());
    let charts = KINDS.iter().map(|k| k.name().to_string());
    things.chain(solids).chain(charts).chain(OTHERS.map(str::to_string)).collect()
});

/// Returns the name of every class: pictograms, plain shapes, solids, chart types, "text", "number", "table",
/// "diagram".
pub fn class_names() -> &'static [String] {
    &NAMES
}

impl Scene {
    /// Returns the indices in [`class_names`] of everything that the image shows, ascending and without repetition.
    pub fn classes(&self) -> Vec<usize> {
        let solids = THINGS.len();
        let charts = solids + SolidForm::ALL.len();
        let others = charts + KINDS.len();
        let mut out: Vec<usize> = match &self.content {
            Content::Flat(f) => f.items.iter().map(|i| i.thing as usize).collect(),
            Content::Solids(c) => c
                .solids
                .iter()
                .filter_map(|x| SolidForm::ALL.iter().position(|f| *f == x.form))
                .map(|p| solids + p)
                .collect(),
            Content::Writing(w) => w.lines.iter().map(|l| others + usize::from(l.is_number())).collect(),
            Content::Table(_) => vec![others + 2],
            Content::Chart(c) => KINDS.iter().position(|k| *k == c.kind).map(|p| charts + p).into_iter().collect(),
            Content::Diagram(d) => d.things.iter().map(|t| *t as usize).chain([others + 3]).collect(),
        };
        out.sort_unstable();
        out.dedup();
        out
    }
}
