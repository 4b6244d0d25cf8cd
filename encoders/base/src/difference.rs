//! Differences between two configurations.

use serde_json::Value;

/// Lists the keys at which a stored and a current JSON value differ, as `key.key: A stored, B now`.
pub fn differences(stored: &Value, current: &Value) -> Vec<String> {
    fn walk(path: &str, stored: &Value, current: &Value, out: &mut Vec<String>) {
        match (stored, current) {
            (Value::Object(a), Value::Object(b)) => {
                let keys: std::collections::BTreeSet<&String> = a.keys().chain(b.keys()).collect();
                for key in keys {
                    let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                    walk(&path, a.get(key).unwrap_or(&Value::Null), b.get(key).unwrap_or(&Value::Null), out);
                }
            }
            (a, b) if a == b => {}
            (a, b) => out.push(format!("{path}: {a} stored, {b} now")),
        }
    }
    let mut out = Vec::new();
    walk("", stored, current, &mut out);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn differences_name_the_keys() {
        let a = json!({"recipe": {"steps": 10, "lr": 0.1}, "llm": "x"});
        let b = json!({"recipe": {"steps": 20, "lr": 0.1}, "llm": "x", "limit": 5});
        assert_eq!(differences(&a, &b), ["limit: null stored, 5 now", "recipe.steps: 10 stored, 20 now"]);
        assert!(differences(&a, &a).is_empty());
    }
}
