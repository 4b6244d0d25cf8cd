//! Upper bounds on the options of connectors. They are checked before anything is allocated, so that a typing error
//! such as ten million layers does not exhaust the memory.

use super::ConnectorConfig;
use burgess_base::{Error, Result};

/// Maximum width of features, queries and embeddings, in channels.
pub(super) const WIDTH: usize = 1 << 20;
/// Maximum number of layers of one kind.
pub(super) const DEPTH: usize = 1000;
/// Maximum side of a grid, in tokens.
pub(super) const GRID: usize = 4096;
/// Maximum number of resampler queries, and of language-model layers with samplers.
pub(super) const COUNT: usize = 1 << 16;
/// Maximum number of parameters of a connector: 64 GiB of f32. The paper's connectors have less than 10⁹.
const PARAMETERS: f64 = (1u64 << 34) as f64;

/// Checks that the option `key` of the connector `name` is at most `most`.
///
/// # Errors
/// When it is larger; the error gives its value and the maximum.
pub(super) fn at_most(name: &str, key: &str, value: usize, most: usize) -> Result<()> {
    match value <= most {
        true => Ok(()),
        false => Err(Error::usage(format!("connector {name}: `{key}` = {value} is above the maximum of {most}"))),
    }
}

/// Checks the sides and the number of grids in the option `key` of the connector `name`.
///
/// # Errors
/// As [`at_most`].
pub(super) fn grids_at_most(name: &str, key: &str, grids: &[usize]) -> Result<()> {
    at_most(name, key, grids.iter().copied().max().unwrap_or(0), GRID)?;
    match grids.len() <= DEPTH {
        true => Ok(()),
        false => Err(Error::usage(format!(
            "connector {name}: `{key}` is a list of {} grids, must have at most {DEPTH}",
            grids.len()
        ))),
    }
}

impl ConnectorConfig {
    /// Checks the options, the widths, and the total number of parameters.
    ///
    /// # Errors
    /// When something is too large; the error names it.
    pub(super) fn check_limits(&self) -> Result<()> {
        self.kind.check_limits()?;
        let side = self.towers.iter().map(|t| t.grid).max().unwrap_or(0);
        for (key, value, most) in [
            ("feature_width", self.feature_width, WIDTH),
            ("llm_width", self.llm_width, WIDTH),
            ("grid", side, GRID),
            ("the number of encoders", self.towers.len(), DEPTH),
        ] {
            if value == 0 && !["grid", "the number of encoders"].contains(&key) {
                return Err(Error::usage(format!("connector {}: `{key}` is 0, must be at least 1", self.kind)));
            }
            if value > most {
                return Err(Error::usage(format!(
                    "connector {}: `{key}` = {value} is above the maximum of {most}",
                    self.kind
                )));
            }
        }
        let parameters = self.kind.parameters(self.shape());
        match parameters <= PARAMETERS {
            true => Ok(()),
            false => Err(Error::usage(format!(
                "connector {}: its options ask for about {parameters:.0e} parameters ({:.0} GB in f32), must be at \
                     most {PARAMETERS:.0e}",
                self.kind,
                parameters * 4.0 / 1e9
            ))
            .hint("lower `hidden`, `depth`, or the number of samplers")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connector::ConnectorKind;

    fn refused(options: &str, wanted: &str) {
        let kind: ConnectorKind = serde_json::from_str(options).unwrap_or_default();
        let e = ConnectorConfig::new(kind, &[(768, [24, 24])], 4096).unwrap_err();
        assert!(e.to_string().contains(wanted), "{options}: {e}");
    }

    #[test]
    fn absurd_options_are_errors_that_name_them() {
        for (options, wanted) in [
            (r#"{"c_abstractor": {"depth": 10000000}}"#, "`depth` = 10000000"),
            (r#"{"c_abstractor": {"mlp_depth": 10000000}}"#, "`mlp_depth` = 10000000"),
            (r#"{"c_abstractor": {"hidden": 18446744073709551615}}"#, "`hidden` = 18446744073709551615"),
            (r#"{"c_abstractor": {"grid": 100000}}"#, "`grid` = 100000"),
            (r#"{"mlp2x_gelu": {"hidden": 10000000}}"#, "`hidden` = 10000000"),
            (r#"{"se_mlp": {"hidden": 0}}"#, "`hidden` is 0"),
            (r#"{"linear": {"hidden": 16}}"#, "there is no hidden layer"),
            (r#"{"resampler": {"hidden": 1024, "depth": 1, "queries": 10000000000}}"#, "`queries` = 10000000000"),
            (r#"{"resampler": {"hidden": 1024, "depth": 10000000, "queries": 64}}"#, "`depth` = 10000000"),
            (r#"{"resampler": {"hidden": 1048576, "depth": 1000, "queries": 64}}"#, "parameters"),
            (
                r#"{"resampler": {"hidden": 1024, "depth": 1, "queries": 64, "tower_grids": [10000000000]}}"#,
                "`tower_grids`",
            ),
            (r#"{"sva": {"hidden": 1024, "depth": 1000000000, "query_grids": [24], "grid": 24}}"#, "`depth`"),
            (r#"{"sva": {"hidden": 1024, "depth": 3, "query_grids": [24], "grid": 18446744073709551615}}"#, "`grid`"),
            (
                r#"{"sva": {"hidden": 1024, "depth": 3, "query_grids": [18446744073709551557, 4294967291], "grid": 24}}"#,
                "`query_grids`",
            ),
            (
                r#"{"sva": {"hidden": 1024, "depth": 3, "query_grids": [24], "grid": 24,
                    "samplers": {"start": 0, "stride": 3, "number": 1000000000}}}"#,
                "`samplers.number`",
            ),
            (
                r#"{"sva": {"hidden": 1024, "depth": 3, "query_grids": [24], "grid": 24,
                    "samplers": {"start": 18446744073709551615, "stride": 3, "number": 2}}}"#,
                "`samplers.start`",
            ),
        ] {
            refused(options, wanted);
        }
        let many = format!(r#"{{"sva": {{"hidden": 16, "depth": 1, "query_grids": {:?}, "grid": 24}}}}"#, [1; 2000]);
        refused(&many, "`query_grids` is a list of 2000 grids");
        let wide = ConnectorConfig {
            kind: ConnectorKind::default(),
            feature_width: 1 << 40,
            llm_width: 4096,
            towers: Vec::new(),
        };
        assert!(wide.check().unwrap_err().to_string().contains("`feature_width`"));
        assert!(ConnectorConfig { feature_width: 0, ..wide }.check().is_err());
    }

    #[test]
    fn the_connectors_of_the_paper_are_within_the_limits() -> Result<()> {
        let towers = [(1152, [24, 24]), (1024, [24, 24]), (1536, [24, 24]), (3072, [96, 96])];
        let sva = r#"{"sva": {"hidden": 1024, "depth": 3, "query_grids": [24], "grid": 24, "tower_grids": [24, 24, 24, 96],
            "samplers": {"start": 0, "stride": 3, "number": 10}}}"#;
        let config = ConnectorConfig::new(serde_json::from_str(sva)?, &towers, 7168)?;
        assert!(config.kind.parameters(config.shape()) < 1.5e9, "{}", config.kind.parameters(config.shape()));
        Ok(())
    }
}
