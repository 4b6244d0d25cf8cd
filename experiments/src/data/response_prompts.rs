//! Appends response-format prompts to the questions of training conversations.

use burgess_base::text::excerpt;
use burgess_base::{Error, Result};
use burgess_mix::system_prompts::{Applied, ResponseFormat, SystemPrompts};
use burgess_probe::llm::chat::{Role, Turn};
use burgess_probe::response_prompts::ResponsePrompts;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Number of sources that a hint lists.
const SHOWN: usize = 20;
/// Number of sources that are remembered for hints.
const REMEMBERED: usize = 1000;

/// Appends prompts to the questions of a file, and counts by source.
pub struct PromptAppender<'a> {
    prompts: &'a ResponsePrompts,
    texts: SystemPrompts,
    /// Number of questions by source: with an appended prompt, and with one that was there already.
    counts: BTreeMap<String, (usize, usize)>,
    /// Sources of the file.
    sources: BTreeSet<String>,
    /// Sources of one's own table that occur.
    found: BTreeSet<&'a str>,
}

impl<'a> PromptAppender<'a> {
    /// Creates the appender; `None` if no prompts are appended.
    ///
    /// # Errors
    /// A source or a text is blank.
    pub fn new(prompts: &'a ResponsePrompts) -> Result<Option<Self>> {
        let texts = match prompts {
            ResponsePrompts::Off => return Ok(None),
            ResponsePrompts::Paper => SystemPrompts::paper(),
            ResponsePrompts::BySource(own) => {
                let mut texts = SystemPrompts::default();
                for (source, text) in own {
                    texts.set(source, ResponseFormat::Texts(vec![text.clone()]))?;
                }
                texts
            }
        };
        let (counts, sources, found) = Default::default();
        Ok(Some(Self { prompts, texts, counts, sources, found }))
    }

    /// Appends the prompt of a source to every question of a conversation that lacks it.
    pub fn apply(&mut self, source: &str, turns: &mut [Turn]) {
        if self.sources.len() < REMEMBERED && !self.sources.contains(source) {
            self.sources.insert(source.to_string());
        }
        if self.texts.of(source).is_none() {
            return;
        }
        if let ResponsePrompts::BySource(own) = self.prompts {
            let key = burgess_mix::source_key(source);
            self.found.extend(own.keys().map(String::as_str).filter(|name| burgess_mix::source_key(name) == key));
        }
        let counts = self.counts.entry(source.to_string()).or_default();
        for turn in turns.iter_mut().filter(|turn| turn.role == Role::User) {
            match self.texts.apply(source, &turn.text) {
                Applied::Appended(text) => {
                    turn.text = text;
                    counts.0 += 1;
                }
                Applied::Present => counts.1 += 1,
                Applied::NotListed => {}
            }
        }
    }

    /// Returns a note per source with the number of its questions.
    ///
    /// # Errors
    /// A source of one's own table does not occur in the file, which is no selection: it would silently have no effect.
    pub fn finish(self, file: &Path, is_selection: bool) -> Result<Vec<String>> {
        if !is_selection
            && let ResponsePrompts::BySource(own) = self.prompts
            && let Some(missing) = own.keys().find(|name| !self.found.contains(name.as_str()))
        {
            let shown: Vec<String> = self.sources.iter().take(SHOWN).map(|s| format!("`{}`", excerpt(s, 60))).collect();
            let more = if self.sources.len() > SHOWN { ", …" } else { "" };
            return Err(Error::usage(format!(
                "`response_prompts` names the source `{missing}`, of which {} has no conversation",
                file.display()
            ))
            .hint(format!("the sources of the file are {}{more}", shown.join(", "))));
        }
        if self.counts.is_empty() {
            let note = "response-format prompts: no conversation is of their sources, so nothing is appended";
            return Ok(vec![note.to_string()]);
        }
        let note = |(source, (appended, present)): (&String, &(usize, usize))| {
            let source = excerpt(source, 80);
            let already = if *present > 0 { format!(", {present} have it already") } else { String::new() };
            format!("response-format prompts appended to {appended} questions of `{source}`{already}")
        };
        Ok(self.counts.iter().map(note).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(prompts: &ResponsePrompts, conversations: &[(&str, &[&str])]) -> Result<(Vec<String>, Vec<String>)> {
        let mut appender = PromptAppender::new(prompts)?.ok_or_else(|| Error::failed("off"))?;
        let mut questions = Vec::new();
        for (source, texts) in conversations {
            let mut turns: Vec<Turn> =
                texts.iter().flat_map(|text| [Turn::user(*text), Turn::assistant("red")]).collect();
            appender.apply(source, &mut turns);
            questions.extend(turns.into_iter().filter(|t| t.role == Role::User).map(|t| t.text));
        }
        Ok((questions, appender.finish(Path::new("c.jsonl"), false)?))
    }

    #[test]
    fn prompts_are_appended_by_source_and_counted() -> Result<()> {
        assert!(PromptAppender::new(&ResponsePrompts::Off)?.is_none());
        let word = "Answer the question using a single word or phrase.";
        let present = format!("What?\n{word}");
        let (questions, notes) = applied(
            &ResponsePrompts::Paper,
            &[("dvqa_775k", &["<image>\nWhat?", "Why?"]), ("llava", &["Describe."]), ("dvqa_775k", &[&present])],
        )?;
        assert_eq!(questions, [&format!("<image>\nWhat?\n{word}"), &format!("Why?\n{word}"), "Describe.", &present]);
        assert_eq!(notes, ["response-format prompts appended to 2 questions of `dvqa_775k`, 1 have it already"]);
        let (_, notes) = applied(&ResponsePrompts::Paper, &[("llava", &["Describe."])])?;
        assert!(notes[0].contains("nothing is appended"), "{notes:?}");
        let own = |names: &[&str]| {
            ResponsePrompts::BySource(names.iter().map(|n| ((*n).to_string(), "Briefly.".to_string())).collect())
        };
        let (questions, _) = applied(&own(&["My Source"]), &[("my-source", &["What?"]), ("dvqa", &["What?"])])?;
        assert_eq!(questions, ["What?\nBriefly.", "What?"]);
        let error = applied(&own(&["mine", "yours"]), &[("mine", &["What?"]), ("other", &["?"])]).unwrap_err();
        assert!(
            error.to_string().contains("names the source `yours`, of which c.jsonl has no conversation"),
            "{error}"
        );
        assert!(error.hint_text().is_some_and(|hint| hint.contains("`mine`, `other`")), "{error:?}");
        Ok(())
    }
}
