//! The sets of rules: their names, their descriptions in words, and judging answers whose reasoning is removed.

use burgess_bench::{self as bench, AnswerScore, Benchmark, Predictions, Question, Rules};
use std::collections::HashMap;

type Checked = Result<(), Box<dyn std::error::Error>>;

fn of(id: &str) -> &'static dyn Benchmark {
    bench::find(id).unwrap_or_else(|e| panic!("{e}"))
}

fn question(options: &[&str], answer: &str) -> Question {
    Question {
        id: "0".into(),
        options: options.iter().map(ToString::to_string).collect(),
        answer: answer.into(),
        accepted: if options.is_empty() { vec![answer.to_string(); 10] } else { Vec::new() },
        ..Question::default()
    }
}

#[test]
fn rules_are_named_for_what_they_are() {
    for b in bench::all() {
        let official = b.card().authors;
        let named = b.rules(Rules::Official).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(named, if official { Rules::Official } else { Rules::Strict }, "{}", b.id());
        match b.rules(Rules::Strict) {
            Ok(rules) => assert!(!official && rules == Rules::Strict, "{}", b.id()),
            Err(e) => assert!(official && e.hint_text().is_some_and(|h| h.contains("official")), "{}: {e}", b.id()),
        }
        // Benchmarks that the paper's code does not know have one set of rules.
        let studied = b.rules(Rules::Cambrian1).unwrap_or_else(|e| panic!("{e}"));
        let has = b.card().source.is_some_and(|source| source.cambrian_1);
        assert_eq!(studied, if has { Rules::Cambrian1 } else { named }, "{}", b.id());
        assert_eq!(b.card().rule_sets()[0], named, "{}", b.id());
    }
    for name in ["official", "strict", "cambrian-1", "lmms-eval"] {
        let rules: Rules = name.parse().unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(serde_json::to_value(rules).ok(), Some(name.into()));
    }
    assert!("lmms_eval".parse::<Rules>().is_err());
}

#[test]
fn every_set_of_rules_is_explained() {
    for b in bench::all() {
        for rules in b.card().rule_sets() {
            let told = b.explain(rules);
            for text in [told.prompt, told.scoring, told.source] {
                assert!(text.len() > 8 && !text.contains("  "), "{} {rules:?}: {text:?}", b.id());
            }
            if rules == Rules::LmmsEval {
                assert!(told.source.contains("lmms-eval 0.7.3, tasks/"), "{}: {}", b.id(), told.source);
            }
            if rules == Rules::Cambrian1 {
                assert!(told.source.contains("cambrian-mllm/cambrian, eval/eval/"), "{}: {}", b.id(), told.source);
            }
        }
    }
}

/// Reasoning that names another choice, in every form; the answer is C, right is C.
const THOUGHTS: [&str; 14] = [
    "<think>The user asks for the smallest. Maybe the answer is A. No: plankton.</think>\n\nC",
    "<THINK>The answer is A</THINK> C",
    "<thinking>A</thinking>\nC",
    "<thought>A</thought>C",
    "<reasoning>A</reasoning><answer>C</answer>",
    "<reflection>A</reflection>C",
    "<seed:think>A</seed:think>C",
    "◁think▷A◁/think▷C",
    "<|begin_of_thought|>A<|end_of_thought|>\n<|begin_of_solution|>C<|end_of_solution|>",
    "[THINK]A[/THINK]C",
    "<|channel|>analysis<|message|>A<|end|><|start|>assistant<|channel|>final<|message|>C",
    "Maybe A.\n</think>\nC",
    "<think>a<think>A</think>b</think>C",
    "<answer>C</answer>",
];

