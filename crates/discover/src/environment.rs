//! The variables that the tools around a repository (mise, task, direnv, just) give to whatever is started in it.
//!
//! On a fresh laptop none of these tools is active. Only what is written in their files is read: a value that has to be
//! computed is left out. Facts: mise 2026 "Environments", task 3 "Environment variables", direnv 2.37 stdlib, just 1.4x
//! "Export".

use std::path::{Path, PathBuf};

use crate::recipe_environment::RecipeEnvironment;
use crate::{Variables, direnv, just, mise, task};

/// With any of these, the environment itself says where SOPS finds its key (SOPS 3.11).
const SOPS_KEY_VARIABLES: [&str; 4] =
    ["SOPS_AGE_KEY", SOPS_KEY_FILE, "SOPS_AGE_KEY_CMD", "SOPS_AGE_SSH_PRIVATE_KEY_FILE"];
const SOPS_KEY_FILE: &str = "SOPS_AGE_KEY_FILE";

/// The variables that the repository at `root` sets for its recipes and that `own`, our environment, lacks.
pub fn recipe_environment(root: &Path, own: &Variables) -> Variables {
    let mut environment = RecipeEnvironment::new(root, own);
    just::read(&mut environment);
    task::read(&mut environment);
    direnv::read(&mut environment);
    mise::read(&mut environment);
    let mut set = environment.into_set();
    set.retain(|name, _| !own.contains_key(name));
    set
}

/// The values among such variables that are secrets by their names.
pub fn secret_values(variables: &Variables) -> impl Iterator<Item = &str> {
    let is_secret =
        |name: &str| ["SECRET", "TOKEN", "PASS"].iter().any(|word| name.to_ascii_uppercase().contains(word));
    variables.iter().filter(move |(name, _)| is_secret(name)).map(|(_, value)| value.as_str())
}

/// The file of SOPS's age keys that the repository's tools name; none where our own environment names a key, or where
/// that file does not exist.
pub fn sops_key_file(root: &Path, own: &Variables) -> Option<PathBuf> {
    if SOPS_KEY_VARIABLES.iter().any(|name| own.contains_key(*name)) {
        return None;
    }
    let file = root.join(recipe_environment(root, own).get(SOPS_KEY_FILE)?);
    file.is_file().then_some(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(files: &[(&str, &str)], own: &[(&str, &str)]) -> (Vec<String>, Option<PathBuf>) {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let own = own.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let folder = root.path().display().to_string();
        let all = recipe_environment(root.path(), &own).into_iter();
        let all = all.map(|(name, value)| format!("{name}={}", value.replace(&folder, "/repo"))).collect();
        let key = sops_key_file(root.path(), &own);
        (all, key.map(|key| Path::new("/repo").join(key.strip_prefix(root.path()).unwrap())))
    }

    #[test]
    fn mise_sets_variables_and_reads_files() {
        let config = "[env]\nSOPS_AGE_KEY_FILE = \"{{ config_root }}/age.key\"\nN = 3\nV = { value = \"x\" }\nW = false\n\
                      P = \"{{ env.HOME }}/p\"\nQ = \"{{ exec(command='date') }}\"\n_.file = [\"a.env\", { path = \"{{config_root}}/b.env\" }, \"no.env\"]\n";
        let files =
            [(".mise.toml", config), ("a.env", "TALOS_VERSION=v1\nA=a\n"), ("b.env", "A=b # c\n"), ("age.key", "")];
        let (all, key) = read(&files, &[("HOME", "/home/o"), ("TALOS_VERSION", "v2")]);
        assert_eq!(all, ["A=b", "N=3", "P=/home/o/p", "SOPS_AGE_KEY_FILE=/repo/age.key", "V=x"]);
        assert_eq!(key, Some("/repo/age.key".into()));
        let secret = Variables::from([("API_TOKEN".to_owned(), "t".to_owned()), ("ZONE".to_owned(), "z".to_owned())]);
        assert_eq!(secret_values(&secret).collect::<Vec<_>>(), ["t"]);
        let (_, key) = read(&files, &[("SOPS_AGE_KEY", "AGE-SECRET-KEY-1")]);
        assert_eq!(key, None);
        assert_eq!(read(&files[..3], &[]).1, None);
    }

    #[test]
    fn task_sets_variables_out_of_its_own() {
        let tasks = "vars:\n  DIR: '{{.ROOT_DIR}}/kubernetes'\n  NOW: {sh: date}\nenv:\n  KUBECONFIG: '{{.DIR}}/kubeconfig'\n  \
                     WHEN: '{{.NOW}}'\ndotenv: ['{{.DIR}}/versions.env', '.env']\n";
        let files = [("Taskfile.yaml", tasks), ("kubernetes/versions.env", "V=1\n"), (".env", "V=2\nW=2\n")];
        assert_eq!(read(&files, &[]).0, ["KUBECONFIG=/repo/kubernetes/kubeconfig", "V=1", "W=2"]);
    }

    #[test]
    fn direnv_and_just_set_variables() {
        let envrc = "#shellcheck disable=SC2148\nexport SOPS_AGE_KEY_FILE=\"$(expand_path ./age.key)\"\nPATH_add .bin\n\
                     export A=$PWD/a # b\nexport B='$A'\nexport C=\"$(date)\"\nexport D=\"${A}/d\"\ndotenv_if_exists more.env\n";
        let just = "set quiet\nexport J := justfile_directory() / \"j\"\nexport K := \"k\"\nexport L := `date`\nexport M := \"{{x}}\"\n";
        let files = [(".envrc", envrc), (".justfile", just), ("more.env", "E=e\n"), ("age.key", "")];
        let (all, key) = read(&files, &[]);
        let expected =
            ["A=/repo/a", "B=$A", "D=/repo/a/d", "E=e", "J=/repo/j", "K=k", "SOPS_AGE_KEY_FILE=/repo/age.key"];
        assert_eq!(all, expected);
        assert_eq!(key, Some("/repo/age.key".into()));
    }
}
