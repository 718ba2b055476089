//! docs/operations/LOGS.md and METRICS.md against what is really written and served.
