//! Reads `repositories`.

use std::collections::{BTreeMap, BTreeSet};

use super::super::state::Repository;
use super::Reader;
use yaml::{Fields, Node};

const FILES: [&str; 3] = ["caFile", "certFile", "keyFile"];
const SWITCHES: [&str; 4] = ["oci", "passCredentials", "plainHttp", "skipTLSVerify"];
const UNSUPPORTED: &str = "keyring managed registryConfig";

impl Reader<'_> {
    pub(super) fn repository(&mut self, node: &Node) -> Option<Repository> {
        let (origin, what) = (self.origin, "a repository");
        let mut fields = Fields::from_node(origin, node, what, self.found);
        let name = fields.required_string("name", self.found);
        let url = fields.required_string("url", self.found);
        let username = self.word(&mut fields, "username", what);
        let password = self.word(&mut fields, "password", what).map(Into::into);
        let mut files = BTreeMap::new();
        for key in FILES {
            files.extend(self.text(&mut fields, key, what).map(|text| (key, text)));
        }
        let mut switches = BTreeSet::new();
        for key in SWITCHES {
            if self.switch(&mut fields, key, what) == Some(true) {
                switches.insert(key);
            }
        }
        self.unsupported(&mut fields, UNSUPPORTED, what);
        self.unsupported_switches(&mut fields, "verify", what);
        fields.finish(self.found);
        Some(Repository { name: name?, url: url?, username, password, files, switches })
    }
}
