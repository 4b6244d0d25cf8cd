//! The connector as LLaVA's projector: two linear layers with an activation between them.

use crate::export::shards::{PlannedTensor, Shards};
use burgess_base::{Error, Result};
use burgess_encoders::checkpoint::visit_parameters;
use burgess_probe::connector::{Connector, ConnectorConfig, ConnectorKind, GridOptions};
use burgess_probe::exported::PROJECTOR;
use std::collections::BTreeMap;

/// The projector of an exported model.
#[derive(Clone, Debug)]
pub struct Projector {
    /// The configuration of the exported connector: without `standardise`, which is multiplied into its first layer.
    pub config: ConnectorConfig,
    /// Activation between the two layers, with its name in `transformers`.
    pub activation: &'static str,
}

impl Projector {
    /// Plans the projector; an error says in words why LLaVA's does not compute the connector.
    pub fn plan(config: &ConnectorConfig) -> std::result::Result<Self, String> {
        let (activation, options) = match &config.kind {
            ConnectorKind::Mlp2xGelu(options) => ("gelu", options),
            // A single layer is followed by the identity.
            ConnectorKind::Linear(options) => ("linear", options),
            other => return Err(format!("its connector is {other}; LLaVA's is mlp2x_gelu")),
        };
        if options.positions {
            return Err(
                "its connector scales image tokens and adds position embeddings (`positions`), LLaVA's does not".into(),
            );
        }
        if options.newline {
            return Err("its connector adds a token after each row of the image (`newline`), LLaVA's does not".into());
        }
        // The hidden layer of LLaVA's projector is as wide as the language model.
        if let Some(hidden) = options.hidden.filter(|hidden| *hidden != config.llm_width) {
            return Err(format!(
                "the hidden layer of its connector has {hidden} channels, LLaVA's as many as the language model ({})",
                config.llm_width
            ));
        }
        let plain = GridOptions::default();
        let kind = match &config.kind {
            ConnectorKind::Linear(_) => ConnectorKind::Linear(plain),
            _ => ConnectorKind::Mlp2xGelu(plain),
        };
        Ok(Self { config: ConnectorConfig { kind, ..config.clone() }, activation })
    }

    /// Lists the tensors of the projector.
    pub fn planned(&self) -> Vec<PlannedTensor> {
        let (from, to) = (self.config.feature_width, self.config.llm_width);
        let tensor = |name: &str, shape: &[usize]| PlannedTensor::f32(format!("{PROJECTOR}{name}"), shape);
        vec![
            tensor("linear_1.bias", &[to]),
            tensor("linear_1.weight", &[to, from]),
            tensor("linear_2.bias", &[to]),
            tensor("linear_2.weight", &[to, to]),
        ]
    }

    /// Writes the weights of the connector.
    ///
    /// # Errors
    /// The connector is another one, or a file cannot be written.
    pub fn write(&self, connector: &Connector, shards: &mut Shards) -> Result<()> {
        let mut weights: BTreeMap<String, Vec<f32>> = BTreeMap::new();
        visit_parameters(connector, |parameter, values| {
            weights.insert(parameter.path, values);
            Ok(())
        })?;
        let mut take = |path: &str| {
            weights.remove(path).ok_or_else(|| Error::failed(format!("the connector has no parameter `{path}`")))
        };
        let single = self.activation == "linear";
        let first = if single { "mm_projector" } else { "mm_projector.0" };
        let (mut weight, mut bias) = (take(&format!("{first}.weight"))?, take(&format!("{first}.bias"))?);
        if let (Ok(mean), Ok(deviation)) = (take("standardise.mean"), take("standardise.deviation")) {
            standardised(&mut weight, &mut bias, &mean, &deviation);
        }
        let width = self.config.llm_width;
        let second = match single {
            true => {
                let mut identity = vec![0.0; width * width];
                identity.iter_mut().step_by(width + 1).for_each(|v| *v = 1.0);
                (identity, vec![0.0; width])
            }
            false => (take("mm_projector.2.weight")?, take("mm_projector.2.bias")?),
        };
        for (name, values) in [
            ("linear_1.weight", weight),
            ("linear_1.bias", bias),
            ("linear_2.weight", second.0),
            ("linear_2.bias", second.1),
        ] {
            shards.put_f32(&format!("{PROJECTOR}{name}"), &values)?;
        }
        Ok(())
    }
}

