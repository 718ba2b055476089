//! Forms of the output: the profile, and the annotations for everything that can have them.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use injection::ENABLED_LABEL;

use super::plan::Compiled;
use super::request::OutputForm;

/// Annotations of one plugin, by their full names.
pub(crate) type AnnotationSet = BTreeMap<String, String>;

/// First line of every file but the profile's, which is made by the planner alone.
const HEADER: &str = "# Written by floe-secrets-webhook compile. Change the manifest instead.\n";

/// Plugin whose settings become the profile.
pub(crate) const PROFILE_PLUGIN: &str = "compute";

/// Forms of annotations, with the names of their files.
const ANNOTATION_FILES: [(OutputForm, &str); 5] = [
    (OutputForm::Annotations, "annotations.yaml"),
    (OutputForm::Patch, "patch.yaml"),
    (OutputForm::Kustomize, "kustomization.yaml"),
    (OutputForm::Namespace, "namespace.yaml"),
    (OutputForm::Serviceaccount, "serviceaccount.yaml"),
];

pub(crate) const PROFILE_FILE: &str = "profiles.yml";

/// Text of one form. `set` is the annotations of the plugin that it is about.
pub(crate) fn render(form: OutputForm, compiled: &Compiled, set: &AnnotationSet) -> String {
    let (label, enabled) = ENABLED_LABEL;
    match form {
        OutputForm::Profile => compiled.profile.clone(),
        OutputForm::Annotations => format!("{HEADER}{}", map(set, 0)),
        OutputForm::Patch => format!(
            "{HEADER}# kubectl patch KIND NAME --patch-file FILE, for kinds whose pod template is spec.template.\n{}",
            template_patch(&["spec", "template", "metadata", "annotations"], set)
        ),
        OutputForm::Kustomize => component(set),
        OutputForm::Namespace => {
            let mut text = format!(
                "{HEADER}# kubectl patch namespace NAME --patch-file FILE\nmetadata:\n  labels:\n    {label}: {enabled}\n  annotations:"
            );
            text.push_str(&below(set, 4));
            text
        }
        OutputForm::Serviceaccount => {
            let mut text = format!(
                "{HEADER}# kubectl patch serviceaccount NAME --patch-file FILE\n# It has an effect in namespaces with the label {label}={enabled}.\nmetadata:\n  annotations:"
            );
            text.push_str(&below(set, 4));
            text
        }
    }
}

/// Annotations of a plugin; without a name, those of the profile. A plugin without references has none.
pub(crate) fn set_of<'c>(compiled: &'c Compiled, plugin: Option<&str>) -> &'c AnnotationSet {
    static EMPTY: AnnotationSet = AnnotationSet::new();
    match plugin {
        Some(plugin) if plugin != PROFILE_PLUGIN => compiled
            .plugins
            .get(plugin)
            .map_or(&EMPTY, |output| &output.annotations),
        _ => &compiled.annotations,
    }
}

/// Files of a run into a folder, by name: those of the profile's plugin, and with `others` of all plugins.
pub(crate) fn files(compiled: &Compiled, others: bool) -> BTreeMap<String, String> {
    let mut files = BTreeMap::new();
    files.insert(PROFILE_FILE.to_owned(), compiled.profile.clone());
    for (form, name) in ANNOTATION_FILES {
        let text = render(form, compiled, &compiled.annotations);
        files.insert(name.to_owned(), text);
    }
    let plugins = compiled.plugins.iter();
    let injected = plugins.filter(|(_, output)| others && !output.annotations.is_empty());
    for (category, output) in injected {
        let text = render(OutputForm::Annotations, compiled, &output.annotations);
        files.insert(plugin_file(category), text);
    }
    files
}

/// File with the annotations of another plugin than compute.
pub(crate) fn plugin_file(category: &str) -> String {
    format!("annotations-{category}.yaml")
}

/// Component with a patch for each shape of a workload.
fn component(set: &AnnotationSet) -> String {
    let template = ["spec", "template", "metadata", "annotations"];
    let job_template = [
        "spec",
        "jobTemplate",
        "spec",
        "template",
        "metadata",
        "annotations",
    ];
    let mut text = format!(
        "{HEADER}# components: [PATH OF THIS FOLDER], in the kustomization that has the workloads.\napiVersion: kustomize.config.k8s.io/v1alpha1\nkind: Component\n"
    );
    if set.is_empty() {
        return text;
    }
    text.push_str("patches:\n");
    for (kinds, path) in [
        ("Deployment|StatefulSet|DaemonSet|Job", &template[..]),
        ("CronJob", &job_template[..]),
    ] {
        // The kind and the name of a patch with a target are not compared with anything, but have to be there.
        let kind = kinds.split('|').next().unwrap_or_default();
        let patch = format!(
            "apiVersion: v1\nkind: {kind}\nmetadata:\n  name: any\n{}",
            template_patch(path, set)
        );
        let _ = write!(text, "- target:\n    kind: {kinds}\n  patch: |-\n");
        for line in patch.lines() {
            let _ = writeln!(text, "    {line}");
        }
    }
    text
}

/// Annotations below a path of maps.
fn template_patch(path: &[&str], set: &AnnotationSet) -> String {
    let mut text = String::new();
    for (depth, field) in path.iter().enumerate() {
        let _ = write!(text, "{:1$}{field}:", "", 2 * depth);
        if depth + 1 < path.len() {
            text.push('\n');
        }
    }
    text.push_str(&below(set, 2 * path.len()));
    text
}

/// Map as the value of a field whose line is written up to its colon.
fn below(set: &AnnotationSet, indent: usize) -> String {
    if set.is_empty() {
        " {}\n".to_owned()
    } else {
        format!("\n{}", map(set, indent))
    }
}

/// Map of texts, every value in double quotes.
fn map(set: &AnnotationSet, indent: usize) -> String {
    if set.is_empty() {
        return "{}\n".to_owned();
    }
    let mut text = String::new();
    for (name, value) in set {
        let _ = writeln!(text, "{:indent$}{name}: {}", "", quoted(value));
    }
    text
}

/// Text in double quotes. Annotations have the characters of names, commas and slashes; anything else is escaped.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\n' => quoted.push_str("\\n"),
            c if c.is_control() || matches!(c, '\u{feff}' | '\u{2028}' | '\u{2029}') => {
                let _ = write!(quoted, "\\U{:08X}", u32::from(c));
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}
