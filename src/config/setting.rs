//! Settings and sections: names in the file, arguments of commands, types.

use schemars::{Schema, SchemaGenerator};

use super::types::SettingType;
use crate::yaml::Node;

/// Commands that a setting applies to, among those that have its argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AppliesTo {
    Every,
    Only(&'static str),
}

/// A value of the file, which is the default of an argument.
#[derive(Clone, Copy)]
pub(crate) struct Setting {
    /// Name within its section.
    pub name: &'static str,
    /// Identifier of the argument.
    pub argument: &'static str,
    pub applies_to: AppliesTo,
    /// Servers that use a changed value without a restart.
    pub live_in: &'static [&'static str],
    /// Settings that replace each other. A flag or variable for one of them replaces all of the file.
    pub group: Option<&'static str>,
    /// Form of a valid value, as the object of "expected".
    pub form: &'static str,
    /// Converts a value to texts for the argument's parser.
    pub texts: fn(&Node) -> Result<Vec<String>, String>,
    pub schema: fn(&mut SchemaGenerator) -> Schema,
}

impl Setting {
    pub(super) const fn new<T: SettingType>(name: &'static str, argument: &'static str) -> Self {
        Self {
            name,
            argument,
            applies_to: AppliesTo::Every,
            live_in: &[],
            group: None,
            form: T::FORM,
            texts: T::texts,
            schema: T::json_schema,
        }
    }

    /// Limits it to one command; another section has the same argument for another command.
    pub(super) const fn only(mut self, command: &'static str) -> Self {
        self.applies_to = AppliesTo::Only(command);
        self
    }

    pub(super) const fn live(mut self, servers: &'static [&'static str]) -> Self {
        self.live_in = servers;
        self
    }

    pub(super) const fn grouped(mut self, group: &'static str) -> Self {
        self.group = Some(group);
        self
    }

    /// Narrows the form of its type.
    pub(super) const fn expecting(mut self, form: &'static str) -> Self {
        self.form = form;
        self
    }

    /// The setting's argument in a command.
    pub(crate) fn argument_of<'c>(&self, command: &'c clap::Command) -> Option<&'c clap::Arg> {
        let applies = match self.applies_to {
            AppliesTo::Every => true,
            AppliesTo::Only(name) => name == command.get_name(),
        };
        command
            .get_arguments()
            .find(|argument| applies && argument.get_id() == self.argument)
    }
}

/// Settings with a common heading.
#[derive(Clone, Copy)]
pub(crate) struct Section {
    pub name: &'static str,
    /// One sentence for the schema and the documentation.
    pub summary: &'static str,
    pub settings: &'static [Setting],
}

impl Section {
    /// Path of a setting, as in `serve.listen`.
    pub(crate) fn path(&self, setting: &Setting) -> String {
        format!("{}.{}", self.name, setting.name)
    }
}
