use super::*;
use crate::image_location::ImageLocation;
use ::parquet::arrow::ArrowWriter;
use arrow_array::builder::{BinaryBuilder, ListBuilder, StringBuilder, StructBuilder};
use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow_schema::{DataType, Field, Fields};
use std::fs::{self, File};
use std::sync::Arc;

/// Calls `each` with every row; an unreadable row is an error.
fn for_each(
    table: &DatasetTable,
    columns: TableColumns<'_>,
    mut each: impl FnMut(&TableRow) -> Result<()>,
) -> Result<()> {
    table.rows(columns, |place, row| row.and_then(&mut each).map_err(|e| e.context(place.to_string())))
}

type Checked = std::result::Result<(), Box<dyn std::error::Error>>;

fn image_fields() -> Fields {
    vec![Field::new("bytes", DataType::Binary, true), Field::new("path", DataType::Utf8, true)].into()
}

fn image_struct() -> StructBuilder {
    StructBuilder::new(image_fields(), vec![Box::new(BinaryBuilder::new()), Box::new(StringBuilder::new())])
}

fn append(builder: &mut StructBuilder, bytes: Option<&[u8]>) {
    if let Some(b) = builder.field_builder::<BinaryBuilder>(0) {
        b.append_option(bytes);
    }
    if let Some(b) = builder.field_builder::<StringBuilder>(1) {
        b.append_null();
    }
    builder.append(bytes.is_some());
}

/// Writes five rows: a text, a number, a list of texts, an image (null in row 3), a list of `row` images.
fn write_parquet(path: &Path) -> Checked {
    let (mut image, mut choices) = (image_struct(), ListBuilder::new(StringBuilder::new()));
    let mut several = ListBuilder::new(image_struct());
    for row in 0..5_u8 {
        append(&mut image, (row != 3).then_some(&[row; 3][..]));
        choices.append_value([Some("a"), Some("b")]);
        (0..row).for_each(|k| append(several.values(), Some(&[row, k])));
        several.append(true);
    }
    let columns: [(&str, ArrayRef); 5] = [
        ("question", Arc::new(StringArray::from(vec![Some("q0"), Some("q1"), Some(" "), None, Some("q4")]))),
        ("answer", Arc::new(Int64Array::from(vec![0, 1, 2, 3, 4]))),
        ("choices", Arc::new(choices.finish())),
        ("image", Arc::new(image.finish())),
        ("images", Arc::new(several.finish())),
    ];
    let batch = RecordBatch::try_from_iter(columns)?;
    let mut writer = ArrowWriter::try_new(File::create(path)?, batch.schema(), None)?;
    writer.write(&batch)?;
    writer.close()?;
    Ok(())
}

const ALL: TableColumns<'_> =
    TableColumns { values: &["question", "answer", "choices", "hint?"], images: &["image", "images"] };

#[test]
fn parquet_rows_name_their_images() -> Checked {
    let dir = tempfile::tempdir()?;
    fs::create_dir(dir.path().join("data"))?;
    let file = dir.path().join("data/test-00000-of-00001.parquet");
    write_parquet(&file)?;
    let table = DatasetTable::find(dir.path(), "", "test")?;
    let (mut single, mut several) = (Vec::new(), Vec::new());
    for_each(&table, ALL, |row| {
        assert_eq!((row.int("answer")?, row.list("choices")?.len()), (row.number as i64, 2));
        assert!(row.value("hint").is_none());
        single.extend(row.images("image").to_vec());
        several.extend(row.images("images").to_vec());
        Ok(())
    })?;
    assert_eq!((single.len(), several.len()), (4, 10));
    assert_eq!(several[9].to_string(), format!("{}#images/4/3", file.display()));
    let wanted: Vec<&ImageLocation> = [&single[3], &several[5], &single[0], &several[9]].into();
    let bytes: Vec<Vec<u8>> = crate::read_images(&wanted).into_iter().collect::<Result<_>>()?;
    assert_eq!(bytes, [vec![4, 4, 4], vec![3, 2], vec![0, 0, 0], vec![4, 3]]);
    let beyond = ImageLocation::parse(&format!("{}#image/9", file.display()));
    assert!(beyond.bytes().unwrap_err().to_string().contains("contains no image bytes"));
    Ok(())
}

