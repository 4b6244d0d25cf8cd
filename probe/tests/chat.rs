//! Chat templates against `transformers` and against the published code of Cambrian-1 (`tests/reference/chat.py`).

use burgess_base::Result;
use burgess_probe::llm::chat::{ChatTemplate, ConversationTemplate, IMAGE_ID, JinjaTemplate, MaskProblem, Turn};
use burgess_probe::llm::tokenizer::Tokenizer;
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::PathBuf;

fn golden(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/golden").join(path)
}

fn json<T: for<'de> Deserialize<'de>>(path: &str) -> Result<T> {
    Ok(serde_json::from_slice(&std::fs::read(golden(path))?)?)
}

#[derive(Deserialize)]
struct Said {
    #[serde(alias = "from")]
    role: String,
    content: String,
}

fn turns(said: &[Said]) -> Vec<Turn> {
    let turn = |s: &Said| match s.role.as_str() {
        "system" => Turn::system(s.content.as_str()),
        "user" | "human" => Turn::user(s.content.as_str()),
        _ => Turn::assistant(s.content.as_str()),
    };
    said.iter().map(turn).collect()
}

#[derive(Deserialize)]
struct Family {
    name: String,
    template: String,
    tokens: BTreeMap<String, String>,
    cases: Vec<Rendered>,
}

#[derive(Deserialize)]
struct Rendered {
    turns: Vec<Said>,
    open: bool,
    text: Option<String>,
    error: Option<String>,
}

#[test]
fn templates_render_as_in_transformers() -> Result<()> {
    let mut count = 0;
    for family in json::<Vec<Family>>("chat/jinja.json")? {
        let jinja = JinjaTemplate::new(family.template, family.tokens)?;
        for case in family.cases {
            let (name, turns) = (&family.name, turns(&case.turns));
            match (jinja.text(&turns, case.open), case.text, case.error) {
                (Ok(ours), Some(theirs), _) => assert_eq!(ours, theirs, "{name} {turns:?}"),
                (Err(e), _, Some(theirs)) => assert!(e.to_string().contains(&theirs), "{name}: {e}"),
                (ours, text, error) => panic!("{name} {turns:?}: {ours:?}, but {text:?} {error:?}"),
            }
            count += 1;
        }
    }
    assert!(count > 150);
    Ok(())
}

#[derive(Deserialize)]
struct Masked {
    turns: Vec<Said>,
    ids: Vec<u32>,
    mask: Vec<u8>,
}

fn family(name: &str) -> Result<Family> {
    let all = json::<Vec<Family>>("chat/jinja.json")?;
    all.into_iter().find(|f| f.name == name).ok_or_else(|| burgess_base::Error::failed(format!("no {name}")))
}

fn jinja(name: &str) -> Result<ChatTemplate> {
    let family = family(name)?;
    Ok(ChatTemplate::Jinja(Box::new(JinjaTemplate::new(family.template, family.tokens)?)))
}

#[test]
fn generation_blocks_give_the_mask_of_transformers() -> Result<()> {
    let t = Tokenizer::open(&golden("tokenizers/smollm"))?;
    let template = jinja("generation")?;
    for case in json::<Vec<Masked>>("chat/generation.json")? {
        let e = template.encode(&t, &turns(&case.turns), false)?;
        assert_eq!(e.ids, case.ids);
        let mask: Vec<u8> = e.loss_mask.iter().map(|l| u8::from(*l)).collect();
        assert_eq!(mask, case.mask, "{:?}", t.decode(&e.ids));
    }
    Ok(())
}

/// The supervised pieces of a conversation, decoded with their special tokens.
fn supervised(t: &Tokenizer, ids: &[u32], loss_mask: &[bool]) -> Result<Vec<String>> {
    let mut pieces: Vec<Vec<u32>> = Vec::new();
    let mut before = false;
    for (id, l) in ids.iter().zip(loss_mask) {
        if *l && !before {
            pieces.push(Vec::new());
        }
        if *l && let Some(last) = pieces.last_mut() {
            last.push(*id);
        }
        before = *l;
    }
    let special = |id: &u32| t.token(*id).filter(|token| t.is_special(token));
    let text = |ids: &Vec<u32>| Ok(t.decode(ids)? + &ids.last().and_then(special).unwrap_or_default());
    pieces.iter().map(text).collect()
}

