//! Reload of the configuration file of servers: settings that are safe to change are applied, the old ones are kept if
//! the new file is bad.

use std::path::PathBuf;
use std::time::Duration;

use clap::ArgMatches;
use tokio::time::sleep;
use tracing::{error, info, warn};

use super::program::{Invocation, Parsed};
use crate::config::{EffectiveSetting, FileKind, read_content};

/// Interval at which the file is read. The kubelet itself takes up to a minute to update a mounted ConfigMap.
pub(super) const RELOAD_INTERVAL: Duration = Duration::from_secs(10);

/// Follows a configuration file.
pub(super) struct ConfigReload {
    invocation: Invocation,
    file: Option<FollowedFile>,
}

struct FollowedFile {
    path: PathBuf,
    /// Content that was read last, whether it was good or bad.
    content: Result<Vec<u8>, String>,
    /// Settings in use. Those that are read at start keep the value of the start.
    settings: Vec<EffectiveSetting>,
}

/// Names of the settings that differ.
#[derive(Debug, Default, PartialEq, Eq)]
struct Changes {
    live: Vec<String>,
    at_start: Vec<String>,
}

impl ConfigReload {
    /// Follows the file that was parsed at the start.
    pub(super) fn new(invocation: &Invocation, parsed: Parsed) -> Self {
        let settings = parsed.settings;
        Self {
            invocation: invocation.clone(),
            file: parsed.config.map(|config| FollowedFile {
                content: Ok(config.content.unwrap_or_default()),
                path: config.path,
                settings,
            }),
        }
    }

    /// Follows the file until it is dropped; `apply` takes the settings that are safe to change.
    ///
    /// Without a configuration file, it never ends.
    pub(super) async fn run(self, apply: impl Fn(&ArgMatches) -> Result<(), String>) {
        let Some(mut file) = self.file else {
            return std::future::pending().await;
        };
        loop {
            sleep(RELOAD_INTERVAL).await;
            file.check(&self.invocation, &apply);
        }
    }
}

impl FollowedFile {
    /// Reads the file, and applies it if it has changed.
    fn check(
        &mut self,
        invocation: &Invocation,
        apply: &impl Fn(&ArgMatches) -> Result<(), String>,
    ) {
        let content =
            read_content(&self.path, FileKind::Regular).map_err(|error| error.to_string());
        if content == self.content {
            return;
        }
        self.content.clone_from(&content);
        let applied = content
            .and_then(|content| {
                let parsed = invocation.parse_content(content);
                parsed.map_err(|failure| failure.to_string())
            })
            .and_then(|parsed| {
                apply(&parsed.matches)?;
                Ok(parsed.settings)
            });
        match applied {
            Ok(settings) => self.adopt(settings),
            Err(reason) => {
                error!(error = %reason, "configuration not reloaded, keeping the old one");
            }
        }
    }

    /// Reports the changes and remembers the live ones.
    fn adopt(&mut self, settings: Vec<EffectiveSetting>) {
        let changes = Changes::between(&self.settings, &settings);
        info!(settings = changes.live.join(","), "configuration reloaded");
        if !changes.at_start.is_empty() {
            warn!(
                settings = changes.at_start.join(","),
                "changed settings need a restart"
            );
        }
        for setting in settings.into_iter().filter(|setting| setting.is_live) {
            if let Some(old) = self
                .settings
                .iter_mut()
                .find(|old| old.path == setting.path)
            {
                *old = setting;
            }
        }
    }
}

impl Changes {
    fn between(old: &[EffectiveSetting], new: &[EffectiveSetting]) -> Self {
        let mut changes = Self::default();
        for setting in new {
            let before = old.iter().find(|old| old.path == setting.path);
            if before.is_some_and(|before| before.value == setting.value) {
                continue;
            }
            if setting.is_live {
                changes.live.push(setting.path.clone());
            } else {
                changes.at_start.push(setting.path.clone());
            }
        }
        changes
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::ffi::OsString;

    use clap::CommandFactory as _;

    use super::*;
    use crate::commands::Cli;
    use crate::config::Origin;

    fn setting(path: &str, value: &str, is_live: bool) -> EffectiveSetting {
        EffectiveSetting {
            path: path.to_owned(),
            value: Some(value.to_owned()),
            origin: Origin::Default,
            is_live,
        }
    }

    #[test]
    fn changes_are_split_by_whether_they_need_a_restart() {
        let old = [
            setting("log.filter", "info", true),
            setting("serve.listen", "a:1", false),
            setting("serve.opsListen", "a:2", false),
        ];
        let new = [
            setting("log.filter", "debug", true),
            setting("serve.listen", "b:1", false),
            setting("serve.opsListen", "a:2", false),
        ];
        assert_eq!(
            Changes::between(&old, &new),
            Changes {
                live: vec!["log.filter".to_owned()],
                at_start: vec!["serve.listen".to_owned()],
            }
        );
    }

    #[test]
    fn change_between_the_start_and_the_first_check_is_applied() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("c.yaml");
        std::fs::write(&path, "log: {filter: info}\n").unwrap();
        let mut arguments: Vec<OsString> = ["program", "serve", "--tls-secret", "s", "--config"]
            .map(OsString::from)
            .into();
        arguments.push(path.clone().into());
        let invocation = Invocation::new(Cli::command, arguments);
        let Ok(parsed) = invocation.parse() else {
            panic!("the file is valid")
        };
        std::fs::write(&path, "log: {filter: debug}\n").unwrap();
        let mut file = ConfigReload::new(&invocation, parsed).file.unwrap();
        let applied = Cell::new(0);
        let apply = |_: &ArgMatches| {
            applied.set(applied.get() + 1);
            Ok(())
        };
        file.check(&invocation, &apply);
        file.check(&invocation, &apply);
        assert_eq!(applied.get(), 1);
        let filter = |setting: &&EffectiveSetting| setting.path == "log.filter";
        let filter = file.settings.iter().find(filter).unwrap();
        assert_eq!(filter.value.as_deref(), Some("debug"));
    }
}
