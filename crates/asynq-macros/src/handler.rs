//! `#[task_handler]` and `#[task_handler_async]`: a function, and a module that holds its pattern.

use proc_macro2::{Span, TokenStream};
use quote::{format_ident, quote, quote_spanned};
use syn::{
    Attribute, Error, FnArg, ItemFn, Lit, LitStr, Path, Result, ReturnType, Signature, Token, Type,
    parse::{ParseStream, Parser as _},
    parse_quote,
    spanned::Spanned as _,
};

use crate::faults::Faults;

/// The most arguments of an async handler: `asynq::extract::Route` is implemented for so many.
const MAX_ARGUMENTS: usize = 8;

/// The two attributes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Sync,
    Async,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Sync => "task_handler",
            Self::Async => "task_handler_async",
        }
    }

    fn example(self) -> String {
        format!("`#[{}(\"email:send\")]`", self.name())
    }
}

/// The item as it was, and what comes beside it; or the item and all that is wrong with it.
pub(crate) fn expand(kind: Kind, arguments: TokenStream, item: TokenStream) -> TokenStream {
    let added = beside(kind, arguments, item.clone()).unwrap_or_else(Error::into_compile_error);
    quote! { #item #added }
}

fn beside(kind: Kind, arguments: TokenStream, item: TokenStream) -> Result<TokenStream> {
    let name = kind.name();
    let function: ItemFn = syn::parse2(item.clone())
        .map_err(|_| Error::new_spanned(&item, format!("`#[{name}]` stands on a function that has a body")))?;
    let mut faults = Faults::default();
    let arguments = faults.take(Arguments::of(kind, arguments));
    check(kind, &function.sig, &mut faults);
    let Arguments { pattern, asynq } = faults.none_in(arguments)?;

    let (visibility, ident) = (&function.vis, &function.sig.ident);
    // Attributes below ours are not yet expanded: what leaves the function out leaves out all.
    let configured: Vec<&Attribute> = function.attrs.iter().filter(|a| a.path().is_ident("cfg")).collect();
    let doc = format!("Where `{ident}` is registered.");
    let typed = match kind {
        Kind::Sync => TokenStream::new(),
        Kind::Async => {
            let check = type_check(&function.sig, &asynq);
            quote! { #(#configured)* #check }
        }
    };
    Ok(quote! {
        #(#configured)*
        #[doc = #doc]
        #visibility mod #ident {
            /// The pattern of the task types that the function of this name handles.
            #[allow(dead_code, unreachable_pub, reason = "as visible as the function, for those who register it")]
            pub const PATTERN: &str = #pattern;
        }
        #typed
    })
}

/// The arguments of the attribute.
struct Arguments {
    pattern: LitStr,
    /// Path of `asynq`.
    asynq: Path,
}

impl Arguments {
    fn of(kind: Kind, tokens: TokenStream) -> Result<Self> {
        let example = kind.example();
        if tokens.is_empty() {
            let text = format!("the pattern is missing: write {example}");
            return Err(Error::new(Span::call_site(), text));
        }
        let arguments = (|input: ParseStream<'_>| Self::parse(kind, input)).parse2(tokens)?;
        if arguments.pattern.value().trim().is_empty() {
            let text = format!("the pattern is blank: name a task type, or how task types begin, as in {example}");
            return Err(Error::new(arguments.pattern.span(), text));
        }
        Ok(arguments)
    }

    fn parse(kind: Kind, input: ParseStream<'_>) -> Result<Self> {
        let Ok(Lit::Str(pattern)) = input.fork().parse() else {
            return Err(input.error(format!("the pattern is a text in quotes: write {}", kind.example())));
        };
        input.parse::<Lit>()?;
        let mut asynq = parse_quote!(::asynq);
        if kind == Kind::Async && input.peek(Token![,]) && input.peek2(Token![crate]) {
            input.parse::<Token![,]>()?;
            input.parse::<Token![crate]>()?;
            asynq = Self::parse_path(input)?;
        }
        input.parse::<Option<Token![,]>>()?;
        if input.is_empty() {
            Ok(Self { pattern, asynq })
        } else {
            Err(input.error(format!(
                "there is one pattern and nothing after it: write {}",
                kind.example()
            )))
        }
    }

    /// `= "path"`.
    fn parse_path(input: ParseStream<'_>) -> Result<Path> {
        let refused = |span| Error::new(span, "`crate` is the path of a module, as in `crate = \"my::asynq\"`");
        let start = input.span();
        let path = input
            .parse::<Token![=]>()
            .and_then(|_| input.parse::<LitStr>())
            .map_err(|_| refused(start))?;
        path.parse().map_err(|_| refused(path.span()))
    }
}

/// Everything that keeps a function from being a handler and can be told by its look.
fn check(kind: Kind, signature: &Signature, faults: &mut Faults) {
    match (kind, &signature.asyncness) {
        (Kind::Sync, Some(token)) => faults.add(
            token.span,
            "this function is async: use `#[task_handler_async(…)]` and `register_async_handlers!`",
        ),
        (Kind::Async, None) => faults.add(
            signature.fn_token.span,
            "this function is not async: write `async fn`, or use `#[task_handler(…)]` and `register_handlers!`",
        ),
        _ => {}
    }
    if let Some(token) = &signature.unsafety {
        faults.add(
            token.span,
            "a task handler is not unsafe: keep the unsafe part inside of it",
        );
    }
    if !signature.generics.params.is_empty() {
        faults.add(
            signature.generics.span(),
            "a task handler is not generic: each pattern has a function of its own",
        );
    }
    for argument in &signature.inputs {
        match argument {
            FnArg::Receiver(receiver) => faults.add(
                receiver.span(),
                "a task handler is a function and no method: take `self` out, or implement `Handler` for the type",
            ),
            FnArg::Typed(argument) if matches!(*argument.ty, Type::ImplTrait(_)) => {
                faults.add(argument.ty.span(), "a task handler is not generic: name the type");
            }
            FnArg::Typed(_) => {}
        }
    }
    let count = signature.inputs.len();
    let of_arguments = || match count {
        0 => signature.paren_token.span.join(),
        _ => signature.inputs.span(),
    };
    match kind {
        Kind::Sync if count != 1 => faults.add(
            of_arguments(),
            "a function that is not async takes the task and nothing else: `(task: Task)`; \
             an async one may take what is in it, see `#[task_handler_async]`",
        ),
        Kind::Async if count > MAX_ARGUMENTS => faults.add(
            of_arguments(),
            format!("a task handler takes up to {MAX_ARGUMENTS} arguments, and not {count}"),
        ),
        _ => {}
    }
    if kind == Kind::Sync && matches!(signature.output, ReturnType::Default) {
        faults.add(
            signature.ident.span(),
            "a task handler says how the task ended: add `-> asynq::error::Result<()>`",
        );
    }
}

/// Code that is never run: the compiler tells at the argument, the return type and the function what
/// it would tell less well where the function is registered.
///
/// Nothing in it counts as a use of the function, so one that is not registered is still reported.
fn type_check(signature: &Signature, asynq: &Path) -> TokenStream {
    let ident = &signature.ident;
    let types: Vec<&Type> = signature
        .inputs
        .iter()
        .filter_map(|argument| match argument {
            FnArg::Typed(argument) => Some(&*argument.ty),
            FnArg::Receiver(_) => None,
        })
        .collect();
    let names: Vec<_> = (0..types.len()).map(|at| format_ident!("argument_{at}")).collect();
    let arguments = types
        .iter()
        .map(|ty| quote_spanned!(ty.span()=> __asynq_argument::<#ty>();));
    let outcome = match &signature.output {
        ReturnType::Type(_, ty) if !matches!(**ty, Type::ImplTrait(_)) => {
            quote_spanned!(ty.span()=> __asynq_outcome::<#ty>();)
        }
        _ => TokenStream::new(),
    };
    let run = quote_spanned!(ident.span()=> __asynq_future(#ident(#(#names),*)););
    quote! {
        const _: () = {
            fn __asynq_argument<T: #asynq::extract::FromTask>() {}
            fn __asynq_outcome<T: #asynq::extract::IntoOutcome>() {}
            fn __asynq_future(_: impl ::core::future::Future + ::core::marker::Send) {}
            #[allow(deprecated, reason = "the function may be")]
            fn __asynq_check(#(#names: #types),*) {
                #(#arguments)*
                #outcome
                #run
            }
        };
    }
}
