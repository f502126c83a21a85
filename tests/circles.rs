//! Modules of one folder use each other in one direction: what A uses does not use A.
//!
//! A folder counts as one module among its siblings. A module and those below it may use each other: a folder's own file
//! holds what its modules share.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use syn::visit::Visit;
use syn::{Attribute, Item, ItemMod, ItemUse, UseTree, Visibility};

/// A module by its path in a crate.
type Module = Vec<String>;

/// Circles that are meant, by crate and folder.
const MEANT: [(&str, &str, &[&str], &str); 5] = [
    ("engine", "journal", &["epoch", "record"], "an epoch is decided by facts of records, and a record begins one"),
    (
        "helm",
        "",
        &["bundle", "chart", "program", "wrap"],
        "a chart comes out of a bundle, and a bundle is made of charts",
    ),
    (
        "process",
        "",
        &["guard", "spawner", "supervisor", "tree"],
        "a supervisor is this program, started again: it guards itself, and ends the tree that it spawned",
    ),
    ("talos-config", "", &["bundle", "pki"], "a bundle is made of keys, and certificates are issued from a bundle"),
    ("template", "", &["execute", "functions", "parse"], "`tpl` and `include` render templates"),
];

/// What the files of a crate mention: per module the paths in `use` items and in code, and what it exports by `pub use`.
#[derive(Default)]
struct Mentioned {
    paths: BTreeMap<Module, Vec<Vec<String>>>,
    exports: BTreeMap<Module, BTreeMap<String, Vec<String>>>,
}

/// Reads one file; modules of tests are left out.
#[derive(Default)]
struct FileReader {
    paths: Vec<Vec<String>>,
    exports: BTreeMap<String, Vec<String>>,
}

impl<'ast> Visit<'ast> for FileReader {
    fn visit_item(&mut self, item: &'ast Item) {
        let attributes: &[Attribute] = match item {
            Item::Mod(ItemMod { attrs, .. }) | Item::Use(ItemUse { attrs, .. }) => attrs,
            _ => &[],
        };
        if !attributes.iter().any(|attribute| attribute.path().is_ident("cfg")) {
            syn::visit::visit_item(self, item);
        }
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        for (path, name) in leaves(&item.tree, &[]) {
            if !matches!(item.vis, Visibility::Inherited) {
                self.exports.insert(name, path.clone());
            }
            self.paths.push(path);
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        self.paths.push(path.segments.iter().map(|segment| segment.ident.to_string()).collect());
        syn::visit::visit_path(self, path);
    }
}

/// The paths of a `use` item, each with the name that it gets here.
fn leaves(tree: &UseTree, before: &[String]) -> Vec<(Vec<String>, String)> {
    let with = |name: &syn::Ident| [before, &[name.to_string()]].concat();
    match tree {
        UseTree::Path(path) => leaves(&path.tree, &with(&path.ident)),
        UseTree::Group(group) => group.items.iter().flat_map(|tree| leaves(tree, before)).collect(),
        UseTree::Glob(_) => vec![(before.to_vec(), String::new())],
        UseTree::Name(name) if name.ident == "self" => {
            vec![(before.to_vec(), before.last().cloned().unwrap_or_default())]
        }
        UseTree::Name(name) => vec![(with(&name.ident), name.ident.to_string())],
        UseTree::Rename(rename) => vec![(with(&rename.ident), rename.rename.to_string())],
    }
}

fn read(folder: &Path, module: &Module, mentioned: &mut Mentioned) {
    for path in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        let stem = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let is_test = stem == "tests" || stem == "test_support";
        if path.is_dir() && !is_test {
            read(&path, &[&module[..], &[stem]].concat(), mentioned);
        } else if path.extension().is_some_and(|ending| ending == "rs") && !is_test {
            let own =
                if ["lib", "main", "mod"].contains(&&*stem) { module.clone() } else { [&module[..], &[stem]].concat() };
            let mut reader = FileReader::default();
            reader.visit_file(&syn::parse_file(&std::fs::read_to_string(&path).unwrap()).unwrap());
            mentioned.paths.entry(own.clone()).or_default().extend(reader.paths);
            mentioned.exports.entry(own).or_default().extend(reader.exports);
        }
    }
}

