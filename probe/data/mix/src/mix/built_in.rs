//! The built-in mixes and catalogues: files of the repository, embedded.

/// The built-in mixes by name, as TOML.
pub const BUILT_IN: &[(&str, &str)] = &[
    ("cambrian-737k", include_str!("../../mixes/cambrian-737k.toml")),
    ("cambrian-5m", include_str!("../../mixes/cambrian-5m.toml")),
    ("cambrian-7m", include_str!("../../mixes/cambrian-7m.toml")),
    ("cambrian-10m", include_str!("../../mixes/cambrian-10m.toml")),
    ("cambrian-10m-t150k", include_str!("../../mixes/cambrian-10m-t150k.toml")),
    ("cambrian-10m-t250k", include_str!("../../mixes/cambrian-10m-t250k.toml")),
    ("cambrian-10m-t350k", include_str!("../../mixes/cambrian-10m-t350k.toml")),
    ("cambrian-10m-t450k", include_str!("../../mixes/cambrian-10m-t450k.toml")),
    ("cambrian-ratio-1", include_str!("../../mixes/cambrian-ratio-1.toml")),
    ("cambrian-ratio-2", include_str!("../../mixes/cambrian-ratio-2.toml")),
    ("cambrian-ratio-3", include_str!("../../mixes/cambrian-ratio-3.toml")),
    ("cambrian-ratio-4", include_str!("../../mixes/cambrian-ratio-4.toml")),
    ("cambrian-ratio-5", include_str!("../../mixes/cambrian-ratio-5.toml")),
];

/// The catalogues of sources by name, as TOML.
pub const CATALOGUES: &[(&str, &str)] = &[("cambrian-10m", include_str!("../../catalogues/cambrian-10m.toml"))];
