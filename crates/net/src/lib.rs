//! Where a declared address is really dialled: the address map and the loopback seal. And the one bounded HTTP request.
//!
//! A node is known by the address that its operator declared; certificates are checked by that identity. Where the
//! connection goes is a separate matter: to the same address in the field, to a loopback address in a rehearsal.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod downloads;
mod fetch;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

pub use downloads::DownloadSource;
pub use fetch::{Authorities, FetchError, FetchLimits, Fetcher, Get};
use serde::{Deserialize, Serialize};
use tokio::net::TcpStream;

/// Declared addresses to dialled ones. What the map does not name is dialled as declared.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddressMap(BTreeMap<IpAddr, IpAddr>);

impl AddressMap {
    /// The map of a lab: each declared IPv4 address with its first octet replaced by 127.
    ///
    /// Two declared addresses that differ in the first octet alone would share one loopback address; the second gets
    /// the next free one, counted upwards.
    pub fn loopback(declared: impl IntoIterator<Item = IpAddr>) -> Self {
        let mut map = BTreeMap::new();
        for address in declared {
            let mut octets = match address {
                IpAddr::V4(v4) => v4.octets(),
                IpAddr::V6(v6) => {
                    let tail = v6.octets();
                    [127, tail[13], tail[14], tail[15].max(1)]
                }
            };
            octets[0] = 127;
            let mut candidate = Ipv4Addr::from(octets);
            while map.values().any(|taken| *taken == IpAddr::V4(candidate)) {
                candidate = Ipv4Addr::from(u32::from(candidate).wrapping_add(1));
            }
            map.insert(address, IpAddr::V4(candidate));
        }
        Self(map)
    }

    /// Declared addresses with the ones that are dialled for them.
    pub fn iter(&self) -> impl Iterator<Item = (IpAddr, IpAddr)> {
        self.0.iter().map(|(declared, dialled)| (*declared, *dialled))
    }

    /// The address to dial for a declared one.
    pub fn dialled(&self, declared: IpAddr) -> IpAddr {
        self.0.get(&declared).copied().unwrap_or(declared)
    }
}

impl FromIterator<(IpAddr, IpAddr)> for AddressMap {
    fn from_iter<I: IntoIterator<Item = (IpAddr, IpAddr)>>(iter: I) -> Self {
        Self(iter.into_iter().collect())
    }
}

/// Whether connections may leave this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    Anywhere,
    /// A rehearsal: anything but loopback is refused before a packet is sent.
    LoopbackOnly,
}

/// The one way in which this program opens connections to nodes and API servers.
#[derive(Debug, Clone)]
pub struct Dialer {
    map: AddressMap,
    reach: Reach,
}

impl Dialer {
    /// Dials what is declared, anywhere.
    pub fn direct() -> Self {
        Self { map: AddressMap::default(), reach: Reach::Anywhere }
    }

    /// Dials a lab: through its map, never off this machine.
    pub fn lab(map: AddressMap) -> Self {
        Self { map, reach: Reach::LoopbackOnly }
    }

    /// Where `declared` is dialled.
    ///
    /// # Errors
    ///
    /// `PermissionDenied` when the seal forbids the address.
    pub fn target(&self, declared: SocketAddr) -> io::Result<SocketAddr> {
        let target = SocketAddr::new(self.map.dialled(declared.ip()), declared.port());
        if self.reach == Reach::LoopbackOnly && !target.ip().is_loopback() {
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                format!("{target} is not a loopback address; a rehearsal rejects it"),
            ));
        }
        Ok(target)
    }

    /// Opens a TCP connection to where `declared` is dialled, without Nagle's delay.
    ///
    /// # Errors
    ///
    /// Those of [`Dialer::target`] and of the connection.
    pub async fn connect(&self, declared: SocketAddr) -> io::Result<TcpStream> {
        let stream = TcpStream::connect(self.target(declared)?).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}
