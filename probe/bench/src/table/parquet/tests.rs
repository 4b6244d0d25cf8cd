//! Tests of forged and damaged parquet files.

use crate::ImageLocation;
use crate::table::{DatasetTable, TableColumns};
use arrow_array::builder::{BinaryBuilder, ListBuilder, StringBuilder};
use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use burgess_base::Result;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, Encoding, GzipLevel, ZstdLevel};
use parquet::file::properties::{WriterProperties, WriterPropertiesBuilder};
use std::fs::{self, File};
use std::path::Path;
use std::sync::Arc;

type Checked = std::result::Result<(), Box<dyn std::error::Error>>;

const ALL: TableColumns<'_> = TableColumns { values: &["question?", "answer?", "choices?"], images: &["image?"] };

fn read(file: &Path) -> Result<u64> {
    let mut rows = 0;
    DatasetTable::find(file, "", "")?.rows(ALL, |_, row| {
        rows += u64::from(row.is_ok());
        Ok(())
    })?;
    Ok(rows)
}

fn error(file: &Path) -> String {
    read(file).expect_err("harm").to_string().replace(&file.display().to_string(), "F")
}

fn write(file: &Path, columns: Vec<(&str, ArrayRef)>, properties: WriterPropertiesBuilder) -> Checked {
    let batch = RecordBatch::try_from_iter(columns)?;
    let mut writer = ArrowWriter::try_new(File::create(file)?, batch.schema(), Some(properties.build()))?;
    writer.write(&batch)?;
    writer.close()?;
    Ok(())
}

fn texts(texts: &[&str]) -> ArrayRef {
    Arc::new(StringArray::from(texts.to_vec()))
}

/// Writes a small table with every kind of column that is read.
fn small(file: &Path, compression: Compression) -> Checked {
    let (mut choices, mut image) = (ListBuilder::new(StringBuilder::new()), BinaryBuilder::new());
    for row in 0..6_u8 {
        choices.append_value([Some("left"), None, Some("right")]);
        image.append_option((row != 3).then_some([row; 5]));
    }
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("question", texts(&["which?", "where?", "which?", "which?", "", "who?"])),
        ("answer", Arc::new(Int64Array::from(vec![0, 1, 1, 1, 0, 7]))),
        ("choices", Arc::new(choices.finish())),
        ("image", Arc::new(image.finish())),
    ];
    write(file, columns, WriterProperties::builder().set_compression(compression).set_max_row_group_row_count(Some(4)))
}

// The part of Thrift's compact protocol that a footer needs.

fn varint(mut n: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while n > 0x7f {
        bytes.push(n as u8 | 0x80);
        n >>= 7;
    }
    bytes.push(n as u8);
    bytes
}

fn zigzag(n: i64) -> Vec<u8> {
    varint(((n << 1) ^ (n >> 63)) as u64)
}

/// Encodes fields, given in the order of their ids: id, type, bytes.
fn structure(fields: &[(u8, u8, Vec<u8>)]) -> Vec<u8> {
    let mut last = 0;
    let mut bytes = Vec::new();
    for (number, kind, value) in fields {
        bytes.push((number - last) << 4 | kind);
        bytes.extend(value);
        last = *number;
    }
    bytes.push(0);
    bytes
}

fn list(kind: u8, items: &[Vec<u8>]) -> Vec<u8> {
    [vec![0xf0 | kind], varint(items.len() as u64), items.concat()].concat()
}

fn text(text: &str) -> Vec<u8> {
    [varint(text.len() as u64), text.as_bytes().to_vec()].concat()
}

/// The metadata of a column chunk of `question`.
#[derive(Clone)]
struct Said {
    values: i64,
    compressed: i64,
    data: i64,
    dictionary: Option<i64>,
}

const HONEST: Said = Said { values: 2, compressed: 40, data: 4, dictionary: None };

