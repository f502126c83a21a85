use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::*;

fn fake(folder: &Path, name: &str, version: &str) {
    std::fs::create_dir_all(folder).unwrap();
    let path = folder.join(name);
    std::fs::write(&path, format!("#!/bin/sh\necho '{version}'\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

fn toolbox(tools: &Path, path: &Path, cache: &Path) -> Toolbox {
    Toolbox::new(Options {
        tools_dir: Some(tools.to_owned()),
        path: Some(path.as_os_str().to_owned()),
        cache: Some(cache.to_owned()),
    })
}

#[tokio::test]
async fn the_explicit_directory_wins_over_path_and_path_over_the_cache() {
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| folder.path().join(name);
    let tools = toolbox(&place("tools"), &place("path"), &place("cache"));
    fake(&place("cache/helm/4.1.4"), "helm", "v4.1.4");
    assert_eq!(tools.find(Tool::Helm).await.unwrap().source, Source::Cache);
    fake(&place("path"), "helm", "v3.19.0+g1234");
    assert_eq!(tools.find(Tool::Helm).await.unwrap().version.to_string(), "3.19.0");
    fake(&place("tools"), "helm", "version v4.0.1");
    assert_eq!(tools.find(Tool::Helm).await.unwrap().source, Source::Directory);
}

#[tokio::test]
async fn a_program_of_the_cache_is_not_run_to_learn_its_version() {
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| folder.path().join(name);
    fake(&place("cache/helm/4.1.4"), "helm", "v9.9.9");
    let found = toolbox(&place("tools"), &place("path"), &place("cache")).find(Tool::Helm).await.unwrap();
    assert_eq!(found.version, Tool::Helm.pinned().unwrap());
}

#[tokio::test]
async fn a_program_without_a_version_counts_in_the_tools_directory_only() {
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| folder.path().join(name);
    let tools = toolbox(&place("tools"), &place("path"), &place("cache"));
    fake(&place("path"), "kustomize-controller", "v9.9.9");
    assert!(tools.find(Tool::KustomizeController).await.is_err());
    fake(&place("tools"), "kustomize-controller", "");
    let found = tools.find(Tool::KustomizeController).await.unwrap();
    assert_eq!((found.source, found.version), (Source::Directory, Tool::KustomizeController.pinned().unwrap()));
}

#[tokio::test]
async fn a_helm_that_is_too_old_is_refused_with_both_versions() {
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| folder.path().join(name);
    fake(&place("path"), "helm", "v3.12.3");
    let error = toolbox(&place("tools"), &place("path"), &place("cache")).find(Tool::Helm).await.unwrap_err();
    let text = error.to_string();
    assert!(text.contains("helm 3.12.3") && text.contains("3.18.0 or newer is required"), "{text}");
}

#[tokio::test]
async fn a_missing_tool_is_reported_with_the_folders_that_were_searched() {
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| folder.path().join(name);
    let error = toolbox(&place("tools"), &place("path"), &place("cache")).find(Tool::Op).await.unwrap_err();
    let text = error.to_string();
    assert!(text.starts_with("op was not found") && text.contains("/tools, PATH, "), "{text}");
}

#[tokio::test]
async fn a_tool_that_is_not_installed_is_built_once_and_found_afterwards() {
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| folder.path().join(name);
    let tools = toolbox(&place("tools"), &place("path"), &place("cache"));
    let found = tools.provide(Tool::AgeKeygen, &|_| {}).await.unwrap();
    assert_eq!(found.source, Source::Build);
    assert_eq!(tools.find(Tool::AgeKeygen).await.unwrap().version, Tool::AgeKeygen.pinned().unwrap());
}
