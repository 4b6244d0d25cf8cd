//! The nano world: pictures with exact ground truth, and questions about them.
