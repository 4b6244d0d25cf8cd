//! Records of a study's parts for the report: direct probes of its encoders, and the scores of its language model on
//! text. Also checks that a study's claims refer to what it measures.

use crate::data::field;
use crate::run::probes;
use crate::run::probes::{AccuracyInterval, ProbeRecord};
use burgess_base::atomic;
use burgess_encoders::card::EncoderCard;
use burgess_probe::llm::weights;
use burgess_reports::check::TextAccuracy;
use burgess_reports::validity::{EncoderProbes, Probe, ProbeAccuracy};
use burgess_world::probing::ProbeLevel;
use serde::Deserialize;

/// Scores of a language model on text alone, from its `record.json`; empty if it has none.
pub fn reading(llm: &str) -> Vec<TextAccuracy> {
    #[derive(Deserialize)]
    struct Record {
        #[serde(default)]
        reading: Vec<TextAccuracy>,
    }
    let record = field::resolve(llm).and_then(|name| weights::locate(&name)).map(|dir| dir.join("record.json"));
    let record = record.ok().filter(|record| record.is_file());
    // A record of another form has no such scores.
    record.and_then(|record| atomic::read_json::<Record>(&record).ok()).map(|r| r.reading).unwrap_or_default()
}

/// Direct probes in the records of shipped encoders, by card id; encoders without a record are left out.
pub fn encoder_probes<'a>(encoders: impl IntoIterator<Item = &'a str>) -> Vec<EncoderProbes> {
    let named = |id: &str| {
        let probes: Vec<Probe> = probes::recorded(&EncoderCard::find(id).ok()?).into_iter().map(probe).collect();
        (!probes.is_empty()).then_some(EncoderProbes { encoder: id.to_string(), probes })
    };
    encoders.into_iter().filter_map(named).collect()
}

fn probe(record: ProbeRecord) -> Probe {
    let share = |s: AccuracyInterval| ProbeAccuracy { accuracy: s.accuracy, low: s.low, high: s.high };
    Probe {
        attribute: record.attribute,
        level: match record.level {
            ProbeLevel::Image => "picture",
            ProbeLevel::Patch => "patch",
        }
        .to_string(),
        chance: record.chance,
        linear: share(record.linear),
        knn: share(record.knn),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_language_model_has_a_record_of_what_it_reads() {
        let reading = reading("nano-lm");
        assert!(reading.iter().any(|r| r.benchmark == "nano-gqa" && r.read > 0.5), "{reading:?}");
        assert!(super::reading("no-such-model").is_empty());
        assert!(encoder_probes(["no-such-encoder"]).is_empty());
    }

    /// The share of things that a linear probe of the shipped encoder names on held-out images.
    fn things(encoder: &str) -> f64 {
        let probes = encoder_probes([encoder]);
        let all = probes.iter().flat_map(|p| &p.probes);
        let thing = all.filter(|p| p.attribute == "thing" && p.level == "picture").map(|p| p.linear.accuracy);
        thing.fold(0.0, f64::max)
    }

    /// What README and page say of the shipped weights, from their records.
    #[test]
    fn shipped_records_hold_what_is_claimed_of_them() {
        let nano: Vec<_> = reading("nano-lm").into_iter().filter(|r| r.benchmark.starts_with("nano-")).collect();
        assert!(nano.len() == 9 && nano.iter().all(|r| r.read >= 0.9), "{nano:?}");
        let random = things("nano-random");
        assert!(random > 0.0 && random < 0.2, "{random}");
        for (encoder, least) in [
            ("nano-sup", 0.9),
            ("nano-siglip", 0.8),
            ("nano-clip", 0.7),
            ("nano-convnext", 0.8),
            ("nano-moco", 2.0 * random),
            ("nano-ijepa", 2.0 * random),
            ("nano-sam", 3.0 * random),
            ("nano-midas", 3.0 * random),
            ("nano-dinov2", 1.5 * random),
            ("nano-mae", random),
        ] {
            assert!(things(encoder) >= least, "{encoder}: {} of {least}, random {random}", things(encoder));
        }
    }
}
