//! Requests that are disturbed at random.

use super::*;
use serde_json::json;

/// A generator of numbers for the test; the same numbers each time.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % limit
    }
}

/// Replaces, removes or doubles one value somewhere.
fn disturb(value: &mut Value, numbers: &mut Numbers) {
    let odd = [
        json!(null),
        json!(-1),
        json!(1e308),
        json!(u64::MAX),
        json!(i64::MIN),
        json!(""),
        json!("data:image/png;base64,iVBORw0KGgo"),
        json!("data:,"),
        json!("\u{0}\u{202e}é"),
        json!([]),
        json!({}),
        json!(true),
    ];
    match value {
        Value::Array(items) if !items.is_empty() && numbers.below(4) > 0 => {
            let at = numbers.below(items.len());
            match numbers.below(6) {
                0 => drop(items.remove(at)),
                1 => items.push(items[at].clone()),
                _ => disturb(&mut items[at], numbers),
            }
        }
        Value::Object(fields) if !fields.is_empty() && numbers.below(4) > 0 => {
            let key = fields.keys().nth(numbers.below(fields.len())).unwrap().clone();
            match numbers.below(6) {
                0 => drop(fields.remove(&key)),
                1 => drop(fields.insert(format!("{key}é"), fields[&key].clone())),
                _ => disturb(&mut fields[&key], numbers),
            }
        }
        other => *other = odd[numbers.below(odd.len())].clone(),
    }
}

/// Whatever a client sends is read or refused with an error that names a place, and never panics.
#[test]
fn disturbed_requests_are_read_or_refused() {
    let whole = json!({
        "model": "a", "temperature": 0.5, "top_p": 1, "max_tokens": 5, "n": 1, "seed": 3, "stop": ["a", "b"],
        "stream": true, "stream_options": {"include_usage": true}, "logprobs": true, "top_logprobs": 3,
        "tools": null, "logit_bias": {}, "response_format": {"type": "text"}, "user": "a",
        "messages": [
            {"role": "system", "content": "a"},
            {"role": "user", "content": [
                {"type": "text", "text": "a"},
                {"type": "image_url", "image_url": {"url": "http://example.org/a.png", "detail": "low"}},
            ]},
            {"role": "assistant", "content": "a", "refusal": null, "tool_calls": []},
            {"role": "user", "content": "a"},
        ],
        "options": ["a", "b"],
    });
    let (mut numbers, mut read, limits) = (Numbers(1), 0, Limits::default());
    for _ in 0..4000 {
        let mut value = whole.clone();
        for _ in 0..=numbers.below(3) {
            disturb(&mut value, &mut numbers);
        }
        let Value::Object(mut object) = value else { continue };
        let scored = Asked::score(object.clone(), &limits).map(|_| ());
        object.remove("options");
        for result in [scored, Asked::completion(object, &limits).map(|_| ())] {
            match result {
                Ok(()) => read += 1,
                Err(error) => assert!(error.body()["error"]["param"].is_string(), "{}", error.body()),
            }
        }
    }
    assert!(read > 200, "{read}");
}
