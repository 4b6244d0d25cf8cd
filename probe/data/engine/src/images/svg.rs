//! Draws SVG images on white.

use super::convert::{NEEDS_FONTS, Unusable};
use super::options::ImagesOptions;
use burgess_base::{guard, text};
use image::RgbImage;
use regex::bytes::Regex;
use resvg::tiny_skia::{Color, Pixmap, Transform};
use resvg::usvg::{self, ImageHrefResolver, Size, Tree, roxmltree};
use std::sync::{LazyLock, mpsc};
use std::time::Duration;

/// Largest size of a drawing in bytes, decompressed.
pub(super) const MAX_BYTES: u64 = 8 << 20;
/// Largest number of elements and texts.
const MAX_NODES: u32 = 300_000;
/// Largest width and height in pixels to which a drawing is drawn.
const MAX_SIDE: f32 = 2048.0;
/// Time limit for drawing.
const MAX_TIME: Duration = Duration::from_secs(8);
/// Stack of the thread that draws: the library follows nested groups by recursion.
const STACK: usize = 64 << 20;

/// The reason for drawings that cannot be drawn.
const DAMAGED: &str = "the drawing cannot be read";

/// Draws an SVG. Nothing outside it is read: neither files nor addresses nor images inside.
pub(super) fn draw(bytes: Vec<u8>, options: &ImagesOptions) -> Result<RgbImage, Unusable> {
    let (width, max_pixels) = (options.svg_width, options.max_pixels);
    let (sender, receiver) = mpsc::sync_channel(1);
    // A drawing can be small and take hours, so that it is drawn in a thread that can be left.
    let work = move || {
        let drawn = guard::third_party("the drawing", || draw_here(&bytes, width, max_pixels));
        let drawn = drawn.unwrap_or_else(|e| Err((DAMAGED, e.to_string())));
        // After the time limit there is no receiver.
        sender.send(drawn).ok();
    };
    let thread = std::thread::Builder::new().name("svg".into()).stack_size(STACK).spawn(work);
    thread.map_err(|e| (DAMAGED, format!("no thread can be started: {e}")))?;
    let late = || ("the drawing takes too long", format!("more than {} s", MAX_TIME.as_secs()));
    receiver.recv_timeout(MAX_TIME).map_err(|_| late())?
}

fn draw_here(bytes: &[u8], default_width: u32, max_pixels: u64) -> Result<RgbImage, Unusable> {
    let damaged = |why: String| (DAMAGED, text::excerpt(&why, 300));
    // The library draws such shapes for hours.
    static HUGE: LazyLock<Option<Regex>> =
        LazyLock::new(|| Regex::new(r#"[\s,"'(+-](?:[0-9]{10}|[0-9]*\.?[0-9]+[eE]\+?(?:[7-9]|[0-9]{2}))"#).ok());
    if let Some(found) = HUGE.as_ref().and_then(|huge| huge.find(bytes)) {
        let number = String::from_utf8_lossy(found.as_bytes()).into_owned();
        return Err(damaged(format!("it has a number too large for a drawing: `{}…`", number.trim())));
    }
    // Drawings in UTF-16 are rare, but some programs write them.
    let (decoded, _, _) = encoding_rs::UTF_8.decode(bytes);
    // A drawing without any size would be cut to its shapes.
    let with_size = with_size(&decoded, default_width);
    let xml = with_size.as_deref().unwrap_or(&decoded);
    let limits = roxmltree::ParsingOptions { allow_dtd: true, nodes_limit: MAX_NODES, ..Default::default() };
    let document = roxmltree::Document::parse_with_options(xml, limits).map_err(|e| damaged(e.to_string()))?;
    let root = document.root_element();
    if root.tag_name().name() != "svg" {
        return Err(damaged(format!("its first element is `{}`, expected `svg`", root.tag_name().name())));
    }
    // Without fonts and decoders the drawing would lack its labels and photographs.
    let lacking = root.descendants().find(|node| {
        let name = node.tag_name().name();
        let has_text = || node.descendants().any(|inner| inner.text().is_some_and(|text| !text.trim().is_empty()));
        matches!(name, "image" | "foreignObject") || name == "text" && has_text()
    });
    if let Some(node) = lacking {
        return Err((NEEDS_FONTS, format!("it has an element `{}`", node.tag_name().name())));
    }
    let states = |name: &str| root.attribute(name).is_some_and(|value| !value.trim().ends_with('%'));
    let sized = states("width") && states("height");
    let default_size = Size::from_wh(default_width as f32, default_width as f32 * 0.75);
    let options = usvg::Options {
        resources_dir: None,
        default_size: default_size.unwrap_or_else(|| usvg::Options::default().default_size),
        image_href_resolver: ImageHrefResolver {
            resolve_data: Box::new(|_, _, _| None),
            resolve_string: Box::new(|_, _| None),
        },
        ..usvg::Options::default()
    };
    let tree = Tree::from_xmltree(&document, &options).map_err(|e| damaged(e.to_string()))?;
    let (width, height) = (tree.size().width(), tree.size().height());
    // A drawing without a width of its own gets the default, in its own ratio.
    let wanted = if sized { 1.0 } else { default_width as f32 / width };
    let scale = wanted.min(MAX_SIDE / width).min(MAX_SIDE / height);
    let side = |length: f32| (length * scale).round().clamp(1.0, MAX_SIDE) as u32;
    let (pixels_wide, pixels_high) = (side(width), side(height));
    if u64::from(pixels_wide) * u64::from(pixels_high) > max_pixels {
        return Err(("the image has too many pixels", format!("{pixels_wide}×{pixels_high}")));
    }
    let mut canvas = Pixmap::new(pixels_wide, pixels_high).ok_or_else(|| damaged("it has no size".into()))?;
    canvas.fill(Color::WHITE);
    let transform = Transform::from_scale(pixels_wide as f32 / width, pixels_high as f32 / height);
    resvg::render(&tree, transform, &mut canvas.as_mut());
    // On white every pixel is opaque, so that the premultiplied colours are the colours.
    let colours = canvas.data().as_chunks::<4>().0.iter().flat_map(|[r, g, b, _]| [*r, *g, *b]).collect();
    RgbImage::from_raw(pixels_wide, pixels_high, colours).ok_or_else(|| damaged("its size is wrong".into()))
}

/// Returns the drawing with a width and height in the ratio 4:3, if its first element states neither size nor view box.
fn with_size(xml: &str, width: u32) -> Option<String> {
    let limits = roxmltree::ParsingOptions { allow_dtd: true, nodes_limit: MAX_NODES, ..Default::default() };
    let document = roxmltree::Document::parse_with_options(xml, limits).ok()?;
    let root = document.root_element();
    if ["width", "height", "viewBox"].iter().any(|name| root.attribute(*name).is_some()) {
        return None;
    }
    let (before, tag) = xml.split_at_checked(root.range().start)?;
    let (name, rest) = tag.split_at_checked(tag.find(|c: char| c.is_whitespace() || matches!(c, '>' | '/'))?)?;
    Some(format!("{before}{name} width=\"{width}\" height=\"{}\"{rest}", width * 3 / 4))
}
