//! Every message that a node can send: the first byte selects the type, the rest is the message.
#![no_main]

use talos_proto::{common, machine, storage, time};
use talos_proto::cosi::resource;
use talos_proto::google::rpc;
use libfuzzer_sys::fuzz_target;
use prost::Message;

/// Decodes, and encodes again what was decoded: that must be read as the same.
fn decode<M: Message + Default + PartialEq>(bytes: &[u8]) {
    let Ok(message) = M::decode(bytes) else { return };
    let again = M::decode(message.encode_to_vec().as_slice()).expect("our own encoding is read");
    // NaN is unequal to itself.
    assert!(again == message || again.encode_to_vec() == message.encode_to_vec());
}

macro_rules! decoders {
    ($($message:ty),* $(,)?) => { [$(decode::<$message> as fn(&[u8])),*] };
}

fuzz_target!(|bytes: &[u8]| {
    let Some((which, bytes)) = bytes.split_first() else { return };
    let all = decoders![
        common::Metadata,
        common::Data,
        common::Error,
        rpc::Status,
        machine::ApplyConfigurationResponse,
        machine::BootstrapResponse,
        machine::Event,
        machine::SequenceEvent,
        machine::PhaseEvent,
        machine::TaskEvent,
        machine::ServiceStateEvent,
        machine::MachineStatusEvent,
        machine::EtcdMemberListResponse,
        machine::EtcdStatusResponse,
        machine::EtcdRecoverResponse,
        machine::HostnameResponse,
        machine::MemoryResponse,
        machine::RebootResponse,
        machine::ResetResponse,
        machine::ServiceListResponse,
        machine::SystemStatResponse,
        machine::VersionResponse,
        storage::DisksResponse,
        time::TimeResponse,
        resource::GetResponse,
        resource::ListResponse,
        resource::WatchResponse,
    ];
    all[usize::from(*which) % all.len()](bytes);
});
