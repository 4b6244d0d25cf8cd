//! Fuzz targets for training conversations, plain and compressed, as training and the search for leaks read them.

use crate::FuzzTarget;
use crate::corpus::root;
use crate::input_dir::InputDir;
use crate::mutate::MutationForm;
use burgess_base::Result;
use burgess_leaks::{LeakOptions, NamedDataset};
use burgess_probe::data::conversation;
use std::path::Path;

const WORDS: &[&str] = &[
    "\"from\"",
    "\"value\"",
    "\"human\"",
    "\"gpt\"",
    "\"system\"",
    "<image>",
    "\"conversations\"",
    "\"image\"",
    "\"images\"",
    "\"source\"",
    "\u{feff}",
    "\"id\"",
];

pub const TARGETS: &[FuzzTarget] = &[
    FuzzTarget {
        name: "conversations",
        about: "training data in JSON and JSON lines",
        corpus: &[],
        words: WORDS,
        form: MutationForm::Json,
        share: 200,
        run: |input, place| read(&place.file(&input.name(), input.bytes)?, place),
    },
    FuzzTarget {
        name: "compressed",
        about: "training data compressed with gzip or zstd",
        corpus: &[],
        words: &["\x1f\u{8b}", "\u{28}\u{b5}\u{2f}\u{fd}", "BZh9", "PK\x03\x04"],
        form: MutationForm::Binary,
        share: 120,
        run: |input, place| read(&place.file("data.jsonl.gz", input.bytes)?, place),
    },
    FuzzTarget {
        name: "leaks",
        about: "training data in the search for images of benchmarks",
        corpus: &[],
        words: WORDS,
        form: MutationForm::Json,
        share: 4,
        run: |input, place| {
            let training = place.file("leaks/set.json", input.bytes)?;
            let named = |name: &str, path: &Path| NamedDataset { name: name.into(), path: path.to_path_buf() };
            let golden = root().join("tests/golden/benchmarks/realworldqa");
            let options =
                LeakOptions { images: Some(root().join("tests/golden/preprocess")), ..LeakOptions::default() };
            let (benchmark, training) = ([named("realworldqa", &golden)], [named("set", &training)]);
            burgess_leaks::find(&benchmark, &training, &options, &place.dir().join("leaks"), &mut |_, _| {})?;
            Ok(())
        },
    },
];

fn read(path: &Path, place: &InputDir) -> Result<()> {
    let (_, problems) = conversation::read_all(path)?;
    problems.notes().into_iter().for_each(|note| place.tell(note));
    Ok(())
}
