//! The artifact of the repository: what source-controller would store of the working tree (source-controller 1.7.4).

mod encrypted;
mod server;

use std::io;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use ignore::WalkBuilder;
use ignore::overrides::{Override, OverrideBuilder};
use sha2::{Digest, Sha256};

use crate::spec::{EncryptedFiles, WorkingTree};

pub(super) use server::ArtifactServer;

/// What source-controller leaves out by default (`sourceignore` of fluxcd/pkg 0.15).
const EXCLUDED: [&str; 24] = [
    ".git/",
    ".gitignore",
    ".gitmodules",
    ".gitattributes",
    "*.jpg",
    "*.jpeg",
    "*.gif",
    "*.png",
    "*.wmv",
    "*.flv",
    "*.tar.gz",
    "*.zip",
    ".github/",
    ".circleci/",
    ".travis.yml",
    ".gitlab-ci.yml",
    "appveyor.yml",
    ".drone.yml",
    "cloudbuild.yaml",
    "codeship-services.yml",
    "codeship-steps.yml",
    "**/.goreleaser.yml",
    "**/.sops.yaml",
    "**/.flux.yaml",
];
/// Further patterns of a repository, in the format of `.gitignore`.
const IGNORE_FILE: &str = ".sourceignore";
/// Of all files, in bytes: manifests need far less.
const LARGEST_TREE: u64 = 256 << 20;

