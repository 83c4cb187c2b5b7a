//! Queries on the command line.

use asynq::query::Query;

use crate::{
    error::{CliError, Result},
    output::one_line,
};

/// Reads a query.
///
/// # Errors
/// [`Status::Usage`](crate::error::Status::Usage), with a caret under the place that is wrong.
pub(crate) fn parse(text: &str) -> Result<Query> {
    text.parse().map_err(|error: asynq::query::QueryError| {
        // What is shown in place of a character may be longer than one.
        let before: String = text.chars().take(error.position).collect();
        let caret = " ".repeat(one_line(&before).chars().count());
        let found = match error.found.is_empty() {
            true => "the query ends here".to_owned(),
            false => format!("here stands {:?}", error.found),
        };
        CliError::usage(format!(
            "wrong query: {found}, expected {}\n  {}\n  {caret}^",
            error.expected,
            one_line(text)
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caret_stands_under_the_wrong_place() {
        let error = parse("state=retry age>soon").unwrap_err();
        let lines: Vec<&str> = error.message.lines().collect();
        assert_eq!(lines[1..], ["  state=retry age>soon", "                  ^"], "{error}");
    }
}
