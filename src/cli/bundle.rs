//! `k8s-bootstrap bundle create CLUSTER --out FILE`: all charts of a cluster in one file.

use bootstrap::ops;

use super::args::{BundleCommand, Common};
use super::error::CommandError;
use super::exit::Exit;
use super::output;
use super::workspace::workspace;

pub(super) async fn bundle(common: &Common, command: BundleCommand) -> Result<Exit, CommandError> {
    let BundleCommand::Create { cluster, out } = command;
    let created = ops::create_bundle(&workspace(common), &cluster, &out).await?;
    output::print_note(&format!(
        "{}: {} charts; its images.txt lists {} images, {} of them without digest\nnext: k8s-bootstrap {cluster} --bundle {}",
        out.display(),
        created.charts,
        created.images,
        created.unpinned,
        out.display()
    ));
    Ok(Exit::Done)
}
