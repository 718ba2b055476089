//! `lint`: manifests, profiles and their Secrets, checked with the rules of admission.
