//! The Talos API client: maintenance mode and mTLS, dial address apart from identity.