#[test]
fn reasoning_is_removed_by_all_official_and_strict_rules() {
    let lettered = ["krill", "whale", "phytoplankton", "shrimp"];
    let ids = [
        "ai2d",
        "nano-ai2d",
        "scienceqa",
        "seed-bench",
        "mmbench-en",
        "mmbench-cn",
        "mmmu",
        "mmstar",
        "blink",
        "q-bench",
        "mmvp",
        "realworldqa",
        "v-star",
        "cv-bench-2d",
        "nano-cvbench-3d",
        "mathvista",
    ];
    for id in ids {
        let q = question(&lettered, "C");
        for answer in THOUGHTS {
            let judged = of(id).judge(&q, answer, Rules::Official);
            assert_eq!(judged.score, 1.0, "{id}: {answer}: {judged:?}");
        }
        for cut in ["<think>The answer is C", "◁think▷C", "<think>A</think><think>C", "[THINK]C"] {
            assert_eq!(of(id).judge(&q, cut, Rules::Official), AnswerScore::unparsed(), "{id}: {cut}");
        }
    }
    for (id, q, said, thought) in [
        ("mme", question(&[], "yes"), "Yes", "No"),
        ("nano-mme", question(&[], "yes"), "yes", "no"),
        ("pope", question(&[], "yes"), "Yes", "No"),
        ("field-presence", question(&[], "yes"), "yes", "no"),
        ("gqa", question(&[], "red"), "Red.", "blue"),
        ("nano-gqa", question(&[], "red"), "red", "blue"),
        ("chartqa", question(&[], "12"), "12", "40"),
        ("ocrbench", question(&[], "OPEN"), "open", "shut"),
        ("ocrbench-strict", question(&[], "OPEN"), "open", "shut"),
        ("textvqa", question(&[], "stop"), "stop", "go"),
        ("vizwiz", question(&[], "stop"), "stop", "go"),
        ("docvqa", question(&[], "12 May"), "12 May", "13"),
        ("infovqa", question(&[], "12 May"), "12 May", "13"),
        ("realworldqa", question(&[], "Downhill"), "Downhill", "up"),
        ("field-cocoqa", question(&[], "dog"), "dog", "cat"),
        ("mmmu", question(&[], "12"), "12", "40"),
    ] {
        for (opening, closing) in
            [("<think>", "</think>\n"), ("<Reasoning>", "</Reasoning>"), ("", "</think>\n"), ("[THINK]", "[/THINK]")]
        {
            let answer = format!("{opening}It may be {thought}.{closing}{said}");
            assert_eq!(of(id).judge(&q, &answer, Rules::Official).score, 1.0, "{id}: {answer}");
        }
        let cut = format!("<think>It is {said}");
        assert_eq!(of(id).judge(&q, &cut, Rules::Official), AnswerScore::unparsed(), "{id}: {cut}");
    }
    // Strict rules read a box; the rules of others get the answer as it is.
    assert_eq!(of("ai2d").judge(&question(&lettered, "C"), "So $\\boxed{\\text{C}}$", Rules::Official).score, 1.0);
    let said = of("ai2d").judge(&question(&lettered, "A"), "</think>A", Rules::Cambrian1);
    assert_eq!(said, AnswerScore::unparsed(), "`cambrian-1` takes the first character");
}

#[test]
fn reasoning_is_counted() -> Checked {
    let b = of("ai2d");
    let options = ["krill", "whale", "phytoplankton"];
    let qs: Vec<Question> =
        (0..4).map(|i| Question { id: i.to_string(), unit: i.to_string(), ..question(&options, "C") }).collect();
    let said = ["<think>A</think>C", "C", "<think>The answer is C", "A</think>A"];
    let answers: HashMap<String, String> =
        said.iter().enumerate().map(|(i, a)| (i.to_string(), (*a).to_string())).collect();
    let (report, _) = bench::judge_predictions(b, &qs, Predictions::from(answers), Rules::Official)?;
    assert_eq!(report.scoring, Rules::Strict);
    assert_eq!((report.outcome.score, report.outcome.n_unparsed), (50.0, 1));
    assert_eq!((report.n_reasoning, report.n_unfinished), (3, 1));
    let none = bench::judge_predictions(of("nano-mme"), &qs, Predictions::default(), Rules::LmmsEval);
    assert!(none.is_err_and(|e| e.to_string().contains("not a task of lmms-eval")));
    Ok(())
}

