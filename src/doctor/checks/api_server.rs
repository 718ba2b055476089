//! The API server's version and clock.

use crate::doctor::check::{Check, Id};
use crate::doctor::reader::ApiServer;

/// The first version of Kubernetes in which matchConditions are there for everybody.
const OLDEST: (u32, u32) = (1, 30);

/// Clocks that differ more make certificates and leases look other than they are.
const AHEAD: i64 = 60;

/// The API server's version and clock.
pub(crate) fn api_server(server: &ApiServer) -> Check {
    let ApiServer { version, ahead, .. } = server;
    let mut numbers = version
        .trim_start_matches('v')
        .split('.')
        .map(|part| part.parse::<u32>().ok());
    let parsed = numbers.next().flatten().zip(numbers.next().flatten());
    match parsed {
        Some(parsed) if parsed < OLDEST => {
            let says = format!(
                "Kubernetes {version} is older than 1.30: it has no matchConditions by default"
            );
            Check::failure(Id::ApiServer, says, "upgrade the cluster to 1.30 or newer")
        }
        _ if ahead.abs() > AHEAD => {
            let says = format!(
                "Kubernetes {version}; the clock here differs from its own by {ahead} s, whose is used here"
            );
            Check::warning(Id::ApiServer, says, "timedatectl set-ntp true")
        }
        _ => Check::ok(Id::ApiServer, format!("Kubernetes {version}")),
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use rstest::rstest;

    use super::*;
    use crate::doctor::check::Status;

    #[rstest]
    #[case("v1.29.14", 0, Status::Failure)]
    #[case("v1.30.0-gke.100", 0, Status::Ok)]
    #[case("v1.36.3", 59, Status::Ok)]
    #[case("v1.36.3", -61, Status::Warning)]
    #[case("v2.0.0+k3s1", 0, Status::Ok)]
    fn old_api_servers_and_wrong_clocks_are_told(
        #[case] version: &str,
        #[case] ahead: i64,
        #[case] status: Status,
    ) {
        let server = ApiServer {
            version: version.to_owned(),
            now: Timestamp::UNIX_EPOCH,
            ahead,
        };
        assert_eq!(api_server(&server).status, status);
    }
}
