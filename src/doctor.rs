//! `doctor`: is an installation healthy, and what mends it; looked at from outside, with the rights of whoever asks.
//!
//! `reader` and the `look`s of the other modules read, their `judge`s decide by what was read alone, `output` shows.
//! Nothing is changed in the cluster: the one pod that is created is created with `dryRun=All`.

mod callers;
mod check;
mod configuration;
mod drift;
mod installation;
mod neighbours;
mod output;
mod probe;
mod reader;
mod rights;
mod served;
mod service;
#[cfg(test)]
mod test_support;
mod trust;
mod workloads;

use std::io;
use std::process::ExitCode;

use jiff::Timestamp;

pub use check::{Check, Id, Status};

use self::installation::Installation;
use self::reader::{ApiServer, Wanted};
use crate::api::Lookup;
use crate::backend::kubernetes::connect_patiently;
use crate::cert_manager;
use crate::cli::{DoctorArgs, OutputFormat};
use crate::command::{conclude, say};

/// The first version of Kubernetes in which matchConditions are there for everybody.
const OLDEST: (u32, u32) = (1, 30);

/// Clocks that differ more make certificates and leases look other than they are.
const AHEAD: i64 = 60;

/// How a run ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ExitStatus {
    /// Nothing failed.
    Healthy = 0,
    /// Something did.
    Failed = 1,
    /// Nothing could be looked at.
    Inconclusive = 2,
}

/// Runs `doctor`; `here` is the clock of this machine.
#[must_use]
pub fn run(args: DoctorArgs, here: fn() -> Timestamp) -> ExitCode {
    conclude(doctor(args, here), ExitStatus::Inconclusive)
}

impl From<ExitStatus> for u8 {
    fn from(outcome: ExitStatus) -> Self {
        outcome as Self
    }
}

async fn doctor(args: DoctorArgs, here: fn() -> Timestamp) -> Result<ExitStatus, String> {
    let DoctorArgs {
        kubernetes,
        namespace,
        webhook_namespace,
        webhook_configuration,
        probe,
        drift,
        output,
    } = args;
    let client = connect_patiently(&kubernetes.settings(true))
        .await
        .map_err(|error| error.to_string())?;
    let server = reader::api_server(&client, here).await?;
    let wanted = Wanted {
        configuration: webhook_configuration,
        namespace: webhook_namespace,
    };
    let seen = reader::read(&client, &wanted, &server).await;
    let answers = rights::ask(&client, &seen, probe.then_some(namespace.as_str()), drift).await;

    let mut checks = vec![api_server(&server), rights::yours(&answers)];
    checks.extend(configuration::judge(&seen));
    checks.extend(trust::judge(&seen));
    checks.extend(certificate(&seen));
    checks.extend(service::judge(&seen));
    checks.push(callers::judge(&seen));
    checks.extend(workloads::judge(&seen));
    checks.extend(rights::judge(&seen, &answers));
    checks.push(if probe {
        probe::judge(&seen, &probe::make(&client, &namespace).await)
    } else {
        Check::unchecked(Id::Admission, "not asked for (--probe)")
    });
    checks.extend(neighbours::judge(&neighbours::look(&client).await));
    checks.extend(if drift {
        drift::look(&client, &seen).await
    } else {
        [Id::Drift, Id::IneffectiveAnnotations]
            .map(|id| Check::unchecked(id, "not asked for (--drift)"))
    });

    let outcome = outcome(&checks);
    let mut out = io::stdout().lock();
    let written = match output {
        OutputFormat::Table => output::table(&checks, &mut out),
        OutputFormat::Json => output::json(&checks, outcome == ExitStatus::Healthy, &mut out),
    };
    match written {
        // Whoever reads has what they wanted.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
        written => {
            written.map_err(|error| format!("standard output cannot be written: {error}"))?;
        }
    }
    if outcome == ExitStatus::Inconclusive {
        say("nothing of the installation could be looked at: see caller-permissions\n");
    }
    Ok(outcome)
}

fn outcome(checks: &[Check]) -> ExitStatus {
    let of = |status: Status| checks.iter().any(|check| check.status == status);
    let looked = |check: &Check| {
        // These say nothing about the installation, or nothing when it is not there.
        let about = !matches!(
            check.check,
            Id::ApiServer | Id::CallerPermissions | Id::Reloader | Id::InfisicalOperator
        );
        about && check.status != Status::NotChecked
    };
    if of(Status::Failure) {
        ExitStatus::Failed
    } else if checks.iter().any(looked) {
        ExitStatus::Healthy
    } else {
        ExitStatus::Inconclusive
    }
}

/// The API server's version and clock.
fn api_server(server: &ApiServer) -> Check {
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

/// cert-manager's word.
fn certificate(seen: &Installation) -> Option<Check> {
    let looked = seen.certificate.as_ref()?;
    let this = format!(
        "certificate {} in namespace {}",
        looked.name, looked.namespace
    );
    Some(
        match (cert_manager::trouble(looked, seen.now), &looked.certificate) {
            // Who made them brings them back.
            (Some(trouble), certificate)
                if looked.served
                    && (matches!(certificate, Lookup::NotFound)
                        || matches!(looked.issuer, Lookup::NotFound)) =>
            {
                Check::failure(Id::CertManager, trouble.says, seen.origin().again())
            }
            (Some(trouble), _) => Check::failure(Id::CertManager, trouble.says, trouble.mend),
            (None, Lookup::Unknown(why)) => Check::unchecked(Id::CertManager, why.clone()),
            (None, _) => Check::ok(Id::CertManager, format!("{this} is Ready")),
        },
    )
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

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

    #[test]
    fn who_sees_nothing_is_told_by_the_exit_code() {
        let server = Check::ok(Id::ApiServer, "");
        let blind = [
            server.clone(),
            Check::unchecked(Id::Configuration, ""),
            Check::warning(Id::Reloader, "", ""),
        ];
        assert_eq!(outcome(&blind), ExitStatus::Inconclusive);
        assert_eq!(
            outcome(&[server.clone(), Check::warning(Id::Drift, "", "")]),
            ExitStatus::Healthy
        );
        assert_eq!(
            outcome(&[server, Check::failure(Id::Service, "", "")]),
            ExitStatus::Failed
        );
    }
}
