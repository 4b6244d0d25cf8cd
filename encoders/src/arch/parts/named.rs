//! A list of modules whose names in a checkpoint are not the numbers 0, 1, 2 …

use burn::module::{Content, Module, ModuleDisplay, ModuleDisplayDefault, ModuleMapper, ModuleVisitor};
use burn::tensor::Device;

/// Modules of one type that are stored under names of their own, such as `b1`, `b2` … or `conv1`, `conv2` ….
#[derive(Debug, Clone)]
pub struct Named<T> {
    children: Vec<(String, T)>,
}

/// What the parameter path of a child is said to be part of; see [`ModuleVisitor::enter_module`].
const CONTAINER: &str = "Named";

impl<T> Named<T> {
    /// Names the modules `prefix` followed by 1, 2, 3 ….
    pub fn counted(prefix: &str, modules: impl IntoIterator<Item = T>) -> Self {
        modules.into_iter().enumerate().map(|(i, module)| (format!("{prefix}{}", i + 1), module)).collect()
    }

    /// The modules in order.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.children.iter().map(|(_, module)| module)
    }

    /// Applies `change` to every module and keeps the names.
    fn each<U>(self, mut change: impl FnMut(&str, T) -> U) -> Named<U> {
        self.children
            .into_iter()
            .map(|(name, module)| {
                let changed = change(&name, module);
                (name, changed)
            })
            .collect()
    }
}

impl<T> FromIterator<(String, T)> for Named<T> {
    fn from_iter<I: IntoIterator<Item = (String, T)>>(children: I) -> Self {
        Self { children: children.into_iter().collect() }
    }
}

impl<T: Module> Module for Named<T> {
    fn visit<V: ModuleVisitor>(&self, visitor: &mut V) {
        for (name, module) in &self.children {
            visitor.enter_module(name, CONTAINER);
            module.visit(visitor);
            visitor.exit_module(name, CONTAINER);
        }
    }

    fn map<M: ModuleMapper>(self, mapper: &mut M) -> Self {
        self.each(|name, module| {
            mapper.enter_module(name, CONTAINER);
            let mapped = module.map(mapper);
            mapper.exit_module(name, CONTAINER);
            mapped
        })
    }

    fn num_params(&self) -> usize {
        self.iter().map(Module::num_params).sum()
    }

    fn to_device(self, device: &Device) -> Self {
        self.each(|_, module| module.to_device(device))
    }

    fn fork(self, device: &Device) -> Self {
        self.each(|_, module| module.fork(device))
    }

    fn collect_devices(&self, devices: Vec<Device>) -> Vec<Device> {
        self.iter().fold(devices, |devices, module| module.collect_devices(devices))
    }

    fn valid(&self) -> Self {
        self.children.iter().map(|(name, module)| (name.clone(), module.valid())).collect()
    }

    fn train(self) -> Self {
        self.each(|_, module| module.train())
    }

    fn materialize(self) -> Self {
        self.each(|_, module| module.materialize())
    }
}

impl<T: ModuleDisplay> ModuleDisplayDefault for Named<T> {
    fn content(&self, content: Content) -> Option<Content> {
        self.children.iter().fold(content, |content, (name, module)| content.add(name, module)).optional()
    }
}

impl<T: ModuleDisplay> ModuleDisplay for Named<T> {}
