//! One run of `compile`: reads, plans, checks and writes.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read, Write};
use std::path::Path;

use super::check::{self, FileState};
use super::files::{self, WriteOutcome};
use super::manifest::{self, Diagnostics, ManifestFiles, SourceFile, shown_path};
use super::model::Manifest;
use super::naming;
use super::output::{self, PROFILE_PLUGIN};
use super::plan::{self, Compiled, ConnectionKeys, PlanFailure, PlanOptions};
use super::project::{self, ProjectNames};
use super::report;
use super::request::{CompileExitStatus, CompileRequest, OutputForm};
use super::secrets;
use crate::finding::Rule;

/// Target of a profile for which none is named, as in floe.
const DEFAULT_TARGET: &str = "dev";

/// Writes the output to `out` or into a folder, and messages to `err`.
pub(crate) fn compile(
    request: &CompileRequest,
    stdin: impl Read,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> CompileExitStatus {
    if let Err(message) = check_request(request) {
        report::line(err, format_args!("error: {message}"));
        return CompileExitStatus::Unreadable;
    }
    let mut diagnostics = Diagnostics::default();
    let Some((manifest, names, files)) = read(request, stdin, &mut diagnostics) else {
        report::findings(&diagnostics, err);
        return status_of(&diagnostics);
    };
    // A field that could not be read counts as missing in a plan, and would be reported twice.
    if diagnostics.rules().any(|rule| rule != Rule::LiteralSecret) {
        report::findings(&diagnostics, err);
        return status_of(&diagnostics);
    }
    let (profile, origin) = profile_name(request, &manifest, names);
    let compiled = match plan::plan(&manifest, &options(request, &profile)) {
        Ok(mut compiled) => {
            let warnings = std::mem::take(&mut compiled.warnings);
            diagnostics.extend(files.with_excerpts(warnings));
            check_secrets(request, &compiled, &files, &mut diagnostics);
            Some(compiled)
        }
        Err(PlanFailure::Refused(findings)) => {
            diagnostics.extend(files.with_excerpts(findings));
            None
        }
        Err(PlanFailure::Bug(problem)) => {
            report::line(
                err,
                format_args!("error: a bug: {problem}; please report it. Nothing was written."),
            );
            return CompileExitStatus::Bug;
        }
    };
    report::findings(&diagnostics, err);
    let Some(compiled) = compiled.filter(|_| !diagnostics.has_errors()) else {
        return status_of(&diagnostics);
    };
    if let Some(plugin) = missing_plugin(request, &manifest) {
        report::line(
            err,
            format_args!("error: --plugin {plugin}: the manifest selects no such plugin"),
        );
        return CompileExitStatus::Unreadable;
    }
    report::summary(&profile, &origin, &compiled, err);
    emit(request, &compiled, out, err)
}

/// Checks the secrets that are asked for: their names, and whether they exist.
fn check_secrets(
    request: &CompileRequest,
    compiled: &Compiled,
    files: &ManifestFiles,
    diagnostics: &mut Diagnostics,
) {
    let demands = compiled.all_demands();
    secrets::check(request, &demands, files, diagnostics);
    if let Some(convention) = &request.secret_names {
        let violations = naming::violations(demands, convention);
        diagnostics.extend(files.with_excerpts(violations));
    }
}

/// Checks arguments whose problem a parser of arguments does not see.
fn check_request(request: &CompileRequest) -> Result<(), String> {
    let names = request.targets.iter().chain(&request.target);
    for (flag, name) in names
        .map(|target| ("--targets", target))
        .chain(request.profile.iter().map(|profile| ("--profile", profile)))
    {
        if !plan::is_profile_name(name) {
            return Err(format!(
                "{flag}: a name has letters, digits, '_', '-', '.' and spaces, and at most {} characters",
                plan::MAX_PROFILE_NAME
            ));
        }
    }
    if request.targets.len() > plan::MAX_TARGETS {
        return Err(format!(
            "--targets: more than {} targets",
            plan::MAX_TARGETS
        ));
    }
    if let Some(target) = &request.target
        && !request.targets.is_empty()
        && !request.targets.contains(target)
    {
        return Err(format!("--target {target}: it is not among --targets"));
    }
    let plugin = request.plugin.as_deref().unwrap_or(PROFILE_PLUGIN);
    if request.form == Some(OutputForm::Profile) && plugin != PROFILE_PLUGIN {
        return Err(
            "-o profile: only the compute plugin has a profile; remove --plugin".to_owned(),
        );
    }
    if request.out.is_some() && plugin != PROFILE_PLUGIN {
        return Err(format!(
            "--out: the files there are those of the compute plugin; remove --plugin, and {} has the annotations of this one",
            output::plugin_file(plugin)
        ));
    }
    if request.env_from && request.connection_keys == ConnectionKeys::Field {
        return Err(
            "--env-from: the keys of the Secret are the names of the variables then; remove --connection-keys field"
                .to_owned(),
        );
    }
    Ok(())
}

/// Reads the files; `None` if there is no manifest to plan.
fn read(
    request: &CompileRequest,
    stdin: impl Read,
    diagnostics: &mut Diagnostics,
) -> Option<(Manifest, ProjectNames, ManifestFiles)> {
    let mut stdin = Some(stdin);
    let mut open = |path: &Path| {
        SourceFile::open(path, &mut stdin).map_err(|finding| diagnostics.add(finding))
    };
    let manifest = open(&request.manifest);
    let parent = request.parent.as_deref().map(&mut open).transpose();
    let names = project::read(
        request.spec.as_deref(),
        request.project_dir.as_deref(),
        &mut stdin,
        diagnostics,
    );
    let files = ManifestFiles {
        manifest: manifest.ok()?,
        parent: parent.ok()?,
    };
    let manifest = manifest::read(&files, names.product.as_deref(), diagnostics)?;
    Some((manifest, names, files))
}

/// Name of the profile, and its origin for the summary.
fn profile_name(
    request: &CompileRequest,
    manifest: &Manifest,
    names: ProjectNames,
) -> (String, String) {
    if let Some(profile) = &request.profile {
        return (profile.clone(), "from --profile".to_owned());
    }
    match names.profile {
        Some((profile, file)) => (profile, format!("from {file}")),
        None if names.product.is_some() => {
            (manifest.product.clone(), "the product's name".to_owned())
        }
        None => (
            manifest.product.clone(),
            "the manifest's name, because no --spec is given".to_owned(),
        ),
    }
}

fn options(request: &CompileRequest, profile: &str) -> PlanOptions {
    let mut targets = request.targets.clone();
    let default_target = request
        .target
        .clone()
        .or_else(|| targets.first().cloned())
        .unwrap_or_else(|| DEFAULT_TARGET.to_owned());
    if targets.is_empty() {
        targets.push(default_target.clone());
    }
    PlanOptions {
        profile_name: profile.to_owned(),
        targets,
        default_target,
        connection_keys: request.connection_keys,
        env_from: request.env_from,
        mask: request.mask,
    }
}

/// Status of a run that ends with these findings.
fn status_of(diagnostics: &Diagnostics) -> CompileExitStatus {
    let is_unreadable = |rule| rule == Rule::Unreadable;
    if !diagnostics.has_errors() {
        return CompileExitStatus::Done;
    }
    if diagnostics.rules().any(is_unreadable) {
        CompileExitStatus::Unreadable
    } else {
        CompileExitStatus::Refused
    }
}

fn missing_plugin<'r>(request: &'r CompileRequest, manifest: &Manifest) -> Option<&'r str> {
    let plugin = request.plugin.as_deref()?;
    (!manifest.plugins.contains_key(plugin)).then_some(plugin)
}

