//! What the repository says: its files become one validated `Cluster` value.
