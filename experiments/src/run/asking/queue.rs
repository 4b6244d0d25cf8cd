//! The questions of several benchmarks as one list of prompts without repetitions, arranged so that each image is
//! processed once.

use super::TaskProgress;
use crate::run::eval_task::EvalTask;
use std::collections::{BTreeSet, HashMap};

/// An image in a prompt: the index of an image of the study, or `None` for the grey image.
pub(super) type ImageRef = Option<usize>;

/// With or without its images a question is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AskedSide {
    /// With its images.
    Image,
    /// Blind: without images, or with grey ones.
    Blind,
}

/// A question that waits for the answer to a prompt.
#[derive(Debug, Clone, Copy)]
pub(super) struct Waiting {
    /// Index of the benchmark in the list of benchmarks.
    pub task: usize,
    /// Index of the question in the benchmark.
    pub question: usize,
    /// Whether it is asked with its images.
    pub side: AskedSide,
}

/// A prompt, for all questions that have it.
#[derive(Debug)]
pub(super) struct Ask<'a> {
    /// Token ids with placeholders.
    pub ids: &'a [u32],
    /// Images and the indices of their placeholders in `ids`, in ascending order.
    pub images: Vec<(ImageRef, usize)>,
    /// The questions; at least one.
    pub waiting: Vec<Waiting>,
    /// Maximum number of tokens of the answer: the largest of the questions.
    pub max_new_tokens: usize,
    /// Seconds that were spent on the prompt so far.
    pub seconds: f64,
}

impl<'a> Ask<'a> {
    /// Returns the images without their places.
    pub fn image_list(&self) -> Vec<ImageRef> {
        self.images.iter().map(|(image, _)| *image).collect()
    }

    /// Returns the token ids up to the last image, with its placeholder; empty without images.
    pub fn prefix(&self) -> &'a [u32] {
        self.ids.get(..self.text_start()).unwrap_or_default()
    }

    /// Returns the token ids after the last image.
    pub fn text(&self) -> &'a [u32] {
        self.ids.get(self.text_start()..).unwrap_or_default()
    }

    fn text_start(&self) -> usize {
        self.images.last().map_or(0, |(_, at)| at + 1)
    }
}

/// Lists the prompts of the questions that have no answer yet. A prompt of several questions about the same images is
/// listed once, whatever their benchmarks. With `grey`, blind questions have grey images.
pub(super) fn asks<'a>(work: &[TaskProgress<'a>], image_id: u32, grey: bool) -> Vec<Ask<'a>> {
    let mut asks: Vec<Ask<'a>> = Vec::new();
    let mut known: HashMap<(Vec<ImageRef>, &'a [u32]), usize> = HashMap::new();
    for (number, progress) in work.iter().enumerate() {
        let task: &'a EvalTask = progress.task;
        for question in progress.wanted() {
            for side in [AskedSide::Image, AskedSide::Blind] {
                if progress.has(question, side) {
                    continue;
                }
                let images: Vec<ImageRef> = match side {
                    AskedSide::Image => task.images_of(question).iter().copied().map(Some).collect(),
                    AskedSide::Blind if grey => vec![None; task.images_of(question).len()],
                    AskedSide::Blind => Vec::new(),
                };
                let ids = if images.is_empty() { task.blind_prompt(question) } else { task.image_prompt(question) };
                let waiting = Waiting { task: number, question, side };
                let most = task.benchmark.max_new_tokens();
                match known.get(&(images.clone(), ids)).and_then(|place| asks.get_mut(*place)) {
                    Some(ask) => {
                        ask.waiting.push(waiting);
                        ask.max_new_tokens = ask.max_new_tokens.max(most);
                    }
                    None => {
                        known.insert((images.clone(), ids), asks.len());
                        let places = ids.iter().enumerate().filter(|(_, id)| **id == image_id).map(|(at, _)| at);
                        let images = images.into_iter().zip(places).collect();
                        asks.push(Ask { ids, images, waiting: vec![waiting], max_new_tokens: most, seconds: 0.0 });
                    }
                }
            }
        }
    }
    asks
}

/// Prompts whose images are encoded together.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct AskWindow {
    /// Indices of the prompts, the shortest texts first.
    pub asks: Vec<usize>,
    /// Indices of their images.
    pub images: Vec<usize>,
}

/// Arranges prompts into windows of at most `most` images, or one prompt if it has more. Prompts about the same images
/// are in the same window, and prompts without images are in the first.
pub(super) fn windows(asks: &[Ask<'_>], most: usize) -> Vec<AskWindow> {
    let lists: Vec<Vec<ImageRef>> = asks.iter().map(Ask::image_list).collect();
    let mut order: Vec<usize> = (0..asks.len()).collect();
    order.sort_by_key(|i| lists.get(*i));
    let (mut windows, mut window) = (Vec::new(), AskWindow::default());
    let mut images: BTreeSet<usize> = BTreeSet::new();
    let mut last: Option<&Vec<ImageRef>> = None;
    for i in order {
        let Some(list) = lists.get(i) else { continue };
        let new: BTreeSet<usize> = list.iter().flatten().copied().filter(|image| !images.contains(image)).collect();
        if last != Some(list) && !new.is_empty() && !window.asks.is_empty() && images.len() + new.len() > most {
            window.images = std::mem::take(&mut images).into_iter().collect();
            windows.push(std::mem::take(&mut window));
            images.extend(list.iter().flatten());
        } else {
            images.extend(new);
        }
        window.asks.push(i);
        last = Some(list);
    }
    if !window.asks.is_empty() {
        window.images = images.into_iter().collect();
        windows.push(window);
    }
    let length = |i: &usize| asks.get(*i).map_or(0, |ask| ask.text().len());
    windows.iter_mut().for_each(|window| window.asks.sort_by_key(length));
    windows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_keep_prompts_about_the_same_images_together() {
        let ids: Vec<u32> = (0..40).collect();
        let ask = |images: &[usize], length: usize| Ask {
            ids: &ids[..images.len() + length],
            images: images.iter().enumerate().map(|(at, image)| (Some(*image), at)).collect(),
            waiting: Vec::new(),
            max_new_tokens: 1,
            seconds: 0.0,
        };
        let asks = [
            ask(&[0], 9),
            ask(&[1], 3),
            ask(&[0], 2),
            ask(&[], 5),
            ask(&[2], 1),
            ask(&[0, 1], 4),
            ask(&[3, 4, 5, 6], 7),
            ask(&[], 4),
        ];
        let made = windows(&asks, 2);
        let of = |asks: &[usize], images: &[usize]| AskWindow { asks: asks.to_vec(), images: images.to_vec() };
        assert_eq!(made, [of(&[2, 1, 7, 5, 3, 0], &[0, 1]), of(&[4], &[2]), of(&[6], &[3, 4, 5, 6])], "{made:?}");
        assert_eq!(asks[5].prefix(), [0, 1]);
        assert_eq!(asks[5].text(), [2, 3, 4, 5]);
        assert!(windows(&[], 2).is_empty());
    }
}
