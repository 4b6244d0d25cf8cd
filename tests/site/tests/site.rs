//! The servers of the tests, as a client sees them.

use burgess_site::{ChatFault, ChatOptions, ChatSite, Fault, FaultPlan, Robots, WikiOptions, WikiSite};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::Read;
use std::time::Duration;

const AGENT: &str = "burgess-tests/1.0 (tests@example.org)";

/// An answer: status, headers, body.
struct Got {
    status: u16,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

fn agent() -> ureq::Agent {
    let config = ureq::Agent::config_builder().http_status_as_error(false).max_redirects(0).user_agent(AGENT);
    config.timeout_global(Some(Duration::from_secs(20))).build().into()
}

fn get_with(url: &str, headers: &[(&str, &str)]) -> Result<Got, String> {
    let mut request = agent().get(url);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let mut response = request.call().map_err(|e| e.to_string())?;
    let text = |v: &ureq::http::HeaderValue| v.to_str().unwrap_or_default().to_string();
    let headers = response.headers().iter().map(|(n, v)| (n.to_string(), text(v))).collect();
    let mut body = Vec::new();
    response.body_mut().as_reader().take(20 << 20).read_to_end(&mut body).map_err(|e| e.to_string())?;
    Ok(Got { status: response.status().as_u16(), headers, body })
}

fn get(url: &str) -> Result<Got, String> {
    get_with(url, &[])
}

fn api(wiki: &WikiSite, query: &str) -> Value {
    let got = get(&format!("{}?format=json&{query}", wiki.api_url())).expect(query);
    assert_eq!(got.status, 200, "{query}");
    serde_json::from_slice(&got.body).expect(query)
}

#[test]
fn the_wiki_has_the_shapes_of_mediawiki() {
    let wiki = WikiSite::start(WikiOptions::default());
    let found = api(&wiki, "action=query&list=search&srsearch=mills+engineering&srlimit=1");
    assert_eq!(found["query"]["search"].as_array().unwrap().len(), 1, "{found}");
    assert_eq!((&found["continue"]["sroffset"], &found["continue"]["continue"]), (&json!(1), &json!("-||")), "{found}");
    let found = api(&wiki, "action=query&list=search&srsearch=Lighthouses&formatversion=2");
    assert_eq!(found["query"]["search"][0]["title"], "Lighthouse");
    assert_eq!(found["batchcomplete"], true);
    let nothing = api(&wiki, "action=query&list=search&srsearch=xylophone");
    assert_eq!((&nothing["query"]["search"], &nothing["batchcomplete"]), (&json!([]), &json!("")));

    let old = api(&wiki, "action=parse&page=Light_house&redirects=1&prop=text|images|categories");
    let text = old["parse"]["text"]["*"].as_str().unwrap();
    assert!(text.contains("<div class=\"mw-heading mw-heading2\"><h2 id=\"Optics\">Optics</h2>"), "{text}");
    assert!(text.contains("<ul class=\"gallery") && text.contains("srcset=") && text.contains("infobox"), "{text}");
    assert_eq!(old["parse"]["redirects"][0]["to"], "Lighthouse", "{old}");
    assert!(old["parse"]["images"].as_array().unwrap().contains(&json!("Lamp_room.png")), "{old}");
    let new = api(&wiki, "action=parse&page=Sundial&formatversion=2");
    assert!(new["parse"]["text"].as_str().unwrap().contains("<span class=\"mw-headline\" id=\"Equation_of_time\">"));
    let missing = api(&wiki, "action=parse&page=Nothing");
    assert_eq!(missing["error"]["code"], "missingtitle");
    assert_eq!(api(&wiki, "action=purge")["error"]["code"], "badvalue");

    let titles = "titles=File:Lamp_room.png|File:Lahar_valley.jpg|File:Nothing.png";
    let info = api(&wiki, &format!("action=query&prop=imageinfo&iiprop=url|size|mime|sha1|extmetadata&{titles}"));
    let pages = info["query"]["pages"].as_object().unwrap();
    assert_eq!(pages.len(), 3, "{info}");
    assert_eq!(info["query"]["normalized"][0]["to"], "File:Lamp room.png");
    let lamp = pages.values().find(|p| p["title"] == "File:Lamp room.png").unwrap();
    assert!(lamp["imageinfo"][0]["extmetadata"]["LicenseShortName"]["value"].is_string(), "{lamp}");
    let bytes = get(lamp["imageinfo"][0]["url"].as_str().unwrap()).unwrap();
    assert_eq!(bytes.headers["content-type"], "image/png");
    assert_eq!(bytes.body, wiki.file("Lamp room.png").unwrap());
    let lahar = pages.values().find(|p| p["title"] == "File:Lahar valley.jpg").unwrap();
    assert!(lahar["imageinfo"][0]["extmetadata"].get("LicenseShortName").is_none(), "{lahar}");

    let first = api(&wiki, "action=query&prop=images&titles=Lighthouse&imlimit=5");
    let next = first["continue"]["imcontinue"].as_str().unwrap();
    let rest = api(&wiki, &format!("action=query&prop=images&titles=Lighthouse&imlimit=5&imcontinue={next}"));
    assert_eq!(rest["query"]["pages"]["1022"]["images"].as_array().unwrap().len(), 2, "{rest}");
    let all = api(
        &wiki,
        "action=query&generator=images&titles=Lighthouse&gimlimit=50&prop=imageinfo&iiprop=url&formatversion=2",
    );
    assert_eq!(all["query"]["pages"].as_array().unwrap().len(), 7, "{all}");

    let page = get(&wiki.url("/wiki/Lighthouse")).unwrap();
    let tag = page.headers["etag"].as_str();
    let (again, since) = (("If-None-Match", tag), ("If-Modified-Since", page.headers["last-modified"].as_str()));
    assert_eq!(get_with(&wiki.url("/wiki/Lighthouse"), &[again]).unwrap().status, 304);
    assert_eq!(get_with(&wiki.url("/wiki/Lighthouse"), &[since]).unwrap().status, 304);
    let thumbnail = get(&wiki.file_url("Cable forces.svg").replace("/images/", "/images/thumb/")).unwrap();
    assert_eq!(thumbnail.status, 404);
    assert_eq!(get_with(&wiki.url("/wiki/Lighthouse"), &[("User-Agent", "Mozilla/5.0")]).unwrap().status, 403);
    assert_eq!(get(&wiki.url("/redirect?to=file:///etc/passwd")).unwrap().headers["location"], "file:///etc/passwd");
    assert_eq!(get(&wiki.url("/chain/3")).unwrap().headers["location"], "/chain/2");
    assert!(wiki.secret_requests().is_empty());
    assert!(wiki.xml_dump().contains("<redirect title=\"Lighthouse\" />"));
    assert_eq!(wiki.html_pages().len(), 12);
}

#[test]
fn faults_come_as_ordered_and_by_plan() {
    let robots = Robots::Status(500);
    let wiki =
        WikiSite::start(WikiOptions { robots, hostile: true, uploads_elsewhere: true, ..WikiOptions::default() });
    assert_eq!(get(&wiki.url("/robots.txt")).unwrap().status, 500);
    let page = wiki.url("/wiki/Mosaic");
    let whole = get(&page).unwrap().body;
    wiki.fail("/wiki/Mosaic", 1, Fault::retry_after(429, "7"));
    let got = get(&page).unwrap();
    assert_eq!((got.status, got.headers["retry-after"].as_str()), (429, "7"));
    for fault in
        [Fault::Drop, Fault::Cut(100), Fault::WrongLength(50), Fault::LengthText("many".into()), Fault::Garbage]
    {
        wiki.fail("/wiki/Mosaic", 1, fault.clone());
        assert!(get(&page).is_err(), "{fault:?}");
    }
    wiki.fail("/wiki/Mosaic", 1, Fault::WrongLength(-50));
    assert_eq!(get(&page).unwrap().body.len(), whole.len() - 50);
    wiki.fail("/wiki/Mosaic", 1, Fault::Endless);
    assert_eq!(get(&page).unwrap().body.len(), 20 << 20);
    wiki.fail("/wiki/Mosaic", 1, Fault::GzipBomb(8));
    let bomb = get(&page).unwrap();
    assert!(bomb.headers["content-encoding"] == "gzip" && bomb.body.len() < 1 << 20);
    wiki.fail("api.php", 1, Fault::maxlag(5));
    assert_eq!(api(&wiki, "action=query&list=search&srsearch=Mosaic")["error"]["code"], "maxlag");
    assert_eq!(get(&page).unwrap().body, whole);
    assert!(wiki.requests().iter().filter(|r| r.faulty).count() == 10, "{:#?}", wiki.requests());
    assert!(wiki.file_url("Lamp room.png").starts_with(&wiki.uploads_url()) && wiki.uploads_url() != wiki.base_url());
    for title in ["Hostile_encoding", "Hostile_images", "Hostile_addresses", "Hostile_markup", "Hostile_texts"] {
        assert_eq!(get(&wiki.url(&format!("/wiki/{title}"))).unwrap().status, 200, "{title}");
        get(&format!("{}?format=json&action=parse&page={title}", wiki.api_url())).expect(title);
    }

    let faults = vec![Fault::status(500), Fault::Drop];
    let plan = Some(FaultPlan { seed: 1, share: 0.5, attempts: 2, faults });
    let wiki = WikiSite::start(WikiOptions { plan, ..WikiOptions::default() });
    let mut failed = 0;
    for title in wiki.titles() {
        let url = wiki.url(&format!("/wiki/{}", title.replace(' ', "_")));
        let good: Vec<bool> = (0..3).map(|_| get(&url).is_ok_and(|got| got.status == 200)).collect();
        assert!(good[2], "{title} fails in the first two attempts only");
        failed += usize::from(!good[0]);
    }
    assert!((3..10).contains(&failed), "{failed} of 12");
}

fn chat(site: &ChatSite, user: &str, schema: Option<Value>) -> Result<(u16, Value), String> {
    let mut body = json!({"model": "test-writer", "messages": [{"role": "system", "content": "Write."},
        {"role": "user", "content": user}]});
    if let Some(schema) = schema {
        body["response_format"] = json!({"type": "json_schema", "json_schema": {"name": "s", "schema": schema}});
    }
    let response = agent().post(format!("{}/chat/completions", site.base_url())).send(body.to_string());
    let mut response = response.map_err(|e| e.to_string())?;
    let text = response.body_mut().with_config().limit(64 << 20).read_to_string().map_err(|e| e.to_string())?;
    Ok((response.status().as_u16(), serde_json::from_str(&text).map_err(|e| e.to_string())?))
}

#[test]
fn the_model_answers_from_the_request_and_fails_on_demand() {
    let site = ChatSite::start(ChatOptions::default());
    let user =
        json!({"caption": "The lamp room of Skerry Point", "text": "A Fresnel lens is heavy. It floats on mercury."});
    let schema = json!({"type": "object", "properties": {"question": {"type": "string"}, "answer": {"type": "string"},
        "kind": {"enum": ["what", "why"]}, "evidence": {"type": "array", "items": {"type": "string"}}}});
    let (_, first) = chat(&site, &user.to_string(), Some(schema.clone())).unwrap();
    let text = first["choices"][0]["message"]["content"].as_str().unwrap();
    let answer: Value = serde_json::from_str(text).unwrap();
    assert!(answer["answer"].as_str().unwrap().contains("lamp room of Skerry Point"), "{answer}");
    assert!(user["text"].as_str().unwrap().contains(answer["evidence"][0].as_str().unwrap()), "{answer}");
    assert_eq!(chat(&site, &user.to_string(), Some(schema)).unwrap().1, first);
    let (_, topics) = chat(&site, "Name topics. Field: Towers and mills, Earth", None).unwrap();
    let topics: Value = serde_json::from_str(topics["choices"][0]["message"]["content"].as_str().unwrap()).unwrap();
    assert_eq!(topics["Earth"], json!(["Stratovolcano"]), "{topics}");

    let content = |fault: ChatFault| {
        site.fail("lamp", 1, fault);
        let (_, value) = chat(&site, &user.to_string(), None).unwrap();
        value["choices"][0]["message"]["content"].as_str().unwrap_or("null").to_string()
    };
    let is_answer = |text: &str| serde_json::from_str::<Value>(text).is_ok_and(|v| v["answer"].is_string());
    assert!(is_answer(&content(ChatFault::Http(Fault::Slow(Duration::from_millis(1))))));
    for fault in [ChatFault::Malformed, ChatFault::Prose, ChatFault::Fenced, ChatFault::WrongSchema, ChatFault::Refusal]
    {
        assert!(!is_answer(&content(fault.clone())), "{fault:?}");
    }
    assert!(content(ChatFault::Ungrounded).contains("Zenobia"));
    assert!(content(ChatFault::Empty).is_empty() && content(ChatFault::Null) == "null");
    assert!(content(ChatFault::Huge).len() > 7_000_000);
    site.fail("lamp", 1, ChatFault::Http(Fault::Drop));
    assert!(chat(&site, &user.to_string(), None).is_err());
    site.fail("lamp", 1, ChatFault::NoUsage);
    assert!(chat(&site, &user.to_string(), None).unwrap().1.get("usage").is_none());

    let options = ChatOptions { share: 1.0, attempts: 2, faults: vec![ChatFault::Refusal], ..ChatOptions::default() };
    let site = ChatSite::start(options);
    for n in 0..4 {
        let refused = |answer: &Value| answer["choices"][0]["message"]["content"].as_str().unwrap().contains("sorry");
        let answers: Vec<bool> =
            (0..3).map(|_| refused(&chat(&site, &format!("caption: {n}"), None).unwrap().1)).collect();
        assert!(answers[0] && !answers[2], "{answers:?}");
    }
    let site = ChatSite::start(ChatOptions { key: Some("k".into()), schemas: false, ..ChatOptions::default() });
    assert_eq!(chat(&site, "x", None).unwrap().0, 401);
    assert_eq!(site.requests().len(), 1);
}
