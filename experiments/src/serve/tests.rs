//! A served model in memory: requests that fail leave the others alone.

use super::*;
use burgess_encoders::card::EncoderCard;
use burgess_encoders::init::initialise;
use burgess_probe::connector::{ConnectorConfig, ConnectorKind};
use burgess_probe::llm::stored::Weight;
use burgess_probe::llm::tokenizer::SPECIALS;
use burgess_probe::llm::{Activations, ChatTemplate, Compute, LlmConfig, Tokenizer};
use burgess_probe::mllm::{Mllm, MllmConfig};
use burgess_serve::{Finish, ImageBytes, Message, Part, Role};
use burn::module::Param;
use burn::tensor::Tensor;
use std::time::Duration;

const TEXTS: [&str; 3] = ["How many cups are there? three", "Which colour is it? red", "Zzz zzz"];

/// A model whose embedding of `broken` is not finite, and whose tokenizer knows ids that the model lacks.
fn served(max_batch: usize, prefix_cache_bytes: usize) -> Result<(ServedModel, u32)> {
    let device = Device::flex();
    let tokenizer = Tokenizer::train(TEXTS.iter(), 300, &SPECIALS)?;
    let broken = tokenizer.encode("~")?.last().copied().ok_or_else(|| Error::failed("no token"))?;
    let card = EncoderCard::find("nano-random")?;
    let grid = card.used_grid()?;
    let width = card.architecture.width(&card.tap)?;
    let llm = LlmConfig { tie_word_embeddings: false, ..LlmConfig::nano(32, 2, tokenizer.vocab_size()) };
    let config = MllmConfig {
        connector: ConnectorConfig::new(ConnectorKind::default(), &[(width, grid)], 32)?,
        llm: llm.clone(),
        chat: ChatTemplate::nano(),
        encoders: Vec::new(),
        grid: None,
    };
    let mut network = initialise(llm.init(&device)?, "llm", 3);
    let table = network.model.embed_tokens.weight.parameter()?.val();
    let row = broken as usize;
    let nan = Tensor::<2>::full([1, 32], f32::NAN, &device);
    network.model.embed_tokens.weight =
        Weight::Parameter(Param::from_tensor(table.slice_assign([row..row + 1, 0..32], nan)));
    let model = Mllm::assemble(config, Vec::new(), network, 3, &device)?;
    let encoders = vec![ModelEncoder::of_card(card)];
    let opened = MultimodalModel { model, tokenizer, encoders, device: device.clone() };
    let options = ServeOptions {
        name: "small".into(),
        device_name: "flex".into(),
        chat: None,
        activations: Activations::F32,
        precision: Compute::F32,
        max_batch,
        queue: 8,
        max_tokens: 20,
        prefix_cache_bytes,
    };
    Ok((ServedModel::start(opened, 0, &device, &options)?, broken))
}

fn user(parts: Vec<Part>) -> ChatRequest {
    ChatRequest {
        messages: vec![Message { role: Role::User, parts }],
        max_tokens: None,
        temperature: 0.0,
        top_p: 1.0,
        seed: 0,
        stop: Vec::new(),
        logprobs: None,
    }
}

fn text(text: &str) -> Part {
    Part::Text(text.into())
}

fn picture(shade: u8) -> Result<Part> {
    let mut png = std::io::Cursor::new(Vec::new());
    let image = image::RgbImage::from_fn(40, 30, |x, y| image::Rgb([shade, x as u8 * 6, y as u8 * 8]));
    image.write_to(&mut png, image::ImageFormat::Png).map_err(|e| Error::failed(e.to_string()))?;
    let bytes = png.into_inner();
    let digest = burgess_base::digest::of_bytes(&bytes);
    Ok(Part::Image(Arc::new(ImageBytes { bytes, digest })))
}

/// All events of a request.
fn events(mut receiver: UnboundedReceiver<ChatEvent>) -> Vec<ChatEvent> {
    std::iter::from_fn(|| receiver.blocking_recv()).collect()
}

