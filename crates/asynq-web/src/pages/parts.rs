//! The components that pages are made of. `/_design` shows them all.

pub(crate) mod act;
pub(crate) mod chart;
pub(crate) mod data;
pub(crate) mod format;
pub(crate) mod icon;
pub(crate) mod paged;
pub(crate) mod text;
