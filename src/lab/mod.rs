//! The rehearsal: simulated Talos nodes, a real control plane, kubelets, a registry, faults.
