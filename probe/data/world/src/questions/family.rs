//! Families of training questions, each about images of its own kind: the sources of a pool ask one family each.

use burgess_base::stream::Stream;
use serde::{Deserialize, Serialize};

use super::{QaPair, Question, explained};
use super::{ai2d, chartqa, cvbench_2d, cvbench_3d, docvqa, gqa, mme, mmvp, scienceqa};
use crate::chart::ChartScene;
use crate::diagram::{DiagramLayout, DiagramScene};
use crate::document::Document;
use crate::flat::FlatScene;
use crate::page::{TableScene, WritingScene};
use crate::scene::{Content, Scene};
use crate::solids::SolidScene;
use crate::{caption, corpus, dice, lessons, map};

/// What the conversations of a source ask, and of which kind of image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum QuestionFamily {
    /// A request such as "Describe the image.", answered with one or two sentences.
    Caption,
    /// Those of the requests that begin with "Describe", answered with sentences about everything in the image.
    Description,
    /// Those of the requests that begin with "What", answered with a single word: what the image shows, or most of it.
    Gist,
    /// Whether something is there, has a colour or lies somewhere: yes or no.
    YesNo,
    /// The name of the only thing.
    Object,
    /// The colour of a thing or solid.
    Color,
    /// The thing that has a colour or lies in a direction.
    Which,
    /// A visual detail (direction, pattern, upright or not), as one of two options.
    Detail,
    /// How many things of a name there are, as one of four options.
    Count,
    /// Whether there are so many things of a name: yes or no.
    CountCheck,
    /// How two things lie to each other, as one of two options.
    Relation,
    /// Which solid is closer to the camera or to another, as one of two options.
    Depth,
    /// The only word or number of an image.
    Word,
    /// A line of text.
    Line,
    /// Whether a word or number is there: yes or no.
    WordCheck,
    /// A cell of a table of digits.
    Table,
    /// The value of a part of a chart.
    ChartValue,
    /// The largest or smallest part of a chart.
    ChartExtreme,
    /// The part of a chart with a value.
    ChartLabel,
    /// The colour of a part of a chart.
    ChartColor,
    /// Letters and things of a labelled diagram.
    DiagramLabel,
    /// What comes before or after a thing in a chain of arrows.
    DiagramChain,
    /// A fact about the thing in the image, as a letter.
    Science,
    /// The image as rows of words, one for each cell.
    Map,
    /// A fact about a named thing; text only.
    Fact,
    /// Which letter stands for which option of a list; text only.
    Options,
    /// Values of names in a list, and comparisons of them; text only.
    Recall,
    /// A description of an image, told again in another order; text only.
    Retelling,
}

/// Questions of a benchmark's training form: the function that draws one, and the subtasks that belong to the family.
struct Asked {
    ask: fn(&Scene, &mut Stream) -> Option<Question>,
    subtasks: &'static [&'static str],
}

/// Largest number of attempts to find another question about the same image.
const ATTEMPTS: usize = 40;

impl QuestionFamily {
    /// All families.
    pub const ALL: [Self; 28] = [
        Self::Caption,
        Self::Description,
        Self::Gist,
        Self::YesNo,
        Self::Object,
        Self::Color,
        Self::Which,
        Self::Detail,
        Self::Count,
        Self::CountCheck,
        Self::Relation,
        Self::Depth,
        Self::Word,
        Self::Line,
        Self::WordCheck,
        Self::Table,
        Self::ChartValue,
        Self::ChartExtreme,
        Self::ChartLabel,
        Self::ChartColor,
        Self::DiagramLabel,
        Self::DiagramChain,
        Self::Science,
        Self::Map,
        Self::Fact,
        Self::Options,
        Self::Recall,
        Self::Retelling,
    ];

    /// Returns whether the conversations have an image.
    pub fn has_image(self) -> bool {
        !matches!(self, Self::Fact | Self::Options | Self::Recall | Self::Retelling)
    }

    /// Draws a conversation of up to `n` questions, with a training image if the family has images. If `explained`, the
    /// first question of each form ends with the line that says how to answer, as in the benchmarks.
    pub(crate) fn draw(self, n: usize, explained: bool, s: &mut Stream) -> (Option<Scene>, Vec<QaPair>) {
        loop {
            let scene = self.has_image().then(|| Scene::draw_until(s, false, |s| self.content(s)));
            let mut turns = match &scene {
                Some(scene) => self.turns(scene, n, explained, s),
                None => self.text(s),
            };
            turns.truncate(n);
            // Ends because every family finds a question for most of its images.
            if !turns.is_empty() {
                return (scene, turns);
            }
        }
    }

    /// Draws the contents of an image that the family asks about.
    fn content(self, s: &mut Stream) -> Content {
        match self {
            Self::Object => Content::Flat(FlatScene::draw_one(s)),
            Self::Color | Self::Which if dice::chance(s, 25) => Content::Solids(SolidScene::draw(s)),
            Self::Depth => Content::Solids(SolidScene::draw(s)),
            Self::Word | Self::Line | Self::WordCheck => Content::Writing(WritingScene::draw(s)),
            Self::Table => Content::Table(TableScene::draw(s)),
            Self::ChartValue | Self::ChartExtreme | Self::ChartLabel | Self::ChartColor => {
                Content::Chart(ChartScene::draw(s))
            }
            Self::DiagramLabel => Content::Diagram(DiagramScene::of(s, DiagramLayout::Labelled)),
            Self::DiagramChain => {
                let layout = DiagramLayout::chain(s);
                Content::Diagram(DiagramScene::of(s, layout))
            }
            Self::Color
            | Self::Which
            | Self::Detail
            | Self::Count
            | Self::CountCheck
            | Self::Relation
            | Self::Science => Content::Flat(FlatScene::draw(s)),
            _ => Scene::draw_content(s),
        }
    }

