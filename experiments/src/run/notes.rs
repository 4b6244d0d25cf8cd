//! Notes: assumptions that Burgess makes where the files of a model are incomplete. They are printed once on stderr and
//! stored with the results.

use crate::features::ArmCard;
use crate::machine::progress::Progress;
use burgess_encoders::card::EncoderCard;
use burgess_probe::recipe::Recipe;
use serde_json::Value;

/// Assumptions about encoders.
pub fn of_encoders<'a>(cards: impl IntoIterator<Item = &'a EncoderCard>) -> Vec<String> {
    let of = |card: &EncoderCard| {
        let id = card.id.clone();
        card.notes.iter().map(move |note| format!("{id}: {note}")).collect::<Vec<_>>()
    };
    distinct(cards.into_iter().flat_map(of))
}

/// Assumptions about the encoders of an arm.
pub fn of_cards<'a>(cards: impl IntoIterator<Item = &'a ArmCard>) -> Vec<String> {
    let of = |card: &'a ArmCard| card.notes().into_iter().map(|note| format!("{}: {note}", card.id()));
    distinct(cards.into_iter().flat_map(of))
}

/// The notes of a language model, its tokenizer and chat template, and unusual settings of a recipe.
pub fn of_llm(llm: &[String], recipe: &Recipe) -> Vec<String> {
    distinct(llm.iter().cloned().chain(recipe.notes()))
}

/// Removes repeated notes and keeps the order of the first occurrences.
pub fn distinct(notes: impl IntoIterator<Item = String>) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    for note in notes {
        if !all.contains(&note) {
            all.push(note);
        }
    }
    all
}

/// Prints the notes.
pub fn print_notes(notes: &[String], progress: &Progress) {
    for note in notes {
        progress.line(&format!("note: {note}"));
    }
}

/// Adds the notes to a `config.json`. They follow from the files that were read, so they do not distinguish runs.
pub fn with_notes(config: &Value, notes: &[String]) -> Value {
    let mut config = config.clone();
    if let (false, Some(fields)) = (notes.is_empty(), config.as_object_mut()) {
        fields.insert("notes".into(), notes.into());
    }
    config
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::store::RunStore;
    use burgess_base::Result;
    use serde_json::json;

    #[test]
    fn notes_are_kept_and_make_no_other_run() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let store = RunStore::at(dir.path());
        let config = json!({"seed": 1});
        let noted = with_notes(&config, &["vit: no mean".to_string()]);
        store.write_or_compare_config(&config)?;
        store.write_or_compare_config(&noted)?;
        let other = tempfile::tempdir()?;
        let store = RunStore::at(other.path());
        store.write_or_compare_config(&noted)?;
        let kept: Value = burgess_base::atomic::read_json(&other.path().join("config.json"))?;
        assert_eq!(kept["notes"], json!(["vit: no mean"]));
        store.write_or_compare_config(&config)?;
        assert!(store.write_or_compare_config(&json!({"seed": 2})).is_err());
        let mut card = EncoderCard::find("nano-clip")?;
        card.notes = vec!["a".into(), "b".into(), "a".into()];
        assert_eq!(of_encoders([&card, &card]), ["nano-clip: a", "nano-clip: b"]);
        Ok(())
    }
}
