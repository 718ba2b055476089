//! Measurements of a running webhook: its own metrics, and its memory from the kernel.

use super::webhook_process::WebhookProcess;

/// Sum of all series of a counter whose labels contain all of `labels`, such as `result="ok"`.
pub fn counter_value(exposition: &str, counter: &str, labels: &[&str]) -> u64 {
    let series = exposition.lines().filter_map(|line| {
        let rest = line
            .strip_prefix("floe_secrets_webhook_")?
            .strip_prefix(counter)?;
        let (labels_of_series, value) = rest
            .strip_prefix("_total")
            .unwrap_or(rest)
            .rsplit_once(' ')?;
        let is_this_counter = labels_of_series.is_empty() || labels_of_series.starts_with('{');
        (is_this_counter && labels.iter().all(|label| labels_of_series.contains(label)))
            .then(|| value.parse::<u64>().ok())?
    });
    series.sum()
}

impl WebhookProcess {
    /// [`counter_value`] of the current `/metrics`.
    pub fn counter_value(&self, counter: &str, labels: &[&str]) -> u64 {
        let (status, text) = self.get("/metrics").expect("the ops port responds");
        assert_eq!(status, 200, "{text}");
        counter_value(&text, counter, labels)
    }

    /// Current and peak resident memory, in KiB.
    pub fn memory(&self) -> (u64, u64) {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid()))
            .expect("a running process");
        let field = |name: &str| {
            let line = status
                .lines()
                .find_map(|line| line.strip_prefix(name))
                .expect("a field of /proc/PID/status");
            line.trim()
                .trim_end_matches(" kB")
                .parse()
                .expect("a number")
        };
        (field("VmRSS:"), field("VmHWM:"))
    }
}
