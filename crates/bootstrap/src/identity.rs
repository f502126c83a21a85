//! Converts the administrator's credentials for the Talos client.

use talos_client::ClientIdentity;
use talos_config::AdminIdentity;

/// The client certificate of an administrator, as the Talos client needs it.
pub fn client_identity(admin: &AdminIdentity) -> ClientIdentity {
    ClientIdentity {
        ca_pem: admin.ca_pem.clone(),
        certificate_pem: admin.certificate_pem.clone(),
        key_pem: admin.key_pem.clone(),
    }
}