/// Builds a file of 100 bytes and a footer with these row groups: number of rows, chunks.
fn forged(groups: &[(i64, Vec<Said>)]) -> Vec<u8> {
    let chunk = |said: &Said| {
        let mut fields = vec![
            (1, 5, zigzag(6)),
            (2, 9, list(5, &[zigzag(0)])),
            (3, 9, list(8, &[text("question")])),
            (4, 5, zigzag(0)),
            (5, 6, zigzag(said.values)),
            (6, 6, zigzag(said.compressed)),
            (7, 6, zigzag(said.compressed)),
            (9, 6, zigzag(said.data)),
        ];
        fields.extend(said.dictionary.map(|d| (11, 6, zigzag(d))));
        structure(&[(2, 6, zigzag(0)), (3, 12, structure(&fields))])
    };
    let group = |(rows, chunks): &(i64, Vec<Said>)| {
        let chunks: Vec<Vec<u8>> = chunks.iter().map(chunk).collect();
        structure(&[(1, 9, list(12, &chunks)), (2, 6, zigzag(80)), (3, 6, zigzag(*rows))])
    };
    let rows = groups.iter().map(|g| g.0).fold(0, i64::saturating_add);
    let schema = [
        structure(&[(4, 8, text("schema")), (5, 5, zigzag(1))]),
        structure(&[(1, 5, zigzag(6)), (3, 5, zigzag(1)), (4, 8, text("question"))]),
    ];
    let groups: Vec<Vec<u8>> = groups.iter().map(group).collect();
    let footer =
        structure(&[(1, 5, zigzag(1)), (2, 9, list(12, &schema)), (3, 6, zigzag(rows)), (4, 9, list(12, &groups))]);
    let length = (footer.len() as u32).to_le_bytes();
    [b"PAR1".to_vec(), vec![0; 96], footer, length.to_vec(), b"PAR1".to_vec()].concat()
}

#[test]
fn offsets_and_counts_are_compared_with_the_file() -> Checked {
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("x.parquet");
    let said = |said: Said| vec![(2, vec![said])];
    let second = Said { data: 44, ..HONEST };
    type Groups = Vec<(i64, Vec<Said>)>;
    let cases: Vec<(Groups, &str)> = vec![
        (said(Said { data: -4, ..HONEST }), "40 bytes from byte -4 do not lie within the"),
        (said(Said { data: i64::MIN, ..HONEST }), "do not lie within"),
        (said(Said { compressed: -1, ..HONEST }), "-1 bytes from byte 4 do not lie within"),
        (said(Said { compressed: i64::MAX, ..HONEST }), "do not lie within"),
        (said(Said { data: 1 << 40, ..HONEST }), "do not lie within"),
        (said(Said { dictionary: Some(-9), ..HONEST }), "from byte -9 do not lie within"),
        (said(Said { dictionary: Some(80), ..HONEST }), "do not lie within"),
        (said(Said { values: -1, ..HONEST }), "the column has -1 values for 2 rows"),
        (said(Said { values: 1 << 40, ..HONEST }), "the column has 1099511627776 values for 2 rows"),
        (vec![(-2, vec![HONEST])], "the row group 0 has -2 rows"),
        (vec![(1 << 50, vec![Said { values: 1 << 50, ..HONEST }])], "rows, more than 16 for each of its"),
        (
            vec![(2, vec![HONEST]), (2, vec![Said { data: 43, ..HONEST }])],
            "the bytes of the column overlap those of another column (column `question`, row group 1)",
        ),
        (vec![(2, vec![HONEST, second.clone()])], "the row group 0 has 2 columns, but the schema has 1"),
        (vec![(2, Vec::new())], "the row group 0 has 0 columns, but the schema has 1"),
    ];
    for (groups, message) in cases {
        fs::write(&file, forged(&groups))?;
        let error = error(&file);
        assert!(error.starts_with("reading F: ") && error.contains(message), "{error}\ninstead of {message}");
    }
    fs::write(&file, forged(&said(Said { data: -4, ..HONEST })))?;
    assert!(error(&file).ends_with("(column `question`, row group 0)"));
    // The footer is valid, but the bytes are not pages.
    fs::write(&file, forged(&[(2, vec![HONEST]), (2, vec![second])]))?;
    assert!(error(&file).contains("(column `question`, row group 0)"), "{}", error(&file));
    for footer in [u32::MAX, 1 << 20, 0, 200] {
        let mut bytes = forged(&said(HONEST));
        let at = bytes.len() - 8;
        bytes[at..at + 4].copy_from_slice(&footer.to_le_bytes());
        fs::write(&file, bytes)?;
        assert!(error(&file).contains("footer"), "{}", error(&file));
    }
    for (bytes, message) in
        [(&b"PAR1"[..], "too few for a parquet file"), (&[0; 64], "PAR1"), (b"PAR1\0\0\0\0\0\0\0\0PARE", "encrypted")]
    {
        fs::write(&file, bytes)?;
        assert!(error(&file).contains(message), "{}", error(&file));
    }
    Ok(())
}

