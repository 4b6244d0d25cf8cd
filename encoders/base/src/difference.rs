//! Differences between two configurations.

use serde_json::Value;

/// Lists the keys at which a stored and a current JSON value differ, as `key.key: STORED there, CURRENT here`.
pub fn differences(there: &Value, here: &Value) -> Vec<String> {
    fn walk(path: &str, there: &Value, here: &Value, out: &mut Vec<String>) {
        match (there, here) {
            (Value::Object(a), Value::Object(b)) => {
                let keys: std::collections::BTreeSet<&String> = a.keys().chain(b.keys()).collect();
                for key in keys {
                    let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                    walk(&path, a.get(key).unwrap_or(&Value::Null), b.get(key).unwrap_or(&Value::Null), out);
                }
            }
            (a, b) if a == b => {}
            (a, b) => out.push(format!("{path}: {a} there, {b} here")),
        }
    }
    let mut out = Vec::new();
    walk("", there, here, &mut out);
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
        assert_eq!(differences(&a, &b), ["limit: null there, 5 here", "recipe.steps: 10 there, 20 here"]);
        assert!(differences(&a, &a).is_empty());
    }
}
