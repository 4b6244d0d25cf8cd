//! References of a study to the mixes of which its conversations are the output.

use crate::data::DataDirectory;
use crate::data::digests::Manifest;
use burgess_base::Result;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// The mix of which a file of conversations is the output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MixReference {
    /// Name of the mix.
    pub name: String,
    /// Digest of its manifest, which lies beside the conversations.
    pub manifest: String,
    /// Number of its entries.
    pub entries: u64,
    /// Random seed of its draws.
    pub seed: u64,
}

/// Returns the mixes of the conversations of each stage. `name` is the name of a file in `manifest`, which has the
/// digests of the contents: a file that was changed after it was made refers to no mix.
///
/// # Errors
/// A manifest beside the conversations is damaged.
pub fn of_data(
    data: &DataDirectory,
    manifest: &Manifest,
    name: impl Fn(&Path) -> String,
) -> Result<BTreeMap<String, MixReference>> {
    let stages = data.align.iter().map(|file| ("align", file)).chain([("tune", &data.tune)]);
    let mut found = BTreeMap::new();
    for (stage, file) in stages {
        let (Some(contents), Some(mix)) = (manifest.get(&name(file)), burgess_mix::Manifest::beside(file)?) else {
            continue;
        };
        if mix.outputs.iter().any(|output| *contents == format!("{}-{}", output.bytes, output.digest)) {
            let reference = MixReference {
                name: mix.name.clone(),
                manifest: mix.digest()?,
                entries: mix.entries,
                seed: mix.mix.seed,
            };
            found.insert(stage.to_string(), reference);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use burgess_mix::{DATA_FILE, Mix, WriteOptions};

    #[test]
    fn only_an_unchanged_output_refers_to_its_mix() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let pool = dir.path().join("pool.jsonl");
        let turns = r#"[{"from": "human", "value": "What?"}, {"from": "gpt", "value": "it"}]"#;
        std::fs::write(&pool, format!("{{\"id\": 1, \"source\": \"a\", \"conversations\": {turns}}}\n"))?;
        let mix = Mix::read(&format!("seed = 4\n[[pools]]\npath = {pool:?}\n"), "x.toml")?;
        let out = dir.path().join("out");
        let options = WriteOptions { name: "mine".into(), ..WriteOptions::default() };
        let written = mix.plan(dir.path(), &mut |_| ())?.write(&out, &options, &mut |_| ())?.manifest;
        let data = |tune| DataDirectory {
            dir: dir.path().to_path_buf(),
            align: None,
            tune,
            digest: String::new(),
            earlier: None,
            generated: false,
            per_source: None,
        };
        let made = data(out.join(DATA_FILE));
        let output = &written.outputs[0];
        let contents = format!("{}-{}", output.bytes, output.digest);
        let manifest = |value: String| Manifest::from([("tune".to_string(), value)]);
        let found = of_data(&made, &manifest(contents.clone()), |_| "tune".into())?;
        let expected = MixReference { name: "mine".into(), manifest: written.digest()?, entries: 1, seed: 4 };
        assert_eq!(found, BTreeMap::from([("tune".to_string(), expected)]));
        assert!(of_data(&made, &manifest("1-x".into()), |_| "tune".into())?.is_empty(), "changed");
        assert!(of_data(&data(pool), &manifest(contents), |_| "tune".into())?.is_empty(), "another file");
        Ok(())
    }
}
