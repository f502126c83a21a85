//! What each step does: the one room where engine and adapters meet.
