//! The faults of one input, told all at once.

use std::fmt::Display;

use proc_macro2::Span;
use syn::{Error, Result};

#[derive(Default)]
pub(crate) struct Faults(Option<Error>);

impl Faults {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Adds a fault of the user's own making, at the place where it is to be mended.
    pub(crate) fn add(&mut self, span: Span, text: impl Display) {
        self.add_error(Error::new(span, text));
    }

    /// The value; or nothing, and its error is a fault.
    pub(crate) fn take<T>(&mut self, result: Result<T>) -> Option<T> {
        result.map_err(|error| self.add_error(error)).ok()
    }

    /// The value, if it is there and there was no fault at all.
    pub(crate) fn none_in<T>(self, value: Option<T>) -> Result<T> {
        match (self.0, value) {
            (None, Some(value)) => Ok(value),
            (Some(faults), _) => Err(faults),
            (None, None) => Err(Error::new(Span::call_site(), "the input is not complete")),
        }
    }

    fn add_error(&mut self, error: Error) {
        match &mut self.0 {
            Some(faults) => faults.combine(error),
            none => *none = Some(error),
        }
    }
}
