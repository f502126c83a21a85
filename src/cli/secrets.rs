//! `k8s-bootstrap secrets gen`: a fresh secrets bundle.

use bootstrap::ops;
use secrecy::ExposeSecret;

use super::args::SecretsCommand;
use super::error::CommandError;
use super::exit::Exit;
use super::output;

pub(super) fn secrets(command: &SecretsCommand) -> Result<Exit, CommandError> {
    let SecretsCommand::Gen { talos_version } = command;
    let bundle = ops::generate_secrets(talos_version.as_deref())?;
    output::data(bundle.to_yaml().expose_secret());
    Ok(Exit::Done)
}
