//! The generated Talos and COSI API types, see `proto/` at the top of the repository.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]
#![allow(clippy::all, clippy::pedantic, missing_debug_implementations, unreachable_pub)]

/// Types that several services share.
pub mod common {
    tonic::include_proto!("common");
}

/// The machine service, and since 1.13 the services for installing and for images.
pub mod machine {
    tonic::include_proto!("machine");
}

/// The cluster service.
pub mod cluster {
    tonic::include_proto!("cluster");
}

/// The storage service.
pub mod storage {
    tonic::include_proto!("storage");
}

/// The time service.
pub mod time {
    tonic::include_proto!("time");
}

/// COSI, the resource API.
pub mod cosi {
    /// Resources: get, list, watch.
    pub mod resource {
        tonic::include_proto!("cosi.resource");
    }
}

/// Google's common types.
pub mod google {
    /// The gRPC status as data.
    pub mod rpc {
        tonic::include_proto!("google.rpc");
    }
}
