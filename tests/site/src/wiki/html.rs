//! Articles as HTML, in the forms in which MediaWiki writes it.

use super::article::{Article, ArticleSection, FigureStyle, Headings, PageFigure};
use super::files::{WikiFiles, directory, thumbnail_address};
use super::http_name;

/// Width of thumbnails in pixels.
const WIDTH: u32 = 250;

/// Escapes text for HTML.
pub fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// The content of an article, as `action=parse` gives it. `base` is the address of the files without its scheme.
pub fn content(article: &Article, files: &WikiFiles, base: &str) -> String {
    let mut html = String::from("<div class=\"mw-content-ltr mw-parser-output\" lang=\"en\" dir=\"ltr\">");
    html.push_str(
        "<style data-mw-deduplicate=\"TemplateStyles:r1\">.hatnote{font-style:italic}</style>\
         <div role=\"note\" class=\"hatnote navigation-not-searchable\">For other uses, see \
         <a href=\"/wiki/Elsewhere\">Elsewhere</a>.</div>\n",
    );
    for section in &article.sections {
        section_html(&mut html, article, section, files, base);
    }
    html.push_str(
        "<div class=\"navbox-styles\"><style>.navbox{clear:both}</style></div><div role=\"navigation\" class=\"navbox\">\
         <table class=\"nowraplinks navbox-inner\"><tbody><tr><th>Topics of this wiki</th><td>\
         <a href=\"/wiki/Lighthouse\">Lighthouse</a> &#183; <a href=\"/wiki/Mosaic\">Mosaic</a></td></tr></tbody></table></div>\n\
         <!-- \nNewPP limit report\nCPU time usage: 0.1 seconds\n-->\n</div>",
    );
    html
}

fn section_html(html: &mut String, article: &Article, section: &ArticleSection, files: &WikiFiles, base: &str) {
    let (level, title) = (section.level, escaped(&section.title));
    let id = http_name(&section.title);
    let edit = "<span class=\"mw-editsection\"><span class=\"mw-editsection-bracket\">[</span><a href=\"/w/index.php\" \
         title=\"Edit section\"><span>edit</span></a><span class=\"mw-editsection-bracket\">]</span></span>";
    match article.headings {
        _ if level == 0 => {}
        Headings::Wrapped => html.push_str(&format!(
            "<div class=\"mw-heading mw-heading{level}\"><h{level} id=\"{id}\">{title}</h{level}>{edit}</div>\n"
        )),
        Headings::Old => html
            .push_str(&format!("<h{level}><span class=\"mw-headline\" id=\"{id}\">{title}</span>{edit}</h{level}>\n")),
    }
    let is = |style: FigureStyle| section.figures.iter().filter(move |figure| figure.style == style);
    for figure in is(FigureStyle::Infobox) {
        html.push_str(&format!(
            "<table class=\"infobox vcard\"><tbody><tr><th colspan=\"2\" class=\"infobox-above\">{}</th></tr><tr>\
             <td colspan=\"2\" class=\"infobox-image\"><span class=\"mw-default-size\" typeof=\"mw:File/Frameless\">{}</span>\
             <div class=\"infobox-caption\">{}</div></td></tr><tr><th scope=\"row\" class=\"infobox-label\">Pages</th>\
             <td class=\"infobox-data\">12</td></tr></tbody></table>\n",
            escaped(&article.title),
            linked_image(figure, files, base),
            escaped(&figure.caption)
        ));
    }
    for figure in &section.figures {
        match figure.style {
            FigureStyle::Thumb | FigureStyle::NoCaption => html.push_str(&format!(
                "<figure class=\"mw-default-size mw-halign-right\" typeof=\"mw:File/Thumb\">{}<figcaption>{}</figcaption></figure>\n",
                linked_image(figure, files, base),
                caption(figure)
            )),
            FigureStyle::Old => html.push_str(&format!(
                "<div class=\"thumb tright\"><div class=\"thumbinner\" style=\"width:252px;\">{}  <div class=\"thumbcaption\">\
                 <div class=\"magnify\"><a href=\"/wiki/File:{}\" class=\"internal\" title=\"Enlarge\"></a></div>{}</div></div></div>\n",
                linked_image(figure, files, base),
                http_name(&figure.file),
                caption(figure)
            )),
            FigureStyle::Gallery | FigureStyle::Infobox => {}
        }
    }
    paragraphs(html, section);
    let mut boxes = is(FigureStyle::Gallery).peekable();
    if boxes.peek().is_some() {
        html.push_str("<ul class=\"gallery mw-gallery-traditional\">\n");
        for figure in boxes {
            html.push_str(&format!(
                "\t\t<li class=\"gallerybox\" style=\"width: 155px\">\n\t\t\t<div class=\"thumb\" style=\"width: 150px; height: 150px;\">\
                 <span typeof=\"mw:File\">{}</span></div>\n\t\t\t<div class=\"gallerytext\">{}</div>\n\t\t</li>\n",
                linked_image(figure, files, base),
                caption(figure)
            ));
        }
        html.push_str("</ul>\n");
    }
    match section.extra.as_deref() {
        Some("refs") => html.push_str(
            "<div class=\"reflist\"><div class=\"mw-references-wrap\"><ol class=\"references\">\n<li id=\"cite_note-1\">\
             <span class=\"mw-cite-backlink\"><b><a href=\"#cite_ref-1\">^</a></b></span> <span class=\"reference-text\">\
             <cite class=\"citation book\">Brandt, L. (1987). <i>Works of the Coast</i>. Lindal: Survey Press. \
             p.&#160;112.</cite></span></li>\n</ol></div></div>\n",
        ),
        Some(_) => html.push_str(
            "<ul><li><a rel=\"nofollow\" class=\"external text\" href=\"https://example.org/\">Survey of Lindal</a></li></ul>\n",
        ),
        None => {}
    }
}