/// Multiplies `(x − mean) / deviation` into the layer that reads it:
/// `W·(x − μ)/σ + b = (W/σ)·x + (b − (W/σ)·μ)`, summed in double precision.
fn standardised(weight: &mut [f32], bias: &mut [f32], mean: &[f32], deviation: &[f32]) {
    for (row, bias) in weight.chunks_mut(mean.len().max(1)).zip(bias) {
        let mut shift = 0.0;
        for ((w, mean), deviation) in row.iter_mut().zip(mean).zip(deviation) {
            let scaled = f64::from(*w) / f64::from(*deviation);
            shift += scaled * f64::from(*mean);
            *w = scaled as f32;
        }
        *bias = (f64::from(*bias) - shift) as f32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burgess_encoders::checkpoint::{self, Checkpoint};
    use burgess_encoders::features::FeatureMap;
    use burgess_probe::connector::ChannelStatistics;
    use burgess_probe::exported::projector_dialect;
    use burn::tensor::{Device, Tensor, TensorData};

    #[test]
    fn a_standardising_connector_becomes_a_plain_one() -> Result<()> {
        let device = Device::flex();
        let values: Vec<f32> = (0..2 * 4 * 6).map(|i| ((i * 37 % 23) as f32 - 9.0) * (1 + i % 6) as f32).collect();
        let features = Tensor::<3>::from_data(TensorData::new(values, [2, 4, 6]), &device);
        for text in ["[connector.mlp2x_gelu]\nstandardise = true", "[connector.linear]\nstandardise = true"] {
            let kind: BTreeMap<String, ConnectorKind> =
                toml::from_str(text).map_err(|e| Error::failed(e.to_string()))?;
            let config = ConnectorConfig::new(kind["connector"].clone(), &[(6, [2, 2])], 5)?;
            let mut connector = config.draw(3, &device)?;
            let mut statistics = ChannelStatistics::default();
            statistics.add(features.clone())?;
            connector.set_statistics(statistics)?;
            let projector = Projector::plan(&config).map_err(Error::failed)?;
            let dir = tempfile::tempdir()?;
            let mut shards = Shards::create(dir.path(), &projector.planned())?;
            projector.write(&connector, &mut shards)?;
            shards.finish()?;
            let names = projector_dialect(&projector.config.kind).ok_or_else(|| Error::failed("no names"))?;
            let file = Checkpoint::open(dir.path())?.inside(PROJECTOR)?;
            let (read, _) = checkpoint::load(projector.config.init(&device)?, &file, names)?;
            let of = |connector: &Connector| -> Result<Vec<f32>> {
                let map = FeatureMap { tokens: features.clone(), grid: [2, 2] };
                Ok(connector.forward(&[map], None)?.tokens.into_data().iter().collect())
            };
            let (own, other) = (of(&connector)?, of(&read)?);
            let worst = own.iter().zip(&other).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(worst < 1e-5, "{worst}: {own:?} {other:?}");
        }
        Ok(())
    }

    #[test]
    fn what_llava_does_not_compute_is_said() -> Result<()> {
        let say = |kind: ConnectorKind| {
            let config = ConnectorConfig::new(kind, &[(6, [2, 2])], 5).map_err(|e| e.to_string());
            config.and_then(|c| Projector::plan(&c)).err().unwrap_or_default()
        };
        let options = GridOptions::default();
        assert!(say(ConnectorKind::Mlp2xGelu(GridOptions { positions: true, ..options })).contains("`positions`"));
        assert!(say(ConnectorKind::Linear(GridOptions { newline: true, ..options })).contains("`newline`"));
        let wide = |hidden| say(ConnectorKind::Mlp2xGelu(GridOptions { hidden: Some(hidden), ..options }));
        assert!(wide(20).contains("20 channels") && wide(5).is_empty(), "{} {}", wide(20), wide(5));
        assert!(say(ConnectorKind::SeMlp(options)).contains("se_mlp"));
        Ok(())
    }
}
