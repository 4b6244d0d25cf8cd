//! `[budget]`: prices, and what may be spent.

use crate::llm::Usage;
use burgess_base::{Error, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Prices of tokens, and the limits that hold for a whole workspace, also if several processes work on it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Budget {
    /// Price of a million tokens of requests.
    pub prompt_price: f64,
    /// Price of a million generated tokens.
    pub completion_price: f64,
    /// Currency of the prices.
    pub currency: String,
    /// What may be spent at most, in the currency; without it there is no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(!skip_serializing_if)]
    pub max_cost: Option<f64>,
    /// How many tokens may be used at most, requests and replies together; without it there is no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(!skip_serializing_if)]
    pub max_tokens: Option<u64>,
}

impl Default for Budget {
    fn default() -> Self {
        Self { prompt_price: 0.0, completion_price: 0.0, currency: "USD".into(), max_cost: None, max_tokens: None }
    }
}

impl Budget {
    /// Checks the values; returns the key that is wrong with the error.
    pub(super) fn check(&self) -> Result<(), (&'static str, Error)> {
        for (key, price) in [("prompt_price", self.prompt_price), ("completion_price", self.completion_price)] {
            if !(0.0..=1e9).contains(&price) {
                return Err((key, Error::usage(format!("`{key}` is {price}, must be at least 0"))));
            }
        }
        if self.currency.is_empty() || self.currency.chars().count() > 10 {
            return Err(("currency", Error::usage("`currency` must have 1 to 10 characters, such as USD")));
        }
        match self.max_cost {
            Some(cost) if !(cost > 0.0 && cost <= 1e12) => {
                Err(("max_cost", Error::usage(format!("`max_cost` is {cost}, must be more than 0"))))
            }
            Some(_) if self.prompt_price == 0.0 && self.completion_price == 0.0 => {
                let e = Error::usage("`max_cost` is given, but both prices are 0, so that it would never be reached");
                Err(("max_cost", e.hint("set `prompt_price` and `completion_price`, per million tokens")))
            }
            _ => Ok(()),
        }
    }

    /// Whether there is no limit.
    pub fn is_unlimited(&self) -> bool {
        self.max_cost.is_none() && self.max_tokens.is_none()
    }

    /// Returns the price of a usage.
    pub fn cost(&self, usage: Usage) -> f64 {
        (usage.prompt_tokens as f64 * self.prompt_price + usage.completion_tokens as f64 * self.completion_price) / 1e6
    }

    /// Whether a usage is within the limits.
    pub fn allows(&self, usage: Usage) -> bool {
        self.max_cost.is_none_or(|most| self.cost(usage) <= most)
            && self.max_tokens.is_none_or(|most| usage.total() <= most)
    }

    /// Formats a usage: `12,345 tokens (0.12 USD)`; without prices only the tokens.
    pub fn amount(&self, usage: Usage) -> String {
        let about = if usage.estimated { "about " } else { "" };
        let tokens = format!("{about}{} tokens", thousands(usage.total()));
        match self.prompt_price == 0.0 && self.completion_price == 0.0 {
            true => tokens,
            false => format!("{tokens} ({})", self.money(self.cost(usage))),
        }
    }

    /// Formats an amount of money with at least two digits after the point.
    pub fn money(&self, amount: f64) -> String {
        let digits = if amount > 0.0 && amount < 0.1 { 5 } else { 2 };
        format!("{amount:.digits$} {}", self.currency)
    }

    /// Formats the limits.
    pub fn limits(&self) -> String {
        match (self.max_tokens, self.max_cost) {
            (None, None) => "no limit".into(),
            (Some(tokens), None) => format!("{} tokens", thousands(tokens)),
            (None, Some(cost)) => self.money(cost),
            (Some(tokens), Some(cost)) => format!("{} tokens or {}", thousands(tokens), self.money(cost)),
        }
    }
}

/// Formats a number with commas between its thousands.
pub fn thousands(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}
