//! What a hook's command means: the two common idioms are carried out natively, with a gate and an explanation.

use std::path::PathBuf;

use helmfile::Hook;

/// What a hook's command does, as far as it is recognised.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Command {
    /// `kubectl wait … crd/NAME` and `until kubectl get crd NAME; do sleep …; done`.
    WaitCrds(Vec<String>),
    /// `kubectl apply --server-side` of `-f FILE`, `-f ADDRESS` or `-k FOLDER`.
    Apply {
        files: Vec<PathBuf>,
        urls: Vec<String>,
        kustomizations: Vec<PathBuf>,
        field_manager: String,
        force: bool,
        namespace: Option<String>,
    },
    /// Anything else, run as a process.
    Process,
}

/// kubectl's field manager by default (Kubernetes 1.35 `kubectl apply --server-side`).
const KUBECTL: &str = "kubectl";

/// Recognises what a hook does; a command that is not understood to its last argument runs as a process.
pub(super) fn recognise(hook: &Hook) -> Command {
    let all: Vec<&str> = hook.args.iter().map(String::as_str).collect();
    let arguments = without_context(&all);
    let action = match (program(&hook.command), arguments.as_slice()) {
        ("kubectl", ["wait", rest @ ..]) => wait(rest),
        ("kubectl", ["apply", rest @ ..]) => apply(hook, rest),
        ("sh" | "bash", ["-c" | "-ec" | "-euc", script]) => waiting_loop(script),
        _ => None,
    };
    action.unwrap_or(Command::Process)
}

/// Drops `--context`, which recipes set: there is only this cluster.
fn without_context<'a>(arguments: &[&'a str]) -> Vec<&'a str> {
    let mut kept = Vec::new();
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        if flag(&["--context"], argument, &mut rest).is_none() {
            kept.push(*argument);
        }
    }
    kept
}

fn program(command: &str) -> &str {
    command.rsplit('/').next().unwrap_or(command)
}

/// The value of `--name value` or `--name=value`, when this argument is that flag.
fn flag<'a>(names: &[&str], argument: &'a str, rest: &mut std::slice::Iter<'_, &'a str>) -> Option<&'a str> {
    for name in names {
        if argument == *name {
            return rest.next().copied();
        }
        if let Some(value) = argument.strip_prefix(name).and_then(|tail| tail.strip_prefix('=')) {
            return Some(value);
        }
    }
    None
}

fn crd_name(argument: &str) -> Option<String> {
    let (kind, name) = argument.split_once('/')?;
    let is_crd = matches!(
        kind.to_ascii_lowercase().as_str(),
        "crd"
            | "crds"
            | "customresourcedefinition"
            | "customresourcedefinitions"
            | "customresourcedefinition.apiextensions.k8s.io"
    );
    (is_crd && !name.is_empty()).then(|| name.to_owned())
}

fn wait(arguments: &[&str]) -> Option<Command> {
    let mut names = Vec::new();
    let mut rest = arguments.iter();
    let mut plain_kind = false;
    while let Some(argument) = rest.next() {
        if let Some(condition) = flag(&["--for"], argument, &mut rest) {
            let known = condition == "create" || condition.to_ascii_lowercase().starts_with("condition=established");
            if !known {
                return None;
            }
        } else if flag(&["--timeout"], argument, &mut rest).is_some() {
            // The step has a deadline of its own.
        } else if matches!(*argument, "crd" | "crds" | "customresourcedefinition" | "customresourcedefinitions") {
            plain_kind = true;
        } else if let Some(name) = crd_name(argument) {
            names.push(name);
        } else if plain_kind && !argument.starts_with('-') {
            names.push((*argument).to_owned());
        } else {
            return None;
        }
    }
    (!names.is_empty()).then_some(Command::WaitCrds(names))
}

fn apply(hook: &Hook, arguments: &[&str]) -> Option<Command> {
    let (mut files, mut urls, mut kustomizations) = (Vec::new(), Vec::new(), Vec::new());
    let (mut server_side, mut force) = (false, false);
    let (mut field_manager, mut namespace) = (KUBECTL.to_owned(), None);
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        if let Some(file) = flag(&["-f", "--filename"], argument, &mut rest) {
            match file.split_once("://") {
                Some(("https" | "http", _)) => urls.push(file.to_owned()),
                Some(_) => return None,
                None if file == "-" => return None,
                None => files.push(hook.folder.join(file)),
            }
        } else if let Some(folder) = flag(&["-k", "--kustomize"], argument, &mut rest) {
            if folder.contains("://") {
                return None;
            }
            kustomizations.push(hook.folder.join(folder));
        } else if let Some(manager) = flag(&["--field-manager"], argument, &mut rest) {
            manager.clone_into(&mut field_manager);
        } else if let Some(name) = flag(&["-n", "--namespace"], argument, &mut rest) {
            namespace = Some(name.to_owned());
        } else {
            match *argument {
                "--server-side" | "--server-side=true" => server_side = true,
                "--force-conflicts" | "--force-conflicts=true" => force = true,
                "--wait" | "--wait=true" | "--validate=false" => {}
                _ => return None,
            }
        }
    }
    let is_native = server_side && !(files.is_empty() && urls.is_empty() && kustomizations.is_empty());
    is_native.then_some(Command::Apply { files, urls, kustomizations, field_manager, force, namespace })
}

