//! talhelper's `talconfig.yaml`: one file that describes every node of a cluster.
//!
//! [`read()`] needs no secrets, so that a plan can be made before they are opened; [`Talconfig::render`] does.
//! The rules are those of talhelper 3.1 field by field; where it loses or corrupts something,
//! `docs/machine-inputs.md` describes the difference.

mod check;
mod documents;
mod image;
mod model;
mod network;
mod patches;
mod read;
mod render;
mod substitute;
mod types;

pub(crate) use image::schematic_id;
pub use model::{Machine, Talconfig};
pub(crate) use read::file;
pub use read::read;
