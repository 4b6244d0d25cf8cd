//! `api.php`: searches, pages, images of pages, and what is known about images.

use super::article::Article;
use super::{Wiki, html, http_name};
use crate::http::{Reply, Request};
use serde_json::{Map, Value, json};

/// Most titles in one request.
const TITLES: usize = 50;

/// Answers a request.
pub fn reply(wiki: &Wiki, request: &Request) -> Reply {
    let modern = request.parameter("formatversion") == "2" || request.parameter("formatversion") == "latest";
    if request.parameter("format") != "json" {
        return Reply::text(200, "text/html; charset=utf-8", &html::page("API result", "<pre>{}</pre>"));
    }
    let outcome = match request.parameter("action") {
        "query" => Ok(query(wiki, request, modern)),
        "parse" => parse(wiki, request, modern),
        other => Err(("badvalue", format!("Unrecognized value for parameter \"action\": {other}."))),
    };
    match outcome {
        Ok(Content::Value(value)) => Reply::json(200, &value),
        Ok(Content::Bytes(bytes)) => Reply::bytes(200, "application/json; charset=utf-8", bytes),
        Err((code, info)) => {
            let help = "See http://127.0.0.1/w/api.php for API usage.";
            let key = if modern { "docref" } else { "*" };
            let value = json!({"error": {"code": code, "info": info, key: help}, "servedby": "mw-test"});
            Reply::json(200, &value).with("MediaWiki-API-Error", code)
        }
    }
}

/// An answer: as a value, or as bytes that need not be UTF-8.
enum Content {
    Value(Value),
    Bytes(Vec<u8>),
}

