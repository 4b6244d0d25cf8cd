//! The image files of the wiki: their bytes, sizes, licences and authors.

use super::article::Article;
use super::drawing::{self, Drawing};
use super::hostile;
use crate::random;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::OnceLock;

/// A licence as the API gives it: short name, name, address; the author in HTML, if known.
type Licence = (&'static str, &'static str, &'static str, Option<&'static str>);

const LICENCES: [Licence; 6] = [
    (
        "CC BY-SA 4.0",
        "Creative Commons Attribution-Share Alike 4.0",
        "https://creativecommons.org/licenses/by-sa/4.0",
        Some("<a href=\"//commons.test/wiki/User:Mara_Ilves\" title=\"User:Mara Ilves\">Mara Ilves</a>"),
    ),
    (
        "CC BY 3.0",
        "Creative Commons Attribution 3.0",
        "https://creativecommons.org/licenses/by/3.0",
        Some("<span class=\"fn\">Jon&nbsp;O&#39;Hara</span> &amp; <i>Lindal Survey</i>"),
    ),
    (
        "Public domain",
        "Public domain",
        "",
        Some("<bdi><a href=\"https://www.wikidata.test/wiki/Q1\" class=\"extiw\">Ana Petrova</a>\n</bdi>"),
    ),
    (
        "CC0",
        "Creative Commons Zero, Public Domain Dedication",
        "http://creativecommons.org/publicdomain/zero/1.0/deed.en",
        Some("Unknown author<span style=\"display: none;\">Unknown author</span>"),
    ),
    (
        "CC BY-SA 3.0",
        "Creative Commons Attribution-Share Alike 3.0",
        "https://creativecommons.org/licenses/by-sa/3.0",
        None,
    ),
    ("GFDL", "GNU Free Documentation License", "http://www.gnu.org/copyleft/fdl.html", Some("Photo: L. Brandt")),
];

/// An image file.
pub struct WikiFile {
    pub name: String,
    /// Drawn when they are first asked for.
    bytes: OnceLock<Vec<u8>>,
    pub mime: &'static str,
    pub size: (u32, u32),
    licence: Option<Licence>,
}

/// The files of the wiki by name, with spaces.
pub struct WikiFiles {
    files: BTreeMap<String, WikiFile>,
}

/// Content, size and brightness of the files that are not simply drawn from their name.
fn special(name: &str) -> Option<(&str, (u32, u32), i32)> {
    Some(match name {
        // The same image under two names, byte for byte.
        "Breastshot wheel.png" => ("Undershot wheel.png", (480, 360), 0),
        "Undershot wheel.png" => ("Undershot wheel.png", (480, 360), 0),
        // Near-duplicates: brighter, smaller and in another encoding.
        "Garden dial.png" => ("Garden dial.png", (440, 330), 0),
        "Garden dial copy.png" => ("Garden dial.png", (440, 330), 6),
        "Mill at Orrin.jpg" => ("Mill at Orrin.jpg", (640, 480), 0),
        "Mill at Orrin small.jpg" => ("Mill at Orrin.jpg", (320, 240), 0),
        // Too small, and too long.
        "Wax scales.png" => ("Wax scales.png", (24, 18), 0),
        "Battle sketch.png" => ("Battle sketch.png", (1200, 60), 0),
        "Skerry Point Light.jpg" => ("Skerry Point Light.jpg", (1600, 1200), 0),
        "Chart on the wall.png" => ("benchmark", (384, 288), 0),
        _ => return None,
    })
}

fn mime(name: &str) -> &'static str {
    match name.rsplit('.').next().unwrap_or_default() {
        "jpg" => "image/jpeg",
        "webp" => "image/webp",
        "gif" => "image/gif",
        "svg" => "image/svg+xml",
        _ => "image/png",
    }
}

impl WikiFiles {
    /// Draws all files of the articles, and makes those of the hostile pages.
    pub fn new(articles: &[Article]) -> Self {
        let mut files: BTreeMap<String, WikiFile> = BTreeMap::new();
        for figure in articles.iter().flat_map(Article::figures) {
            let name = figure.file.clone();
            let drawn = random::hash(3, name.as_bytes());
            let width = 256 + (drawn % 8) as u32 * 32;
            let size = special(&name).map_or((width, width * 3 / 4), |(_, size, _)| size);
            let licence = match name.as_str() {
                // A licence that nobody has recorded, and one that is not free.
                "Lahar valley.jpg" => None,
                "Tacoma deck.png" => Some(("Fair use", "Fair use", "", None)),
                "Pharos drawing.png" => Some(("Public domain", "Public domain", "", None)),
                _ => Some(LICENCES[(drawn >> 8) as usize % LICENCES.len()]),
            };
            let file = WikiFile { mime: mime(&name), bytes: OnceLock::new(), size, licence, name };
            files.insert(file.name.clone(), file);
        }
        for (name, bytes) in hostile::files() {
            let (size, licence) = ((320, 240), Some(LICENCES[0]));
            let bytes = OnceLock::from(bytes);
            files.insert(name.into(), WikiFile { name: name.into(), mime: mime(name), bytes, size, licence });
        }
        Self { files }
    }

