//! Names of data sources, which are written in many ways: `Q-Instruct`, `q-instruct_200k.json`, `qinstruct`.

/// Returns the form of a name in which sources and kinds are compared: lower case, without `-`, `_`, spaces, dots and
/// other punctuation, without the extension of a file and without a size at the end (`_200k`).
///
/// ```
/// use burgess_mix::source_key;
/// assert_eq!(source_key("Q-Instruct"), source_key("q-instruct_200k.json"));
/// assert_eq!(source_key("ST-VQA"), "stvqa");
/// assert_eq!(source_key("Geo170K"), "geo170k");
/// ```
pub fn source_key(name: &str) -> String {
    let mut lower = name.trim().to_lowercase();
    for compressed in [".gz", ".zst"] {
        lower.truncate(lower.strip_suffix(compressed).map_or(lower.len(), str::len));
    }
    for extension in [".jsonl", ".json", ".parquet"] {
        lower.truncate(lower.strip_suffix(extension).map_or(lower.len(), str::len));
    }
    // `geo170k` is a name; `dvqa_2325k` has a size.
    if let Some((before, size)) = lower.rsplit_once(['_', '-', ' ']) {
        let digits = size.strip_suffix(['k', 'm']).unwrap_or_default();
        if !before.is_empty() && !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) {
            lower.truncate(before.len());
        }
    }
    let key: String = lower.chars().filter(|c| c.is_alphanumeric()).collect();
    // A name of punctuation only is itself.
    if key.is_empty() { lower } else { key }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_source_has_one_key() {
        for (name, key) in [
            ("DVQA", "dvqa"),
            ("dvqa_2325k.json", "dvqa"),
            ("LVIS-Instruct4V", "lvisinstruct4v"),
            ("lvis_instruct4v_220k.json", "lvisinstruct4v"),
            ("allava-laion-500k.json", "allavalaion"),
            ("geo170k.json", "geo170k"),
            ("LLaVA-665K", "llava"),
            ("LLaVA150K", "llava150k"),
            ("TAT-QA", "tatqa"),
            ("wiki sql.jsonl.gz", "wikisql"),
            ("Größe 图", "größe图"),
            ("_5k", "5k"),
            ("--", "--"),
            ("", ""),
        ] {
            assert_eq!(source_key(name), key, "{name}");
        }
    }
}
