//! Phases and a cluster become a plan: the graph of steps, computed before anything is changed.
