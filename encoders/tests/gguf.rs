//! GGUF: every type of numbers equal to gguf-py's to the last bit, every type of metadata, models in several files.
//! Goldens: `tests/reference/gguf_blocks.py`.

use burgess_base::Result;
use burgess_encoders::checkpoint::{self, Checkpoint, MetadataValue};
use std::path::{Path, PathBuf};

fn golden(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/gguf").join(name)
}

#[test]
fn every_type_of_numbers_is_that_of_gguf_py() {
    let file = Checkpoint::open(&golden("types.gguf")).unwrap();
    let expected = Checkpoint::open(&golden("expected.safetensors")).unwrap();
    assert_eq!(file.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    for key in expected.keys() {
        assert_eq!(file.shape(key), expected.shape(key), "{key}");
        let bits = |values: Vec<f32>| values.into_iter().map(f32::to_bits).collect::<Vec<_>>();
        let (found, wanted) = (file.read(key).unwrap(), expected.read(key).unwrap());
        let different = found.iter().zip(&wanted).position(|(a, b)| a.to_bits() != b.to_bits());
        assert_eq!(bits(found), bits(wanted), "{key} from number {different:?} on");
    }
    let vector = file.read("vector").unwrap();
    assert_eq!(file.read_rows("vector", 3..40).unwrap(), &vector[3..40]);
    println!("{} tensors equal to the last bit", expected.keys().count());
}

/// A file with one tensor `w` of 8-bit blocks, whose scale is one, so that its numbers are the bytes.
fn bytes_as_numbers(rows: usize, columns: usize) -> Vec<u8> {
    let mut file = [b"GGUF", &3u32.to_le_bytes()[..], &1u64.to_le_bytes(), &0u64.to_le_bytes()].concat();
    file.extend([&1u64.to_le_bytes()[..], b"w", &2u32.to_le_bytes()].concat());
    file.extend([(columns as u64).to_le_bytes(), (rows as u64).to_le_bytes()].concat());
    file.extend([&8u32.to_le_bytes()[..], &0u64.to_le_bytes()].concat());
    file.resize(file.len().next_multiple_of(32), 0);
    for block in 0..rows * columns / 32 {
        file.extend([0x00, 0x3c]);
        file.extend((0..32).map(|i| ((32 * block + i) % 251) as u8));
    }
    file
}

/// Enough numbers for several tasks, the last of them not full.
#[test]
fn large_tensors_are_read_in_parallel_and_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("large.gguf");
    std::fs::write(&path, bytes_as_numbers(700, 256)).unwrap();
    let file = Checkpoint::open(&path).unwrap();
    assert_eq!(file.shape("w"), Some(&[700, 256][..]));
    let values = file.read("w").unwrap();
    assert_eq!(values.len(), 700 * 256);
    for (i, value) in values.into_iter().enumerate() {
        assert_eq!(value, f32::from(((i % 251) as u8).cast_signed()), "number {i}");
    }
    let rows = file.read_rows("w", 300..302).unwrap();
    assert_eq!(rows, (300 * 256..302 * 256).map(|i| f32::from(((i % 251) as u8).cast_signed())).collect::<Vec<_>>());
    assert!(file.read_rows("w", 0..701).unwrap_err().to_string().contains("has 700 rows"));
}

#[test]
fn every_type_of_metadata_is_read() -> Result<()> {
    let file = Checkpoint::open(&golden("types.gguf"))?;
    let metadata = file.metadata();
    assert_eq!(metadata.text("general.architecture")?, Some("test"));
    assert_eq!(metadata.text("test.text")?, Some("Grüße, 世界 🙂\n"));
    let integers: [(&str, i128); 8] = [
        ("u8", 200),
        ("i8", -100),
        ("u16", 60_000),
        ("i16", -30_000),
        ("u32", 4_000_000_000),
        ("i32", -2_000_000_000),
        ("u64", u64::MAX.into()),
        ("i64", i64::MIN.into()),
    ];
    for (key, value) in integers {
        assert_eq!(metadata.get(&format!("test.{key}")), Some(MetadataValue::Integer(value)));
    }
    assert_eq!(metadata.number("test.f32")?, Some(f64::from(0.1f32)));
    assert_eq!(metadata.number("test.f64")?, Some(0.1));
    assert_eq!(metadata.flag("test.flag")?, Some(true));
    let list = |key: &str| metadata.list(key).map(|list| list.expect("a list"));
    assert_eq!(list("test.texts")?.texts()?.collect::<Result<Vec<_>>>()?, ["", "a", "▁été", "<0x0A>"]);
    assert_eq!(list("test.integers")?.integers()?.collect::<Vec<_>>(), [-1, 2, -3]);
    assert_eq!(list("test.numbers")?.numbers()?.collect::<Vec<_>>(), [0.5, -0.25]);
    assert_eq!(list("test.flags")?.flags()?.collect::<Vec<_>>(), [true, false, true]);
    let wrong = metadata.size("test.i8").unwrap_err().to_string();
    assert!(wrong.contains("`test.i8` is an integer, expected a size"), "{wrong}");
    assert!(Checkpoint::open(&golden("expected.safetensors"))?.metadata().keys().next().is_none());
    Ok(())
}

#[test]
fn a_model_in_several_files_is_opened_by_the_first() {
    let file = Checkpoint::open(&golden("split-00001-of-00003.gguf")).unwrap();
    assert_eq!(file.keys().collect::<Vec<_>>(), ["w0", "w1", "w2"]);
    assert_eq!(file.read("w2").unwrap(), [2.0; 6]);
    assert_eq!(file.metadata().text("test.text").unwrap(), Some("of the whole"));
    assert_eq!(checkpoint::all_files(&golden("split-00001-of-00003.gguf")).unwrap().len(), 3);

    let dir = tempfile::tempdir().unwrap();
    let copy = |from: &str, to: &str| {
        let path = dir.path().join(to);
        std::fs::copy(golden(from), &path).unwrap();
        path
    };
    let say = |path: &Path| {
        let error = Checkpoint::open(path).unwrap_err();
        (error.to_string(), error.hint_text().unwrap().to_string())
    };
    let second = copy("split-00002-of-00003.gguf", "a-00002-of-00003.gguf");
    let (text, hint) = say(&second);
    assert!(text.contains("part 2 of a model in 3 files") && hint.contains("a-00001-of-00003.gguf"), "{text} {hint}");
    let (text, hint) = say(&copy("split-00001-of-00003.gguf", "b.gguf"));
    assert!(
        text.contains("its name states another number") && hint.contains("NAME-00001-of-00003.gguf"),
        "{text} {hint}"
    );
    let first = copy("split-00001-of-00003.gguf", "a-00001-of-00003.gguf");
    let (text, _) = say(&first);
    assert!(text.contains("part a-00003-of-00003.gguf"), "{text}");
    assert!(checkpoint::all_files(&first).unwrap_err().to_string().contains("a-00003-of-00003.gguf does not exist"));
    copy("split-00002-of-00003.gguf", "a-00003-of-00003.gguf");
    assert!(say(&first).0.contains("in two shards"));
    copy("split-00001-of-00003.gguf", "a-00003-of-00003.gguf");
    assert!(say(&first).0.contains("has 3 tensors, its files 2"));
    copy("split-00003-of-00003.gguf", "a-00003-of-00003.gguf");
    assert!(Checkpoint::open(dir.path()).unwrap_err().to_string().contains("2 files of weights"));
    std::fs::remove_file(dir.path().join("b.gguf")).unwrap();
    assert_eq!(Checkpoint::open(dir.path()).unwrap().keys().count(), 3);
}
