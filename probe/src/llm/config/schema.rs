//! Completes the JSON schema of [`LlmConfig`](super::LlmConfig), which is derived from its fields, by what the reader
//! of `config.json` adds: optional keys whose defaults depend on the family, valid names, and the keys of experts.

use super::Activation;
use crate::llm::family::FAMILIES;
use schemars::Schema;
use serde_json::{Value, json};

/// The keys without a default.
const REQUIRED: [&str; 5] =
    ["hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "vocab_size"];

/// Completes the derived schema.
pub(super) fn complete(schema: &mut Schema) {
    schema.insert("required".into(), json!(REQUIRED));
    let Some(keys) = schema.get_mut("properties").and_then(Value::as_object_mut) else { return };
    let families: Vec<&str> = FAMILIES.iter().map(|family| family.name).collect();
    keys["model_type"]["enum"] = json!(families);
    keys["model_type"]["x-default"] = json!("llama");
    keys["hidden_act"]["enum"] = json!(Activation::names());
    let experts = [
        ("num_experts", "Number of routed experts per layer; only in families with a mixture of experts."),
        ("num_experts_per_tok", "Number of experts per token (top-k)."),
        ("moe_intermediate_size", "Inner width of each routed expert, in channels."),
        ("shared_expert_intermediate_size", "Inner width of the shared expert, in channels."),
    ];
    for (key, description) in experts {
        keys.insert(
            key.into(),
            json!({"description": description, "type": ["integer", "null"], "format": "uint", "minimum": 0}),
        );
    }
    for (key, value) in keys {
        let optional = !REQUIRED.contains(&key.as_str()) && value.get("x-default").is_none();
        if let Some(value) = value.as_object_mut().filter(|_| optional) {
            value.insert("x-default".into(), json!("the family's"));
        }
    }
}
