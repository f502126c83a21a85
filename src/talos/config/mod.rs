//! Machine configs: secrets bundle, generate, patch, validate.
