//! Units of a benchmark: images whose questions are scored together.

use burgess_base::stream::Stream;

use super::question::Question;
use crate::scene::{Content, Scene};

/// Images with questions that are scored together: one image, or two images that form a pair.
pub struct BenchmarkUnit {
    /// Images with their questions.
    pub images: Vec<(Scene, Vec<Question>)>,
}

/// Draws a unit of one image: repeats `draw` until it returns a test scene with questions.
///
/// The caller chooses properties that must be balanced, such as the right answer's position, before it calls this
/// function: chosen inside `draw`, they would be biased by the rejected draws.
pub fn draw_test_unit(
    s: &mut Stream,
    mut draw: impl FnMut(&mut Stream) -> Option<(Content, Vec<Question>)>,
) -> BenchmarkUnit {
    loop {
        if let Some((content, questions)) = draw(s) {
            let scene = Scene { content };
            if scene.is_test() {
                return BenchmarkUnit { images: vec![(scene, questions)] };
            }
        }
    }
}