type Outcome = Result<Content, (&'static str, String)>;

/// A flag as both versions of the format write it.
fn flag(modern: bool) -> Value {
    if modern { json!(true) } else { json!("") }
}

fn query(wiki: &Wiki, request: &Request, modern: bool) -> Content {
    let mut answer = json!({});
    if request.parameter("list") == "search" {
        search(wiki, request, &mut answer);
    }
    let titles: Vec<String> =
        request.parameter("titles").split('|').filter(|t| !t.is_empty()).map(Into::into).collect();
    if titles.len() > TITLES {
        let text = format!("Too many values supplied for parameter \"titles\". The limit is {TITLES}.");
        return Content::Value(json!({"error": {"code": "toomanyvalues", "info": text, "limit": TITLES}}));
    }
    let generated = request.parameter("generator") == "images";
    let props = request.parameter("prop").split('|');
    if !titles.is_empty() {
        let (names, next) = if generated {
            let limit = request.number("gimlimit").unwrap_or(10).max(1);
            let start = request.number("gimcontinue").unwrap_or(0);
            let all: Vec<String> = titles.iter().flat_map(|title| images_of(wiki, title)).collect();
            let next = (start + limit < all.len()).then_some(start + limit);
            (all.into_iter().skip(start).take(limit).collect(), next.map(|next| ("gimcontinue", next)))
        } else {
            (titles, None)
        };
        let mut pages = Vec::new();
        let mut normalized = Vec::new();
        let mut redirects = Vec::new();
        let mut next = next;
        for (index, name) in names.iter().enumerate() {
            let mut title = name.replace('_', " ");
            if title != *name {
                normalized.push(json!({"fromencoded": false, "from": name, "to": title}));
            }
            if let Some(article) = wiki.article(&title).filter(|_| request.query.contains_key("redirects"))
                && article.title != title
            {
                redirects.push(json!({"from": title, "to": article.title}));
                title = article.title.clone();
            }
            let mut page = page(wiki, &title, index, modern);
            for prop in props.clone() {
                match prop {
                    "images" => {
                        let limit = request.number("imlimit").unwrap_or(10).max(1);
                        let start = request.number("imcontinue").unwrap_or(0);
                        let all = images_of(wiki, &title);
                        if start + limit < all.len() {
                            next = Some(("imcontinue", start + limit));
                        }
                        let shown = all.iter().skip(start).take(limit).map(|file| json!({"ns": 6, "title": file}));
                        page["images"] = shown.collect();
                    }
                    "imageinfo" => {
                        if let Some(file) = title.strip_prefix("File:").and_then(|name| wiki.files.get(name)) {
                            let wanted = request.parameter("iiprop");
                            let wanted = if wanted.is_empty() { "timestamp|user" } else { wanted };
                            page["imagerepository"] = json!("local");
                            page["imageinfo"] =
                                json!([file.info(wiki.uploads(), wanted, request.number("iiurlwidth"))]);
                        } else if title.starts_with("File:") {
                            page["imagerepository"] = json!("");
                        }
                    }
                    "info" => page["touched"] = json!("2024-03-01T12:00:00Z"),
                    _ => {}
                }
            }
            pages.push(page);
        }
        if !normalized.is_empty() {
            answer["query"]["normalized"] = json!(normalized);
        }
        if !redirects.is_empty() {
            answer["query"]["redirects"] = json!(redirects);
        }
        answer["query"]["pages"] = if modern { json!(pages) } else { by_id(pages) };
        if let Some((name, next)) = next {
            answer["continue"] = json!({name: next.to_string(), "continue": "||"});
        }
    }
    for prop in props.filter(|prop| !matches!(*prop, "" | "images" | "imageinfo" | "info")) {
        let text = format!("Unrecognized value for parameter \"prop\": {prop}.");
        answer["warnings"]["query"] = if modern { json!({"warnings": text}) } else { json!({"*": text}) };
    }
    if answer.get("continue").is_none() {
        answer["batchcomplete"] = flag(modern);
    }
    Content::Value(answer)
}

/// The pages of an answer by their number, as the old format has them.
fn by_id(pages: Vec<Value>) -> Value {
    let id = |page: &Value, index: usize| match page["pageid"].as_u64() {
        Some(id) => id.to_string(),
        None => format!("-{}", index + 1),
    };
    Value::Object(pages.into_iter().enumerate().map(|(i, page)| (id(&page, i), page)).collect::<Map<_, _>>())
}

/// Number, namespace and title of a page, or that it is missing.
fn page(wiki: &Wiki, title: &str, index: usize, modern: bool) -> Value {
    if let Some(name) = title.strip_prefix("File:") {
        // Files of a shared repository have no page of their own on the wiki.
        return match wiki.files.get(name) {
            Some(_) if index.is_multiple_of(2) => json!({"pageid": 5000 + index, "ns": 6, "title": title}),
            Some(_) => json!({"ns": 6, "title": title, "missing": flag(modern), "known": flag(modern)}),
            None => json!({"ns": 6, "title": title, "missing": flag(modern)}),
        };
    }
    match wiki.article(title) {
        Some(article) => json!({"pageid": article.id, "ns": 0, "title": article.title}),
        None => match wiki.hostile(title) {
            Some(page) => json!({"pageid": 9000 + page as usize, "ns": 0, "title": title}),
            None => json!({"ns": 0, "title": title, "missing": flag(modern)}),
        },
    }
}

/// Titles of the images on a page, in alphabetical order.
fn images_of(wiki: &Wiki, title: &str) -> Vec<String> {
    let mut names: Vec<String> = match wiki.article(title) {
        Some(article) => article.figures().map(|figure| format!("File:{}", figure.file)).collect(),
        None if wiki.hostile(title) == Some(super::Hostile::Images) => {
            super::hostile::files().iter().map(|(name, _)| format!("File:{name}")).collect()
        }
        None => Vec::new(),
    };
    names.sort();
    names
}

/// Finds the pages with the words of a search: words in the title count more.
fn search(wiki: &Wiki, request: &Request, answer: &mut Value) {
    let wanted: Vec<String> = words(request.parameter("srsearch"));
    let limit = request.number("srlimit").unwrap_or(10).clamp(1, 500);
    let start = request.number("sroffset").unwrap_or(0);
    let score = |title: &str, text: &str| {
        let (title, text) = (words(title), words(text));
        let in_title = wanted.iter().filter(|word| title.contains(word)).count();
        in_title * 100 + wanted.iter().filter(|word| text.contains(word)).count()
    };
    let mut found: Vec<(usize, &str, usize, usize)> = wiki
        .articles
        .iter()
        .map(|a| {
            let text: String = a.sections.iter().flat_map(|s| [s.title.as_str(), " ", &s.text, " "]).collect();
            let names = a.redirects.join(" ") + " " + &a.title + " " + &a.categories.join(" ");
            (score(&names, &text), a.title.as_str(), a.id, Article::words(a))
        })
        .filter(|(score, ..)| *score * 2 > wanted.len())
        .collect();
    if wiki.options.hostile {
        let pages = super::Hostile::ALL.into_iter();
        found.extend(pages.map(|p| (score(p.title(), ""), p.title(), 9000 + p as usize, 100)).filter(|p| p.0 > 0));
    }
    found.sort_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(b.1)));
    let total = found.len();
    let hits: Vec<Value> = found
        .into_iter()
        .skip(start)
        .take(limit)
        .map(|(_, title, id, words)| {
            let snippet = format!("<span class=\"searchmatch\">{}</span> and what is known", html::escaped(title));
            json!({"ns": 0, "title": title, "pageid": id, "size": words * 6, "wordcount": words, "snippet": snippet,
                "timestamp": "2024-03-01T12:00:00Z"})
        })
        .collect();
    if start + hits.len() < total {
        answer["continue"] = json!({"sroffset": start + hits.len(), "continue": "-||"});
    }
    answer["query"] = json!({"searchinfo": {"totalhits": total}, "search": hits});
}

