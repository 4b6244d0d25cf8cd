//! Packing of questions that a test server wrote, and reading them back.

use super::*;
use crate::qa::tests::{go, workspace};
use burgess_base::Result;
use burgess_mix::pool::{Pool, PoolSpec};
use burgess_site::{ChatOptions, ChatSite};
use std::fs;

#[test]
fn packed_data_read_back_and_have_a_card() -> Result<()> {
    for format in ["llava", "webdataset"] {
        let site = ChatSite::start(ChatOptions::default());
        let dir = tempfile::tempdir()?;
        let more = format!("[pack]\nformat = \"{format}\"\n");
        let workspace = workspace(dir.path(), &site.base_url(), &more)?;
        go(&workspace, Stage::Qa)?;
        let report = go(&workspace, Stage::Pack)?;
        assert!(report.failed.is_empty(), "{:?}", report.failed);
        let published = report.published.expect("all shards are packed");
        // Of three images in each of two shards one has no licence.
        assert_eq!((published.entries, published.pairs), (4, 4), "{format}");
        let pack = workspace.stage_directory(Stage::Pack);
        let spec = PoolSpec { images: Some(pack.clone()), ..PoolSpec::new(pack.to_string_lossy()) };
        let pool = Pool::open(&spec)?;
        let mut seen = Vec::new();
        pool.scan(&mut |entry| {
            seen.push((entry.source.to_string(), entry.kind.unwrap_or_default().to_string()));
            assert_eq!(entry.pairs().count(), 1);
            Ok(())
        })?;
        assert_eq!(seen, vec![("data-engine".to_string(), "science".to_string()); 4]);
        let card = fs::read_to_string(pack.join("README.md"))?;
        for part in
            ["license: other", "| CC BY 4.0 | 4 |", "| Technology | 4 |", "Ada \\| &lt;b> | 4 |", "| no licence | 2 |"]
        {
            assert!(card.contains(part), "{part} is not in\n{card}");
        }
        let attribution = fs::read_to_string(pack.join("attribution.csv"))?;
        assert_eq!(attribution.lines().count(), 5, "{attribution}");
        // Nothing is written again for the same shards.
        let before = fs::metadata(pack.join("README.md"))?.modified()?;
        assert!(go(&workspace, Stage::Pack)?.published.is_some());
        assert_eq!(fs::metadata(pack.join("README.md"))?.modified()?, before);
        // A damaged file is found.
        fs::remove_file(pack.join("manifest.json"))?;
        fs::write(pack.join("shard-00001.rejected"), "x")?;
        let e = go(&workspace, Stage::Pack).expect_err("damaged").to_string();
        assert!(e.contains("shard-00001.rejected has the digest"), "{e}");
    }
    Ok(())
}

#[test]
fn an_image_of_an_earlier_shard_is_left_out() {
    assert!(tells("00ff00ff00ff0000") && !tells("0000000000000000") && !tells("ffffffffffffffff") && !tells("x"));
}
