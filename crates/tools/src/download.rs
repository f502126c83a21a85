//! Downloading an official release, checked against its published SHA-256.

use std::io::Read;
use std::path::Path;
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::Tool;

/// Without a route the name does not resolve at once; a hanging resolver must not hold up the build.
const CONNECT: Duration = Duration::from_secs(2);
const WHOLE: Duration = Duration::from_mins(10);
const LARGEST: u64 = 512 << 20;

/// Downloads `tool` to `target`; the error is the reason why that was not possible.
pub(super) fn download(tool: Tool, target: &Path) -> Result<(), String> {
    let (url, sum) = tool.release().ok_or("it has no plain binary for this platform")?;
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .timeout_connect(Some(CONNECT))
        .timeout_resolve(Some(CONNECT))
        .timeout_global(Some(WHOLE))
        .tls_config(
            ureq::tls::TlsConfig::builder()
                .unversioned_rustls_crypto_provider(std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
                .build(),
        )
        .build()
        .into();
    let fetch = |url: &str| -> Result<Vec<u8>, String> {
        let answer = agent.get(url).call().map_err(|error| format!("{url}: {error}"))?;
        let mut bytes = Vec::new();
        let reader = answer.into_body().into_reader();
        reader.take(LARGEST).read_to_end(&mut bytes).map_err(|error| format!("{url}: {error}"))?;
        Ok(bytes)
    };
    let published = String::from_utf8_lossy(&fetch(&sum)?).split_whitespace().next().unwrap_or_default().to_owned();
    let bytes = fetch(&url)?;
    let digest = Sha256::digest(&bytes).iter().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"));
    if digest != published {
        return Err(format!("{url}: its SHA-256 is {digest}, published is {published}"));
    }
    let folder = target.parent().ok_or("the cache has no folder for it")?;
    let write = || -> std::io::Result<()> {
        use std::os::unix::fs::PermissionsExt;
        std::fs::create_dir_all(folder)?;
        let temporary = tempfile::NamedTempFile::new_in(folder)?;
        std::fs::write(temporary.path(), &bytes)?;
        std::fs::set_permissions(temporary.path(), std::fs::Permissions::from_mode(0o755))?;
        temporary.persist(target).map_err(|error| error.error)?;
        Ok(())
    };
    write().map_err(|error| format!("{}: {error}", target.display()))
}