/// The text as two paragraphs, with a link, a reference and a table between them.
fn paragraphs(html: &mut String, section: &ArticleSection) {
    if section.text.is_empty() {
        return;
    }
    let (first, second) = section.paragraphs();
    let words = escaped(first);
    // The first long word is a link, as half of the words of a wiki are.
    let link = words.split(' ').find(|w| w.len() > 7 && w.chars().all(char::is_alphabetic));
    let first = link.map_or(words.clone(), |word| {
        words.replacen(word, &format!("<a href=\"/wiki/{word}\" title=\"{word}\">{word}</a>"), 1)
    });
    html.push_str(&format!(
        "<p>{first}<sup id=\"cite_ref-1\" class=\"reference\"><a href=\"#cite_note-1\"><span class=\"cite-bracket\">&#91;</span>1\
         <span class=\"cite-bracket\">&#93;</span></a></sup>\n</p>\n"
    ));
    if section.level == 3 {
        html.push_str(
            "<table class=\"wikitable\"><caption>Watches</caption><tbody><tr><th>Watch</th><th>Hours</th></tr>\
             <tr><td>First</td><td>20–24</td></tr></tbody></table>\n",
        );
    }
    if !second.is_empty() {
        html.push_str(&format!("<p>{}\n</p>\n", escaped(second)));
    }
}

/// A caption: escaped, with a link in it.
fn caption(figure: &PageFigure) -> String {
    let text = escaped(&figure.caption);
    match text.split_once(' ') {
        Some((first, rest)) => format!("<a href=\"/wiki/{first}\">{first}</a> {rest}"),
        None => text,
    }
}

fn linked_image(figure: &PageFigure, files: &WikiFiles, base: &str) -> String {
    let file = files.get(&figure.file).expect("every image of a page is a file");
    let (name, (width, height)) = (&figure.file, file.size);
    let shown = WIDTH.min(width);
    // An image that is no larger than its place is shown itself.
    let source = if shown < width || name.ends_with(".svg") {
        thumbnail_address(base, name, shown)
    } else {
        format!("{base}/images/{}/{}", directory(name), http_name(name))
    };
    let wider = [1.5, 2.0].map(|factor| {
        let pixels = (f64::from(WIDTH) * factor) as u32;
        format!("{} {factor}x", thumbnail_address(base, name, pixels.min(width)))
    });
    format!(
        "<a href=\"/wiki/File:{}\" class=\"mw-file-description\"><img alt=\"\" src=\"{source}\" decoding=\"async\" \
         width=\"{shown}\" height=\"{}\" class=\"mw-file-element\" srcset=\"{}\" data-file-width=\"{width}\" \
         data-file-height=\"{height}\" /></a>",
        http_name(name),
        (shown * height / width).max(1),
        wider.join(", ")
    )
}

/// A whole page around its content.
pub fn page(title: &str, content: &str) -> String {
    format!(
        "<!DOCTYPE html>\n<html class=\"client-nojs\" lang=\"en\" dir=\"ltr\">\n<head>\n<meta charset=\"UTF-8\">\n<title>{0} - \
         Test wiki</title>\n<script>document.documentElement.className=\"client-js\";</script>\n</head>\n<body class=\"mediawiki \
         ns-0\">\n<div id=\"mw-navigation\"><h2>Navigation menu</h2><ul><li><a href=\"/wiki/Main_Page\">Main page</a></li></ul></div>\n\
         <main id=\"content\" class=\"mw-body\"><h1 id=\"firstHeading\" class=\"firstHeading\"><span class=\"mw-page-title-main\">{0}\
         </span></h1>\n<div id=\"bodyContent\"><div id=\"siteSub\">From Test wiki</div>\n<div id=\"mw-content-text\" \
         class=\"mw-body-content\">{1}</div></div></main>\n<footer><p>Text is available under CC BY-SA 4.0.</p></footer>\n\
         </body>\n</html>\n",
        escaped(title),
        content
    )
}
