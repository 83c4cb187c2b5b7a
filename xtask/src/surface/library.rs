//! The sources of some crates as modules, and what a path in one of them leads to.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use proc_macro2::{TokenStream, TokenTree};
use quote::ToTokens as _;
use syn::{Attribute, Item, ItemImpl, UseTree, Visibility};

use super::signature::Seen;

/// A module by its path, the crate first.
pub(super) type Place = Vec<String>;

/// An item by its module and name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Def {
    pub(super) place: Place,
    pub(super) name: String,
}

impl fmt::Display for Def {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}::{}`", self.place.join("::"), self.name)
    }
}

/// The target of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    Module(Place),
    Item(Def),
}

/// A `use`, of one name or of all in a module.
struct Use {
    public: bool,
    /// It hands nothing on to other modules.
    private: bool,
    path: Vec<String>,
    /// `None`: all of them.
    name: Option<String>,
}

#[derive(Default)]
struct Module {
    docs: String,
    /// The module whose file it stands in; often itself.
    file: Place,
    items: BTreeMap<String, Vec<Item>>,
    impls: Vec<ItemImpl>,
    /// Names that stand in the arguments of macros that may make items.
    made: BTreeSet<String>,
    /// The modules in it, and whether they are public.
    children: BTreeMap<String, bool>,
    uses: Vec<Use>,
}

/// Some crates, read.
pub(crate) struct Library(BTreeMap<Place, Module>);

/// Largest number of `use` that a path goes through.
const MAX_USES: usize = 16;

impl Library {
    /// Reads the crates, each with its folder below the root.
    pub(crate) fn read(root: &Path, crates: &[(&str, &str)]) -> Result<Self> {
        let mut library = Self(BTreeMap::new());
        for (name, folder) in crates {
            let folder = root.join(folder);
            library.file(vec![(*name).to_owned()], &folder.join("lib.rs"), &folder)?;
        }
        Ok(library)
    }

    /// Reads a file as a module; the files of the modules in it are below the folder.
    fn file(&mut self, place: Place, path: &Path, folder: &Path) -> Result<()> {
        let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let file = syn::parse_file(&text).with_context(|| format!("cannot parse {}", path.display()))?;
        let docs = docs_of(&file.attrs);
        self.module(place.clone(), &place, docs, file.items, folder)
    }

    fn module(&mut self, place: Place, file: &Place, docs: String, items: Vec<Item>, folder: &Path) -> Result<()> {
        let mut module = Module {
            docs,
            file: file.clone(),
            ..Module::default()
        };
        for item in items {
            match item {
                Item::Mod(inner) if !is_for_tests(&inner.attrs) => {
                    let name = inner.ident.to_string();
                    let public = is_public(&inner.vis) && !is_hidden(&inner.attrs);
                    module.children.insert(name.clone(), public);
                    let below = folder.join(&name);
                    let place = [place.as_slice(), std::slice::from_ref(&name)].concat();
                    match inner.content {
                        Some((_, items)) => self.module(place, file, docs_of(&inner.attrs), items, &below)?,
                        None => self.file(place, &source_of(folder, &name), &below)?,
                    }
                }
                Item::Use(declared) => {
                    let public = is_public(&declared.vis) && !is_hidden(&declared.attrs);
                    let private = matches!(declared.vis, Visibility::Inherited);
                    uses(&declared.tree, &mut Vec::new(), (public, private), &mut module.uses);
                }
                Item::Impl(block) => module.impls.push(block),
                Item::Macro(made) if made.ident.is_none() => {
                    let names = made.mac.tokens.into_iter().filter_map(|token| match token {
                        TokenTree::Ident(name) => Some(name.to_string()),
                        _ => None,
                    });
                    module.made.extend(names.filter(|name| is_of_a_type(name)));
                }
                item => {
                    if let Some(name) = name_of(&item) {
                        module.items.entry(name).or_default().push(item);
                    }
                }
            }
        }
        self.0.insert(place, module);
        Ok(())
    }

    /// The files that each file of a crate needs of the same crate, both by their modules.
    pub(crate) fn needs(&self) -> BTreeMap<String, BTreeSet<String>> {
        let mut needs = BTreeMap::<String, BTreeSet<String>>::new();
        for (place, module) in &self.0 {
            let needed = needs.entry(module.file.join("::")).or_default();
            let mut paths: BTreeSet<Vec<String>> = BTreeSet::new();
            let imports = module.uses.iter().filter(|used| used.private && used.name.is_some());
            paths.extend(imports.map(|used| used.path.clone()));
            for item in module.items.values().flatten() {
                paths_in_code(item.to_token_stream(), &mut paths);
            }
            for block in &module.impls {
                paths_in_code(block.to_token_stream(), &mut paths);
            }
            for path in paths {
                if let Some(Target::Item(def)) = self.find(place, &path)
                    && def.place[0] == place[0]
                    && let Some(home) = self.0.get(&def.place)
                    && home.file != module.file
                {
                    needed.insert(home.file.join("::"));
                }
            }
        }
        needs
    }

    /// The names that are public in a module, but for those that come with all of another module.
    pub(super) fn public_names(&self, place: &Place) -> Vec<String> {
        let Some(module) = self.0.get(place) else {
            return Vec::new();
        };
        let items = module.items.iter().filter(|(_, items)| items.iter().any(is_shown));
        let children = module.children.iter().filter(|(_, public)| **public);
        let uses = module.uses.iter().filter(|used| used.public);
        (items.map(|(name, _)| name.clone()))
            .chain(children.map(|(name, _)| name.clone()))
            .chain(uses.filter_map(|used| used.name.clone()))
            .chain(
                module
                    .made
                    .iter()
                    .filter(|name| !module.items.contains_key(*name))
                    .cloned(),
            )
            .collect()
    }

    /// The modules of which all is public in a module.
    pub(super) fn public_globs(&self, place: &Place) -> Vec<Vec<String>> {
        let uses = self.0.get(place).into_iter().flat_map(|module| &module.uses);
        uses.filter(|used| used.public && used.name.is_none())
            .map(|used| used.path.clone())
            .collect()
    }

    /// Returns what a path leads to that stands in a module; `None` for what these crates do not have.
    pub(super) fn find(&self, place: &Place, path: &[String]) -> Option<Target> {
        self.find_within(place, path, MAX_USES)
    }

    fn find_within(&self, place: &Place, path: &[String], uses: usize) -> Option<Target> {
        let (first, mut rest) = path.split_first()?;
        let mut target = match first.as_str() {
            "crate" => Target::Module(vec![place[0].clone()]),
            "self" => Target::Module(place.clone()),
            "super" => Target::Module(place[..place.len().checked_sub(1)?].to_vec()),
            name => match self.find_name(place, name, uses) {
                Some(target) => target,
                None if self.0.contains_key(std::slice::from_ref(first)) => Target::Module(vec![first.clone()]),
                None => return None,
            },
        };
        while let Some((name, more)) = rest.split_first() {
            let Target::Module(inner) = &target else {
                // A variant, or something associated.
                return Some(target);
            };
            target = match name.as_str() {
                "super" => Target::Module(inner[..inner.len().checked_sub(1)?].to_vec()),
                name => self.find_name(inner, name, uses)?,
            };
            rest = more;
        }
        Some(target)
    }

    fn find_name(&self, place: &Place, name: &str, uses: usize) -> Option<Target> {
        let module = self.0.get(place)?;
        if module.items.contains_key(name) || module.made.contains(name) {
            let (place, name) = (place.clone(), name.to_owned());
            return Some(Target::Item(Def { place, name }));
        }
        if module.children.contains_key(name) {
            return Some(Target::Module([place.as_slice(), &[name.to_owned()]].concat()));
        }
        let left = uses.checked_sub(1)?;
        let named = module.uses.iter().filter(|used| used.name.as_deref() == Some(name));
        // A name that stands for itself is that of a crate.
        let elsewhere = named.filter(|used| used.path != [name]);
        let found = elsewhere
            .map(|used| self.find_within(place, &used.path, left))
            .find_map(std::convert::identity);
        found.or_else(|| {
            let globs = module.uses.iter().filter(|used| used.name.is_none());
            let mut globs = globs.filter_map(|used| match self.find_within(place, &used.path, left)? {
                Target::Module(inner) if inner != *place => self.find_name(&inner, name, left),
                _ => None,
            });
            globs.next()
        })
    }

    /// The items that a path in a signature stands for: one, or those in the alias that it names.
    pub(super) fn behind(&self, place: &Place, path: &[String]) -> Vec<Def> {
        let Some(Target::Item(def)) = self.find(place, path) else {
            return Vec::new();
        };
        let alias = self.items(&def).iter().find_map(|item| match item {
            Item::Type(alias) => Some(alias),
            _ => None,
        });
        match alias {
            // Users see what is behind it.
            Some(alias) => super::signature::paths_in(&alias.ty)
                .iter()
                .filter(|inner| inner.as_slice() != path)
                .flat_map(|inner| self.behind(&def.place, inner))
                .collect(),
            None => vec![def],
        }
    }

    pub(super) fn items(&self, def: &Def) -> &[Item] {
        let module = self.0.get(&def.place);
        module
            .and_then(|module| module.items.get(&def.name))
            .map_or(&[], Vec::as_slice)
    }

    /// Every `impl`, and the module that it stands in.
    pub(super) fn impls(&self) -> impl Iterator<Item = (&Place, &ItemImpl)> {
        let modules = self.0.iter();
        modules.flat_map(|(place, module)| module.impls.iter().map(move |block| (place, block)))
    }

    /// Returns whether an item is public and has documentation.
    pub(super) fn is_shown(&self, def: &Def) -> bool {
        let items = self.items(def);
        items.is_empty() || items.iter().any(is_shown)
    }

    pub(super) fn module_docs(&self, place: &Place) -> Option<Seen> {
        let module = self.0.get(place)?;
        Some(Seen {
            what: format!("module `{}`", place.join("::")),
            place: place.clone(),
            paths: Vec::new(),
            docs: module.docs.clone(),
        })
    }
}

/// The paths of more than one name in code.
fn paths_in_code(code: TokenStream, paths: &mut BTreeSet<Vec<String>>) {
    let mut path: Vec<String> = Vec::new();
    let mut colons = 0;
    for token in code {
        match token {
            TokenTree::Punct(punct) if punct.as_char() == ':' => colons += 1,
            TokenTree::Ident(name) => {
                if colons != 2 && path.len() > 1 {
                    paths.insert(std::mem::take(&mut path));
                }
                if colons != 2 {
                    path.clear();
                }
                path.push(name.to_string());
                colons = 0;
            }
            other => {
                if path.len() > 1 {
                    paths.insert(std::mem::take(&mut path));
                }
                path.clear();
                colons = 0;
                if let TokenTree::Group(group) = other {
                    paths_in_code(group.stream(), paths);
                }
            }
        }
    }
    if path.len() > 1 {
        paths.insert(path);
    }
}

/// Returns the file of a module's source.
fn source_of(folder: &Path, name: &str) -> PathBuf {
    let file = folder.join(format!("{name}.rs"));
    if file.is_file() {
        file
    } else {
        folder.join(name).join("mod.rs")
    }
}

fn uses(tree: &UseTree, path: &mut Vec<String>, (public, private): (bool, bool), all: &mut Vec<Use>) {
    let mut add = |path: Vec<String>, name| {
        all.push(Use {
            public,
            private,
            path,
            name,
        });
    };
    match tree {
        UseTree::Path(inner) => {
            path.push(inner.ident.to_string());
            uses(&inner.tree, path, (public, private), all);
            path.pop();
        }
        UseTree::Name(name) if name.ident == "self" => add(path.clone(), path.last().cloned()),
        UseTree::Name(name) => {
            let name = name.ident.to_string();
            add([path.as_slice(), std::slice::from_ref(&name)].concat(), Some(name));
        }
        UseTree::Rename(renamed) => {
            let to = renamed.rename.to_string();
            let path = match renamed.ident.to_string() {
                own if own == "self" => path.clone(),
                own => [path.as_slice(), &[own]].concat(),
            };
            // Nobody can name what is used as `_`.
            if to != "_" {
                add(path, Some(to));
            }
        }
        UseTree::Glob(_) => add(path.clone(), None),
        UseTree::Group(group) => group
            .items
            .iter()
            .for_each(|tree| uses(tree, path, (public, private), all)),
    }
}

fn name_of(item: &Item) -> Option<String> {
    let name = match item {
        Item::Const(item) => &item.ident,
        Item::Enum(item) => &item.ident,
        Item::Fn(item) => &item.sig.ident,
        Item::Static(item) => &item.ident,
        Item::Struct(item) => &item.ident,
        Item::Trait(item) => &item.ident,
        Item::Type(item) => &item.ident,
        Item::Union(item) => &item.ident,
        _ => return None,
    };
    Some(name.to_string())
}

fn is_shown(item: &Item) -> bool {
    let (vis, attrs) = match item {
        Item::Const(item) => (&item.vis, &item.attrs),
        Item::Enum(item) => (&item.vis, &item.attrs),
        Item::Fn(item) => (&item.vis, &item.attrs),
        Item::Static(item) => (&item.vis, &item.attrs),
        Item::Struct(item) => (&item.vis, &item.attrs),
        Item::Trait(item) => (&item.vis, &item.attrs),
        Item::Type(item) => (&item.vis, &item.attrs),
        Item::Union(item) => (&item.vis, &item.attrs),
        _ => return false,
    };
    is_public(vis) && !is_hidden(attrs)
}

pub(super) fn is_public(vis: &Visibility) -> bool {
    matches!(vis, Visibility::Public(_))
}

pub(super) fn is_hidden(attrs: &[Attribute]) -> bool {
    let mut docs = attrs.iter().filter(|attr| attr.path().is_ident("doc"));
    docs.any(|attr| attr.parse_args::<syn::Ident>().is_ok_and(|word| word == "hidden"))
}

fn is_for_tests(attrs: &[Attribute]) -> bool {
    let mut cfgs = attrs.iter().filter(|attr| attr.path().is_ident("cfg"));
    cfgs.any(|attr| attr.parse_args::<syn::Ident>().is_ok_and(|word| word == "test"))
}

/// Returns whether it is the name of a type or of a trait, by its first letter.
pub(super) fn is_of_a_type(name: &str) -> bool {
    name.starts_with(char::is_uppercase) && name.contains(char::is_lowercase)
}

pub(super) fn docs_of(attrs: &[Attribute]) -> String {
    let lines = attrs.iter().filter_map(|attr| match &attr.meta {
        syn::Meta::NameValue(meta) if meta.path.is_ident("doc") => match &meta.value {
            syn::Expr::Lit(syn::ExprLit {
                lit: syn::Lit::Str(text),
                ..
            }) => Some(text.value()),
            _ => None,
        },
        _ => None,
    });
    lines.collect::<Vec<_>>().join("\n")
}
