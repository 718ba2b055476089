//! Proxies between this program and the API server.

mod exceptions;
mod selection;
mod tunnel;

pub use self::selection::{InvalidProxy, ProxyVariables};
pub(crate) use self::selection::{Proxy, choose, proxy_url};
pub(crate) use self::tunnel::{client, find_in_chain, proxy_problem};
