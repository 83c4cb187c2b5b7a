//! The arguments of `#[task(…)]`.

use std::{collections::BTreeMap, fmt, time::Duration};

use proc_macro2::{Span, TokenStream};
use quote::quote;
use syn::{
    Attribute, DeriveInput, Error, Expr, ExprLit, ExprUnary, Ident, Lit, LitStr, MacroDelimiter, Meta, Path, Result,
    Token, UnOp,
    ext::IdentExt as _,
    parse::{Parse, ParseStream},
    parse_quote,
    punctuated::Punctuated,
    spanned::Spanned as _,
};

use super::duration;
use crate::faults::Faults;

/// The largest number of retries that the wire carries.
const MAX_RETRIES: u32 = i32::MAX as u32;

/// The attribute as it is meant to look.
const EXAMPLE: &str = "`#[task(type = \"email:send\", queue = \"critical\")]`";

/// The parts of an implementation.
pub(super) struct Settings {
    /// Path of `asynq`.
    pub(super) asynq: Path,
    /// The task type.
    pub(super) task_type: LitStr,
    /// Calls of the setters of `TaskOptions`.
    pub(super) setters: Vec<TokenStream>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Type,
    Queue,
    MaxRetry,
    Timeout,
    UniqueTtl,
    Retention,
    Group,
    Crate,
}

impl Key {
    const ALL: [Self; 8] = [
        Self::Type,
        Self::Queue,
        Self::MaxRetry,
        Self::Timeout,
        Self::UniqueTtl,
        Self::Retention,
        Self::Group,
        Self::Crate,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::Type => "type",
            Self::Queue => "queue",
            Self::MaxRetry => "max_retry",
            Self::Timeout => "timeout",
            Self::UniqueTtl => "unique_ttl",
            Self::Retention => "retention",
            Self::Group => "group",
            Self::Crate => "crate",
        }
    }

    /// A value, for error texts.
    const fn example(self) -> &'static str {
        match self {
            Self::Type => "\"email:send\"",
            Self::Queue => "\"critical\"",
            Self::MaxRetry => "5",
            Self::Timeout => "\"30s\"",
            Self::UniqueTtl => "\"1h\"",
            Self::Retention => "\"24h\"",
            Self::Group => "\"digest\"",
            Self::Crate => "\"my::asynq\"",
        }
    }

    /// # Errors
    /// An unknown name, with what may have been meant.
    fn of(ident: &Ident) -> Result<Self> {
        let name = ident.unraw().to_string();
        if let Some(key) = Self::ALL.into_iter().find(|key| key.name() == name) {
            return Ok(key);
        }
        let meant = match name.as_str() {
            "name" | "kind" | "task_type" => Some(Self::Type),
            "retry" | "retries" | "max_retries" => Some(Self::MaxRetry),
            "unique" | "unique_for" => Some(Self::UniqueTtl),
            "retain" => Some(Self::Retention),
            _ => None,
        };
        let advice = match (meant, name.as_str()) {
            (Some(key), _) => format!("write `{key} = {}`", key.example()),
            (None, "deadline" | "process_at" | "process_in" | "task_id" | "header") => {
                format!("it belongs to one task and not to all of a type: use `Task::with_{name}`")
            }
            (None, _) => {
                let known: Vec<String> = Self::ALL.iter().map(|key| format!("`{key}`")).collect();
                format!("the keys are {}", known.join(", "))
            }
        };
        Err(Error::new(ident.span(), format!("unknown key `{name}`: {advice}")))
    }

    /// An error about the value of this key; the text goes on after the key's name.
    fn refuses(self, span: Span, why: impl fmt::Display) -> Error {
        Error::new(span, format!("`{self}` {why}"))
    }

    fn text(self, value: &Expr) -> Result<LitStr> {
        let Expr::Lit(ExprLit {
            lit: Lit::Str(text), ..
        }) = value
        else {
            let why = format!("is a text in quotes, as in `{self} = {}`", self.example());
            return Err(self.refuses(value.span(), why));
        };
        if text.value().trim().is_empty() {
            let why = format!("is blank: write `{self} = {}`", self.example());
            return Err(self.refuses(text.span(), why));
        }
        Ok(text.clone())
    }

    fn path(self, value: &Expr) -> Result<Path> {
        let text = self.text(value)?;
        text.parse().map_err(|_| {
            let why = format!("is the path of a module, as in `{self} = {}`", self.example());
            self.refuses(text.span(), why)
        })
    }

    fn duration(self, value: &Expr) -> Result<Duration> {
        let text = self.text(value)?;
        duration::parse(&text.value()).map_err(|why| self.refuses(text.span(), why))
    }

    fn number(self, value: &Expr) -> Result<u32> {
        let range = format!("is a whole number from 0 to {MAX_RETRIES}");
        let number = match value {
            Expr::Lit(ExprLit {
                lit: Lit::Int(number), ..
            }) => number.base10_parse().ok(),
            Expr::Unary(ExprUnary { op: UnOp::Neg(_), .. }) => {
                let why = format!("{range}: write 0 for no retry");
                return Err(self.refuses(value.span(), why));
            }
            _ => None,
        };
        number.filter(|number| *number <= MAX_RETRIES).ok_or_else(|| {
            let why = format!("{range}, as in `{self} = {}`", self.example());
            self.refuses(value.span(), why)
        })
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// `key = value`.
struct Pair {
    key: Ident,
    value: Expr,
}

impl Parse for Pair {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        if !input.peek(Ident::peek_any) {
            return Err(input.error(format!("expected a key and its value, as in {EXAMPLE}")));
        }
        let key = input.call(Ident::parse_any)?;
        let value = input.parse::<Token![=]>().and_then(|_| input.parse::<Expr>());
        let value = value.map_err(|_| match Key::of(&key) {
            Ok(known) => known.refuses(
                key.span(),
                format!("needs a value: write `{known} = {}`", known.example()),
            ),
            Err(unknown) => unknown,
        })?;
        Ok(Self { key, value })
    }
}

