//! End-to-end tests through the binary, goldens, and the scripts that make them.
