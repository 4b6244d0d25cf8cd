//! Every architecture of timm against the model that timm builds (`tests/reference/timm_table.py`), and the table of
//! what is read in the zoo's README.

use super::*;
use crate::checkpoint::{Dialect, parameters};
use burgess_base::Result;
use burn::tensor::Device;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// The number of tensors, and of their elements, that the features of `name` need from a file.
fn contents(name: &str, input: usize) -> Result<(usize, usize)> {
    let model = model(name, &Value::Null, &Value::Null, input)?;
    let dialect = Dialect::find(model.dialect)?;
    let all = parameters(&model.config.init(&Device::flex())?)?;
    let shapes = |path: &str| all.iter().find(|p| p.path == path).map(|p| p.shape.as_slice());
    let mut sizes = (0, 0);
    let mut seen = std::collections::BTreeSet::new();
    // timm's `forward_features` ends before the head; a norm of the head is part of our networks.
    for parameter in all.iter().filter(|p| !p.path.starts_with("head.")) {
        let source = dialect.source(&parameter.path, &parameter.shape, &shapes)?;
        for key in source.keys.into_iter().filter(|key| !key.is_empty()) {
            if seen.insert(key) {
                sizes.0 += 1;
                sizes.1 += source.shape.iter().product::<usize>();
            }
        }
    }
    Ok(sizes)
}

/// What is read of a module of timm: architectures and pretrained tags, those that are read and all.
#[derive(Default)]
struct Coverage {
    architectures: (usize, usize),
    tags: (usize, usize),
}

impl Coverage {
    fn add(&mut self, read: bool, tags: usize) {
        self.architectures.1 += 1;
        self.tags.1 += tags;
        if read {
            self.architectures.0 += 1;
            self.tags.0 += tags;
        }
    }

    fn row(&self, module: &str, refused: &str) -> String {
        let Self { architectures: (some, all), tags: (read, tags) } = self;
        format!("| {module} | {some} of {all} | {read} of {tags} | {refused} |\n")
    }
}

/// The table has a line per module; the last column names what is refused, with the reason.
#[test]
fn every_architecture_of_timm_is_read_or_refused_by_name() -> Result<()> {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    let golden = std::fs::read_to_string(format!("{root}/tests/golden/timm/architectures.tsv")).unwrap();
    let (mut modules, mut total) = (BTreeMap::<&str, (Coverage, BTreeMap<String, usize>)>::new(), Coverage::default());
    let mut wrong = Vec::new();
    for line in golden.lines() {
        let [name, side, tensors, elements, module, tags] = line.split('\t').collect::<Vec<_>>()[..] else {
            panic!("{line}")
        };
        let [side, tensors, elements, tags] = [side, tensors, elements, tags].map(|n| n.parse::<usize>().unwrap());
        let (coverage, refused) = modules.entry(module).or_default();
        let found = contents(name, if side == 0 { 224 } else { side });
        coverage.add(found.is_ok(), tags);
        total.add(found.is_ok(), tags);
        match found {
            // What timm cannot build from its name alone has no numbers. SAM's features are taken before the
            // neck, those of VOLO before the blocks of its class token.
            Ok(found)
                if found == (tensors, elements)
                    || tensors == 0
                    || ["vision_transformer_sam", "volo"].contains(&module) => {}
            Ok(found) => wrong.push(format!("{name}: {found:?} instead of {:?}", (tensors, elements))),
            Err(e) => {
                assert!(e.hint_text().is_some(), "{e}");
                let message = e.to_string();
                let reason = message.split_once("` ").map_or(message.as_str(), |(_, reason)| reason);
                // The value of an argument may be long.
                let reason =
                    reason.trim_end_matches(", which is not supported").split(" = ").next().unwrap_or_default();
                *refused.entry(reason.to_string()).or_insert(0) += 1;
            }
        }
    }
    assert!(wrong.is_empty(), "{} wrong: {wrong:#?}", wrong.len());
    let mut table = String::from("| module of timm | architectures | pretrained tags | refused |\n|---|---|---|---|\n");
    for (module, (coverage, refused)) in &modules {
        let refused: Vec<String> = refused.iter().map(|(reason, n)| format!("{n} × {reason}")).collect();
        let _ = write!(table, "{}", coverage.row(module, &refused.join("; ")));
    }
    let _ = write!(table, "{}", total.row("**all**", ""));
    let path = format!("{root}/encoders/zoo/README.md");
    let readme = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = readme.split_once("<!-- timm -->\n").unwrap();
    let (_, after) = rest.split_once("<!-- end -->").unwrap();
    let written = format!("{before}<!-- timm -->\n{table}<!-- end -->{after}");
    if std::env::var_os("BURGESS_UPDATE").is_some() {
        std::fs::write(&path, &written).unwrap();
    }
    let read = std::env::var_os("BURGESS_UPDATE").is_some() || readme == written;
    assert!(read, "run this test with BURGESS_UPDATE=1: the table of {path} is not that of the code:\n{table}");
    Ok(())
}

#[test]
fn cards_of_windowed_networks_are_those_of_their_directories() -> Result<()> {
    let cards = [
        ("hiera-b-plus-224", "hiera_base_plus_224.mae", 224),
        ("maxvit-b-512", "maxvit_base_tf_512.in21k_ft_in1k", 512),
        ("swinv2-b-256", "swinv2_base_window12to16_192to256.ms_in22k_ft_in1k", 256),
    ];
    for (id, name, side) in cards {
        let (card, directory) = (crate::card::EncoderCard::find(id)?, model(name, &Value::Null, &Value::Null, side)?);
        assert_eq!((&card.architecture, card.source.dialect.as_str()), (&directory.config, directory.dialect), "{id}");
    }
    Ok(())
}
