//! Servers for tests: a wiki with its pages and images, and a language model behind the OpenAI API.