fn submitted(model: &ServedModel, request: ChatRequest) -> UnboundedReceiver<ChatEvent> {
    model.submit(request).unwrap_or_else(|e| panic!("{e:?}"))
}

/// The text of an answer, how it ended, and how many positions of its prompt were cached.
fn whole(events: &[ChatEvent]) -> (String, Finish, usize) {
    let (mut answer, mut cached, mut end) = (String::new(), 0, None);
    for event in events {
        match event {
            ChatEvent::Started { cached_tokens, .. } => cached = *cached_tokens,
            ChatEvent::Text { text, .. } => answer += text,
            ChatEvent::Done { finish, .. } => end = Some(*finish),
            other => panic!("{other:?}"),
        }
    }
    (answer, end.expect("the end"), cached)
}

#[test]
fn a_request_that_fails_leaves_the_others_alone() -> Result<()> {
    let (model, _) = served(8, 1 << 20)?;
    let good = || Ok::<_, Error>(user(vec![text("How many cups?"), picture(9)?]));
    let (alone, finish, cached) = whole(&events(submitted(&model, good()?)));
    assert_eq!((finish, cached), (Finish::Length, 0));
    let mut waiting = Vec::new();
    for i in 0..6 {
        waiting.push(submitted(&model, if i % 3 == 1 { user(vec![text("~ what?")]) } else { good()? }));
    }
    for (i, receiver) in waiting.into_iter().enumerate() {
        let events = events(receiver);
        if i % 3 == 1 {
            assert!(
                matches!(events.last(), Some(ChatEvent::Failed(e)) if e.to_string().contains("NaN at token 1")),
                "{events:?}"
            );
        } else {
            let (answer, _, cached) = whole(&events);
            assert_eq!(answer, alone);
            assert!(cached > 0);
        }
    }
    let stats = model.stats();
    assert_eq!((stats.completed, stats.failed, stats.active, stats.queued), (5, 2, 0, 0), "{stats:?}");
    assert_eq!((stats.images_encoded, stats.prefix_hits), (1, 4), "{stats:?}");
    assert!(stats.busy_seconds > 0.0 && stats.steps >= 19, "{stats:?}");
    model.shut_down();
    assert!(matches!(model.submit(good()?), Err(SubmitError::ShuttingDown)));
    model.join();
    Ok(())
}

#[test]
fn prefixes_that_do_not_fit_are_computed_again() -> Result<()> {
    let (kept, _) = served(4, 1 << 20)?;
    let (dropped, _) = served(4, 0)?;
    for shade in [1, 2, 1] {
        let ask = || Ok::<_, Error>(user(vec![picture(shade)?, text("Which colour?")]));
        let answers = [&kept, &dropped].map(|model| ask().map(|ask| whole(&events(submitted(model, ask))).0));
        let [a, b] = answers;
        assert_eq!(a?, b?);
    }
    assert_eq!((kept.stats().images_encoded, kept.stats().prefix_hits), (2, 1));
    assert_eq!((dropped.stats().images_encoded, dropped.stats().prefix_hits), (3, 0));
    Ok(())
}

#[test]
fn a_full_queue_refuses_and_cancelled_requests_are_never_computed() -> Result<()> {
    let (model, _) = served(1, 0)?;
    let ask = || user(vec![text("How many cups?")]);
    // The model is kept busy by requests that are forgotten at once.
    let mut waiting = Vec::new();
    let mut refused = 0;
    for _ in 0..2000 {
        match model.submit(ask()) {
            Ok(receiver) => waiting.push(receiver),
            Err(SubmitError::Full { retry_after }) => {
                assert!((1..=120).contains(&retry_after));
                refused += 1;
                break;
            }
            Err(other) => panic!("{other:?}"),
        }
    }
    assert_eq!(refused, 1, "the queue never filled");
    let accepted = waiting.len() as u64;
    drop(waiting);
    let end = Instant::now() + Duration::from_secs(20);
    while model.stats().active + model.stats().queued > 0 && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(5));
    }
    let stats = model.stats();
    assert_eq!(stats.completed + stats.cancelled, accepted, "{stats:?}");
    assert!(stats.cancelled >= 8, "{stats:?}");
    Ok(())
}

