//! Generates conversations whose sources, lengths and characters are like those of Cambrian-10M: 933 bytes per line.

use burgess_base::stream::{Stream, stream, uniform};
use rand::Rng;

/// Sources with their counts in thousands (Cambrian-1, figure 8), whether they have images, and the form of answers.
const SOURCES: [(&str, u32, Answers); 20] = [
    ("dvqa", 2325, Answers::Short),
    ("synthdog", 500, Answers::Long),
    ("arxivqa", 100, Answers::Letter),
    ("ocr_vqa", 80, Answers::Short),
    ("screenqa", 79, Answers::Short),
    ("wikisql", 74, Answers::Short),
    ("allava", 700, Answers::Long),
    ("q-instruct", 400, Answers::Short),
    ("lnqa", 302, Answers::Long),
    ("lvis_instruct4v", 220, Answers::Several),
    ("llava150k", 150, Answers::Several),
    ("vg", 86, Answers::Several),
    ("vqav2", 83, Answers::Several),
    ("gqa", 72, Answers::Several),
    ("openorca", 994, Answers::TextOnly),
    ("mathinstruct", 262, Answers::TextOnly),
    ("orca_math", 200, Answers::TextOnly),
    ("clevr", 700, Answers::Short),
    ("tallyqa", 250, Answers::Short),
    ("websight", 800, Answers::Code),
];

#[derive(Clone, Copy)]
enum Answers {
    /// A question with an answer of a word or two.
    Short,
    /// A question with choices and a letter.
    Letter,
    /// A question with an answer of paragraphs.
    Long,
    /// Several questions and answers.
    Several,
    /// No image, an answer of paragraphs.
    TextOnly,
    /// A page of HTML as the answer.
    Code,
}

const WORDS: [&str; 32] = [
    "the", "a", "of", "image", "shows", "with", "person", "table", "red", "behind", "two", "Größe", "is", "and",
    "which", "value", "chart", "in", "left", "café", "number", "standing", "street", "large", "blue", "near", "dog",
    "on", "holding", "answer", "猫", "it",
];

/// A generator of lines.
pub struct Generator {
    random: Stream,
    next: u64,
    total: u32,
}

impl Generator {
    /// Builds a generator; the same seed gives the same lines.
    pub fn new(seed: u64) -> Self {
        Self { random: stream("pool", seed), next: 0, total: SOURCES.iter().map(|s| s.1).sum() }
    }

    fn words(&mut self, count: u32, out: &mut String) {
        for i in 0..count {
            let word = WORDS[(self.random.next_u32() % 32) as usize];
            out.push_str(if i == 0 { "" } else { " " });
            out.push_str(word);
            match self.random.next_u32() % 40 {
                0 => out.push_str(".\\n"),
                1 => out.push_str(" \\\"so\\\""),
                2..=4 => out.push(','),
                _ => {}
            }
        }
    }

    /// Appends one line.
    pub fn line(&mut self, out: &mut String) {
        let mut at = self.random.next_u32() % self.total;
        let (source, _, answers) = *SOURCES
            .iter()
            .find(|(_, count, _)| {
                let here = at < *count;
                at = at.wrapping_sub(*count);
                here
            })
            .unwrap_or(&SOURCES[0]);
        let id = self.next;
        self.next += 1;
        out.push_str(&format!("{{\"id\": \"{source}_{id}\", "));
        if !matches!(answers, Answers::TextOnly) {
            out.push_str(&format!("\"image\": \"{source}/images/{:05}/{id:09}.jpg\", ", id / 1000));
        }
        out.push_str("\"conversations\": [");
        let turns = match answers {
            Answers::Several => 2 + self.random.next_u32() % 8,
            _ => 1,
        };
        for turn in 0..turns {
            out.push_str(if turn == 0 {
                "{\"from\": \"human\", \"value\": \""
            } else {
                ", {\"from\": \"human\", \"value\": \""
            });
            if turn == 0 && !matches!(answers, Answers::TextOnly) {
                out.push_str("<image>\\n");
            }
            let question = match answers {
                Answers::TextOnly => 60 + self.random.next_u32() % 120,
                _ => 6 + self.random.next_u32() % 12,
            };
            self.words(question, out);
            out.push_str("?\"}, {\"from\": \"gpt\", \"value\": \"");
            // Lengths have a long tail, as in written text.
            let tail = (-uniform(&mut self.random).max(1e-9).ln() * 1000.0) as u32;
            match answers {
                Answers::Short => self.words(1 + tail / 900, out),
                Answers::Letter => out.push(char::from(b'A' + (tail % 5) as u8)),
                Answers::Several => self.words(2 + tail / 90, out),
                Answers::Long | Answers::TextOnly => self.words(40 + tail / 5, out),
                Answers::Code => {
                    for _ in 0..8 + tail / 200 {
                        out.push_str("<div class=\\\"box\\\">\\n\\t<p>");
                        self.words(12, out);
                        out.push_str("</p>\\n</div>\\n");
                    }
                }
            }
            out.push_str("\"}");
        }
        out.push_str(&format!("], \"source\": \"{source}.json\"}}\n"));
    }
}
