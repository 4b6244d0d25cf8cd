//! Activation functions of a decoder's MLP, by their names in `transformers`.

/// The activation function of the MLP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// SiLU: x · sigmoid(x).
    Silu,
    /// GELU in its tanh approximation.
    GeluTanh,
    /// Exact GELU, by the error function.
    Gelu,
    /// ReLU: max(x, 0).
    Relu,
    /// Squared ReLU: max(x, 0)².
    ReluSquared,
}

/// The names of each activation in `transformers` (`ACT2FN`); the first is the one that is written.
const ACTIVATIONS: [(Activation, &[&str]); 5] = [
    (Activation::Silu, &["silu", "swish"]),
    (Activation::GeluTanh, &["gelu_pytorch_tanh", "gelu_new", "gelu_fast"]),
    (Activation::Gelu, &["gelu", "gelu_python"]),
    (Activation::Relu, &["relu"]),
    (Activation::ReluSquared, &["relu2"]),
];

impl Activation {
    /// The names of all activations in `transformers`.
    #[cfg(feature = "schema")]
    pub fn names() -> Vec<&'static str> {
        ACTIVATIONS.iter().flat_map(|(_, names)| names.iter().copied()).collect()
    }

    /// The activation with this name in `transformers`.
    ///
    /// # Errors
    /// When the activation is not supported; the supported ones are listed.
    pub fn named(name: &str) -> Result<Self, String> {
        let found = ACTIVATIONS.iter().find(|(_, names)| names.contains(&name));
        found.map(|(activation, _)| *activation).ok_or_else(|| {
            let known: Vec<&str> = ACTIVATIONS.iter().flat_map(|(_, names)| names.iter().copied()).collect();
            format!(
                "the activation `{}` is not supported; supported are {}",
                burgess_base::text::excerpt(name, 40),
                known.join(", ")
            )
        })
    }

    /// The activation's name in `transformers`.
    pub fn name(self) -> &'static str {
        let found = ACTIVATIONS.iter().find(|(activation, _)| *activation == self);
        found.and_then(|(_, names)| names.first()).copied().unwrap_or_default()
    }
}