/// `until kubectl get crd A B …; do sleep N; done`, with any redirection behind the names.
fn waiting_loop(script: &str) -> Option<Command> {
    let pattern = lazy_regex::regex!(
        r"^\s*until\s+kubectl\s+(?:--context[=\s]\S+\s+)?get\s+(?:crds?|customresourcedefinitions?)[/\s]\s*([a-z0-9.\-\s]+?)\s*(?:&?>\s*/dev/null|[12]?>\s*/dev/null|2>&1|\s)*;\s*do\s+sleep\s+[0-9.]+s?\s*;?\s*done\s*;?\s*$"
    );
    let names: Vec<String> = pattern.captures(script)?.get(1)?.as_str().split_whitespace().map(str::to_owned).collect();
    (!names.is_empty()).then_some(Command::WaitCrds(names))
}

#[cfg(test)]
mod tests {
    use super::*;
    use helmfile::HookEvent;
    use yaml::{Origin, Position};

    fn hook(command: &str, args: &[&str]) -> Hook {
        Hook {
            events: vec![HookEvent::Postsync],
            command: command.to_owned(),
            args: args.iter().map(|arg| (*arg).to_owned()).collect(),
            show_logs: true,
            folder: PathBuf::from("/repository/bootstrap"),
            at: Origin::new("01-apps.yaml").at(Position::default()),
        }
    }

    #[test]
    fn waits_for_crds_are_recognised_in_both_spellings() {
        let crds = |names: &[&str]| Command::WaitCrds(names.iter().map(|name| (*name).to_owned()).collect());
        let wait = hook("kubectl", &["wait", "--for=create", "crd/a.cilium.io", "crd/b.cilium.io", "--timeout=120s"]);
        assert_eq!(recognise(&wait), crds(&["a.cilium.io", "b.cilium.io"]));
        let wait = hook("/usr/bin/kubectl", &["wait", "crd", "a.cilium.io", "--for", "condition=established"]);
        assert_eq!(recognise(&wait), crds(&["a.cilium.io"]));
        let until = "until kubectl get crd a.cilium.io b.cilium.io &>/dev/null; do sleep 10; done";
        assert_eq!(recognise(&hook("bash", &["-c", until])), crds(&["a.cilium.io", "b.cilium.io"]));
        let until = "until kubectl get crd a.cilium.io >/dev/null 2>&1; do sleep 2; done";
        assert_eq!(recognise(&hook("sh", &["-c", until])), crds(&["a.cilium.io"]));
    }

    #[test]
    fn the_context_makes_no_difference() {
        let names = Command::WaitCrds(vec!["a.cilium.io".into()]);
        let hooks = [
            hook("kubectl", &["--context=home", "wait", "--for=create", "crd/a.cilium.io"]),
            hook("kubectl", &["wait", "--context", "home", "--for=create", "crd/a.cilium.io"]),
            hook("bash", &["-c", "until kubectl --context=home get crd a.cilium.io &>/dev/null; do sleep 5; done"]),
        ];
        assert_eq!(hooks.map(|hook| recognise(&hook)), [names.clone(), names.clone(), names]);
    }

    #[test]
    fn a_server_side_apply_is_recognised_with_its_manager_and_its_path() {
        let args = [
            "apply",
            "--server-side",
            "--field-manager=kustomize-controller",
            "-f",
            "../config/bgp.yaml",
            "--filename=https://example.org/crds.yaml",
            "--force-conflicts",
        ];
        assert_eq!(
            recognise(&hook("kubectl", &args)),
            Command::Apply {
                files: vec![PathBuf::from("/repository/bootstrap/../config/bgp.yaml")],
                urls: vec!["https://example.org/crds.yaml".to_owned()],
                kustomizations: vec![],
                field_manager: "kustomize-controller".to_owned(),
                force: true,
                namespace: None,
            }
        );
    }

    #[test]
    fn a_kustomization_is_applied_as_its_files_are() {
        let Command::Apply { kustomizations, files, .. } =
            recognise(&hook("kubectl", &["apply", "--server-side", "--kustomize=../config"]))
        else {
            panic!("not recognised")
        };
        assert_eq!((kustomizations, files), (vec![PathBuf::from("/repository/bootstrap/../config")], vec![]));
    }

    #[test]
    fn what_is_not_understood_in_full_runs_as_a_process() {
        for args in [
            &["wait", "--for=condition=Ready", "pod/x"][..],
            &["apply", "-f", "x.yaml"],
            &["apply", "-k", "config"],
            &["apply", "--server-side", "-k", "https://example.org/config"],
            &["apply", "--server-side", "-f", "-"],
            &["apply", "--server-side", "--prune", "-f", "x.yaml"],
            &["delete", "crd/a"],
        ] {
            assert_eq!(recognise(&hook("kubectl", args)), Command::Process, "{args:?}");
        }
        let script = "until kubectl get crd a; do sleep 1; done; kubectl delete ns x";
        assert_eq!(recognise(&hook("sh", &["-c", script])), Command::Process);
    }
}
