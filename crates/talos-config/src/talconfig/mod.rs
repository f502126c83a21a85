//! talhelper's `talconfig.yaml`: one file that describes all nodes of a cluster.
//!
//! [`read()`] needs no secrets, so a plan can be made without them; [`Talconfig::render`] needs them. All fields behave as
//! in talhelper 3.1; `docs/machine-inputs.md` lists the differences where talhelper loses data.

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
