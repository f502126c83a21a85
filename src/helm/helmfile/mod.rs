//! Helmfiles: what an operator wrote, as releases with their needs and hooks.

mod model;

pub use model::{Chart, Flags, Helmfile, Hook, HookEvent, OnFailure, Release, ReleaseId, Wait};
