# Commands for people and CI. `make help` lists them.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
SCRIPTS = $(shell git ls-files "*.sh" .ci/run hack/cluster/kubectl hack/krew/kubectl_complete-floe_secrets)
.PHONY: help demo demo-helm test test-kubernetes-1.30 test-cluster test-adapters test-krew test-keycloak chart-lint chart-render check-generated lint deny fuzz bench hostile sequences audit-kills audit-visibility audit-faults audit-scale instructions footprint soak release clean

## demo: from a bare checkout to a Job's container that prints its injected variable (TRY THIS FIRST)
demo:
	hack/demo.sh

## demo-helm: the chart on a real node: install, test, use, upgrade, uninstall (Linux and root, or KUBECONFIG)
demo-helm:
	hack/demo-helm.sh

## test: all tests except those that need root
test:
	hack/test.sh

## test-kubernetes-1.30: pods, workloads, controller, audit trail and the chart's lifecycle on the oldest supported Kubernetes
test-kubernetes-1.30: export KUBERNETES_VERSION = 1.30
test-kubernetes-1.30:
	hack/test.sh chart=admission_policy::,client_certificate::,lifecycle::,pods::,rights:: controller workloads registration \
	  admission reload_e2e inject_cluster sequences audit_trail audit_collector attribution second_pass authorization

## test-cluster: tests on a real one-node cluster (Linux and root), or on your own cluster (KUBECONFIG)
test-cluster:
	hack/test-cluster.sh

## test-krew: the kubectl plugin's archive and manifest, by krew's own validator and an offline install
test-krew:
	cargo build --locked --bin floe-secrets-webhook
	hack/krew/test.sh "$${CARGO_TARGET_DIR:-target}/debug/floe-secrets-webhook"

## test-adapters: compiled profiles in real dbt with all adapters (1 GB of Python packages once, then a few minutes)
test-adapters:
	hack/adapters/test.sh

## test-keycloak: identity providers on a real Keycloak (Java 17 and Maven; 176 MB once, then two minutes)
test-keycloak:
	hack/tools/keycloak.sh >/dev/null
	cargo test --workspace --all-features --locked --test keycloak -- --ignored --nocapture

## chart-lint: Helm's own lint, in strict mode
chart-lint:
	"$$(hack/tools/tools.sh path helm)" lint --strict --namespace floe-secrets-webhook charts/floe-secrets-webhook

## chart-render: write the files that are generated from the chart: manifests/, and the table of values in its README
chart-render:
	hack/values-table.py
	hack/render-manifests.sh

## check-generated: fail if the generated files differ from what chart-render would write
check-generated:
	hack/values-table.py --check
	hack/render-manifests.sh --check

## lint: formatting, clippy, documentation links, shell scripts, spelling, names and sizes, as in CI
lint:
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --all-features --locked -- -D warnings
	cargo clippy --no-default-features --locked -- -D warnings
	hack/check-offline.sh
	RUSTDOCFLAGS="-D warnings -A rustdoc::private-intra-doc-links" cargo doc --workspace --no-deps --document-private-items --all-features --locked --quiet
	"$$(hack/tools/tools.sh path shfmt)" -i 2 -ci -d $(SCRIPTS)
	"$$(hack/tools/tools.sh path shellcheck)" -x -P SCRIPTDIR $(SCRIPTS)
	"$$(hack/cargo-tool.sh typos-cli 1.52.0 typos)"
	hack/check-style.py

## deny: licences, bans and sources of all dependencies
deny:
	"$$(hack/cargo-tool.sh cargo-deny 0.20.2)" --all-features --locked check licenses bans sources

## fuzz: every fuzz target for a short while, from the kept corpus (SECONDS_EACH=30)
fuzz:
	hack/fuzz.sh $(or $(SECONDS_EACH),30)

## bench: parse, plan and render; the handler beside one that returns a constant
bench:
	cargo bench --all-features --locked

## hostile: hostile reviews and the cost of each, also beside honest creates (3 minutes)
hostile:
	hack/hostile.sh

## sequences: random sequences of what users do to a workload, 10,000 simulated and 200 on a real API server (5 minutes)
sequences:
	hack/sequences.sh

## audit-kills: 5,000 pods while serve is killed 100 times and admin 50 times: none lacks its record (a few minutes)
audit-kills:
	hack/tools/tools.sh build control-plane
	cargo test --all-features --locked --test audit_kills -- --ignored --nocapture

## audit-visibility: time from 2,000 creates at 200/s until a query has their records, on a machine without other work
audit-visibility:
	hack/tools/tools.sh build control-plane database
	cargo test --profile optimized --all-features --locked --test audit_visibility -- --ignored --nocapture

## audit-faults: faults of spool, collector, store and their volumes, for longer than make test has them (a few minutes)
audit-faults: export AUDIT_FAULTS = 1
audit-faults:
	hack/tools/tools.sh build control-plane database
	cargo test --all-features --locked --test audit_faults -- --include-ignored --nocapture --test-threads=2

## audit-scale: a store of 2,500,000 rows: bytes, queries, appends beside retention, memory of admin (a quarter of an hour)
audit-scale:
	hack/tools/tools.sh build control-plane
	cargo test --profile optimized --all-features --locked --test audit_scale -- --ignored --nocapture

## instructions: instructions per admission, compared with benches/instructions.txt
instructions:
	hack/instructions.sh

## footprint: memory and time to ready of the release binary, in an empty cluster and in a full one (a few minutes)
footprint: release
	WEBHOOK_BIN="$${CARGO_TARGET_DIR:-target}/release/floe-secrets-webhook" cargo test --all-features --locked --test footprint --test large_namespace -- --ignored

## soak: a new certificate every 30 s under a stream of creates, from cert-manager and from our controller (10 minutes)
soak: export SOAK = 1
soak:
	cargo test --all-features --locked --test self_managed -- --nocapture under_load
	cargo test --all-features --locked --test chart -- --nocapture cert_manager_issues

## release: build the small stripped binary
release:
	cargo build --release --locked

## clean: delete what was built here; the cache of tools is kept
clean:
	cargo clean

help:
	@sed -n 's/^## //p' $(MAKEFILE_LIST)
