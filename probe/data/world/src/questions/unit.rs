//! Units of a benchmark: images whose questions are scored together.

use burgess_base::stream::Stream;

use super::question::Question;
use crate::scene::{Content, Scene};

/// Images and questions that are scored together: one image, or the two of a pair.
pub struct BenchmarkUnit {
    pub images: Vec<(Scene, Vec<Question>)>,
}

/// Draws until there is a test scene with its questions. What must be balanced is fixed before, outside of `draw`,
/// so that draws that do not fit cannot tilt it.
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
