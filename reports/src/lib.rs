//! Results to rankings: schema, statistics, tables, figures, pages. Knows no tensor.