/// Why the working tree cannot be packed.
#[derive(Debug, thiserror::Error)]
pub(super) enum ArtifactError {
    #[error("cannot read the working tree")]
    Walk(#[from] ignore::Error),
    #[error("cannot read {}", .path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("the working tree has more than {} MiB, {} is where that was reached", LARGEST_TREE >> 20, .path.display())]
    TooLarge { path: PathBuf },
    #[error("cannot pack the working tree")]
    Pack(#[source] io::Error),
    #[error("cannot serve the working tree")]
    Serve(#[source] io::Error),
}

/// The working tree as `tar.gz`.
#[derive(Debug, Clone)]
pub(super) struct Artifact {
    pub(super) content: Vec<u8>,
    pub(super) files: usize,
    /// Files whose encrypted values were replaced, relative to the root.
    pub(super) replaced: Vec<PathBuf>,
}

impl Artifact {
    /// Packs the files that git would commit and source-controller would keep. Links are left out, as source-controller
    /// does.
    pub(super) fn pack(tree: &WorkingTree) -> Result<Self, ArtifactError> {
        let gzip = GzEncoder::new(Vec::new(), Compression::fast());
        let mut archive = tar::Builder::new(gzip);
        let (mut files, mut replaced, mut size) = (0, Vec::new(), 0);
        for path in files_of(&tree.root)? {
            let read = |source| ArtifactError::Read { path: path.clone(), source };
            let mut content = std::fs::read(&path).map_err(read)?;
            size += content.len() as u64;
            if size > LARGEST_TREE {
                return Err(ArtifactError::TooLarge { path });
            }
            let name = path.strip_prefix(&tree.root).unwrap_or(&path);
            if tree.encrypted == EncryptedFiles::Placeholders
                && let Some(plain) = encrypted::with_placeholders(name, &content)
            {
                content = plain.into_bytes();
                replaced.push(name.to_owned());
            }
            append(&mut archive, name, &content).map_err(ArtifactError::Pack)?;
            files += 1;
        }
        let content = archive.into_inner().and_then(GzEncoder::finish).map_err(ArtifactError::Pack)?;
        Ok(Self { content, files, replaced })
    }

    /// Of the content, as `sha256:HEX`.
    pub(super) fn digest(&self) -> String {
        format!("sha256:{}", hex(&Sha256::digest(&self.content)))
    }

    /// As source-controller writes a commit of `reference`. The commit is made up from the content.
    pub(super) fn revision(&self, reference: &str) -> String {
        let commit: String = hex(&Sha256::digest(&self.content)).chars().take(40).collect();
        format!("{reference}@sha1:{commit}")
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The regular files to pack, in a stable order.
fn files_of(root: &Path) -> Result<Vec<PathBuf>, ArtifactError> {
    let walk = WalkBuilder::new(root)
        .standard_filters(false)
        .git_ignore(true)
        .git_exclude(true)
        .require_git(false)
        .add_custom_ignore_filename(IGNORE_FILE)
        .overrides(excluded(root)?)
        .sort_by_file_name(std::cmp::Ord::cmp)
        .build();
    let mut files = Vec::new();
    for entry in walk {
        let entry = entry?;
        if entry.file_type().is_some_and(|kind| kind.is_file()) {
            files.push(entry.into_path());
        }
    }
    Ok(files)
}

fn excluded(root: &Path) -> Result<Override, ignore::Error> {
    let mut overrides = OverrideBuilder::new(root);
    for pattern in EXCLUDED {
        overrides.add(&format!("!{pattern}"))?;
    }
    overrides.build()
}

fn append<W: io::Write>(archive: &mut tar::Builder<W>, name: &Path, content: &[u8]) -> io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    archive.append_data(&mut header, name, content)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::io::Read;

    use super::*;

    fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        folder
    }

    fn unpacked(artifact: &Artifact) -> BTreeMap<String, String> {
        let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(artifact.content.as_slice()));
        let read = |entry: io::Result<tar::Entry<_>>| {
            let mut entry = entry.unwrap();
            let name = entry.path().unwrap().display().to_string();
            let mut text = String::new();
            entry.read_to_string(&mut text).unwrap();
            (name, text)
        };
        archive.entries().unwrap().map(read).collect()
    }

    fn pack(folder: &tempfile::TempDir, encrypted: EncryptedFiles) -> Artifact {
        Artifact::pack(&WorkingTree { root: folder.path().to_owned(), encrypted }).unwrap()
    }

    #[test]
    fn what_git_and_source_controller_leave_out_is_not_packed() {
        let folder = tree(&[
            (".gitignore", "/target\n"),
            (".sourceignore", "docs/\n"),
            (".git/HEAD", "ref: refs/heads/main\n"),
            (".sops.yaml", "{}"),
            (".github/workflows/a.yaml", "{}"),
            ("target/debug/program", "x"),
            ("docs/page.md", "x"),
            ("picture.png", "x"),
            (".hidden/kustomization.yaml", "resources: []\n"),
            ("clusters/infra/kustomization.yaml", "resources: []\n"),
        ]);
        let found = unpacked(&pack(&folder, EncryptedFiles::Keep));
        let names: Vec<&str> = found.keys().map(String::as_str).collect();
        assert_eq!(names, [".hidden/kustomization.yaml", ".sourceignore", "clusters/infra/kustomization.yaml"]);
        assert_eq!(found["clusters/infra/kustomization.yaml"], "resources: []\n");
    }

    #[test]
    fn the_same_tree_gives_the_same_artifact_and_another_another() {
        let one = tree(&[("a.yaml", "a: 1\n"), ("b/c.yaml", "b: 2\n")]);
        let artifact = pack(&one, EncryptedFiles::Keep);
        assert_eq!(artifact.digest(), pack(&one, EncryptedFiles::Keep).digest());
        std::fs::write(one.path().join("a.yaml"), "a: 2\n").unwrap();
        let changed = pack(&one, EncryptedFiles::Keep);
        assert_ne!(artifact.digest(), changed.digest());
        let revision = changed.revision("refs/heads/main");
        let (reference, commit) = revision.split_once("@sha1:").unwrap();
        assert_eq!((reference, commit.len()), ("refs/heads/main", 40));
    }

    #[test]
    fn encrypted_values_become_placeholders_only_where_asked() {
        let text = "a: ENC[AES256_GCM,data:eA==,iv:eA==,tag:eA==,type:str]\nsops:\n  mac: ENC[AES256_GCM,data:eA==,iv:eA==,tag:eA==,type:str]\n  version: 3.13.0\n";
        let folder = tree(&[("secret.sops.yaml", text), ("plain.yaml", "a: b\n")]);
        let kept = pack(&folder, EncryptedFiles::Keep);
        assert_eq!((unpacked(&kept)["secret.sops.yaml"].as_str(), kept.replaced.len()), (text, 0));
        let replaced = pack(&folder, EncryptedFiles::Placeholders);
        assert_eq!(replaced.replaced, [PathBuf::from("secret.sops.yaml")]);
        assert!(unpacked(&replaced)["secret.sops.yaml"].contains("placeholder"));
    }
}