    /// Draws up to `n` different questions about an image.
    fn turns(self, scene: &Scene, n: usize, explain: bool, s: &mut Stream) -> Vec<QaPair> {
        let asked: Asked = match self {
            Self::Caption | Self::Description | Self::Gist => {
                let (question, answer) = match self {
                    Self::Caption => (caption::request(s), scene.caption(s)),
                    Self::Description => (caption::describe_request(s), scene.description(s)),
                    _ => (caption::what_request(s), scene.gist()),
                };
                let question = Question::short("request", question, answer);
                return vec![question.turn(explain && self == Self::Gist)];
            }
            Self::Map => return map::some(scene, n, s),
            Self::YesNo => Asked { ask: mme::ask, subtasks: &["existence", "color", "position", "scene"] },
            Self::CountCheck => Asked { ask: mme::ask, subtasks: &["count"] },
            Self::WordCheck => Asked { ask: mme::ask, subtasks: &["OCR"] },
            Self::Object => Asked { ask: gqa::ask, subtasks: &["object"] },
            Self::Color => Asked { ask: gqa::ask, subtasks: &["color"] },
            Self::Which => Asked { ask: gqa::ask, subtasks: &["which", "relation"] },
            Self::Detail => Asked { ask: mmvp::ask, subtasks: &["facing", "direction", "upright", "pattern"] },
            Self::Count => Asked { ask: cvbench_2d::ask, subtasks: &["count"] },
            Self::Relation => Asked { ask: cvbench_2d::ask, subtasks: &["relation"] },
            Self::Depth => Asked { ask: cvbench_3d::ask, subtasks: &["depth", "distance"] },
            Self::Word => Asked { ask: docvqa::ask, subtasks: &["word", "number"] },
            Self::Line => Asked { ask: docvqa::ask, subtasks: &["line"] },
            Self::Table => Asked { ask: docvqa::ask, subtasks: &["table"] },
            Self::ChartValue => Asked { ask: chartqa::ask, subtasks: &["value"] },
            Self::ChartExtreme => Asked { ask: chartqa::ask, subtasks: &["largest", "smallest"] },
            Self::ChartLabel => Asked { ask: chartqa::ask, subtasks: &["label"] },
            Self::ChartColor => Asked { ask: chartqa::ask, subtasks: &["color"] },
            Self::DiagramLabel => Asked { ask: ai2d::ask, subtasks: &["letter", "label"] },
            Self::DiagramChain => Asked { ask: ai2d::ask, subtasks: &["after", "before"] },
            Self::Science => Asked { ask: scienceqa::ask, subtasks: &[] },
            Self::Fact | Self::Options | Self::Recall | Self::Retelling => return Vec::new(),
        };
        let mut questions: Vec<Question> = Vec::new();
        for _ in 0..ATTEMPTS * n {
            if questions.len() == n {
                break;
            }
            let Some(q) = (asked.ask)(scene, s) else { continue };
            // The subtasks of science questions are attributes of things, all of which belong to the family.
            let belongs = asked.subtasks.is_empty() || asked.subtasks.contains(&q.subtask);
            if belongs && questions.iter().all(|old| old.text != q.text) {
                questions.push(q);
            }
        }
        match explain {
            true => explained(&questions),
            false => questions.iter().map(|q| q.turn(false)).collect(),
        }
    }

    /// Draws a conversation without an image.
    fn text(self, s: &mut Stream) -> Vec<QaPair> {
        let document = match self {
            Self::Fact => corpus::fact_chat(s),
            Self::Options => corpus::options(s, false),
            Self::Recall => lessons::recall(s),
            _ => corpus::retelling(s),
        };
        match document {
            Document::Chat(turns) => turns,
            Document::Text(_) | Document::Cells(..) => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burgess_base::stream::stream;

    #[test]
    fn every_family_has_conversations_of_its_form() {
        for family in QuestionFamily::ALL {
            for i in 0..25 {
                let (scene, bare) = family.draw(2, false, &mut stream("test/family", i));
                let (again, explained) = family.draw(2, true, &mut stream("test/family", i));
                assert_eq!((scene.is_some(), &scene), (family.has_image(), &again), "{family:?}");
                assert!(scene.is_none_or(|s| !s.is_test()), "{family:?}: a test image");
                assert!((1..=2).contains(&bare.len()) && bare.len() == explained.len(), "{family:?}: {bare:?}");
                let long = match family {
                    QuestionFamily::Caption | QuestionFamily::Description | QuestionFamily::Retelling => 3..=80,
                    QuestionFamily::Map => 16..=16,
                    _ => 1..=4,
                };
                let words = bare.iter().map(|turn| turn.answer.split(' ').count());
                // A caption of writing is the writing itself.
                let writing = |n: usize| family != QuestionFamily::Map && *long.end() > 4 && n > 0;
                assert!(words.clone().all(|n| long.contains(&n) || writing(n)), "{family:?}: {bare:?}");
                let told = explained[0].question.len() > bare[0].question.len();
                let stated = match family {
                    QuestionFamily::Caption | QuestionFamily::Description | QuestionFamily::Map => Some(false),
                    _ if family.has_image() => Some(true),
                    // The corpus writes these in both forms.
                    _ => None,
                };
                assert!(stated.is_none_or(|stated| stated == told), "{family:?}: {explained:?}");
            }
        }
    }
}
