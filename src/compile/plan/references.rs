//! References of plugins that have no profile.

use injection::SecretSource;

use super::draft::Draft;
use crate::compile::adapter::FieldType;
use crate::compile::demand::{Delivery, Demand, Elsewhere};
use crate::compile::model::{ConfigField, ConfigValue};
use crate::finding::Place;

impl Draft<'_> {
    /// Adds a demand for each reference in the config of a plugin that has no profile.
    pub(super) fn references_only(&mut self, fields: &[ConfigField]) {
        for ConfigField { name, value, place } in fields {
            self.references_in(name, value, place);
        }
    }

    fn references_in(&mut self, path: &str, value: &ConfigValue, place: &Place) {
        if self.refuse_long(path, place) {
            return;
        }
        match value {
            ConfigValue::Reference(reference) => {
                let Some(variable) = self.variable_of(reference, place) else {
                    return;
                };
                let place = place.clone();
                if reference.secret.source == SecretSource::Env {
                    self.elsewhere.push(Elsewhere {
                        variable,
                        place,
                        default: false,
                        field_type: FieldType::Text,
                    });
                    return;
                }
                self.demands.push(Demand {
                    variable,
                    reference: reference.clone(),
                    delivery: Delivery::Reference,
                    field: path.to_owned(),
                    field_type: FieldType::Text,
                    place,
                });
            }
            ConfigValue::List(items) => {
                for (index, item) in items.iter().enumerate() {
                    self.references_in(&format!("{path}[{index}]"), &item.value, &item.place);
                }
            }
            ConfigValue::Map(fields) => {
                for ConfigField { name, value, place } in fields {
                    self.references_in(&format!("{path}.{name}"), value, place);
                }
            }
            _ => {}
        }
    }
}
