//! Example questions for demonstrations.

use crate::questions::{AnswerForm, BENCHMARKS};
use crate::scene::{Scene, SceneSplit};
use burgess_base::stream::stream;

/// Seed of the example scenes.
const SEED: u64 = 0;
/// Benchmarks of which an example is drawn, with what the question is about.
const KINDS: [(&str, &str); 6] = [
    ("nano-mme", "Yes or no"),
    ("nano-cvbench-2d", "Counting and relations"),
    ("nano-docvqa", "Reading"),
    ("nano-chartqa", "Chart"),
    ("nano-ai2d", "Diagram"),
    ("nano-cvbench-3d", "Depth"),
];

/// A test scene with a question in the form of a benchmark.
#[derive(Debug, Clone, PartialEq)]
pub struct ExampleQuestion {
    /// What the question is about.
    pub name: String,
    /// The image.
    pub scene: Scene,
    /// The question, with the line that says how to answer.
    pub question: String,
    /// The possible answers; empty if the answer is a free text.
    pub options: Vec<String>,
    /// The right answer.
    pub answer: String,
}

/// Draws one example question for each of some benchmarks; always the same ones.
pub fn examples() -> Vec<ExampleQuestion> {
    let kinds = KINDS.iter().filter_map(|(id, name)| Some((BENCHMARKS.iter().find(|b| b.name == *id)?, *name)));
    kinds
        .filter_map(|(benchmark, name)| {
            // Most scenes have a question of most benchmarks, so a few dozen suffice.
            (0..500).find_map(|index| {
                let mut s = stream(&format!("world/example/{}/{index}", benchmark.name), SEED);
                let scene = Scene::draw(SceneSplit::Test, SEED, index);
                let question = (benchmark.ask)(&scene, &mut s)?;
                let options = match question.form {
                    AnswerForm::YesNo => vec!["Yes".into(), "No".into()],
                    AnswerForm::Choice => {
                        (0..question.options.len()).map(|i| char::from(b'A' + i as u8).to_string()).collect()
                    }
                    AnswerForm::Pair => vec!["(a)".into(), "(b)".into()],
                    AnswerForm::Named => question.options.clone(),
                    AnswerForm::Short => Vec::new(),
                };
                let turn = question.turn(true);
                Some(ExampleQuestion {
                    name: name.into(),
                    scene,
                    question: turn.question,
                    options,
                    answer: turn.answer,
                })
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_an_example_whose_answer_is_an_option() {
        let all = examples();
        assert_eq!(all.len(), KINDS.len());
        for example in &all {
            assert!(example.options.is_empty() || example.options.contains(&example.answer), "{example:?}");
            assert!(example.scene.is_test() && !example.question.is_empty());
        }
        assert_eq!(all, examples());
    }
}
