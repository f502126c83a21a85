//! Outside programs: find, check the version, provide.
