use super::*;
use burgess_reports::answers::ServedImage;

fn put(dir: &Path, name: &str, text: &str) {
    atomic::write(&dir.join(name), text.as_bytes()).unwrap();
}

#[test]
fn studies_are_found_by_name_and_links_out_are_not_followed() -> Result<()> {
    let (place, other) = (tempfile::tempdir()?, tempfile::tempdir()?);
    put(place.path(), "runs/nano/study.json", r#"{"title":"Nano","evaluator":{"benchmarks":["b"]}}"#);
    put(place.path(), "runs/nano/a/seed-0/results.json", r#"{"average": 50.5}"#);
    put(place.path(), "runs/nano/a/seed-1/results.json", r#"{"average": 51.5}"#);
    put(place.path(), "runs/nano/c/seed-0/failed.json", r#"{"arm":"c","seed":0,"cause":"no \u001bdisk","hint":null}"#);
    put(place.path(), "runs/deep/er/mine/x/seed-0/config.json", "{}");
    put(place.path(), "runs/broken/study.json", "{");
    put(place.path(), "runs/no-study/file", "");
    put(other.path(), "secret/study.json", "{}");
    std::os::unix::fs::symlink(other.path().join("secret"), place.path().join("runs/linked"))?;
    std::os::unix::fs::symlink(place.path().join("runs/nano"), place.path().join("runs/second"))?;
    let folder = StudyFolder::open(&place.path().join("runs"))?;
    let names: Vec<String> = folder.studies()?.into_keys().collect();
    assert_eq!(names, ["broken", "deep~er~mine", "nano", "second"]);
    let entries = folder.entries()?;
    assert!(entries[0].problem.contains("study.json"), "{:?}", entries[0]);
    let nano = &entries[2];
    assert_eq!((nano.title.as_str(), nano.address.as_str(), nano.finished), ("Nano", "study/nano/", 2));
    assert_eq!(nano.states, [("done".to_string(), 2), ("failed".to_string(), 1)]);
    assert_eq!((nano.arms[0].average, nano.arms[0].seeds, nano.arms[1].average), (Some(51.0), 2, None));
    assert_eq!(nano.notes, ["c, seed 0, failed: no \\x1bdisk"]);
    assert_eq!(entries[1].notes, ["x, seed 0: to do"]);

    // The version of a study changes with its results, and only then; that of a study that does not exist is unknown.
    let version = |name: &str| folder.version(Some(name));
    let before = version("nano")?;
    assert_eq!(version("nano")?, before);
    put(place.path(), "runs/nano/c/seed-0/results.json", r#"{"average": 1.0}"#);
    assert_ne!(version("nano")?, before);
    for unknown in ["linked", "..", "nano/..", "../runs/nano", ""] {
        assert_eq!(version(unknown)?, None, "{unknown}");
    }

    // A directory that is itself a study, and one without any.
    let alone = StudyFolder::open(&place.path().join("runs/nano"))?;
    assert_eq!(alone.studies()?.into_keys().collect::<Vec<_>>(), ["nano"]);
    let error = StudyFolder::open(&place.path().join("runs/no-study")).unwrap_err();
    assert!(error.exit_code() == 2 && error.hint_text().is_some());
    Ok(())
}

#[test]
fn an_image_is_sent_only_while_it_is_the_file_that_was_checked() -> Result<()> {
    let place = tempfile::tempdir()?;
    let root = fs::canonicalize(place.path())?;
    let (image, text) = (root.join("a.png"), root.join("b.png"));
    fs::write(&image, b"\x89PNG\r\n\x1a\nrest")?;
    fs::write(&text, "root:x:0:0")?;
    let images = ServedImages {
        generation: "1".into(),
        images: vec![Some(ServedImage::File(image.clone())), Some(ServedImage::File(text.clone())), None],
    };
    let (bytes, kind) = images.read(0)?.expect("an image");
    assert_eq!((bytes.len(), kind.as_str()), (12, "image/png"));
    assert!(images.read(1).unwrap_err().to_string().contains("no image"));
    assert!(images.read(2)?.is_none() && images.read(3)?.is_none() && images.read(usize::MAX)?.is_none());
    fs::remove_file(&image)?;
    std::os::unix::fs::symlink(&text, &image)?;
    assert!(images.read(0).unwrap_err().to_string().contains("has become a link"));
    Ok(())
}
