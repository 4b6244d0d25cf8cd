//! Throughput of drawing and rendering, in images per second: `cargo bench -p burgess-world`.

use burgess_base::stream::stream;
use burgess_world::{LessonCounts, Scene, SceneSplit, corpus};
use divan::counter::ItemsCount;

fn main() {
    divan::main();
}

fn of_kind(kind: &str) -> Vec<Scene> {
    (0..).map(|i| Scene::draw(SceneSplit::Pretrain, 0, i)).filter(|s| s.kind() == kind).take(50).collect()
}

#[divan::bench(args = ["flat", "solids", "writing", "table", "chart", "diagram"])]
fn render(bencher: divan::Bencher, kind: &str) {
    let scenes = of_kind(kind);
    bencher
        .counter(ItemsCount::new(scenes.len()))
        .bench(|| scenes.iter().map(|s| s.render().as_raw().len()).sum::<usize>());
}

#[divan::bench]
fn draw_and_render_a_mixture(bencher: divan::Bencher) {
    bencher
        .counter(ItemsCount::new(200usize))
        .bench(|| (0..200).map(|i| Scene::draw(SceneSplit::Pretrain, 1, i).render().as_raw().len()).sum::<usize>());
}

#[divan::bench]
fn draw_test_scenes(bencher: divan::Bencher) {
    bencher
        .counter(ItemsCount::new(50usize))
        .bench(|| (0..50).map(|i| Scene::draw(SceneSplit::Test, 1, i).kind().len()).sum::<usize>());
}

#[divan::bench]
fn captions_and_questions(bencher: divan::Bencher) {
    let scenes: Vec<Scene> = (0..100).map(|i| Scene::draw(SceneSplit::Tune, 0, i)).collect();
    bencher.counter(ItemsCount::new(scenes.len())).bench(|| {
        let mut s = stream("bench", 0);
        scenes.iter().map(|x| x.caption(&mut s).len() + x.turns(4, &mut s).len()).sum::<usize>()
    });
}

#[divan::bench]
fn corpus_documents(bencher: divan::Bencher) {
    bencher.counter(ItemsCount::new(200usize)).bench(|| corpus(0, LessonCounts::default()).take(200).count());
}
