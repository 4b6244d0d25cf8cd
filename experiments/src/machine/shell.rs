//! Quoting of words for a shell.

use burgess_base::text::escaped;
use std::ffi::OsStr;

/// Quotes a word for a shell: unquoted if it has only plain characters, else in single quotes, and as `$'…'` (bash,
/// zsh, ksh) if it holds control characters or bytes that are not UTF-8.
pub fn quoted(word: &OsStr) -> String {
    let plain = |c: char| c.is_alphanumeric() || "_@%+=:,./-".contains(c);
    match word.to_str() {
        Some(text) if !text.is_empty() && text.chars().all(plain) => text.to_string(),
        Some(text) if !text.chars().any(|c| escaped(c.encode_utf8(&mut [0; 4])).len() > c.len_utf8()) => {
            format!("'{}'", text.replace('\'', "'\\''"))
        }
        _ => {
            let mut out = String::from("$'");
            for byte in word.as_encoded_bytes() {
                match byte {
                    b'\'' | b'\\' => out.extend(['\\', char::from(*byte)]),
                    0x20..=0x7e => out.push(char::from(*byte)),
                    other => out.push_str(&format!("\\x{other:02x}")),
                }
            }
            out + "'"
        }
    }
}
