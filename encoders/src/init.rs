//! Weight initialisation from named random streams.
//!
//! Burn's own initialisers draw from a generator that the whole process shares. Here every parameter is drawn from a
//! stream of its own, named by its path in the module, so that its values depend neither on threads nor on the order or
//! number of other parameters.

use burgess_base::stream::{Stream, normal_pair, stream};
use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{Tensor, TensorData};

/// Overwrites every float parameter of `module` and marks it as trainable. The values depend only on `name`, `seed`
/// and the parameter's path:
///
/// | parameter | value |
/// |---|---|
/// | norm scale, norm shift, any bias | 1, 0, 0 |
/// | weight of a `Linear` | truncated normal, deviation √(2 / (inputs + outputs)) (Glorot & Bengio 2010) |
/// | weight of a `Conv2d` | truncated normal, deviation 1 / √(inputs per group · kernel area) |
/// | other parameters of two or more axes (tokens, position embeddings) | truncated normal, deviation 0.02 (timm) |
/// | other parameters of one axis (layer scale, temperature) | the constant of their configuration |
///
/// Truncated normals are cut at two deviations. Glorot's deviation is that of MAE's and big_vision's linear layers; at
/// the widths of the nano encoders a deviation of 0.02 would make the residual branches almost zero.
pub fn initialise<M: Module>(module: M, name: &str, seed: u64) -> M {
    module.map(&mut Initialiser { name, seed, path: Vec::new(), containers: Vec::new() })
}

/// Returns `param`, trainable, with values from a truncated normal distribution (cut at two deviations), drawn from
/// the stream `name` of `seed`; for parameters whose deviation [`initialise`] does not know.
pub fn normal<const D: usize>(name: &str, seed: u64, param: Param<Tensor<D>>, deviation: f64) -> Param<Tensor<D>> {
    let (shape, device) = (param.lazy_shape(), param.lazy_device());
    let values = normal_values(&mut stream(name, seed), shape.iter().product(), deviation);
    let value = Tensor::from_data(TensorData::new(values, shape), &device);
    Param::initialized(param.id, value).set_require_grad(true)
}

/// Draws `count` values from a truncated normal distribution; `deviation` is that after truncation.
fn normal_values(stream: &mut Stream, count: usize, deviation: f64) -> Vec<f32> {
    // A normal distribution cut at two deviations has 0.8796 of the original deviation.
    let factor = (deviation / 0.879_596_3) as f32;
    truncated_normal(stream, count).into_iter().map(|v| v * factor).collect()
}

/// Draws `count` values from the standard normal distribution cut at ±2 (Box–Muller, rejecting larger values).
pub(crate) fn truncated_normal(stream: &mut Stream, count: usize) -> Vec<f32> {
    let mut values = Vec::with_capacity(count + 1);
    while values.len() < count {
        values.extend(normal_pair(stream).into_iter().filter(|v| v.abs() <= 2.0).map(|v| v as f32));
    }
    values.truncate(count);
    values
}

struct Initialiser<'a> {
    name: &'a str,
    seed: u64,
    path: Vec<String>,
    containers: Vec<String>,
}

/// The role of a parameter, derived from the module that holds it and from its name.
enum Role {
    Ones,
    Zeros,
    Normal { deviation: f64 },
    Constant,
}

impl Initialiser<'_> {
    fn role(&self, shape: &[usize]) -> Role {
        let leaf = self.path.last().map_or("", String::as_str);
        // The innermost container that is a struct owns the parameter.
        let owner = self.containers.iter().rev().find_map(|c| c.strip_prefix("Struct:")).unwrap_or("");
        let norm = owner.ends_with("Norm") || self.path.iter().rev().nth(1).is_some_and(|p| p.contains("norm"));
        match leaf {
            "bias" | "beta" => return Role::Zeros,
            "gamma" | "weight" if norm => return Role::Ones,
            _ => {}
        }
        match (owner, shape) {
            ("Linear", [inputs, outputs]) => Role::Normal { deviation: (2.0 / (inputs + outputs) as f64).sqrt() },
            ("Conv2d", [_, inputs, h, w]) => Role::Normal { deviation: ((inputs * h * w) as f64).powf(-0.5) },
            (_, [_]) => Role::Constant,
            _ => Role::Normal { deviation: 0.02 },
        }
    }
}