#[test]
fn answers_and_their_ends_are_supervised_without_generation_blocks() -> Result<()> {
    let conversation = [
        Turn::user("<image>What is this?"),
        Turn::assistant(" A cup. "),
        Turn::user("Its colour?"),
        Turn::assistant("i"),
    ];
    // SentencePiece omits the first space when it decodes.
    for (name, vocabulary, answers) in [
        ("smollm2", "smollm", [" A cup. <|im_end|>", "i<|im_end|>"]),
        ("qwen2.5", "qwen2", [" A cup. <|im_end|>", "i<|im_end|>"]),
        // The template writes an empty thinking block before the last answer.
        ("qwen3", "qwen2", [" A cup. <|im_end|>", "<think>\n\n</think>\n\ni<|im_end|>"]),
        ("llama-3", "llama-bpe", ["A cup.<|eot_id|>", "i<|eot_id|>"]),
        ("llama-3.2", "llama-bpe", ["A cup.<|eot_id|>", "i<|eot_id|>"]),
        ("zephyr", "llama", ["A cup. </s>", "i</s>"]),
        ("mistral-0.2", "llama-new", ["A cup. </s>", "i</s>"]),
    ] {
        let t = Tokenizer::open(&golden("tokenizers").join(vocabulary))?;
        let template = jinja(name)?;
        let e = template.encode(&t, &conversation, true)?;
        assert_eq!((&e.problem, e.ids.len()), (&None, e.loss_mask.len()), "{name}");
        assert_eq!(supervised(&t, &e.ids, &e.loss_mask)?, answers, "{name}");
        let at = e.image_at.unwrap_or(0);
        assert_eq!(e.ids.iter().filter(|id| **id == IMAGE_ID).count(), 1);
        assert_eq!(e.ids.get(at), Some(&IMAGE_ID), "{name}");
        // The prompt is a prefix of the conversation, and the first supervised token follows it.
        let asked = template.open(&t, &conversation[..1], true)?;
        let same = e.ids.iter().zip(&asked.ids).take_while(|(a, b)| a == b).count();
        assert_eq!(same, asked.ids.len(), "{name}");
        assert_eq!(e.loss_mask.iter().position(|l| *l), Some(same), "{name}");
        // A blind prompt lacks the image and the line break after it.
        let blind = template.open(&t, &[Turn::user("What is this?")], false)?;
        assert!(blind.image_at.is_none() && blind.ids.len() < asked.ids.len());
        let last = t.special_texts().find(|token| answers[1].ends_with(token)).unwrap_or_default();
        let stop = template.stop(&t)?;
        assert!(stop.contains(&t.id(last)?), "{name}: {stop:?}");
        assert!(t.special().ends.iter().all(|id| stop.contains(id)));
    }
    Ok(())
}

#[test]
fn a_template_that_rewrites_is_counted_and_one_that_raises_says_why() -> Result<()> {
    let t = Tokenizer::open(&golden("tokenizers/llama"))?;
    let conversation =
        [Turn::system("Be brief."), Turn::user("a?"), Turn::assistant("b"), Turn::user("c?"), Turn::assistant("d")];
    let e = jinja("mistral-0.3")?.encode(&t, &conversation, false)?;
    assert_eq!(e.problem, Some(MaskProblem::PrefixChanged { turn: 2 }));
    assert!(!e.loss_mask.contains(&true));
    let e = jinja("mistral-0.2")?.encode(&t, &conversation, false).unwrap_err();
    assert!(e.to_string().contains("roles must alternate") && e.hint_text().is_some(), "{e}");
    let upper = JinjaTemplate::new("{% for m in messages %}{{ m.content | upper }}</s>{% endfor %}", BTreeMap::new())?;
    let upper = ChatTemplate::Jinja(Box::new(upper));
    let e = upper.encode(&t, &conversation[1..3], false)?;
    assert_eq!(e.problem, Some(MaskProblem::AnswerChanged { turn: 1 }));
    let e = upper.encode(&t, &conversation[1..3], true).unwrap_err();
    assert!(e.to_string().contains("writes 0 image placeholders for 1 images"), "{e}");
    let e = jinja("zephyr")?.encode(&t, &[Turn::user("a"), Turn::assistant(" ")], false).unwrap_err();
    assert!(e.to_string().contains("turn 1 is an empty answer"), "{e}");
    let e = ChatTemplate::from_model(&t).unwrap_err();
    assert!(e.to_string().contains("without a chat template") && e.hint_text().is_some(), "{e}");
    let e = ChatTemplate::nano().encode(&t, &[Turn::user("a")], false).unwrap_err();
    assert!(e.hint_text().is_some());
    Ok(())
}

#[derive(Deserialize)]
struct ConversationGolden {
    template: String,
    tokenizer: String,
    max_length: usize,
    cases: Vec<ConversationCase>,
}

#[derive(Deserialize)]
struct ConversationCase {
    turns: Vec<Said>,
    ids: Vec<i64>,
    learned: String,
    mismatch: bool,
}

