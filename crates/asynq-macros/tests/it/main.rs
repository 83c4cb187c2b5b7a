//! Uses that the macros accept, and their messages for those that they refuse: a file in `tests/ui` for each.
//!
//! After a change of a text, `TRYBUILD=overwrite` writes the expected ones anew: read the difference.

#[path = "../ui/pass/handler.rs"]
pub mod handler;
#[path = "../ui/pass/payload.rs"]
pub mod payload;

#[test]
fn refused_input_is_told_what_to_write_instead() {
    trybuild::TestCases::new().compile_fail("tests/ui/fail/*.rs");
}