#[test]
fn errors_name_file_row_and_column() -> Checked {
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("test.parquet");
    write_parquet(&file)?;
    let table = DatasetTable::find(dir.path(), "", "test")?;
    let error = |e: Error| e.to_string().replace(&dir.path().display().to_string(), "DIR");
    let blank = for_each(&table, ALL, |row| row.text("question").map(drop)).unwrap_err();
    assert_eq!(error(blank), "DIR/test.parquet row 3: the column `question` is blank");
    let missing = TableColumns { values: &["anser"], images: &[] };
    let missing = for_each(&table, missing, |_| Ok(())).unwrap_err();
    assert!(
        missing.hint_text().is_some_and(|h| h.starts_with("did you mean `answer`? There are question")),
        "{missing:?}"
    );
    assert_eq!(error(missing), "DIR/test.parquet: the column `anser` is missing");
    let number = TableColumns { values: &[], images: &["answer"] };
    let number = for_each(&table, number, |_| Ok(())).unwrap_err();
    assert_eq!(error(number), "DIR/test.parquet: the column `answer` must hold images, found numbers");
    let whole = fs::read(&file)?;
    fs::write(&file, &whole[..whole.len() / 2])?;
    let cut = for_each(&table, ALL, |_| Ok(())).unwrap_err();
    assert!(cut.hint_text().is_some_and(|h| h.contains("incomplete or damaged")), "{cut:?}");
    fs::write(dir.path().join("val-00000-of-00002.parquet"), &whole)?;
    let part = DatasetTable::find(dir.path(), "", "val").unwrap_err();
    assert_eq!(error(part), "DIR/val-00000-of-00002.parquet is one of 2 files, but 1 were found");
    let none = DatasetTable::find(dir.path(), "config", "dev").unwrap_err();
    assert_eq!(
        error(none),
        "no file of the split `dev` is in DIR/config/data, or in DIR/config, or in DIR/data, or in DIR"
    );
    Ok(())
}

#[test]
fn images_in_tsv_are_base64_paths_or_another_rows() -> Checked {
    use base64::{Engine, engine::general_purpose::STANDARD};
    let dir = tempfile::tempdir()?;
    fs::write(dir.path().join("7.png"), b"file")?;
    let (a, b) = (STANDARD.encode([1; 60]), STANDARD.encode([2; 60]));
    let rows = format!(
        "index\tquestion\timage\n1\t\"two\nlines\"\t{a}\n2\tq\t{b}\n3\tq\t1\n4\tq\t7.png\n5\tq\t['{b}', '{a}']\n"
    );
    fs::write(dir.path().join("dev.tsv"), rows)?;
    let mut images = Vec::new();
    let columns = TableColumns { values: &["index", "question"], images: &["image"] };
    let table = DatasetTable::find(dir.path(), "", "dev")?;
    for_each(&table, columns, |row| {
        images.extend(row.images("image").to_vec());
        Ok(())
    })?;
    let bytes: Vec<Vec<u8>> = images.iter().map(ImageLocation::bytes).collect::<Result<_>>()?;
    let (a, b) = (vec![1; 60], vec![2; 60]);
    assert_eq!(bytes, [a.clone(), b.clone(), a.clone(), b"file".to_vec(), b, a]);
    fs::write(dir.path().join("dev.tsv"), "index\tquestion\timage\n1\tq\t9\n")?;
    let error = for_each(&table, columns, |_| Ok(())).unwrap_err().to_string();
    assert!(error.contains("holds \"9\", which is neither an image file"), "{error}");
    fs::write(dir.path().join("dev.tsv"), "index\tquestion\timage\n1\tq\n")?;
    let error = for_each(&table, columns, |_| Ok(())).unwrap_err().to_string();
    assert!(error.contains("the row has 2 cells, but the header has 3"), "{error}");
    Ok(())
}

