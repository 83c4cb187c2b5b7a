//! The signatures that users see: the paths in them, and the documentation beside them.

use std::collections::BTreeSet;

use proc_macro2::{Spacing, TokenStream, TokenTree};
use quote::ToTokens;
use syn::{Attribute, Fields, ImplItem, Item, ItemImpl, ItemTrait, TraitItem, Type, Visibility};

use super::library::{Def, Library, Place, Target, docs_of, is_hidden, is_of_a_type, is_public};

/// Something that users see.
pub(super) struct Seen {
    /// Its name, for a report.
    pub(super) what: String,
    /// The module in which its paths are read.
    pub(super) place: Place,
    /// The paths of types and traits in its signature.
    pub(super) paths: Vec<Vec<String>>,
    pub(super) docs: String,
}

/// The paths of types and traits in some code.
pub(super) fn paths_in(code: &impl ToTokens) -> Vec<Vec<String>> {
    let mut paths = Vec::new();
    collect(code.to_token_stream(), &mut paths);
    paths.retain(|path| path.iter().any(|name| is_of_a_type(name)));
    paths
}

fn collect(tokens: TokenStream, paths: &mut Vec<Vec<String>>) {
    let mut path = Vec::new();
    // How many colons stand between the path and what comes.
    let mut colons = 0;
    for token in tokens {
        match token {
            TokenTree::Ident(name) => {
                if colons != 2 {
                    paths.push(std::mem::take(&mut path));
                }
                path.push(name.to_string());
                colons = 0;
            }
            TokenTree::Punct(mark) if mark.as_char() == ':' && (colons == 1 || mark.spacing() == Spacing::Joint) => {
                colons += 1;
            }
            token => {
                paths.push(std::mem::take(&mut path));
                colons = 0;
                if let TokenTree::Group(group) = token {
                    collect(group.stream(), paths);
                }
            }
        }
    }
    paths.push(path);
}

/// Collects what is seen of one item.
struct Collector<'a> {
    what: String,
    place: &'a Place,
    seen: Vec<Seen>,
}

