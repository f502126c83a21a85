//! Helmfiles: what an operator wrote, as releases with their needs and hooks.