#[test]
fn json_is_read_by_line_or_as_one_list() -> Checked {
    let dir = tempfile::tempdir()?;
    let columns = TableColumns { values: &["n"], images: &["image"] };
    for text in [
        "{\"n\": 1, \"image\": \"a.png\"}\n{\"n\": 2, \"image\": null}\n",
        " [{\"n\": 1, \"image\": \"a.png\"}, {\"n\": 2, \"image\": []}]",
    ] {
        fs::write(dir.path().join("test.json"), text)?;
        let mut rows = Vec::new();
        for_each(&DatasetTable::find(dir.path(), "", "test")?, columns, |row| {
            rows.push((row.int("n")?, row.images("image").to_vec()));
            Ok(())
        })?;
        assert_eq!(rows, [(1, vec![ImageLocation::File(dir.path().join("a.png"))]), (2, vec![])]);
    }
    Ok(())
}

#[test]
fn pythons_lists_are_read() {
    let list = |text: &str| python_list(text).map(|l| l.join("|"));
    assert_eq!(list(r#"['a', "it's", 'x\ny', 'q\'s', 3.5, '\u00e9']"#).as_deref(), Some("a|it's|x\ny|q's|3.5|é"));
    assert_eq!(list("[]").as_deref(), Some(""));
    for broken in ["", "a", "['a'", "['a' 'b']", "[a]", "['a]"] {
        assert_eq!(python_list(broken), None, "{broken}");
    }
}

#[test]
fn images_in_parquet_may_be_base64() -> Checked {
    let dir = tempfile::tempdir()?;
    let write = |name: &str, cells: Vec<Option<&str>>| -> Checked {
        let questions: ArrayRef = Arc::new(StringArray::from(vec!["?"; cells.len()]));
        let images: ArrayRef = Arc::new(StringArray::from(cells));
        let batch = RecordBatch::try_from_iter_with_nullable([("question", questions, true), ("bytes", images, true)])?;
        let mut writer = ArrowWriter::try_new(File::create(dir.path().join(name))?, batch.schema(), None)?;
        writer.write(&batch)?;
        writer.close()?;
        Ok(())
    };
    write("image.parquet", vec![Some("AQID"), Some("not base64"), Some(" BAU= ")])?;
    write("non_image.parquet", vec![None, Some("Bg=="), Some("")])?;
    let columns = TableColumns { values: &["question"], images: &["bytes"] };
    let mut counts = Vec::new();
    let mut images = Vec::new();
    let table = DatasetTable::find(dir.path(), "", "image+non_image")?;
    for_each(&table, columns, |row| {
        counts.push((row.number, row.images("bytes").len()));
        images.extend(row.images("bytes").to_vec());
        Ok(())
    })?;
    assert_eq!(counts, [(0, 1), (1, 1), (2, 1), (3, 0), (4, 1), (5, 1)], "a null cell holds no image");
    let read = crate::read_images(&images.iter().collect::<Vec<_>>());
    let bytes: Vec<Option<&Vec<u8>>> = read.iter().map(|r| r.as_ref().ok()).collect();
    assert_eq!(bytes, [Some(&vec![1, 2, 3]), None, Some(&vec![4, 5]), Some(&vec![6]), None]);
    let errors: Vec<String> = read.into_iter().filter_map(|r| r.err().map(|e| e.to_string())).collect();
    assert!(errors[0].contains("image.parquet#bytes/1") && errors[0].contains("is not valid base64"), "{}", errors[0]);
    assert!(errors[1].contains("contains no image bytes"), "{}", errors[1]);
    let missing = DatasetTable::find(dir.path(), "", "image+video").unwrap_err().to_string();
    assert!(missing.contains("no file of the split `video`"), "{missing}");
    Ok(())
}
