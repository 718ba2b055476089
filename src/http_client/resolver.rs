//! Resolver of names that refuses addresses.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use thiserror::Error;

use super::addresses::{AddressClass, AddressPolicy};
use super::limits::MAX_ADDRESSES;

/// Function that returns the addresses of a name.
pub type HostLookup =
    Arc<dyn Fn(String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> + Send + Sync>;

/// Lookup by the resolver of the system.
#[must_use]
pub fn system_lookup() -> HostLookup {
    Arc::new(|host| {
        async move {
            let addresses = tokio::net::lookup_host((host.as_str(), 0)).await?;
            Ok(addresses.map(|address| address.ip()).collect())
        }
        .boxed()
    })
}

/// Resolver that checks every address before one of them is connected to. A name with one that is refused is refused
/// as a whole: whoever sends one such address may send only such addresses next time.
pub(super) struct CheckedResolver {
    lookup: HostLookup,
    policy: Arc<AddressPolicy>,
}

/// Error of a name with an address that is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the address {address} is {class}")]
pub(super) struct RefusedAnswer {
    pub address: IpAddr,
    pub class: AddressClass,
}

/// Error of a name without an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the name has no address")]
pub(super) struct NoAddress;

impl CheckedResolver {
    pub(super) fn new(lookup: HostLookup, policy: Arc<AddressPolicy>) -> Self {
        Self { lookup, policy }
    }
}

impl fmt::Debug for CheckedResolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CheckedResolver")
            .field("policy", &self.policy)
            .finish_non_exhaustive()
    }
}

impl Resolve for CheckedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let lookup = (self.lookup)(name.as_str().to_owned());
        let policy = Arc::clone(&self.policy);
        async move {
            let addresses = lookup.await.map_err(|_| NoAddress)?;
            for address in &addresses {
                policy.check(*address).map_err(|class| RefusedAnswer {
                    address: *address,
                    class,
                })?;
            }
            if addresses.is_empty() {
                return Err(NoAddress.into());
            }
            let sockets = addresses
                .into_iter()
                .take(MAX_ADDRESSES)
                .map(|address| SocketAddr::new(address, 0));
            Ok(Box::new(sockets) as Addrs)
        }
        .boxed()
    }
}