impl Settings {
    /// # Errors
    /// All that is wrong with the attributes.
    pub(super) fn of(input: &DeriveInput) -> Result<Self> {
        let mut faults = Faults::default();
        let mut values = BTreeMap::new();
        for attribute in input.attrs.iter().filter(|attribute| is_task(attribute)) {
            for Pair { key: ident, value } in faults.take(pairs(attribute)).into_iter().flatten() {
                let Some(key) = faults.take(Key::of(&ident)) else {
                    continue;
                };
                if values.insert(key, value).is_some() {
                    faults.add(ident.span(), format!("duplicate key `{ident}`: it may stand once"));
                }
            }
        }
        let asynq = match values.remove(&Key::Crate) {
            Some(value) => faults.take(Key::Crate.path(&value)),
            None => Some(parse_quote!(::asynq)),
        };
        let task_type = match values.remove(&Key::Type) {
            Some(value) => faults.take(Key::Type.text(&value)),
            None => {
                // Where the attribute cannot be read, it may well be in there.
                if faults.is_empty() {
                    faults.add(
                        input.ident.span(),
                        "the task type is missing: add `#[task(type = \"email:send\")]` with the type of these tasks",
                    );
                }
                None
            }
        };
        let setters = values
            .iter()
            .filter_map(|(key, value)| faults.take(setter(*key, value)))
            .collect();
        faults.none_in(asynq.zip(task_type)).map(|(asynq, task_type)| Self {
            asynq,
            task_type,
            setters,
        })
    }
}

fn pairs(attribute: &Attribute) -> Result<Punctuated<Pair, Token![,]>> {
    match &attribute.meta {
        Meta::List(list) if matches!(list.delimiter, MacroDelimiter::Paren(_)) => {
            list.parse_args_with(Punctuated::parse_terminated)
        }
        _ => Err(Error::new(
            attribute.span(),
            format!("expected keys and their values, as in {EXAMPLE}"),
        )),
    }
}

/// The call that sets an option.
fn setter(key: Key, value: &Expr) -> Result<TokenStream> {
    let duration = |value| -> Result<TokenStream> {
        let millis = u64::try_from(key.duration(value)?.as_millis()).unwrap_or(u64::MAX);
        Ok(quote!(::core::time::Duration::from_millis(#millis)))
    };
    Ok(match key {
        Key::Queue => {
            let queue = key.text(value)?;
            quote!(.queue(#queue))
        }
        Key::MaxRetry => {
            let retries = key.number(value)?;
            quote!(.max_retry(#retries))
        }
        Key::Timeout => {
            let timeout = duration(value)?;
            quote!(.timeout(#timeout))
        }
        Key::UniqueTtl => {
            let ttl = duration(value)?;
            quote!(.unique_ttl(#ttl))
        }
        Key::Retention => {
            let retention = duration(value)?;
            quote!(.retention(#retention))
        }
        Key::Group => {
            let group = key.text(value)?;
            quote!(.group(#group))
        }
        Key::Type | Key::Crate => TokenStream::new(),
    })
}

/// Returns whether this is the attribute that holds the settings.
pub(super) fn is_task(attribute: &Attribute) -> bool {
    attribute.path().is_ident("task")
}