fn emit(
    request: &CompileRequest,
    compiled: &Compiled,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> CompileExitStatus {
    let plugin = request.plugin.as_deref();
    if let Some(folder) = &request.out {
        let files = output::files(compiled, plugin.is_none());
        let leftover = leftover_files(folder, plugin, &files);
        return if request.check {
            check_files(folder, &files, &leftover, out, err)
        } else {
            write_files(folder, &files, &leftover, err)
        };
    }
    let is_other = plugin.is_some_and(|plugin| plugin != PROFILE_PLUGIN);
    let form = request.form.unwrap_or(if is_other {
        OutputForm::Annotations
    } else {
        OutputForm::Profile
    });
    let text = output::render(form, compiled, output::set_of(compiled, plugin));
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => CompileExitStatus::Done,
        // A reader that closes the pipe, such as `head`, has read what it needs.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => CompileExitStatus::Done,
        Err(error) => {
            report::line(
                err,
                format_args!("error: standard output cannot be written: {error}"),
            );
            CompileExitStatus::Unreadable
        }
    }
}

/// Files of an earlier run for plugins that have no references any more.
fn leftover_files(
    folder: &Path,
    plugin: Option<&str>,
    files: &BTreeMap<String, String>,
) -> Vec<String> {
    let possible = manifest::CATEGORIES.into_iter().map(output::plugin_file);
    if plugin.is_some() {
        return Vec::new();
    }
    check::leftover(folder, possible, files)
}

