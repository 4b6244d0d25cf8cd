//! Pools of conversations in every published form, and the summary of what is in them.

use crate::FuzzTarget;
use crate::input_dir::InputDir;
use crate::mutate::MutationForm;
use burgess_base::Result;
use burgess_mix::pool::{Pool, PoolSpec, read_images};
use burgess_mix::summary::{SummaryOptions, summarise};
use std::path::Path;

const WORDS: &[&str] = &[
    "\"from\"",
    "\"value\"",
    "\"user\"",
    "\"assistant\"",
    "\"texts\"",
    "\"conversations\"",
    "\"images\"",
    "\"relevance_min\"",
    "<image>",
    "../",
    "\u{feff}",
    "\0",
    "]",
    "},",
    "NaN",
];

pub const TARGETS: &[FuzzTarget] = &[
    FuzzTarget {
        name: "pool",
        about: "pools of conversations in JSON and JSON lines, plain and compressed",
        corpus: &["tests/fuzz/corpus/conversations/*", "tests/golden/train/conversations/*"],
        words: WORDS,
        form: MutationForm::Json,
        share: 60,
        run: |input, place| read(&place.file("pool.jsonl", input.bytes)?, place),
    },
    FuzzTarget {
        name: "pool-table",
        about: "pools of conversations in parquet",
        corpus: &["tests/golden/train/pools/*.parquet"],
        words: &["PAR1", "conversations", "texts", "list", "element", "bytes", "path"],
        form: MutationForm::Binary,
        share: 20,
        run: |input, place| read(&place.file("pool.parquet", input.bytes)?, place),
    },
    FuzzTarget {
        name: "pool-shard",
        about: "webdataset shards",
        corpus: &["tests/golden/train/pools/*.tar"],
        words: &["ustar", ".json", ".png", "L", "x", "77777777777", "\u{80}", "path="],
        form: MutationForm::Binary,
        share: 40,
        run: |input, place| read(&place.file("pool.tar", input.bytes)?, place),
    },
];

fn read(path: &Path, place: &InputDir) -> Result<()> {
    let spec = PoolSpec { images: Some(place.dir().to_path_buf()), ..PoolSpec::new(path.display().to_string()) };
    let pool = Pool::open(&spec)?;
    let (mut positions, mut images) = (Vec::new(), Vec::new());
    let report = pool.scan(&mut |entry| {
        positions.push(entry.at);
        if images.len() < 8 {
            images.extend(pool.images(&entry).unwrap_or_default());
        }
        entry.write_llava(&mut Vec::new(), &vec!["x"; entry.images.len()], entry.turns)
    })?;
    report.notes().into_iter().for_each(|note| place.tell(note));
    for bytes in read_images(&images.iter().collect::<Vec<_>>()) {
        if let Err(e) = bytes {
            place.tell(e.to_string());
        }
    }
    let some: Vec<_> = positions.iter().copied().step_by(3).collect();
    let again = pool.read_at(&some, &mut |_| Ok(()))?;
    assert_eq!(again.entries as usize, some.len(), "entries are found again at their positions");
    let options =
        SummaryOptions { samples: 2, languages: 5, images: spec.images.as_deref(), ..SummaryOptions::default() };
    summarise(&pool, &options, &mut |_| {}).map(drop)
}
