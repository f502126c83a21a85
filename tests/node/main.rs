//! The lab's machines against what Talos does: transcripts of requests and answers, and a real talosctl where there is
//! one.
#![allow(clippy::unwrap_used, clippy::print_stderr, unreachable_pub, dead_code)]

mod call;
mod cluster;
mod transcript;
mod world;

use std::path::Path;

use transcript::Transcript;

/// One network for each version of each transcript.
async fn play(name: &str, place: u8) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/node/transcripts").join(format!("{name}.yaml"));
    let transcript = Transcript::read(&path);
    for (index, talos) in transcript.talos.iter().enumerate() {
        transcript.play(&format!("10.64.{}", usize::from(place) * 4 + index), talos).await;
    }
}

macro_rules! transcripts {
    ($($name:ident = $place:literal;)*) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            play(&stringify!($name).replace('_', "-"), $place).await;
        }
    )*};
}

transcripts! {
    maintenance_of_old = 1;
    maintenance_of_new = 2;
    a_config_is_applied = 3;
    resources = 4;
    routing = 5;
    roles = 6;
    etcd = 7;
    goes_down_and_comes_back = 8;
    upgrades = 9;
    unattended_install = 10;
    logs_and_events = 11;
}