/// Writes the files of a run. Files that are current are left alone.
fn write_files(
    folder: &Path,
    files: &BTreeMap<String, String>,
    leftover: &[String],
    err: &mut dyn Write,
) -> CompileExitStatus {
    if let Err(error) = fs::create_dir_all(folder) {
        let folder = shown_path(folder);
        report::line(
            err,
            format_args!("error: {folder}: cannot be created: {error}"),
        );
        return CompileExitStatus::Unreadable;
    }
    for (name, text) in files {
        let path = folder.join(name);
        let shown = shown_path(&path);
        match files::write(&path, text) {
            Ok(WriteOutcome::Unchanged) => report::line(err, format_args!("unchanged {shown}")),
            Ok(WriteOutcome::Written) => report::line(err, format_args!("wrote {shown}")),
            Err(error) => {
                report::line(
                    err,
                    format_args!("error: {shown}: cannot be written: {error}"),
                );
                return CompileExitStatus::Unreadable;
            }
        }
    }
    for name in leftover {
        let shown = shown_path(&folder.join(name));
        report::line(
            err,
            format_args!(
                "warning: {shown}: its plugin has no references any more; remove the file"
            ),
        );
    }
    CompileExitStatus::Done
}

/// Compares the files on disk with those of a run.
fn check_files(
    folder: &Path,
    files: &BTreeMap<String, String>,
    leftover: &[String],
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> CompileExitStatus {
    let mut status = CompileExitStatus::Done;
    for (name, text) in files {
        let path = folder.join(name);
        let shown = shown_path(&path);
        let (stale, message) = match check::compare(&path, &shown, text) {
            Ok(FileState::Current) => continue,
            Ok(FileState::Missing) => (CompileExitStatus::Refused, "is missing".to_owned()),
            Ok(FileState::Stale(diff)) => {
                // A closed standard output leaves the status, which is what a check is for.
                drop(out.write_all(diff.unwrap_or_default().as_bytes()));
                (CompileExitStatus::Refused, "is stale".to_owned())
            }
            Err(problem) => (CompileExitStatus::Unreadable, problem),
        };
        status = status.max(stale);
        report::line(err, format_args!("error: {shown}: {message}"));
    }
    for name in leftover {
        status = status.max(CompileExitStatus::Refused);
        let shown = shown_path(&folder.join(name));
        report::line(
            err,
            format_args!("error: {shown}: its plugin has no references any more; remove the file"),
        );
    }
    if status == CompileExitStatus::Refused {
        report::line(
            err,
            "write the files anew by the same command without --check",
        );
    }
    drop(out.flush());
    status
}
