//! Units of a benchmark: images whose questions are scored together.

use burgess_base::stream::Stream;

use super::question::Question;
use crate::scene::{Content, Scene};

/// Images with questions that are scored together: one image, or the two of a pair.
pub struct BenchmarkUnit {
    /// Images with their questions.
    pub images: Vec<(Scene, Vec<Question>)>,
}

/// Repeats `draw` until it returns a test scene with questions. Properties that must be balanced are fixed by the
/// caller before, so that rejected draws cannot bias them.
pub fn held_out(
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
