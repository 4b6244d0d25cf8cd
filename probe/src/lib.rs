//! Features to answers to scores: connectors, language models, recipes, training, generation, benchmarks.
