//! talhelper's `talconfig.yaml`: one file that describes every node of a cluster.
//!
//! [`read()`] needs no secrets, so that a plan can be made before they are opened; [`Talconfig::render`] does.

mod model;
mod network;
mod read;
mod render;
mod substitute;

pub use model::{Endpoint, Node, Talconfig};
pub use read::read;
pub use render::RenderError;
