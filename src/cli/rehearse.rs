//! `k8s-bootstrap rehearse CLUSTER`: lab up, run, summary, lab down.

use super::args::{Common, RehearseArgs, SecretsArg};
use super::exit::{Exit, Refusal};
use super::run::{self, Wish};
use super::setup::Place;
use super::{lab, output, setup};
use crate::engine::StopSignal;

pub(super) async fn rehearse(common: &Common, args: RehearseArgs) -> Result<Exit, Refusal> {
    let cluster = setup::cluster(common, &args.cluster)?;
    let lab = lab::start(common, &cluster, &args.world).await?;
    let wish = Wish { cluster: &args.cluster, place: Place::Lab, resume: false, secrets: Some(args.secrets) };
    let result = run::bootstrap(common, wish, &StopSignal::default()).await;
    let record = lab.status().record;
    output::say(&format!(
        "rehearsed: {} simulated nodes, {} Bootstrap call accepted; placeholders for every secret: {}",
        cluster.talconfig.nodes.len(),
        record.bootstrap_accepted,
        args.secrets == SecretsArg::Placeholder
    ));
    lab::end(lab, args.world.keep).await?;
    result
}
