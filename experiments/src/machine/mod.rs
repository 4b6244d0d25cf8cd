//! This machine: devices and their kernels, memory, worker threads, directories, progress, signals and terminal output.

pub mod device;
pub mod device_set;
pub mod heap;
pub mod kernels;
pub mod lease;
pub mod memory;
pub mod paths;
pub mod progress;
pub mod shell;
pub mod stop;
pub mod terminal;
pub mod text_table;
pub mod workers;
