//! The burgess command: studies, plan, run store, feature cache.
