//! The secrets bundle: what is taken is written so that it is taken again.
#![no_main]

use talos_config::SecretsBundle;
use yaml::Origin;
use libfuzzer_sys::fuzz_target;
use secrecy::ExposeSecret;

fuzz_target!(|text: &str| {
    let Ok(bundle) = SecretsBundle::parse(&Origin::new("fuzz"), text) else { return };
    let written = bundle.to_yaml();
    let again = SecretsBundle::parse(&Origin::new("again"), written.expose_secret()).expect("our own output is read");
    assert_eq!(again.to_yaml().expose_secret(), written.expose_secret());
});
