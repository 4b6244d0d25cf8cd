//! The Jinja template that a model ships, rendered as `apply_chat_template` of `transformers` does.
//!
//! The environment is the same: `trim_blocks` and `lstrip_blocks`, `break` and `continue`, `raise_exception`,
//! `strftime_now`, `tojson`, Python's string methods, `{% generation %}` around the assistant's text. One thing
//! differs: `strftime_now` gives a fixed date ([`JinjaTemplate::with_date`]) instead of today's, for
//! reproducible studies.

use super::conversation::ConversationTemplate;
use super::python::{self, Day};
use super::spans::{self, AnswerSpans};
use super::{ChatFormat, EncodedChat, IMAGE_ID, MaskProblem, Role, Turn, limits, template_text, with_placed_image};
use crate::llm::tokenizer::{IMAGE, Tokenizer};
use burgess_base::{Context, Error, Result, guard, text};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, StringInput, Value, ValueKind};
use minijinja::{Environment, ErrorKind, State};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::OnceLock;

/// Markers around the assistant's text; Unicode noncharacters, which valid text does not contain.
const MARKS: [char; 2] = ['\u{fdd0}', '\u{fdd1}'];

/// A Jinja chat template with its variables other than the conversation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JinjaTemplate {
    /// The template's source.
    jinja: String,
    /// The values of `bos_token`, `eos_token`, `pad_token` and `unk_token`, where the model has them.
    #[serde(default)]
    tokens: BTreeMap<String, String>,
    /// A system message that replaces the template's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    system: Option<String>,
    /// The date that `strftime_now` gives; by default the one that Llama 3's template falls back on.
    #[serde(default = "day")]
    date: String,
    #[serde(skip)]
    compiled: Compiled,
}

fn day() -> String {
    "2024-07-26".into()
}