impl ModuleMapper for Initialiser<'_> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.push(name.to_string());
        self.containers.push(container.to_string());
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.pop();
        self.containers.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let shape: [usize; D] = param.lazy_shape().dims();
        // Lazy parameters are not materialised, so Burn's generator is not used.
        let device = param.lazy_device();
        let value = match self.role(&shape) {
            Role::Constant => return param.set_require_grad(true),
            Role::Ones => Tensor::ones(shape, &device),
            Role::Zeros => Tensor::zeros(shape, &device),
            Role::Normal { deviation } => {
                let mut stream = stream(&format!("{}/{}", self.name, self.path.join(".")), self.seed);
                let values = normal_values(&mut stream, shape.iter().product(), deviation);
                Tensor::from_data(TensorData::new(values, shape), &device)
            }
        };
        Param::initialized(param.id, value).set_require_grad(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::{ArchitectureConfig, VitConfig};
    use burgess_base::Result;
    use burn::module::ModuleVisitor;
    use burn::tensor::Device;
    use std::collections::BTreeMap;

    #[derive(Default)]
    struct Values(Vec<String>, BTreeMap<String, Vec<f32>>);

    impl ModuleVisitor for Values {
        fn enter_module(&mut self, name: &str, _: &str) {
            self.0.push(name.to_string());
        }
        fn exit_module(&mut self, _: &str, _: &str) {
            self.0.pop();
        }
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let values = param.val().into_data().iter::<f32>().collect();
            self.1.insert(self.0.join("."), values);
        }
    }

    fn values(config: &ArchitectureConfig, seed: u64) -> Result<BTreeMap<String, Vec<f32>>> {
        let module = initialise(config.init(&Device::flex())?, "init", seed);
        let mut visitor = Values::default();
        module.visit(&mut visitor);
        Ok(visitor.1)
    }

    fn vit(depth: usize) -> ArchitectureConfig {
        let text = format!(
            "architecture = \"vit\"\nimage_size = 16\npatch = 8\nwidth = 32\ndepth = {depth}\nheads = 2\nmlp_hidden = 64\nlayer_scale = 0.1"
        );
        toml::from_str(&text).unwrap_or_else(|e| panic!("{e}"))
    }

    #[test]
    fn values_depend_on_path_and_seed_only() -> Result<()> {
        let (one, two, other) = (values(&vit(1), 3)?, values(&vit(2), 3)?, values(&vit(1), 4)?);
        for (path, value) in &one {
            assert_eq!(Some(value), two.get(path), "{path}");
        }
        assert_ne!(one.get("Vit.pos_embed"), other.get("Vit.pos_embed"));
        assert_ne!(two.get("Vit.blocks.0.attn.qkv.weight"), two.get("Vit.blocks.1.attn.qkv.weight"));
        Ok(())
    }

    #[test]
    fn every_kind_of_parameter_gets_its_rule() -> Result<()> {
        let values = values(&vit(1), 0)?;
        let all =
            |path: &str, value: f32| assert!(values.get(path).is_some_and(|v| v.iter().all(|x| *x == value)), "{path}");
        all("Vit.blocks.0.norm1.Layer.gamma", 1.0);
        all("Vit.blocks.0.norm1.Layer.beta", 0.0);
        all("Vit.blocks.0.ls1.gamma", 0.1);
        all("Vit.blocks.0.mlp.fc1.bias", 0.0);
        all("Vit.patch_embed.proj.bias", 0.0);
        let deviation = |path: &str| {
            let v = &values[path];
            (v.iter().map(|x| x * x).sum::<f32>() / v.len() as f32).sqrt()
        };
        assert!((deviation("Vit.blocks.0.mlp.fc1.weight") - (2f32 / 96.0).sqrt()).abs() < 0.01);
        assert!((deviation("Vit.pos_embed") - 0.02).abs() < 0.005);
        assert!((deviation("Vit.patch_embed.proj.weight") - (1f32 / 192.0).sqrt()).abs() < 0.005);
        Ok(())
    }

    #[test]
    fn vit_config_is_reachable_from_toml_only_with_known_keys() {
        let text = "image_size = 16\npatch = 8\nwidth = 32\ndepth = 1\nheads = 2\nmlp_hidden = 64\nlayers = 3";
        assert!(toml::from_str::<VitConfig>(text).is_err_and(|e| e.to_string().contains("layers")));
    }
}
