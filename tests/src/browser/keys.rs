//! Keys by their names, as the DevTools protocol wants them.

use serde_json::{Value, json};

/// The two events (down, up) of a key, with modifiers before it: `Enter`, `Shift+Enter`, `Control+a`, `x`.
///
/// # Panics
/// The name is not known.
pub(super) fn events(name: &str) -> [Value; 2] {
    // A plus sign at the end is the key itself.
    let (modifiers, key) = match name.char_indices().rev().skip(1).find(|&(_, c)| c == '+') {
        Some((at, _)) => (&name[..at], &name[at + 1..]),
        None => ("", name),
    };
    let bits: u32 = modifiers.split('+').filter(|m| !m.is_empty()).map(|m| modifier(m, name)).sum();
    let (code, number, text) = key_of(key).unwrap_or_else(|| panic!("`{name}`: the key `{key}` is not known"));
    // With Control, Alt or Meta a key types nothing.
    let text = if bits & 0b0111 == 0 { text } else { String::new() };
    let kind = if text.is_empty() { "rawKeyDown" } else { "keyDown" };
    let event = |kind: &str| json!({ "type": kind, "modifiers": bits, "key": key_name(key), "code": code, "windowsVirtualKeyCode": number });
    let mut down = event(kind);
    if !text.is_empty() {
        down["text"] = text.into();
    }
    [down, event("keyUp")]
}

fn modifier(name: &str, whole: &str) -> u32 {
    match name {
        "Alt" => 1,
        "Control" => 2,
        "Meta" => 4,
        "Shift" => 8,
        _ => panic!("`{whole}`: the modifier `{name}` is not one of Alt, Control, Meta, Shift"),
    }
}

/// Value of `KeyboardEvent.key`.
fn key_name(key: &str) -> &str {
    if key == "Space" { " " } else { key }
}

/// `KeyboardEvent.code`, Windows' number of the key, and the text that it types.
fn key_of(key: &str) -> Option<(String, u32, String)> {
    let named = |code: &str, number: u32, text: &str| Some((code.to_owned(), number, text.to_owned()));
    match key {
        "Backspace" => named("Backspace", 8, ""),
        "Tab" => named("Tab", 9, ""),
        "Enter" => named("Enter", 13, "\r"),
        "Escape" => named("Escape", 27, ""),
        "Space" => named("Space", 32, " "),
        "PageUp" => named("PageUp", 33, ""),
        "PageDown" => named("PageDown", 34, ""),
        "End" => named("End", 35, ""),
        "Home" => named("Home", 36, ""),
        "ArrowLeft" => named("ArrowLeft", 37, ""),
        "ArrowUp" => named("ArrowUp", 38, ""),
        "ArrowRight" => named("ArrowRight", 39, ""),
        "ArrowDown" => named("ArrowDown", 40, ""),
        "Delete" => named("Delete", 46, ""),
        _ => {
            let mut chars = key.chars();
            let (Some(c), None) = (chars.next(), chars.next()) else { return None };
            let upper = c.to_ascii_uppercase();
            Some(match upper {
                'A'..='Z' => (format!("Key{upper}"), u32::from(upper), key.to_owned()),
                '0'..='9' => (format!("Digit{upper}"), u32::from(upper), key.to_owned()),
                // Punctuation: its place differs between keyboards, so it has no code.
                _ => (String::new(), 0, key.to_owned()),
            })
        }
    }
}
