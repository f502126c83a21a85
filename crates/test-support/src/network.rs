//! Loopback networks that no other test uses at the same time, in this process or another.

use std::fmt;
use std::fs::File;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicU32, Ordering};

/// The second octets of the networks. Test inputs, pods and services use others (10.25, 10.42 to 10.45, 10.67, 10.96,
/// 10.244).
const SECOND: std::ops::Range<u32> = 128..192;
/// The port on which a simulated node listens.
const NODE_PORT: u16 = 50000;
/// The first node of every lab of the tests.
const FIRST_NODE: u8 = 11;

/// A network 10.x.y.0/24, of which a lab serves each address at 127.x.y. It is given back when this is dropped.
#[derive(Debug)]
pub struct LoopbackNetwork {
    second: u8,
    third: u8,
    /// The kernel releases the lock with the last handle, also when the test is killed.
    _lock: File,
}

impl LoopbackNetwork {
    /// Allocates a network.
    pub fn allocate() -> Self {
        static ALLOCATED: AtomicU32 = AtomicU32::new(0);
        let folder = std::env::temp_dir().join("k8s-bootstrap-test-networks");
        std::fs::create_dir_all(&folder).unwrap();
        let count = (SECOND.end - SECOND.start) * 256;
        // Processes begin at different places, so that a network is seldom used twice in a row.
        let first = std::process::id().wrapping_mul(61).wrapping_add(ALLOCATED.fetch_add(1, Ordering::Relaxed));
        let free = (0..count).find_map(|offset| {
            let index = first.wrapping_add(offset) % count;
            let (second, third) = (SECOND.start + index / 256, index % 256);
            let lock = File::create(folder.join(format!("{second}.{third}"))).unwrap();
            lock.try_lock().ok()?;
            let network =
                Self { second: u8::try_from(second).unwrap(), third: u8::try_from(third).unwrap(), _lock: lock };
            // A lab that outlived its test still listens.
            TcpListener::bind((network.dialled(FIRST_NODE), NODE_PORT)).ok()?;
            Some(network)
        });
        free.unwrap_or_else(|| panic!("every loopback network of the tests is in use"))
    }

    /// The declared address of a host.
    pub fn host(&self, host: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, self.second, self.third, host)
    }

    /// Where a lab serves that address.
    pub fn dialled(&self, host: u8) -> Ipv4Addr {
        Ipv4Addr::new(127, self.second, self.third, host)
    }
}

/// The first three octets, such as `10.130.7`.
impl fmt::Display for LoopbackNetwork {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "10.{}.{}", self.second, self.third)
    }
}

#[test]
fn no_two_tests_have_the_same_network() {
    let allocate = || (0..8).map(|_| LoopbackNetwork::allocate()).collect::<Vec<_>>();
    let threads: Vec<_> = (0..4).map(|_| std::thread::spawn(allocate)).collect();
    let networks: Vec<_> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
    let names: std::collections::BTreeSet<String> = networks.iter().map(ToString::to_string).collect();
    assert_eq!(names.len(), networks.len());
    assert_eq!(networks[0].host(11).octets()[1..], networks[0].dialled(11).octets()[1..]);
}
