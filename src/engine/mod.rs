//! Carries out a plan: order, parallelism, retry, cancellation. Knows no Talos and no Helm.
