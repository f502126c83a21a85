//! `k8s-bootstrap secrets gen`: a fresh secrets bundle.

use jiff::Timestamp;
use secrecy::ExposeSecret;

use super::args::SecretsCommand;
use super::error::CommandError;
use super::exit::Exit;
use super::output;
use talos_config::SecretsBundle;
use talos_schema::Contract;

pub(super) fn secrets(command: &SecretsCommand) -> Result<Exit, CommandError> {
    match command {
        SecretsCommand::Gen { talos_version } => {
            let contract = match talos_version {
                Some(version) => {
                    version.parse().map_err(|error| CommandError::invalid(format!("--talos-version: {error}")))?
                }
                None => Contract::DEFAULT,
            };
            let bundle = SecretsBundle::generate_for(contract, Timestamp::now())
                .map_err(|error| CommandError::caused_by(Exit::PreconditionFailed, &error))?;
            output::data(bundle.to_yaml().expose_secret());
            Ok(Exit::Done)
        }
    }
}