impl Collector<'_> {
    fn add(&mut self, part: &str, attrs: &[Attribute], code: &impl ToTokens) {
        if is_hidden(attrs) {
            return;
        }
        let what = match part {
            "" => self.what.clone(),
            part => format!("{}::{part}", self.what),
        };
        self.seen.push(Seen {
            what,
            place: self.place.clone(),
            paths: paths_in(code),
            docs: docs_of(attrs),
        });
    }

    /// Fields, where those count that this says.
    fn fields(&mut self, of: &str, fields: &Fields, counts: impl Fn(&Visibility) -> bool) {
        for field in fields.iter().filter(|field| counts(&field.vis)) {
            let name = field.ident.as_ref().map(ToString::to_string).unwrap_or_default();
            let part = [of, &name]
                .into_iter()
                .filter(|part| !part.is_empty())
                .collect::<Vec<_>>();
            self.add(&part.join("::"), &field.attrs, &field.ty);
        }
    }

    fn item(&mut self, item: &Item) {
        match item {
            Item::Const(item) => self.add("", &item.attrs, &item.ty),
            Item::Static(item) => self.add("", &item.attrs, &item.ty),
            Item::Fn(item) => self.add("", &item.attrs, &item.sig),
            Item::Type(item) => self.add("", &item.attrs, &item.ty),
            Item::Struct(item) => {
                self.add("", &item.attrs, &item.generics);
                self.fields("", &item.fields, is_public);
            }
            Item::Enum(item) => {
                self.add("", &item.attrs, &item.generics);
                for variant in &item.variants {
                    let name = variant.ident.to_string();
                    self.add(&name, &variant.attrs, &TokenStream::new());
                    if !is_hidden(&variant.attrs) {
                        self.fields(&name, &variant.fields, |_| true);
                    }
                }
            }
            Item::Trait(item) => self.of_trait(item),
            _ => {}
        }
    }

    fn of_trait(&mut self, item: &ItemTrait) {
        let (generics, bounds) = (&item.generics, &item.supertraits);
        let clause = &generics.where_clause;
        self.add("", &item.attrs, &quote::quote!(#generics #bounds #clause));
        for part in &item.items {
            match part {
                TraitItem::Fn(part) => self.add(&part.sig.ident.to_string(), &part.attrs, &part.sig),
                TraitItem::Const(part) => self.add(&part.ident.to_string(), &part.attrs, &part.ty),
                TraitItem::Type(part) => {
                    let (bounds, default) = (&part.bounds, part.default.as_ref().map(|(_, of)| of));
                    self.add(&part.ident.to_string(), &part.attrs, &quote::quote!(#bounds #default));
                }
                _ => {}
            }
        }
    }

    fn of_impl(&mut self, block: &ItemImpl) {
        let (generics, of) = (&block.generics, block.trait_.as_ref().map(|(_, of, _)| of));
        let (own, clause) = (&block.self_ty, &generics.where_clause);
        self.add("", &block.attrs, &quote::quote!(#generics #of, #own #clause));
        for part in &block.items {
            match part {
                ImplItem::Fn(part) if is_public(&part.vis) => {
                    self.add(&part.sig.ident.to_string(), &part.attrs, &part.sig);
                }
                ImplItem::Const(part) if of.is_some() || is_public(&part.vis) => {
                    self.add(&part.ident.to_string(), &part.attrs, &part.ty);
                }
                ImplItem::Type(part) => self.add(&part.ident.to_string(), &part.attrs, &part.ty),
                _ => {}
            }
        }
    }
}

/// Returns what is seen of an item, without its `impl`s.
pub(super) fn of_item(library: &Library, def: &Def) -> Vec<Seen> {
    let mut collector = Collector {
        what: def.to_string(),
        place: &def.place,
        seen: Vec::new(),
    };
    if library.is_shown(def) {
        library.items(def).iter().for_each(|item| collector.item(item));
    }
    collector.seen
}

/// Returns what is seen of the `impl`s of items, and of those of their traits.
pub(super) fn of_impls(library: &Library, items: &BTreeSet<Def>) -> Vec<Seen> {
    let shown = |def: &Def| items.contains(def) && library.is_shown(def);
    let mut seen = Vec::new();
    for (place, block) in library.impls() {
        let own = match &*block.self_ty {
            Type::Path(own) => item_at(library, place, own),
            _ => None,
        };
        let of = block
            .trait_
            .as_ref()
            .map(|(_, of, _)| (of, item_at(library, place, of)));
        let visible = match (&own, &of) {
            (Some(own), None) => shown(own),
            (Some(own), Some((_, None))) => shown(own),
            (Some(own), Some((_, Some(of)))) => shown(own) && library.is_shown(of),
            (None, Some((_, Some(of)))) => shown(of),
            (None, _) => false,
        };
        // What is hidden hides the `impl`.
        let hides = |path: &Vec<String>| library.behind(place, path).iter().any(|def| !library.is_shown(def));
        let hidden = of.as_ref().is_some_and(|(of, _)| paths_in(of).iter().any(hides));
        if !visible || hidden || is_hidden(&block.attrs) {
            continue;
        }
        let own = &block.self_ty;
        let name = own.to_token_stream().to_string().replace(' ', "");
        let mut collector = Collector {
            what: match &of {
                Some((of, _)) => format!(
                    "`impl {} for {name}`",
                    of.to_token_stream().to_string().replace(' ', "")
                ),
                None => format!("`{}::{name}`", place.join("::")),
            },
            place,
            seen: Vec::new(),
        };
        collector.of_impl(block);
        seen.extend(collector.seen);
    }
    seen
}

fn item_at(library: &Library, place: &Place, code: &impl ToTokens) -> Option<Def> {
    match library.find(place, paths_in(code).first()?)? {
        Target::Item(def) => Some(def),
        Target::Module(_) => None,
    }
}