#[test]
fn damaged_files_never_panic() -> Checked {
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("x.parquet");
    let zstd = Compression::ZSTD(ZstdLevel::default());
    for compression in [Compression::UNCOMPRESSED, Compression::SNAPPY, zstd, Compression::GZIP(GzipLevel::default())] {
        small(&file, compression)?;
        assert_eq!(read(&file)?, 6, "{compression:?}");
        let bytes = fs::read(&file)?;
        let footer = bytes.len() - 8 - u32::from_le_bytes(bytes[bytes.len() - 8..bytes.len() - 4].try_into()?) as usize;
        for at in 0..bytes.len() {
            // The footer is the same for every codec.
            if at >= footer && compression != Compression::UNCOMPRESSED {
                break;
            }
            let mut damaged = bytes.clone();
            damaged[at] ^= if at % 2 == 0 { 0xff } else { 0x7f };
            fs::write(&file, &damaged)?;
            let _ = read(&file);
            if at % 4 == 0 {
                let _ = ImageLocation::parse(&format!("{}#image/5", file.display())).bytes();
            }
        }
        for end in (0..bytes.len()).step_by(31) {
            fs::write(&file, &bytes[..end])?;
            assert!(read(&file).is_err(), "{end}");
        }
    }
    Ok(())
}

#[test]
fn small_files_do_not_become_gigabytes() -> Checked {
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("x.parquet");
    let zstd = || WriterProperties::builder().set_compression(Compression::ZSTD(ZstdLevel::default()));
    let small = |file: &Path| fs::metadata(file).map(|m| m.len() < 1 << 20);
    // One text of 1 MiB that 1000 rows share.
    let shared = "x".repeat(1 << 20);
    write(
        &file,
        vec![("question", texts(&vec![shared.as_str(); 1000]))],
        zstd().set_dictionary_page_size_limit(4 << 20),
    )?;
    assert!(small(&file)?);
    assert_eq!(error(&file), "reading F: the text of its first 257 rows is more than 256 MiB");
    // A list of such texts in one row.
    let mut choices = ListBuilder::new(StringBuilder::new());
    choices.append_value(vec![Some(shared.as_str()); 300]);
    write(&file, vec![("choices", Arc::new(choices.finish()))], zstd().set_dictionary_page_size_limit(4 << 20))?;
    assert!(small(&file)?);
    assert_eq!(read(&file)?, 0, "the row is left out");
    // A page of zeros, in every codec.
    let zeros = "0".repeat(40 << 20);
    for compression in
        [Compression::SNAPPY, Compression::ZSTD(ZstdLevel::default()), Compression::GZIP(GzipLevel::default())]
    {
        let properties = WriterProperties::builder().set_compression(compression).set_dictionary_enabled(false);
        write(&file, vec![("question", texts(&[&zeros]))], properties)?;
        if compression == Compression::SNAPPY {
            // Snappy's compression ratio is at most about 20.
            assert_eq!(read(&file)?, 1);
            continue;
        }
        let error = error(&file);
        assert!(error.contains("holds 40 MiB in"), "{error}");
        assert!(error.ends_with("(column `question`, row group 0)"), "{error}");
    }
    // Values that repeat the whole previous value.
    let properties = WriterProperties::builder().set_dictionary_enabled(false).set_encoding(Encoding::DELTA_BYTE_ARRAY);
    write(&file, vec![("question", texts(&[&shared, &shared]))], properties)?;
    let refused = read(&file).expect_err("an encoding");
    assert!(
        refused.to_string().contains("the encoding DELTA_BYTE_ARRAY is not supported (column `question`, row group 0)")
    );
    assert!(refused.hint_text().is_some_and(|h| h.contains("pq.write_table")));
    // Images that share their bytes.
    let mut image = BinaryBuilder::new();
    (0..400).for_each(|_| image.append_value(shared.as_bytes()));
    write(&file, vec![("image", Arc::new(image.finish()))], zstd().set_dictionary_page_size_limit(4 << 20))?;
    let names: Vec<ImageLocation> =
        (0..400).map(|n| ImageLocation::parse(&format!("{}#image/{n}", file.display()))).collect();
    let all: Vec<&ImageLocation> = names.iter().collect();
    let fetched = crate::read_images(&all);
    assert!(fetched.iter().all(|f| f.as_ref().is_err_and(|e| e.to_string().contains("more than 256 MiB"))));
    assert_eq!(crate::read_images(&all[..3]).iter().filter(|f| f.is_ok()).count(), 3);
    Ok(())
}