impl Mentioned {
    /// The module that a path leads to from `module`, through what other modules export.
    fn target(&self, module: &Module, path: &[String]) -> Option<Module> {
        let mut at = self.absolute(module, path)?;
        loop {
            let known = (0..=at.len()).rev().find(|length| self.paths.contains_key(&at[..*length]))?;
            let (found, rest) = (at[..known].to_vec(), at[known..].to_vec());
            let exported = rest.first().and_then(|name| self.exports[&found].get(name));
            match exported.and_then(|path| self.absolute(&found, path)) {
                Some(exported) if exported != at => at = [&exported[..], &rest[1..]].concat(),
                _ => return Some(found),
            }
        }
    }

    /// A path from the root of the crate; nothing for those of other crates.
    fn absolute(&self, module: &Module, path: &[String]) -> Option<Module> {
        let supers = path.iter().take_while(|name| *name == "super").count();
        match path.first()?.as_str() {
            "crate" => Some(path[1..].to_vec()),
            "self" => Some([&module[..], &path[1..]].concat()),
            "super" => Some([&module[..module.len().checked_sub(supers)?], &path[supers..]].concat()),
            name => {
                let child = [&module[..], &[name.to_owned()]].concat();
                self.paths.contains_key(&child).then(|| [&module[..], path].concat())
            }
        }
    }

    /// Which siblings use which, by folder.
    fn siblings(&self) -> BTreeMap<Module, BTreeMap<String, BTreeSet<String>>> {
        let mut folders: BTreeMap<Module, BTreeMap<String, BTreeSet<String>>> = BTreeMap::new();
        for (module, paths) in &self.paths {
            for target in paths.iter().filter_map(|path| self.target(module, path)) {
                let shared = module.iter().zip(&target).take_while(|(one, other)| one == other).count();
                if let (Some(from), Some(to)) = (module.get(shared), target.get(shared)) {
                    let uses = folders.entry(module[..shared].to_vec()).or_default();
                    uses.entry(from.clone()).or_default().insert(to.clone());
                }
            }
        }
        folders
    }
}

/// The groups of modules that reach each other.
fn circles(uses: &BTreeMap<String, BTreeSet<String>>) -> BTreeSet<BTreeSet<String>> {
    let reached = |from: &String| {
        let (mut found, mut open) = (BTreeSet::new(), vec![from]);
        while let Some(next) = open.pop() {
            open.extend(uses.get(next).into_iter().flatten().filter(|used| found.insert((*used).clone())));
        }
        found
    };
    let reached: BTreeMap<&String, BTreeSet<String>> = uses.keys().map(|name| (name, reached(name))).collect();
    let circle = |name: &String| -> BTreeSet<String> {
        reached[name]
            .iter()
            .filter(|other| reached.get(other).is_some_and(|back| back.contains(name)))
            .cloned()
            .collect()
    };
    uses.keys().map(circle).filter(|circle| circle.len() > 1).collect()
}

#[test]
fn no_two_modules_of_a_folder_use_each_other() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let crates = std::fs::read_dir(root.join("crates")).unwrap().map(|entry| entry.unwrap().path());
    let mut meant: BTreeSet<(String, String, BTreeSet<String>)> = MEANT
        .iter()
        .map(|(name, folder, modules, _)| {
            ((*name).to_owned(), (*folder).to_owned(), modules.iter().map(|&module| module.to_owned()).collect())
        })
        .collect();
    let mut new = Vec::new();
    for folder in crates.chain([root.to_owned()]) {
        let mut mentioned = Mentioned::default();
        read(&folder.join("src"), &Module::new(), &mut mentioned);
        let name = folder.file_name().unwrap().to_string_lossy().into_owned();
        for (below, uses) in mentioned.siblings() {
            for circle in circles(&uses) {
                let found = (name.clone(), below.join("/"), circle);
                if !meant.remove(&found) {
                    let used =
                        |module: &String| uses[module].intersection(&found.2).cloned().collect::<Vec<_>>().join(", ");
                    let lines = found.2.iter().map(|module| format!("  {module} uses {}", used(module)));
                    new.push(format!("{name} {}:\n{}", found.1, lines.collect::<Vec<_>>().join("\n")));
                }
            }
        }
    }
    assert!(new.is_empty(), "move what both use to a module of its own:\n{}", new.join("\n"));
    assert!(meant.is_empty(), "these circles are gone; remove them from the table: {meant:?}");
}
