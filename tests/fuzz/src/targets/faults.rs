//! Targets that fail on purpose, to test that failures are detected. They run only when named.

use crate::input_dir::InputDir;
use crate::mutate::MutationForm;
use crate::{FuzzInput, FuzzTarget};
use burgess_base::{Error, Result};

const fn fault(name: &'static str, run: fn(&FuzzInput<'_>, &InputDir) -> Result<()>) -> FuzzTarget {
    let corpus = &["probe/zoo/nano-lm/chat.json"];
    FuzzTarget { name, about: "a fault", corpus, words: &[], form: MutationForm::Json, share: 1, run }
}

/// Whether the input is the unchanged seed file; only such inputs fail.
fn is_first(input: &FuzzInput<'_>) -> bool {
    input.bytes == include_bytes!("../../../../probe/zoo/nano-lm/chat.json")
}

pub const TARGETS: &[FuzzTarget] = &[
    fault("fault-panic", |input, _| {
        assert!(!is_first(input), "a panic");
        Ok(())
    }),
    fault("fault-memory", |input, _| {
        let size = if is_first(input) { 3 << 30 } else { 1 };
        std::hint::black_box(vec![0u8; size]);
        Ok(())
    }),
    fault("fault-stack", |input, _| {
        fn deep(n: u64) -> u64 {
            if n == 0 { 0 } else { std::hint::black_box(deep(n - 1)) + 1 }
        }
        deep(if is_first(input) { 1 << 40 } else { 1 });
        Ok(())
    }),
    fault("fault-message", |input, place| {
        place.tell(if is_first(input) { "\x1b[2J" } else { "plain" });
        Err(Error::failed("refused"))
    }),
    fault("fault-time", |input, _| {
        while is_first(input) {
            std::hint::spin_loop();
        }
        Ok(())
    }),
];
