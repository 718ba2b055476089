//! Addresses that no service outside the cluster has.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use thiserror::Error;

use super::limits::MAX_ALLOWED_NETWORKS;

/// Addresses at which clouds serve the credentials of a machine, outside the link-local networks: of AWS by IPv6, of
/// Alibaba Cloud, of Azure, and of Oracle Cloud.
const METADATA: [IpAddr; 4] = [
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
    IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)),
];

/// Addresses that a client may connect to: all but those of an [`AddressClass`], unless their network is allowed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AddressPolicy {
    allowed: Vec<IpNet>,
}

/// Class of addresses that are refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressClass {
    /// `169.254.0.0/16`, which has the metadata of most clouds, and `fe80::/10`.
    LinkLocal,
    /// Metadata of clouds elsewhere.
    Metadata,
    /// `0.0.0.0/8` and `::`, which may reach this machine itself.
    Unspecified,
    /// Groups of machines.
    Multicast,
}

/// Reason why a text is not a network.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum InvalidNetwork {
    #[error("{text:?} is not a network, as in 169.254.10.0/24")]
    Malformed { text: String },
    #[error("more than {MAX_ALLOWED_NETWORKS} networks are allowed")]
    TooMany,
}

impl AddressPolicy {
    /// Policy that allows addresses of these networks, written as `ADDRESS/BITS`.
    ///
    /// # Errors
    ///
    /// A text is not a network, or there are too many.
    pub fn allowing<'t>(
        networks: impl IntoIterator<Item = &'t str>,
    ) -> Result<Self, InvalidNetwork> {
        let mut allowed = Vec::new();
        for text in networks {
            let malformed = |_| InvalidNetwork::Malformed {
                text: text.chars().take(64).collect(),
            };
            allowed.push(text.parse().map_err(malformed)?);
            if allowed.len() > MAX_ALLOWED_NETWORKS {
                return Err(InvalidNetwork::TooMany);
            }
        }
        Ok(Self { allowed })
    }

    /// Checks an address, and the IPv4 address that it stands for.
    pub(super) fn check(&self, address: IpAddr) -> Result<(), AddressClass> {
        let embedded = match address {
            IpAddr::V4(_) => None,
            IpAddr::V6(address) => embedded(address).map(IpAddr::V4),
        };
        for address in [Some(address), embedded].into_iter().flatten() {
            let is_allowed = self.allowed.iter().any(|net| net.contains(&address));
            match class_of(address) {
                Some(class) if !is_allowed => return Err(class),
                _ => {}
            }
        }
        Ok(())
    }
}

fn class_of(address: IpAddr) -> Option<AddressClass> {
    let (is_link_local, is_unspecified) = match address {
        IpAddr::V4(address) => {
            let [first, ..] = address.octets();
            (address.is_link_local(), first == 0)
        }
        IpAddr::V6(address) => (address.is_unicast_link_local(), address.is_unspecified()),
    };
    if is_link_local {
        Some(AddressClass::LinkLocal)
    } else if is_unspecified {
        Some(AddressClass::Unspecified)
    } else if address.is_multicast() || address == IpAddr::V4(Ipv4Addr::BROADCAST) {
        Some(AddressClass::Multicast)
    } else if METADATA.contains(&address) {
        Some(AddressClass::Metadata)
    } else {
        None
    }
}

/// IPv4 address in an IPv6 address: mapped, compatible, translated (`64:ff9b::/96`), 6to4.
fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let of_halves = |high: u16, low: u16| {
        let [[a, b], [c, d]] = [high.to_be_bytes(), low.to_be_bytes()];
        Some(Ipv4Addr::new(a, b, c, d))
    };
    match address.segments() {
        // `::` and `::1` are addresses of IPv6.
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => None,
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
            of_halves(high, low)
        }
        [0x2002, high, low, ..] => of_halves(high, low),
        _ => None,
    }
}

impl fmt::Display for AddressClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::LinkLocal => "link-local",
            Self::Metadata => "one of a cloud's metadata",
            Self::Unspecified => "unspecified",
            Self::Multicast => "of a multicast group",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(policy: &AddressPolicy, address: &str) -> Result<(), AddressClass> {
        policy.check(address.parse().unwrap())
    }

    #[test]
    fn addresses_of_no_service_are_refused_in_every_form() {
        let policy = AddressPolicy::default();
        for (class, addresses) in [
            (
                AddressClass::LinkLocal,
                &[
                    "169.254.169.254",
                    "169.254.0.1",
                    "fe80::1",
                    "febf::1",
                    "::ffff:169.254.169.254",
                    "::169.254.169.254",
                    "64:ff9b::169.254.169.254",
                    "2002:a9fe:a9fe::1",
                ] as &[&str],
            ),
            (
                AddressClass::Metadata,
                &[
                    "fd00:ec2::254",
                    "100.100.100.200",
                    "168.63.129.16",
                    "192.0.0.192",
                    "::ffff:100.100.100.200",
                ],
            ),
            (
                AddressClass::Unspecified,
                &["0.0.0.0", "0.1.2.3", "::", "::ffff:0.0.0.0"],
            ),
            (
                AddressClass::Multicast,
                &["224.0.0.1", "255.255.255.255", "ff02::1"],
            ),
        ] {
            for address in addresses {
                assert_eq!(check(&policy, address), Err(class), "{address}");
            }
        }
        for address in [
            "127.0.0.1",
            "::1",
            "10.0.0.1",
            "fd00::1",
            "8.8.8.8",
            "2001:db8::1",
        ] {
            assert_eq!(check(&policy, address), Ok(()), "{address}");
        }
    }

    #[test]
    fn networks_are_allowed_by_the_settings() {
        let policy = AddressPolicy::allowing(["169.254.10.0/24", "fe80::/16"]).unwrap();
        assert_eq!(check(&policy, "169.254.10.1"), Ok(()));
        assert_eq!(check(&policy, "fe80::1"), Ok(()));
        assert_eq!(check(&policy, "::ffff:169.254.10.1"), Ok(()));
        let refused = Err(AddressClass::LinkLocal);
        assert_eq!(check(&policy, "169.254.169.254"), refused);
        // A whole network of IPv6 does not allow the IPv4 addresses in it.
        let wide = AddressPolicy::allowing(["::/0"]).unwrap();
        assert_eq!(check(&wide, "::ffff:169.254.169.254"), refused);
        let malformed = AddressPolicy::allowing(["169.254.10.0"]);
        assert!(matches!(malformed, Err(InvalidNetwork::Malformed { .. })));
        let many = AddressPolicy::allowing(vec!["10.0.0.0/8"; MAX_ALLOWED_NETWORKS + 1]);
        assert_eq!(many, Err(InvalidNetwork::TooMany));
    }
}
