//! cert-manager's `Certificate`, `Issuer` and `ClusterIssuer`, as far as the webhook's own certificate needs them.
//!
//! [`read()`] reads the certificate and its issuer, [`find_problem`] finds the problem that keeps the certificate from being
//! Ready. Serving never depends on either.

mod objects;
mod problem;
mod read;

pub use objects::{
    CertManagerCondition, Certificate, CertificateSpec, CertificateStatus, GROUP, Issuer,
    IssuerRef, IssuerSpec, IssuerStatus,
};
pub use problem::{CertificateProblem, find_problem};
pub use read::{ObservedCertificate, read};