#[test]
fn conversations_are_checked_before_they_wait() -> Result<()> {
    let (model, _) = served(1, 0)?;
    let refused = |request: ChatRequest| match model.submit(request) {
        Err(SubmitError::Invalid { error, param }) => (error.to_string(), param, error.hint_text().is_some()),
        other => panic!("{:?}", other.map(|_| ())),
    };
    let (message, param, hinted) = refused(user(vec![picture(1)?, text("a"), picture(2)?]));
    assert!(message.contains("2 images") && param == "messages" && hinted, "{message}");
    let (message, ..) = refused(user(vec![text(&"cups ".repeat(600))]));
    assert!(message.contains("the model has 512") && message.contains("of text"), "{message}");
    let broken = Part::Image(Arc::new(ImageBytes { bytes: b"GIF89a....".to_vec(), digest: "x".into() }));
    let (message, ..) = refused(user(vec![broken, text("a")]));
    assert!(message.contains("reading the image"), "{message}");
    let (_, param, _) = refused(ChatRequest { max_tokens: Some(0), ..user(vec![text("a")]) });
    assert_eq!(param, "max_tokens");
    let (_, param, _) = refused(ChatRequest { temperature: f64::NAN, ..user(vec![text("a")]) });
    assert_eq!(param, "temperature");
    let (_, param, _) = refused(ChatRequest { top_p: 0.0, ..user(vec![text("a")]) });
    assert_eq!(param, "top_p");
    // Several turns; the image of a later one is placed where training data has it.
    let turns = |image_in: usize| -> Result<ChatRequest> {
        let mut request = user(vec![text("How many?")]);
        request.messages.push(Message { role: Role::Assistant, parts: vec![text("three")] });
        request.messages.push(Message { role: Role::User, parts: vec![text("Which colour?")] });
        request.messages[image_in].parts.push(picture(3)?);
        Ok(request)
    };
    let (first, later) = (submitted(&model, turns(0)?), submitted(&model, turns(2)?));
    assert_eq!(whole(&events(first)), whole(&events(later)));
    let (message, ..) = refused(turns(1)?);
    assert!(message.contains("only messages of the user"), "{message}");
    Ok(())
}

#[test]
fn scores_of_options_are_those_of_the_evaluation() -> Result<()> {
    let (model, _) = served(2, 1 << 20)?;
    let options: Vec<String> = ["red", "three cups", "blue"].map(String::from).to_vec();
    let mut sums = Vec::new();
    for _ in 0..2 {
        let request = user(vec![text("Which colour?"), picture(4)?]);
        let receiver = model.score(request, options.clone()).unwrap_or_else(|e| panic!("{e:?}"));
        let events = events(receiver);
        let scores = events.iter().find_map(|event| match event {
            ChatEvent::Scored(scores) => Some(scores.clone()),
            _ => None,
        });
        let scores = scores.ok_or_else(|| Error::failed(format!("{events:?}")))?;
        for (score, option) in scores.iter().zip(&options) {
            // The tokens of the option and the one that ends an answer.
            let count = model.conversations.tokenizer.encode(option)?.len() + 1;
            assert_eq!((&score.text, score.tokens), (option, count));
            assert!(score.logprob < 0.0);
        }
        sums.push(scores.iter().map(|score| score.logprob).collect::<Vec<_>>());
    }
    // The second time from the kept prefix, with the same bits.
    assert_eq!(sums[0], sums[1]);
    let empty = model.score(user(vec![text("a")]), Vec::new());
    assert!(matches!(empty, Err(SubmitError::Invalid { param: "options", .. })));
    Ok(())
}
