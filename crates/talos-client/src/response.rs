//! Responses of the Talos services: one element per node, each with metadata.

use tonic::{Code, Status};

use talos_proto::common::{Data, Metadata};
use talos_proto::{machine, storage, time};

/// A message with the name of its node, and the error when the node failed.
pub(super) trait Element {
    fn metadata(&self) -> Option<&Metadata>;

    fn hostname(&self) -> &str {
        self.metadata().map(|metadata| metadata.hostname.as_str()).unwrap_or_default()
    }

    /// The node's failure, which aggregation wraps into a successful response.
    fn failure(&self) -> Option<Status> {
        let metadata = self.metadata().filter(|metadata| !metadata.error.is_empty())?;
        let status = metadata.status.as_ref();
        let code = status.map_or(Code::Unknown, |status| Code::from(status.code));
        let text = status.map(|status| status.message.clone()).filter(|text| !text.is_empty());
        Some(Status::new(code, text.unwrap_or_else(|| metadata.error.clone())))
    }
}

/// A response with an element for each node.
pub(super) trait Wrapper {
    type Element: Element;

    fn messages(self) -> Vec<Self::Element>;
}

macro_rules! elements {
    ($($element:ty),* $(,)?) => {$(
        impl Element for $element {
            fn metadata(&self) -> Option<&Metadata> {
                self.metadata.as_ref()
            }
        }
    )*};
}

macro_rules! wrappers {
    ($($wrapper:ty: $element:ty),* $(,)?) => {
        elements!($($element),*);
        $(
            impl Wrapper for $wrapper {
                type Element = $element;

                fn messages(self) -> Vec<$element> {
                    self.messages
                }
            }
        )*
    };
}

elements!(Data, machine::Event, machine::FileInfo, machine::ImageListResponse);

wrappers! {
    machine::ApplyConfigurationResponse: machine::ApplyConfiguration,
    machine::BootstrapResponse: machine::Bootstrap,
    machine::EtcdAlarmDisarmResponse: machine::EtcdAlarmDisarm,
    machine::EtcdAlarmListResponse: machine::EtcdAlarm,
    machine::EtcdMemberListResponse: machine::EtcdMembers,
    machine::EtcdRecoverResponse: machine::EtcdRecover,
    machine::EtcdStatusResponse: machine::EtcdStatus,
    machine::ImagePullResponse: machine::ImagePull,
    machine::RebootResponse: machine::Reboot,
    machine::ResetResponse: machine::Reset,
    machine::RollbackResponse: machine::Rollback,
    machine::ServiceListResponse: machine::ServiceList,
    machine::ShutdownResponse: machine::Shutdown,
    machine::UpgradeResponse: machine::Upgrade,
    machine::VersionResponse: machine::Version,
    storage::DisksResponse: storage::Disks,
    time::TimeResponse: time::Time,
}
