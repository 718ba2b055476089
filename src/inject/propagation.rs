//! Annotations that a workload's template inherits, and the pod that is planned for a template.

use std::borrow::Cow;

use serde_json::Value;

use super::objects::{ManifestObject, PropagatedField, dotted, value_at};
use super::template_site::{TemplateForm, TemplateSite};
use injection::PlanTarget;

/// An object whose template has what it inherits.
pub(crate) struct Propagated<'v> {
    pub fields: Vec<PropagatedField>,
    pub value: Cow<'v, Value>,
}

impl<'v> Propagated<'v> {
    /// Adds to a template what it inherits from the workload's metadata.
    ///
    /// # Errors
    /// Sentence about metadata that cannot be read.
    pub(crate) fn of(object: &ManifestObject<'v>, site: &TemplateSite) -> Result<Self, String> {
        let fields = object.propagated(site)?;
        let mut value = Cow::Borrowed(object.value());
        if !fields.is_empty() {
            json_patch::patch(value.to_mut(), &propagation_patch(&[], &fields))
                .expect("the fields were propagated for this object");
        }
        Ok(Self { fields, value })
    }
}

/// Kind of object that is planned for.
pub(crate) fn target_of(site: &TemplateSite) -> PlanTarget {
    match site.form {
        TemplateForm::Pod => PlanTarget::Pod,
        TemplateForm::Template | TemplateForm::Argo(_) => PlanTarget::Manifest,
    }
}

/// Patch with the fields that are propagated to a workload's template, for a workload at `root`.
pub(super) fn propagation_patch(
    root: &[&str],
    propagated: &[PropagatedField],
) -> json_patch::Patch {
    let add = |PropagatedField { path, name, value }: &PropagatedField| {
        let tokens = root
            .iter()
            .copied()
            .chain(path.iter().copied())
            .chain([name.as_str()]);
        let path = json_patch::jsonptr::PointerBuf::from_tokens(tokens);
        json_patch::PatchOperation::Add(json_patch::AddOperation {
            path,
            value: value.clone(),
        })
    };
    json_patch::Patch(propagated.iter().map(add).collect())
}

/// Path of a template, and its name if it has one, after a comma; empty for the usual template of the kind.
pub(crate) fn site_title(object: &ManifestObject<'_>, site: &TemplateSite) -> String {
    if object.is_main_template(site) {
        return String::new();
    }
    let name = match &site.form {
        TemplateForm::Pod | TemplateForm::Template => None,
        TemplateForm::Argo(_) => object
            .at(&site.path)
            .and_then(|template| value_at(template, &["name"])?.as_str()),
    };
    let path = dotted(&site.path);
    match name {
        Some(name) => format!(", {path} \"{name}\""),
        None => format!(", {path}"),
    }
}