/// The words of a text in lower case, without the plural's `s`.
fn words(text: &str) -> Vec<String> {
    text.split(|c: char| !c.is_alphanumeric())
        .filter(|word| word.len() > 2)
        .map(|word| word.to_lowercase().trim_end_matches('s').to_string())
        .collect()
}

fn parse(wiki: &Wiki, request: &Request, modern: bool) -> Outcome {
    let by_id = request.number("pageid");
    let by_id = by_id.and_then(|id| wiki.articles.iter().find(|article| article.id == id)).map(|a| a.title.clone());
    let title = by_id.unwrap_or_else(|| request.parameter("page").to_string()).replace('_', " ");
    if title.is_empty() {
        return Err(("missingparam", "The parameter \"page\" must be set.".into()));
    }
    let follow = request.query.contains_key("redirects");
    let (canonical, content) =
        wiki.content(&title).ok_or_else(|| ("missingtitle", "The page you specified doesn't exist.".to_string()))?;
    let article = wiki.article(&title);
    let is_redirect = article.is_some_and(|a| a.title.to_lowercase() != title.to_lowercase());
    let mut parsed = json!({});
    let (title, content) = if is_redirect && !follow {
        // A redirect that is not followed is a page with a link.
        let text = format!(
            "<div class=\"mw-parser-output\"><div class=\"redirectMsg\"><p>Redirect to:</p><ul class=\"redirectText\"><li>\
             <a href=\"/wiki/{}\">{canonical}</a></li></ul></div></div>",
            http_name(&canonical)
        );
        (title, text.into_bytes())
    } else {
        (canonical.clone(), content)
    };
    parsed["title"] = json!(title);
    parsed["pageid"] = json!(article.map_or(9000, |a| a.id));
    if follow {
        let followed = json!([{"from": request.parameter("page").replace('_', " "), "to": canonical}]);
        parsed["redirects"] = if is_redirect { followed } else { json!([]) };
    }
    let wanted = request.parameter("prop");
    let wanted = if wanted.is_empty() { "text|images|categories|sections|revid|displaytitle" } else { wanted };
    let mut text = None;
    for property in wanted.split('|') {
        match property {
            "text" => text = Some(&content),
            "revid" => parsed["revid"] = json!(article.map_or(1, |a| a.id * 10)),
            "displaytitle" => {
                parsed["displaytitle"] =
                    json!(format!("<span class=\"mw-page-title-main\">{}</span>", html::escaped(&title)));
            }
            "images" => {
                let names = images_of(wiki, &title);
                parsed["images"] = names.iter().map(|n| n.trim_start_matches("File:").replace(' ', "_")).collect();
            }
            "categories" => {
                let names = article.map_or(&[][..], |a| &a.categories);
                let entry = |name: &String| match modern {
                    true => json!({"sortkey": "", "category": name}),
                    false => json!({"sortkey": "", "*": name}),
                };
                parsed["categories"] = names.iter().map(entry).collect();
            }
            "sections" => parsed["sections"] = sections(article),
            _ => {}
        }
    }
    let Some(bytes) = text else { return Ok(Content::Value(json!({"parse": parsed}))) };
    match String::from_utf8(bytes.clone()) {
        Ok(text) => {
            parsed["text"] = if modern { json!(text) } else { json!({"*": text}) };
            Ok(Content::Value(json!({"parse": parsed})))
        }
        Err(_) => {
            // The bytes stand in the JSON as they are.
            let mark = "the text of the page";
            parsed["text"] = if modern { json!(mark) } else { json!({"*": mark}) };
            let whole = json!({"parse": parsed}).to_string();
            let (before, after) = whole.split_once(mark).unwrap_or((&whole, ""));
            let mut escaped = Vec::new();
            for byte in bytes {
                match byte {
                    b'"' | b'\\' => escaped.extend([b'\\', *byte]),
                    b'\n' => escaped.extend(b"\\n"),
                    _ => escaped.push(*byte),
                }
            }
            Ok(Content::Bytes([before.as_bytes(), &escaped, after.as_bytes()].concat()))
        }
    }
}

fn sections(article: Option<&Article>) -> Value {
    let sections = article.map_or(&[][..], |a| &a.sections).iter().filter(|s| s.level > 0).enumerate();
    sections
        .map(|(index, section)| {
            json!({"toclevel": section.level - 1, "level": section.level.to_string(), "line": section.title,
                "number": (index + 1).to_string(), "index": (index + 1).to_string(), "anchor": http_name(&section.title)})
        })
        .collect()
}
