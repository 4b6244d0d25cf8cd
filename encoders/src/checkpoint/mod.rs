//! Checkpoints: opens files of weights, translates tensor names, loads modules and saves them.
//!
//! ```no_run
//! use burgess_encoders::checkpoint::{self, Checkpoint, Dialect, Precision};
//! # fn f<M: burn::module::Module>(module: M) -> burgess_base::Result<()> {
//! let weights = Checkpoint::open("model.safetensors".as_ref())?;
//! let (module, report) = checkpoint::load(module, &weights, Dialect::find("transformers-clip")?)?;
//! checkpoint::save(&module, Dialect::find("timm")?, "", Precision::F16, "out.safetensors".as_ref())?;
//! # Ok(()) }
//! ```
//!
//! Loading is always strict: every parameter of the module is filled, and every tensor of the file is used or listed as
//! ignored by the [`Dialect`]. A module of another crate defines its own dialect (a `const` table), or uses
//! [`IDENTITY`].

mod budget;
mod dialect;
mod entry;
mod file;
mod foreign;
mod gguf;
mod index;
mod load;
mod locate;
mod module;
mod part;
mod pytorch;
mod safetensors;
mod save;

pub use dialect::{Dialect, IDENTITY, Rule, ShapeLookup, TensorSource};
pub use file::Checkpoint;
pub use gguf::{Metadata, MetadataList, MetadataValue, gguf_parts};
pub use load::{LoadReport, check, load, load_stored, load_with};
pub use locate::{DIFFUSERS_FOLDERS, all_files, choose_weights, index_shards, is_diffusers_model, is_index};
pub use module::{Parameter, fill, fill_some, parameters, visit_parameters};
pub use part::{CheckpointPart, ExpectedTensors, choose_part};
pub use save::{Precision, save, save_tensors};
