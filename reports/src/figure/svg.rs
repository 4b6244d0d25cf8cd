//! A minimal SVG writer: shapes with CSS classes, scales, ticks.

use std::fmt::Write;

/// A drawing, or a part of one.
pub(crate) struct Svg {
    width: f64,
    height: f64,
    body: String,
}

impl Svg {
    pub fn new(width: f64, height: f64) -> Self {
        Self { width, height, body: String::new() }
    }

    pub fn width(&self) -> f64 {
        self.width
    }

    pub fn height(&self) -> f64 {
        self.height
    }

    pub fn set_height(&mut self, height: f64) {
        self.height = height;
    }

    /// Appends an element; writing to a string cannot fail.
    fn put(&mut self, element: std::fmt::Arguments) {
        let _ = self.body.write_fmt(element);
        self.body.push('\n');
    }

    pub fn text(&mut self, x: f64, y: f64, class: &str, text: &str) {
        self.put(format_args!(r#"<text x="{x:.1}" y="{y:.1}" class="{class}">{}</text>"#, escape(text)));
    }

    pub fn line(&mut self, x1: f64, y1: f64, x2: f64, y2: f64, class: &str) {
        self.put(format_args!(r#"<line x1="{x1:.1}" y1="{y1:.1}" x2="{x2:.1}" y2="{y2:.1}" class="{class}"/>"#));
    }

    pub fn rect(&mut self, x: f64, y: f64, width: f64, height: f64, class: &str) {
        let width = width.max(0.0);
        self.put(format_args!(
            r#"<rect x="{x:.1}" y="{y:.1}" width="{width:.1}" height="{height:.1}" rx="1.5" class="{class}"/>"#
        ));
    }

    /// Draws a rectangle with fill opacity `depth`, 0 to 1.
    pub fn shade(&mut self, x: f64, y: f64, width: f64, height: f64, class: &str, depth: f64) {
        self.put(format_args!(
            r#"<rect x="{x:.1}" y="{y:.1}" width="{width:.1}" height="{height:.1}" fill-opacity="{depth:.2}" class="{class}"/>"#
        ));
    }

    pub fn circle(&mut self, x: f64, y: f64, r: f64, class: &str) {
        self.put(format_args!(r#"<circle cx="{x:.1}" cy="{y:.1}" r="{r:.1}" class="{class}"/>"#));
    }

    pub fn polyline(&mut self, points: &[(f64, f64)], class: &str) {
        let points: Vec<String> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        self.put(format_args!(r#"<polyline points="{}" class="{class}"/>"#, points.join(" ")));
    }

    /// Draws a horizontal interval with caps.
    pub fn whisker(&mut self, x1: f64, x2: f64, y: f64) {
        self.line(x1, y, x2, y, "whisker");
        self.line(x1, y - 3.0, x1, y + 3.0, "whisker");
        self.line(x2, y - 3.0, x2, y + 3.0, "whisker");
    }

    /// Places another drawing inside this one.
    pub fn nest(&mut self, part: &Svg, x: f64, y: f64) {
        self.put(format_args!("<g transform=\"translate({x:.1} {y:.1})\">\n{}</g>", part.body));
    }

    /// Returns SVG for a page that has the style sheet; `title` and `description` are for screen readers.
    pub fn inline(&self, title: &str, description: &str) -> String {
        self.document(title, description, "")
    }

    /// Returns SVG with its own style sheet, as a file of its own.
    pub fn standalone(&self, title: &str, description: &str, style: &str) -> String {
        let paper = format!(
            "<style>{}</style>\n<rect width=\"100%\" height=\"100%\" style=\"fill:var(--paper)\"/>\n",
            xml(style).replace("&quot;", "\"")
        );
        self.document(title, description, &paper)
    }

    fn document(&self, title: &str, description: &str, before: &str) -> String {
        let (w, h, id) = (self.width, self.height, slug(title));
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {w:.0} {h:.0}\" width=\"{w:.0}\" \
             height=\"{h:.0}\" role=\"img\" aria-labelledby=\"{id}-t {id}-d\">\n\
             <title id=\"{id}-t\">{}</title>\n<desc id=\"{id}-d\">{}</desc>\n{before}{}</svg>",
            escape(title),
            escape(description),
            self.body
        )
    }
}

/// Returns visible text, safe inside XML.
pub(crate) fn escape(text: &str) -> String {
    xml(&crate::formatting::escaped(text, false))
}

/// Replaces markup characters by entities.
fn xml(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// Returns an identifier derived from a title.
fn slug(title: &str) -> String {
    let word = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    format!("fig-{}", title.chars().map(word).collect::<String>())
}

/// Cuts the visible text to at most `most` characters; the last is an ellipsis if some were cut.
pub(crate) fn cut(text: &str, most: usize) -> String {
    let text = crate::formatting::escaped(text, false);
    if text.chars().count() <= most {
        return text.to_string();
    }
    text.chars().take(most.saturating_sub(1)).collect::<String>() + "…"
}

/// A mapping of values to positions, linear or logarithmic.
#[derive(Clone, Copy)]
pub(crate) struct AxisScale {
    from: (f64, f64),
    to: (f64, f64),
    log: bool,
}

impl AxisScale {
    pub fn linear(from: (f64, f64), to: (f64, f64)) -> Self {
        Self { from, to, log: false }
    }

    /// Creates a logarithmic scale, for positive values.
    pub fn log(from: (f64, f64), to: (f64, f64)) -> Self {
        Self { from: (from.0.ln(), from.1.ln()), to, log: true }
    }

    /// Returns the position of a value, which may lie outside the axis (see [`axis_range`]); the middle if the axis has
    /// no extent.
    pub fn at(&self, value: f64) -> f64 {
        let value = if self.log { value.ln() } else { value };
        let (low, high) = self.from;
        let share = if high > low { (value - low) / (high - low) } else { 0.5 };
        self.to.0 + share * (self.to.1 - self.to.0)
    }
}

/// Returns the smallest range of whole `step`s that holds 0, `least` and all marks of a figure.
pub(crate) fn axis_range(marks: impl IntoIterator<Item = f64>, least: f64, step: f64) -> (f64, f64) {
    let marks = marks.into_iter().filter(|m| m.is_finite());
    let (low, high) = marks.fold((0.0f64, least), |(l, h), m| (l.min(m), h.max(m)));
    // The tolerance keeps a rounding error at the end from adding a step.
    ((low / step + 1e-9).floor() * step, (high / step - 1e-9).ceil() * step)
}

/// Returns about `wanted` round numbers in [low, high].
pub(crate) fn ticks(low: f64, high: f64, wanted: usize) -> Vec<f64> {
    let span = high - low;
    if !(span > 0.0 && span.is_finite()) {
        return vec![low];
    }
    let rough = span / wanted.max(1) as f64;
    let magnitude = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].map(|m| m * magnitude).into_iter().find(|s| *s >= rough).unwrap_or(rough);
    let first = (low / step).ceil() as i64;
    let last = (high / step + 1e-9).floor() as i64;
    (first..=last).map(|i| i as f64 * step).collect()
}

/// Formats a tick's number with no more digits than needed.
pub(crate) fn tick_label(value: f64) -> String {
    if value.abs() >= 1000.0 {
        return crate::formatting::with_suffix(value);
    }
    let text = format!("{value:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round() {
        assert_eq!(ticks(0.0, 80.0, 4), [0.0, 20.0, 40.0, 60.0, 80.0]);
        assert_eq!(ticks(1.3, 2.9, 4).iter().map(|t| tick_label(*t)).collect::<Vec<_>>(), ["1.5", "2", "2.5"]);
        assert_eq!(ticks(3.0, 3.0, 4), [3.0]);
    }

    #[test]
    fn text_cannot_break_out() {
        let mut svg = Svg::new(10.0, 10.0);
        svg.text(0.0, 0.0, "", "<script>&");
        assert!(svg.inline("a\"b", "c<d").contains("&lt;script&gt;&amp;"));
        svg.text(0.0, 0.0, "", "a\x1b[31m\u{202e}\0\u{ffff}");
        let text = svg.standalone("t\x07", "d\n", "a{}\nb{}");
        assert!(text.contains("a\\x1b[31m\\u{202e}\\x00\\u{ffff}") && text.contains("t\\x07") && text.contains("d\\n"));
        assert!(text.contains("a{}\nb{}") && !text.contains(|c: char| c.is_control() && c != '\n'));
    }

    #[test]
    fn nothing_is_drawn_at_another_place_than_its_own() {
        let s = AxisScale::linear((0.0, 20.0), (0.0, 100.0));
        assert_eq!([s.at(25.0), s.at(-5.0)], [125.0, -25.0]);
        assert_eq!(axis_range([14.0, 25.0, f64::NAN], 10.0, 10.0), (0.0, 30.0));
        assert_eq!(axis_range([-3.0, 20.0], 10.0, 10.0), (-10.0, 20.0));
        assert_eq!(axis_range([20.0 + 1e-12], 10.0, 10.0), (0.0, 20.0));
        assert_eq!(axis_range([], 10.0, 10.0), (0.0, 10.0));
    }

    #[test]
    fn scales_hold_at_their_ends() {
        let s = AxisScale::log((1.0, 100.0), (0.0, 10.0));
        assert!((s.at(10.0) - 5.0).abs() < 1e-12);
        assert_eq!(AxisScale::linear((2.0, 2.0), (0.0, 10.0)).at(2.0), 5.0);
    }
}