    /// The file of this name; spaces and underscores are the same.
    pub fn get(&self, name: &str) -> Option<&WikiFile> {
        self.files.get(&name.replace('_', " "))
    }

    /// A thumbnail in PNG; of a file that is no drawing, the file itself.
    pub fn thumbnail(&self, name: &str, width: u32) -> Option<Vec<u8>> {
        let file = self.get(name)?;
        if hostile::is_hostile(&file.name) {
            return Some(file.bytes().to_vec());
        }
        Some(file.drawing().thumbnail(width.clamp(1, 2000)))
    }
}

/// The two directories in which MediaWiki puts a file.
pub fn directory(name: &str) -> String {
    let drawn = random::hash(5, name.as_bytes());
    format!("{:x}/{:02x}", drawn & 15, (drawn & 15) << 4 | (drawn >> 4) & 15)
}

impl WikiFile {
    fn drawing(&self) -> Drawing<'_> {
        let (content, size, brighter) = special(&self.name).unwrap_or((&self.name, self.size, 0));
        Drawing { name: &self.name, content, size, brighter }
    }

    /// The bytes of the file.
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get_or_init(|| self.drawing().encode())
    }

    /// A digest in the place of the API's `sha1`, which need not be one here.
    fn digest(&self) -> String {
        let part = |seed| random::hash(seed, self.bytes());
        format!("{:016x}{:016x}{:08x}", part(1), part(2), part(3) >> 32)
    }

    /// What `prop=imageinfo` says about the file; `base` is the address of the site.
    pub fn info(&self, base: &str, wanted: &str, width: Option<usize>) -> Value {
        let path = super::http_name(&self.name);
        let address = format!("{base}/images/{}/{path}", directory(&self.name));
        let mut info = json!({});
        let mut set = |name: &str, value: Value| info[name] = value;
        for property in wanted.split('|') {
            match property {
                "timestamp" => set("timestamp", json!("2024-03-01T12:00:00Z")),
                "size" | "dimensions" => {
                    set("size", json!(self.bytes().len()));
                    set("width", json!(self.size.0));
                    set("height", json!(self.size.1));
                }
                "url" => {
                    if let Some(width) = width.filter(|width| *width < self.size.0 as usize) {
                        let height = width * self.size.1 as usize / self.size.0 as usize;
                        set("thumburl", json!(thumbnail_address(base, &self.name, width as u32)));
                        set("thumbwidth", json!(width));
                        set("thumbheight", json!(height));
                    }
                    set("url", json!(address));
                    set("descriptionurl", json!(format!("{base}/wiki/File:{path}")));
                    set("descriptionshorturl", json!(format!("{base}/w/index.php?title=File:{path}")));
                }
                "mime" => set("mime", json!(self.mime)),
                "mediatype" => {
                    set("mediatype", json!(if self.mime == "image/svg+xml" { "DRAWING" } else { "BITMAP" }));
                }
                "sha1" => set("sha1", json!(self.digest())),
                "user" => set("user", json!("Uploader")),
                "extmetadata" => set("extmetadata", self.metadata()),
                _ => {}
            }
        }
        info
    }

    /// The licence and the author in `extmetadata`, with the HTML that real ones have.
    fn metadata(&self) -> Value {
        let entry = |value: &str| json!({"value": value, "source": "commons-desc-page", "hidden": ""});
        let title = self.name.rsplit_once('.').map_or(self.name.as_str(), |(stem, _)| stem);
        let mut metadata = json!({
            "DateTime": {"value": "2024-03-01 12:00:00", "source": "mediawiki-metadata", "hidden": ""},
            "ObjectName": {"value": title, "source": "mediawiki-metadata", "hidden": ""},
        });
        let Some((short, name, address, author)) = self.licence else { return metadata };
        metadata["LicenseShortName"] = entry(short);
        metadata["UsageTerms"] = entry(name);
        metadata["License"] = entry(&short.to_lowercase().replace(' ', "-"));
        metadata["ImageDescription"] = entry(&format!("<p>{title}, <b>own work</b>\n</p>"));
        metadata["AttributionRequired"] = entry(if short.starts_with("CC BY") { "true" } else { "false" });
        if !address.is_empty() {
            metadata["LicenseUrl"] = entry(address);
        }
        if let Some(author) = author {
            metadata["Artist"] = entry(author);
        }
        if short == "Fair use" {
            metadata["NonFree"] = entry("true");
        }
        metadata
    }
}

/// The address of a thumbnail: that of an SVG or WebP has a second ending.
pub fn thumbnail_address(base: &str, name: &str, width: u32) -> String {
    let path = super::http_name(name);
    let ending = if name.ends_with(".svg") || name.ends_with(".webp") { ".png" } else { "" };
    format!("{base}/images/thumb/{}/{path}/{width}px-{path}{ending}", directory(name))
}

/// The benchmark's image as PNG.
pub fn benchmark() -> Vec<u8> {
    drawing::png(&drawing::benchmark())
}
