//! The local Hugging Face cache, which is shared with all programs that use the hub, and downloads into it.
//!
//! Without features the crate only looks up what is on this machine: [`Repository::snapshot`] is the local directory of
//! a repository, [`url_file`] the local copy of a file from another server. The feature `download` adds the client:
//! resumable downloads that are verified by the published digests (module `download`).
//!
//! The layout of the cache (`huggingface_hub`, guide "Understand caching"):
//!
//! ```text
//! models--OWNER--NAME/refs/main                    the commit of the branch `main` at the last look-up
//! models--OWNER--NAME/snapshots/COMMIT/config.json a link to ../../blobs/ETAG
//! models--OWNER--NAME/blobs/ETAG                   the contents, named by their digest
//! ```

mod cache;
#[cfg(feature = "download")]
pub mod download;
mod repository;
mod selection;

pub use cache::{cache, home, is_commit, is_plain, own_cache, url_file, url_path};
#[cfg(feature = "download")]
pub use download::Session;
pub use repository::{DEFAULT_REVISION, Repository};
pub use selection::{DownloadRequest, FileSelection, SelectedFiles};