#[test]
fn cambrians_formats_are_masked_as_in_its_code() -> Result<()> {
    let mut mismatches = 0;
    for golden_case in json::<Vec<ConversationGolden>>("chat/study.json")? {
        let t = Tokenizer::open(&golden("tokenizers").join(&golden_case.tokenizer))?;
        let template = ConversationTemplate::named(&golden_case.template)?.with_max_length(golden_case.max_length);
        let template = ChatTemplate::Conversation(template);
        for case in golden_case.cases {
            let turns = turns(&case.turns);
            let what = format!("{} {} {turns:?}", golden_case.template, golden_case.tokenizer);
            let e = template.encode(&t, &turns, false)?;
            let ids: Vec<i64> = e.ids.iter().map(|id| if *id == IMAGE_ID { -200 } else { i64::from(*id) }).collect();
            assert_eq!(ids, case.ids, "{what}");
            let mask: String = e.loss_mask.iter().map(|l| if *l { '1' } else { '0' }).collect();
            assert_eq!(mask, case.learned, "{what}");
            assert_eq!(e.problem.is_some(), case.mismatch, "{what}: {:?}", e.problem);
            assert_eq!(e.image_at, case.ids.iter().position(|id| *id == -200), "{what}");
            mismatches += usize::from(case.mismatch);
        }
        let prompt = template.prompt(&t, "What is this?", true)?;
        let whole = template.encode(&t, &[Turn::user("What is this?"), Turn::assistant("A cup")], true)?;
        assert_eq!(whole.ids.get(..prompt.len()), Some(prompt.as_slice()), "{}", golden_case.template);
        assert!(!template.stop(&t)?.is_empty());
    }
    assert!(mismatches > 20);
    Ok(())
}

#[test]
fn cambrians_formats_need_their_tokens() -> Result<()> {
    let t = Tokenizer::open(&golden("tokenizers/gpt-2"))?;
    for (name, token) in [
        ("vicuna_v1", "</s>"),
        ("llama_3", "<|begin_of_text|>"),
        ("chatml_direct", "<|im_start|>"),
        ("phi3", "<|system|>"),
    ] {
        let e = ChatTemplate::named(name)?.encode(&t, &[Turn::user("a"), Turn::assistant("b")], false).unwrap_err();
        assert!(e.to_string().contains(&format!("no special token `{token}`")) && e.hint_text().is_some(), "{e}");
    }
    let e = ChatTemplate::named("vicuna").unwrap_err();
    assert!(e.to_string().contains("vicuna_v1, llama_3") && e.hint_text() == Some("did you mean `vicuna_v1`?"), "{e}");
    let t = Tokenizer::open(&golden("tokenizers/llama"))?;
    let named = ChatTemplate::named("vicuna_v1")?;
    let twice = [Turn::user("<image> a"), Turn::assistant("b"), Turn::user("<image>"), Turn::assistant("c")];
    assert!(named.encode(&t, &twice, true).unwrap_err().to_string().contains("names the image in 2 turns"));
    let e = named.encode(&t, &[Turn::user("a"), Turn::user("b")], false).unwrap_err();
    assert!(e.hint_text().is_some_and(|h| h.contains("alternate")), "{e}");
    let late = [Turn::user("a"), Turn::system("b")];
    assert!(named.encode(&t, &late, false).unwrap_err().to_string().contains("turn 1: a system message"));
    let own = named.encode(&t, &[Turn::system("S"), Turn::user("a"), Turn::assistant("b")], false)?;
    assert!(t.decode(&own.ids)?.starts_with("S USER: a ASSISTANT: b"));
    assert!(named.encode(&t, &[Turn::system("S")], false).is_err());
    Ok(())
}

#[test]
fn a_template_survives_its_file() -> Result<()> {
    let nano = serde_json::to_string(&ChatTemplate::nano())?;
    assert!(nano.starts_with(r#"{"prefix":"","user_prefix":"<|user|>""#), "{nano}");
    let named = serde_json::to_string(&ChatTemplate::named("llama_3")?)?;
    assert_eq!(named, r#"{"named":"llama_3","max_length":2048}"#);
    for template in [ChatTemplate::nano(), ChatTemplate::named("phi3")?, jinja("qwen3")?] {
        let again: ChatTemplate = serde_json::from_value(serde_json::to_value(&template)?)?;
        assert_eq!(again, template);
    }
    let bad = |text: &str| serde_json::from_str::<ChatTemplate>(text).map(|_| ()).unwrap_err().to_string();
    assert!(bad(r#"{"named": "vicuna"}"#).contains("vicuna_v1"));
    assert!(bad(r#"{"jinja": "", "dates": 3}"#).contains("dates"));
    assert!(bad(r#"{"user_prefix": ""}"#).contains("assistant_prefix"));
    let shipped: Value = serde_json::from_slice(&std::fs::read(
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("zoo/nano-lm/chat.json"),
    )?)?;
    assert_eq!(serde_json::to_value(serde_json::from_value::<ChatTemplate>(shipped.clone())?)?, shipped);
    Ok(())
}
