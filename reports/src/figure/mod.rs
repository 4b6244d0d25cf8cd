//! Figures in SVG. Colours are CSS variables (`templates/figure.css`), so that a figure supports dark mode, both in a
//! page and as a standalone file.
//!
//! Panels are drawn for a width of 360 so that their text is legible on a phone; a page places several side by side.

mod answer_panel;
mod component_plane;
mod correlation_figures;
mod cost_scatter;
mod cumulative_counts;
mod files;
mod learning_panel;
mod paper_figures;
mod predictor_figure;
mod score_panels;
mod series_panel;
mod style;
mod svg;
mod training_curves;
mod validity_figure;
mod vision_panel;

pub(crate) use answer_panel::{answer_panel, answers_in_words};
pub(crate) use component_plane::{Point, plane};
pub(crate) use correlation_figures::{correlation_map, tree};
pub(crate) use cost_scatter::{COSTS, scatter};
pub(crate) use cumulative_counts::cumulative_counts;
pub use cumulative_counts::{CumulativeCounts, cumulative_counts_svg};
pub use files::{learning_svg, ranking_svg, validity_svg};
pub(crate) use learning_panel::{learning_in_words, learning_panel};
pub(crate) use paper_figures::{AdapterRow, ChangeRow, adapter, family_class, means_panel, unfreezing_group};
pub use predictor_figure::predictors_svg;
pub(crate) use score_panels::{benchmark_panel, ranking_panel, unfreezing_panel};
pub use series_panel::series_svg;
pub(crate) use series_panel::{series_answers_in_words, series_answers_panel, series_in_words, series_panel};
pub(crate) use style::{PANEL, STYLE, category_class, chance, kind, kinds};
pub(crate) use training_curves::{Curves, curves, legend};
pub(crate) use validity_figure::{attribute_classes, attribute_panel, validity_figure, validity_in_words};
pub(crate) use vision_panel::{vision_axis_range, vision_panel};
