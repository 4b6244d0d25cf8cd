use super::*;

const BASE: &str = include_str!("../../../tests/golden/zoo/base.csv");
const TEST: &str = include_str!("../../../tests/golden/zoo/test.csv");
const DIFF: &str = include_str!("../../../tests/golden/zoo/diff.csv");

#[test]
fn differences_are_those_of_timm() -> burgess_base::Result<()> {
    let diff = ZooDiff::of(("base.csv", BASE), ("test.csv", TEST), None)?;
    assert_eq!(diff.column, "top1");
    let header = DIFF.lines().next().unwrap_or_default();
    let columns: Vec<&str> = header.split(',').collect();
    let at = |name: &str| columns.iter().position(|c| *c == name).unwrap_or(usize::MAX);
    let mut compared = 0;
    for line in DIFF.lines().skip(1) {
        // The only quoted cell is a number of parameters.
        let line = line.replace("\"1,014.45\"", "1014.45");
        let cells: Vec<&str> = line.split(',').collect();
        let (model, size) = (cells[at("model")], cells[at("img_size")]);
        let row = diff.rows.iter().find(|row| row.model == model && row.img_size == size);
        let mine = row.map_or([String::new(), String::new()], |row| {
            let ranks = if row.rank_diff == 0 { "0".into() } else { format!("{:+}", row.rank_diff) };
            [format!("{:+.3}", row.difference), ranks]
        });
        assert_eq!(mine, [cells[at("top1_diff")], cells[at("rank_diff")]], "{model}");
        compared += usize::from(row.is_some());
    }
    assert_eq!((compared, diff.rows.len()), (6, 6));
    assert_eq!(diff.new, ["resnet50.a1_in1k (224)", "swin_new (224)"]);
    assert_eq!(diff.missing, ["resnet50.a1_in1k (288)", "hiera_tiny_224.mae (224)"]);
    // Our CSV has the second table's rows in the same order, with timm's columns.
    let csv = diff.csv(TEST)?;
    let model = |text: &str| text.lines().map(|l| l.split(',').next().unwrap_or("").to_string()).collect::<Vec<_>>();
    assert_eq!(model(&csv), model(DIFF));
    assert!(csv.lines().next().is_some_and(|h| h.ends_with(",top1_diff,rank_diff")));
    assert!(csv.contains("eva_giant_patch14_560.m30m,560,85.500") && csv.contains(",-4.290,0\n"), "{csv}");
    Ok(())
}

#[test]
fn intervals_tell_differences_from_noise() -> burgess_base::Result<()> {
    let table = |rows: &str| format!("model,img_size,average,average_low,average_high,share\n{rows}");
    let base = table("a,224,50.0,48.0,52.0,1\nb,224,45.0,43.0,47.0,1\nc,224,40.0,38.0,42.0,1\n");
    let test = table("b,224,51.0,49.0,53.0,1\na,224,51.0,49.0,53.0,1\nc,224,30.0,28.0,32.0,0.25\nd,224,1.0,,,1\n");
    let diff = ZooDiff::of(("A.csv", &base), ("B.csv", &test), None)?;
    let told: Vec<_> = diff.rows.iter().map(|r| (r.model.as_str(), r.rank_diff, r.verdict)).collect();
    assert_eq!(told, [("a", 0, DiffVerdict::Within), ("b", 0, DiffVerdict::Beyond), ("c", 0, DiffVerdict::OtherShare)]);
    insta::assert_snapshot!(diff.text());
    Ok(())
}

#[test]
fn tables_that_cannot_be_compared_are_refused() {
    let base = "model,img_size,average\na,224,1.0\n";
    for (test, column, expected) in [
        ("model,img_size,average\na,224,high\n", None, "`average` of a is `high`, no number"),
        ("model,img_size,average\na,224,1\na,224,2\n", None, "lists a (224) twice"),
        ("model,img_size,average\na,224,1\n", Some("blind"), "no column `blind`"),
        ("img_size,average\n224,1\n", None, "no column `model`"),
    ] {
        let e = ZooDiff::of(("a.csv", base), ("b.csv", test), column).unwrap_err();
        assert!(e.to_string().contains(expected), "{e}");
    }
}