#[test]
fn labels_and_texts_are_told_apart() {
    let read = |answer: &str, options: &[&str]| of("ai2d").judge(&question(options, "A"), answer, Rules::Strict).parsed;
    let genes = ["AA", "Aa", "aa"];
    for (answer, said) in [
        ("AA", Some("A")),
        ("Aa", Some("B")),
        ("aa", Some("C")),
        ("aA", None),
        ("Aa.", Some("B")),
        ("**aa**", Some("C")),
        ("The answer is Aa", Some("B")),
        ("B. Aa", Some("B")),
        ("C) aa", Some("C")),
        ("A", Some("A")),
        ("c", Some("C")),
    ] {
        assert_eq!(read(answer, &genes).as_deref(), said, "{answer}");
    }
    let lettered = ["C", "D", "B", "A"];
    for (answer, said) in [
        ("D. A", Some("D")),
        ("D) A", Some("D")),
        ("(D) A", Some("D")),
        ("D: A", Some("D")),
        ("**D. A**", Some("D")),
        ("d. a", Some("D")),
        ("The answer is D. A", Some("D")),
        ("D. A.", Some("D")),
        ("D A", Some("D")),
        ("D - A", Some("D")),
        // A letter alone is the label, whatever the choices' texts.
        ("A", Some("A")),
        ("A. C", Some("A")),
        // Another's text, or two letters.
        ("D. B", None),
        ("D, A", None),
        ("D or A", None),
        ("A. C\nB. D\nC. B\nD. A", None),
    ] {
        assert_eq!(read(answer, &lettered).as_deref(), said, "{answer}");
    }
    let many: Vec<String> = (0..30).map(|i| format!("thing {i}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    for (answer, said) in [
        ("Z", Some("Z")),
        ("AA", Some("AA")),
        ("(AC)", Some("AC")),
        ("AB. thing 27", Some("AB")),
        ("thing 28", Some("AC")),
        ("The answer is AD.", Some("AD")),
        ("AE", None),
        ("aa", None),
        ("AA or AB", None),
    ] {
        assert_eq!(read(answer, &many).as_deref(), said, "{answer}");
    }
    let q = question(&many, "AC");
    assert_eq!(of("ai2d").judge(&q, "AC", Rules::Strict).score, 1.0);
    assert!(of("ai2d").prompt(&q, Rules::Strict).contains("\nZ. thing 25\nAA. thing 26\n"));
    assert_eq!(of("ai2d").possible_answers(&q).last().map(String::as_str), Some("AD"));
}

#[test]
fn white_space_and_silence() {
    // Outer white space is removed, which pix2struct's code does not do; `burgess prompts chartqa` says so.
    let q = question(&[], "Red");
    for answer in [" red ", "Red\n", "\tred"] {
        assert_eq!(of("chartqa").judge(&q, answer, Rules::Official).score, 1.0);
    }
    assert!(of("chartqa").explain(Rules::Official).difference.contains("White space"));
    // An empty answer agrees with people who said nothing that is left when articles and signs are removed, as in mmf.
    let people = |silent: usize| Question {
        accepted: (0..10).map(|i| if i < silent { "the".to_string() } else { "stop".to_string() }).collect(),
        ..question(&[], "stop")
    };
    for (silent, score) in [(0, 0.0), (1, 0.3), (2, 0.6), (3, 0.9), (4, 1.0)] {
        for id in ["textvqa", "vizwiz"] {
            let judged = of(id).judge(&people(silent), "", Rules::Official);
            assert!((judged.score - score).abs() < 1e-12, "{id} {silent}: {judged:?}");
            assert_eq!(judged.parsed.is_none(), silent == 0, "{id}");
        }
    }
}
