//! Mixes of training data: their TOML files, and the manifests beside their output.

use crate::FuzzTarget;
use crate::mutate::MutationForm;
use burgess_base::Error;
use burgess_mix::{MANIFEST, Manifest, Mix, MixTable};

const WORDS: &[&str] = &[
    "[threshold]",
    "t = ",
    "how = \"soft\"",
    "[ratios.shares]",
    "total = ",
    "shortfall = \"error\"",
    "within = \"even\"",
    "[[sources]]",
    "count = 18446744073709551615",
    "take = 0",
    "from = [\":\"]",
    "[[pools]]",
    "[filters.duplicates]",
    "similarity = nan",
    "drop_matching = ['(']",
    "languages = [\"eng\"]",
    "[system_prompts.sources]",
    "1e308",
    "-1",
    "\"\"",
];

pub const TARGETS: &[FuzzTarget] = &[
    FuzzTarget {
        name: "mix",
        about: "a mix of training data (TOML)",
        corpus: &["probe/data/mix/mixes/*.toml"],
        words: WORDS,
        form: MutationForm::Text,
        share: 40,
        run: |input, place| {
            let mix = Mix::read(std::str::from_utf8(input.bytes).map_err(Error::from)?, "mix.toml")?;
            let table = MixTable::from_published(&mix)?;
            place.tell(table.text());
            Ok(())
        },
    },
    FuzzTarget {
        name: "mix-manifest",
        about: "the manifest of a mix",
        corpus: &[],
        words: &["\"what\"", "\"burgess mix\"", "\"outputs\"", "\"table\"", "null", "18446744073709551616", "{}", "[]"],
        form: MutationForm::Json,
        share: 40,
        run: |input, place| {
            let path = place.file(MANIFEST, input.bytes)?;
            let dir = path.parent().ok_or_else(|| Error::failed("the manifest has no directory"))?;
            Manifest::read(dir)?.map(|manifest| manifest.digest()).transpose().map(drop)
        },
    },
];
