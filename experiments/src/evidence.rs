//! What was measured of a study's parts beside its runs: how well its language model reads.

use crate::field;
use burgess_base::atomic;
use burgess_probe::llm::weights;
use burgess_reports::check::Reading;
use serde::Deserialize;

/// How well a language model answers from text, by its record; nothing for one that has none.
pub fn reading(llm: &str) -> Vec<Reading> {
    #[derive(Deserialize)]
    struct Record {
        #[serde(default)]
        reading: Vec<Reading>,
    }
    let record = field::resolve(llm).and_then(|name| weights::locate(&name)).map(|dir| dir.join("record.json"));
    let record = record.ok().filter(|record| record.is_file());
    // A record of another form says nothing of what is asked here.
    record.and_then(|record| atomic::read_json::<Record>(&record).ok()).map(|r| r.reading).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_language_model_has_a_record_of_what_it_reads() {
        let reading = reading("nano-lm");
        assert!(reading.iter().any(|r| r.benchmark == "nano-gqa" && r.read > 0.5), "{reading:?}");
        assert!(super::reading("no-such-model").is_empty());
    }
}