/// The compiled template, built on first use; it does not take part in comparison and is not cloned.
#[derive(Debug, Default)]
struct Compiled(OnceLock<Environment<'static>>);

impl Clone for Compiled {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl PartialEq for Compiled {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl JinjaTemplate {
    /// Builds a template with the special tokens that it may write.
    ///
    /// # Errors
    /// When the Jinja syntax is invalid; the error names the line.
    pub fn new(template: impl Into<String>, tokens: BTreeMap<String, String>) -> Result<Self> {
        let jinja = Self { jinja: template.into(), tokens, system: None, date: day(), compiled: Compiled::default() };
        jinja.environment()?;
        Ok(jinja)
    }

    /// The template that ships with a tokenizer.
    ///
    /// # Errors
    /// When there is none, or its Jinja syntax is invalid.
    pub fn from_model(tokenizer: &Tokenizer) -> Result<Self> {
        let special = tokenizer.special();
        let Some(template) = &special.chat_template else {
            return Err(Error::failed("the model's tokenizer came without a chat template").hint(format!(
                "if it is an instruction-tuned model, name the template that it was trained with, for example \
                 chat = \"vicuna_v1\" in [evaluator] of the study or run; known are {}",
                ConversationTemplate::names().join(", ")
            )));
        };
        let ids = [
            ("bos_token", special.bos),
            ("eos_token", special.eos),
            ("pad_token", special.pad),
            ("unk_token", special.unk),
        ];
        let token = |(name, id): (&str, Option<u32>)| Some((name.to_string(), tokenizer.token(id?)?));
        Self::new(template.clone(), ids.into_iter().filter_map(token).collect())
    }

    /// Sets the date that `strftime_now` gives.
    ///
    /// # Errors
    /// When it is not of the form `2024-07-26`.
    pub fn with_date(self, date: &str) -> Result<Self> {
        if Day::parse(date).is_none() {
            return Err(Error::usage(format!("`{date}` is not a date")).hint("write it as 2024-07-26"));
        }
        Ok(Self { date: date.into(), compiled: Compiled::default(), ..self })
    }

    fn environment(&self) -> Result<&Environment<'static>> {
        if let Some(made) = self.compiled.0.get() {
            return Ok(made);
        }
        let step = "reading the chat template";
        limits::check(&self.jinja).context(step)?;
        // The parser recurses as deeply as the template's expressions, hence the large stack.
        let made = std::thread::scope(|scope| {
            let parse = || guard::third_party("the chat template", || self.parsed());
            let thread = std::thread::Builder::new().stack_size(limits::STACK).spawn_scoped(scope, parse);
            let joined = thread.context(step)?.join();
            joined.map_err(|_| Error::failed("its parser crashed").context(step))?
        })??;
        let made = self.tried(made)?;
        Ok(self.compiled.0.get_or_init(|| made))
    }

    /// Renders a short conversation with a time limit and returns the compiled template. Fuel counts instructions,
    /// but one instruction can traverse a list that contains itself exponentially often; the thread of such a
    /// template is abandoned.
    ///
    /// # Errors
    /// When rendering exceeds the time limit.
    fn tried(&self, made: Environment<'static>) -> Result<Environment<'static>> {
        let (send, receive) = std::sync::mpsc::channel();
        let own = self.clone();
        let attempt = move || {
            let turns = [Turn::user("0"), Turn::assistant("1")];
            if own.compiled.0.set(made).is_ok() {
                // The output, or an error that the template raises, does not matter here.
                let _ = (own.render(&turns, false), own.render(turns.get(..1).unwrap_or_default(), true));
            }
            // The receiver may have timed out.
            let _ = send.send(own.compiled.0.into_inner());
        };
        let step = "trying the chat template";
        std::thread::Builder::new().stack_size(limits::STACK).spawn(attempt).context(step)?;
        receive.recv_timeout(limits::PATIENCE).ok().flatten().ok_or_else(|| {
            let seconds = limits::PATIENCE.as_secs();
            Error::failed(format!("rendering a conversation of two turns takes more than {seconds} seconds"))
                .context(step)
                .hint("its lists or texts may grow without bound: use another chat template")
        })
    }

    fn parsed(&self) -> Result<Environment<'static>> {
        let day = Day::parse(&self.date)
            .ok_or_else(|| Error::failed(format!("`{}` is not a date, expected the form 2024-07-26", self.date)))?;
        let mut env = Environment::new();
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        env.set_syntax(syntax.map_err(|e| Error::failed(e.to_string()))?);
        env.set_fuel(Some(limits::FUEL));
        env.set_unknown_method_callback(|state, value, method, args| {
            match (method, value.as_str()) {
                ("format", Some(format)) => limits::check_format(format)?,
                ("join", Some(_)) => args.iter().try_for_each(|list| limits::check_size(state, list))?,
                _ => {}
            }
            minijinja_contrib::pycompat::unknown_method_callback(state, value, method, args)
        });
        env.set_formatter(|out, state, value| {
            limits::check_size(state, value)?;
            // Written as Python writes them.
            let text = match value.kind() {
                ValueKind::Bool if value.is_true() => "True",
                ValueKind::Bool => "False",
                ValueKind::None => "None",
                _ => return minijinja::escape_formatter(out, state, value),
            };
            out.write_str(text).map_err(minijinja::Error::from)
        });
        env.add_filter("tojson", |state: &State, value: Value, options| {
            limits::check_size(state, &value)?;
            python::to_json(state, &value, options)
        });
        env.add_filter("string", |state: &State, value: Value| {
            limits::check_size(state, &value)?;
            minijinja::filters::string(state, &value)
        });
        env.add_filter("join", join);
        env.add_filter("pprint", |state: &State, value: Value| {
            limits::check_size(state, &value)?;
            Ok::<_, minijinja::Error>(minijinja::filters::pprint(&value))
        });
        env.add_filter("burgess_generation", |text: String| format!("{}{text}{}", MARKS[0], MARKS[1]));
        env.add_function("raise_exception", |message: String| -> std::result::Result<Value, minijinja::Error> {
            Err(minijinja::Error::new(ErrorKind::InvalidOperation, message))
        });
        env.add_function("strftime_now", move |format: String| day.format(&format));
        env.add_template_owned("chat", tags_as_filters(&self.jinja))
            .map_err(|e| Error::failed(explain(&e)).context("reading the chat template"))?;
        Ok(env)
    }

    /// Renders a conversation as text; with `open` it ends with the generation prompt.
    ///
    /// # Errors
    /// When the template raises an error; its message and line are given.
    pub fn text(&self, turns: &[Turn], open: bool) -> Result<String> {
        Ok(self.render(turns, open)?.0)
    }

    /// Renders a conversation; also returns the byte ranges that `generation` blocks wrote.
    fn render(&self, turns: &[Turn], open: bool) -> Result<(String, Vec<Range<usize>>)> {
        let system = self.system.as_deref().filter(|_| turns.first().is_none_or(|t| t.role != Role::System));
        let system = system.map(|content| message("system", content));
        let messages = turns.iter().map(|t| {
            let role = match t.role {
                Role::System => "system",
                Role::User => "user",
                Role::Assistant => "assistant",
            };
            message(role, &t.text)
        });
        if turns.iter().any(|t| t.text.contains(MARKS)) {
            return Err(Error::failed("a message contains U+FDD0 or U+FDD1, which are not characters"));
        }
        let messages: Value = system.into_iter().chain(messages).collect();
        let tokens = self.tokens.iter().map(|(name, token)| (name.as_str(), Value::from(token.as_str())));
        let context = Value::from_pairs(tokens.chain([
            ("messages", messages),
            ("add_generation_prompt", Value::from(open)),
            ("tools", Value::from(())),
            ("documents", Value::from(())),
        ]));
        let failed = |e: minijinja::Error| Error::failed(explain(&e)).context("the chat template of the model");
        let template = self.environment()?.get_template("chat").map_err(failed)?;
        let text = guard::third_party("the chat template", || template.render(context))?.map_err(|e| {
            failed(e).hint("the template may not support this order of turns or a system message; see the model's card")
        })?;
        Ok(unmarked(&text))
    }

    /// Tokenises the texts before, between and after the images separately; adds no token that the template does not
    /// write.
    fn tokens(
        &self,
        tokenizer: &Tokenizer,
        text: &str,
        turns: &[Turn],
        spans: &[Range<usize>],
        problem: Option<MaskProblem>,
    ) -> Result<EncodedChat> {
        let wanted = turns.iter().map(|t| t.text.matches(IMAGE).count()).sum::<usize>();
        let found = text.matches(IMAGE).count();
        if found != wanted {
            return Err(Error::failed(format!(
                "the chat template writes {found} image placeholders for {wanted} images"
            ))
            .hint(format!("it must write a message's text, which contains {IMAGE}, exactly once")));
        }
        let (mut ids, mut ranges, mut image_at) = (Vec::new(), Vec::new(), None);
        let mut from = 0;
        for (i, part) in text.split(IMAGE).enumerate() {
            if i > 0 {
                image_at = Some(ids.len());
                ids.push(IMAGE_ID);
                ranges.push(from..from);
                from += IMAGE.len();
            }
            let (more, within) = tokenizer.encode_with_offsets(part)?;
            ids.extend(more);
            ranges.extend(within.into_iter().map(|p| from + p.start..from + p.end));
            from += part.len();
        }
        Ok(EncodedChat { loss_mask: spans::loss_mask(&ranges, spans), ids, image_at, problem })
    }
}

impl ChatFormat for JinjaTemplate {
    fn encode(&self, tokenizer: &Tokenizer, turns: &[Turn], with_image: bool) -> Result<EncodedChat> {
        let turns = &with_placed_image(turns, with_image)?;
        if let Some(i) = turns.iter().position(|t| t.role == Role::Assistant && python::strip(&t.text).is_empty()) {
            return Err(Error::failed(format!("turn {i} is an empty answer")).hint("remove the conversation"));
        }
        let (text, marked) = self.render(turns, false)?;
        let (spans, problem) = match marked.is_empty() {
            false => (marked, None),
            true => match spans::by_prefix(&text, turns, tokenizer, |t| self.text(t, true))? {
                AnswerSpans::Found(found) => (found.into_iter().map(|f| f.bytes).collect(), None),
                AnswerSpans::NotFound(problem) => (Vec::new(), Some(problem)),
            },
        };
        self.tokens(tokenizer, &text, turns, &spans, problem)
    }

    fn open(&self, tokenizer: &Tokenizer, turns: &[Turn], with_image: bool) -> Result<EncodedChat> {
        let turns = &with_placed_image(turns, with_image)?;
        let (text, _) = self.render(turns, true)?;
        self.tokens(tokenizer, &text, turns, &[], None)
    }

    fn open_placed(&self, tokenizer: &Tokenizer, turns: &[Turn]) -> Result<Vec<u32>> {
        let (text, _) = self.render(turns, true)?;
        Ok(self.tokens(tokenizer, &text, turns, &[], None)?.ids)
    }

    fn stop(&self, tokenizer: &Tokenizer) -> Result<Vec<u32>> {
        let turns = [Turn::user("0"), Turn::assistant("1")];
        let mut ids = tokenizer.special().ends.clone();
        let text = self.text(&turns, false)?;
        if let AnswerSpans::Found(found) = spans::by_prefix(&text, &turns, tokenizer, |t| self.text(t, true))?
            && let Some(last) = found.last()
        {
            ids.push(tokenizer.id(&last.end_token)?);
        }
        if ids.is_empty() {
            return Err(Error::failed(
                "neither the chat template nor the model's files name a token that ends an answer",
            )
            .hint("add eos_token to tokenizer_config.json, or eos_token_id to generation_config.json"));
        }
        ids.sort_unstable();
        ids.dedup();
        Ok(ids)
    }

    fn notes(&self) -> Vec<String> {
        let dated = self.jinja.contains("strftime_now").then(|| {
            format!("the chat template asks for today's date: {} is used instead, for reproducible results", self.date)
        });
        dated.into_iter().collect()
    }

    fn to_jinja(&self) -> String {
        template_text::wrapped(&self.jinja, self.system.as_deref())
    }

    fn set_system(&mut self, system: &str) -> Result<()> {
        self.system = Some(system.into());
        Ok(())
    }
}

/// The engine's `join` filter, after a check of the value's size.
fn join(
    state: &mut State,
    value: &Value,
    joiner: Option<StringInput<'_>>,
    attribute: Option<&str>,
    options: Kwargs,
) -> std::result::Result<Value, minijinja::Error> {
    limits::check_size(state, value)?;
    minijinja::filters::join(state, value, joiner, attribute, options)
}

fn message(role: &str, content: &str) -> Value {
    Value::from_pairs([("role", role), ("content", content)])
}

/// Replaces the tag `generation`, an extension of `transformers` that the engine lacks, by a filter around the same
/// block.
fn tags_as_filters(template: &str) -> String {
    let mut out = String::with_capacity(template.len());
    let mut rest = template;
    while let Some((before, tag)) = rest.split_once("{%") {
        out.push_str(before);
        out.push_str("{%");
        let inside = tag.split_once("%}").map_or(tag, |(inside, _)| inside);
        let name = inside.trim_matches(|c: char| c.is_whitespace() || c == '-' || c == '+');
        let instead = match name {
            "generation" => Some("filter burgess_generation"),
            "endgeneration" => Some("endfilter"),
            _ => None,
        };
        match instead {
            Some(instead) => out.push_str(&inside.replacen(name, instead, 1)),
            None => out.push_str(inside),
        }
        rest = tag.get(inside.len()..).unwrap_or_default();
    }
    out.push_str(rest);
    out
}

/// Removes the markers from a rendered text and returns the byte ranges between them.
fn unmarked(text: &str) -> (String, Vec<Range<usize>>) {
    let mut out = String::with_capacity(text.len());
    let (mut spans, mut open) = (Vec::new(), Vec::new());
    for c in text.chars() {
        if c == MARKS[0] {
            open.push(out.len());
        } else if c == MARKS[1] {
            spans.extend(open.pop().map(|start| start..out.len()));
        } else {
            out.push(c);
        }
    }
    (out, spans)
}

/// The message of a template error, with its line.
fn explain(error: &minijinja::Error) -> String {
    let what = error.detail().map_or_else(|| error.kind().to_string(), str::to_string);
    let what = text::excerpt(&what, 300);
    match error.line() {
        Some(line) => format!("line {line}: {what}"),
        None => what,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jinja(template: &str) -> Result<JinjaTemplate> {
        JinjaTemplate::new(template, BTreeMap::from([("eos_token".to_string(), "</s>".to_string())]))
    }

    #[test]
    fn templates_render_as_in_python() -> Result<()> {
        let t = jinja(
            "{{ messages[0]['content'].strip() | upper }} {{ true }} {{ none }} \
             {{ {'b': 'ü', 'a': [1, 2.0]} | tojson }} \
             {{ {'b': 'ü'} | tojson(indent=1, ensure_ascii=true) }} {{ strftime_now('%d %b %Y') }}{{ eos_token }}\
             {% for m in messages %}{% if loop.index0 == 1 %}{% break %}{% endif %}!{% endfor %}",
        )?;
        let (text, _) = t.render(&[Turn::user(" a "), Turn::user("b")], false)?;
        assert_eq!(text, "A True None {\"b\": \"ü\", \"a\": [1, 2.0]} {\n \"b\": \"\\u00fc\"\n} 26 Jul 2024</s>!");
        Ok(())
    }

    /// One instruction that traverses 2^41 values.
    #[test]
    fn a_template_that_renders_too_long_is_rejected() {
        let template = "{% set ns = namespace(a=['x']) %}{% for i in range(40) %}{% set b = ns.a %}\
                        {% set ns.a = b + ns.a %}{% endfor %}{{ ns.a | length }}";
        let e = jinja(template).unwrap_err();
        assert!(e.to_string().contains("takes more than 4 seconds") && e.hint_text().is_some(), "{e}");
    }

    #[test]
    fn bad_templates_say_where_and_why() -> Result<()> {
        let e = jinja("{% if %}").unwrap_err();
        assert!(e.to_string().contains("line 1"), "{e}");
        let t = jinja("a\n{{ raise_exception('Only user turns!') }}")?;
        let e = t.render(&[Turn::user("a")], true).unwrap_err();
        assert!(e.to_string().contains("line 2: Only user turns!") && e.hint_text().is_some(), "{e}");
        let t = jinja("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}")?;
        assert!(t.render(&[Turn::user("a")], true).is_err());
        assert!(jinja("")?.with_date("yesterday").is_err());
        assert!(jinja("")?.render(&[Turn::user("\u{fdd0}")], true).is_err());
        Ok(())
    }

    #[test]
    fn templates_that_would_fill_the_memory_are_errors() -> Result<()> {
        let nested = "{% set n = namespace(x=[1]) %}{% for i in range(40) %}{% set n.x = [n.x, n.x] %}{% endfor %}";
        let deep = "{% set n = namespace(x=[1]) %}{% for i in range(5000) %}{% set n.x = [n.x] %}{% endfor %}";
        let mut templates: Vec<String> = [
            "{{ '{:>100000000000}'.format('a') }}",
            "{{ '{:.100000000000f}'.format(1.0) }}",
            "{{ '%100000000000s'|format('a') }}",
            "{{ 'a' * 10**12 }}",
            "{{ ([1] * 10**8)|list|length }}",
            "{{ [1]|tojson(indent=100000000000) }}",
            "{{ [1, 2]|tojson(separators=['a' * 10000000, 'b'])|length }}{{ [1]|tojson(indent=20000) }}",
            "{{ 'a\nb'|indent(100000000000) }}",
            "{{ range(10**12)|list }}",
            "{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}",
            "{% for a in [1] recursive %}{{ loop([1]) }}{% endfor %}",
            "{% include 'chat' %}",
            "{% extends 'chat' %}",
            "{% from 'chat' import a %}",
            "{% set n = namespace(x='a') %}{% for i in range(60) %}{% set n.x = n.x ~ n.x %}{% endfor %}{{ n.x }}",
            "{% set n = namespace(x=[1]) %}{% for i in range(60) %}{% set n.x = n.x + n.x %}{% endfor %}\
             {{ n.x|length }}",
            "{% set n = namespace(x='a') %}{% for i in range(60) %}{% set n.x = n.x.replace('a', 'aa') %}{% endfor %}",
        ]
        .map(String::from)
        .to_vec();
        for written in ["{{ n.x }}", "{{ n.x|tojson }}", "{{ n.x|string }}", "{{ n.x|join }}", "{{ ','.join([n.x]) }}"]
        {
            templates.extend([format!("{nested}{written}"), format!("{deep}{written}")]);
        }
        for template in templates {
            let refused = jinja(&template).and_then(|t| t.render(&[Turn::user("a")], true));
            let e = refused.unwrap_err().to_string();
            assert!(e.contains("chat template") && e.len() < 500, "{template}: {e}");
        }
        // Templates at the limits fail or succeed quickly and without a large stack.
        for unit in ["-", "not ", "x|", "x + "] {
            assert!(jinja(&format!("{{{{ {}", unit.repeat(30_000))).is_err());
        }
        assert!(jinja(&format!("{{% if x %}}{}{{% endif %}}", "{%elif x%}".repeat(10_000))).is_ok());
        assert!(jinja(&format!("{{{{ {}1 }}}}", "-".repeat(4000))).is_ok());
        Ok(())
    }

    #[test]
    fn a_model_without_a_template_names_the_key_of_the_study() -> Result<()> {
        let tokenizer = Tokenizer::train(["a b"].iter(), 300, &crate::llm::tokenizer::SPECIALS)?;
        let e = JinjaTemplate::from_model(&tokenizer).unwrap_err();
        let hint = e.hint_text().unwrap_or_default();
        assert!(hint.contains("chat = \"vicuna_v1\"") && hint.contains("chatml_direct"), "{hint}");
        Ok(())
    }

    #[test]
    fn generation_blocks_are_found_whatever_their_dashes() -> Result<()> {
        let t = jinja(
            "{% for m in messages %}\n  {%- generation %}\n{{ m.content }}{% endgeneration -%}\n  \n{% endfor %}",
        )?;
        let (text, spans) = t.render(&[Turn::user("ab"), Turn::user("c")], false)?;
        let found: Vec<&str> = spans.into_iter().filter_map(|s| text.get(s)).collect();
        assert_eq!((text.as_str(), found), ("abc", vec!["ab", "c"]));
        Ok(())
    }
}
