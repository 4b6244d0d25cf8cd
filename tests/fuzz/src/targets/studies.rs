//! Fuzz targets for files that users write (studies, recipes) and for the cards of saved models.

use crate::FuzzTarget;
use crate::mutate::MutationForm;
use burgess::features::oracle::GroundTruth;
use burgess::study::{RunConfig, StudyConfig};
use burgess_base::Error;
use burgess_probe::recipe::Recipe;

const WORDS: &[&str] = &[
    "[evaluator]",
    "[[arms]]",
    "encoders = [\"nano-clip\"]",
    "seeds = [0]",
    "[recipe.align]",
    "lr = ",
    "steps = ",
    "epochs = ",
    "batch = ",
    "nan",
    "inf",
    "-1",
    "\"..\"",
    "benchmarks = []",
    "1979-05-27",
    "'''",
    "[lora]",
    "rank = ",
    "alpha = ",
];

pub const TARGETS: &[FuzzTarget] = &[
    FuzzTarget {
        name: "study",
        about: "a study (TOML)",
        corpus: &["experiments/studies/*.toml", "experiments/studies/*/*.toml"],
        words: WORDS,
        form: MutationForm::Text,
        share: 40,
        run: |input, _| {
            let study = StudyConfig::parse(std::str::from_utf8(input.bytes).map_err(Error::from)?)?;
            study.evaluator.check()
        },
    },
    FuzzTarget {
        name: "run",
        about: "a training run (TOML)",
        corpus: &[],
        words: WORDS,
        form: MutationForm::Text,
        share: 20,
        run: |input, place| {
            for data in ["good.json", "nan.json", "text.json"] {
                place.file(data, b"[]")?;
            }
            RunConfig::open(&place.file("run.toml", input.bytes)?).map(drop)
        },
    },
    FuzzTarget {
        name: "recipe",
        about: "a recipe of training (TOML)",
        corpus: &[],
        words: WORDS,
        form: MutationForm::Text,
        share: 100,
        run: |input, place| {
            let text = std::str::from_utf8(input.bytes).map_err(Error::from)?;
            let recipe: Recipe = toml::from_str(text).map_err(|e| Error::failed(e.message().to_string()))?;
            recipe.notes().into_iter().for_each(|note| place.tell(note));
            recipe.check()
        },
    },
    FuzzTarget {
        name: "truth",
        about: "ground truth of images for the oracle",
        corpus: &[],
        words: &["\"image\"", "\"grid\"", "\"cells\"", "[6, 6]", "[[], []]", "\n", "\u{feff}"],
        form: MutationForm::Json,
        share: 200,
        run: |input, place| {
            let file = place.file("data/truth.jsonl", input.bytes)?;
            GroundTruth::read(file.parent().unwrap_or(&file)).map(drop)
        },
    },
    FuzzTarget {
        name: "model-cards",
        about: "cards.json of a saved model",
        corpus: &[],
        words: &["\"size\"", "\"crop_pct\"", "\"mean\"", "\"tap\"", "\"grid\"", "\"architecture\"", "\"layers\""],
        form: MutationForm::Json,
        share: 60,
        run: |input, place| {
            let file = place.file("model/cards.json", input.bytes)?;
            burgess::features::model_cards::read(file.parent().unwrap_or(&file)).map(drop)
        },
    },
];
