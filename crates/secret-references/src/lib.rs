//! References to secrets in the text of templates. Finding them opens no secret and starts no program.

mod adapters;
mod reference;

pub use adapters::{Adapter, Adapters};
pub use reference::{ONE_PASSWORD_SCHEME, Reference, replace};
