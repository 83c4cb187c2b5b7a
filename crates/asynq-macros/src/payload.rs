//! `#[derive(TaskPayload)]`: what `#[task(…)]` says, as an implementation of the trait.

mod duration;
mod settings;

use proc_macro2::{Span, TokenStream};
use quote::{quote, quote_spanned};
use syn::{Attribute, Data, DeriveInput, Result, parse_quote, spanned::Spanned};

use self::settings::{Settings, is_task};
use crate::faults::Faults;

/// The implementation, or all that is wrong with the input.
pub(crate) fn expand(input: &DeriveInput) -> Result<TokenStream> {
    let mut faults = Faults::default();
    let settings = faults.take(Settings::of(input));
    if let Data::Union(union) = &input.data {
        faults.add(
            union.union_token.span,
            "a union has no JSON: derive `TaskPayload` for a struct or an enum",
        );
    }
    for attribute in attributes_within(&input.data).filter(|attribute| is_task(attribute)) {
        faults.add(
            attribute.span(),
            "`#[task(…)]` is about the whole payload: write it above the type",
        );
    }
    let Settings {
        asynq,
        task_type,
        setters,
    } = faults.none_in(settings)?;

    let (name, vis) = (&input.ident, &input.vis);
    let (impl_generics, type_generics, where_clause) = input.generics.split_for_impl();
    // So that the type can be asked for without an import of the trait. Where the type has such a constant already, the
    // compiler points at the task type.
    let there = Span::call_site().located_at(task_type.span());
    let constant = quote_spanned!(there=> const TYPE: &'static ::core::primitive::str = #task_type;);
    let inherent = quote! {
        #[automatically_derived]
        impl #impl_generics #name #type_generics #where_clause {
            /// The type of the tasks that have this payload.
            #[allow(dead_code, unreachable_pub, reason = "an application uses it or not")]
            #vis #constant
        }
    };

    let mut generics = input.generics.clone();
    if generics.type_params().next().is_some() {
        generics.make_where_clause().predicates.push(parse_quote! {
            Self: #asynq::__private::Serialize + #asynq::__private::DeserializeOwned
        });
    }
    let (impl_generics, type_generics, where_clause) = generics.split_for_impl();
    Ok(quote! {
        #inherent

        #[automatically_derived]
        impl #impl_generics #asynq::TaskPayload for #name #type_generics #where_clause {
            const TYPE: &'static ::core::primitive::str = #task_type;

            fn options() -> #asynq::TaskOptions {
                #asynq::TaskOptions::new() #(#setters)*
            }
        }
    })
}

/// The attributes of all variants and fields.
fn attributes_within(data: &Data) -> impl Iterator<Item = &Attribute> {
    let (fields, variants) = match data {
        Data::Struct(data) => (Some(&data.fields), None),
        Data::Enum(data) => (None, Some(&data.variants)),
        Data::Union(_) => (None, None),
    };
    let variants = variants.into_iter().flatten();
    let of_variants = variants.clone().flat_map(|variant| &variant.attrs);
    let fields = fields.into_iter().chain(variants.map(|variant| &variant.fields));
    of_variants.chain(fields.flatten().flat_map(|field| &field.attrs))
}
