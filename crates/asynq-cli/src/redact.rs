//! Payloads and results: those that are hidden, and others as text.

use asynq_web::records::{
    Redaction,
    json::{AROUND, compact},
};

/// Hides the data of these task types; one that ends in `*` means all that begin alike.
pub(crate) fn types(types: &[String]) -> Redaction {
    let types = types.to_vec();
    Redaction::new(move |_, task_type| {
        types.iter().any(|pattern| match pattern.strip_suffix('*') {
            Some(start) => task_type.starts_with(start),
            None => task_type == pattern,
        })
    })
}

/// Returns a payload or a result for people, as Go's program shows it.
pub(crate) fn text(hidden: bool, bytes: &[u8]) -> String {
    match hidden {
        true => "(redacted)".to_owned(),
        false => crate::go::bytes(bytes),
    }
}

/// Returns whether YAML holds the same value as JSON: it has no large numbers, and no names that stand twice.
pub(crate) fn is_exact_in_yaml(json: &str) -> bool {
    // The depth of a record around it counts, too.
    let nested = format!("{}{json}{}", "[".repeat(AROUND), "]".repeat(AROUND));
    let is_too_deep = serde_json::from_str::<yaml_serde::Value>(&nested).is_err();
    let value: Result<yaml_serde::Value, _> = serde_json::from_str(json);
    value
        .ok()
        .filter(|_| !is_too_deep)
        .and_then(|value| serde_json::to_string(&value).ok())
        .is_some_and(|again| again == compact(json))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_hidden_by_name_or_beginning() {
        let redaction = types(&["card:*".to_owned(), "mail".to_owned()]);
        for (task_type, hidden) in [
            ("card:charge", true),
            ("mail", true),
            ("mail:send", false),
            ("car", false),
        ] {
            assert_eq!(redaction.hides("default", task_type), hidden, "{task_type}");
        }
    }

    #[test]
    fn yaml_holds_plain_values_and_nothing_odd() {
        for json in [r#"{"b":1,"a":"x y","n":null,"f":1.5}"#, "[]", "true"] {
            assert!(is_exact_in_yaml(json), "{json}");
        }
        let deep = "[".repeat(125) + &"]".repeat(125);
        for json in [
            deep.as_str(),
            r#"{"a":1,"a":2}"#,
            "1e999",
            "123456789012345678901",
            r#""\ud800""#,
        ] {
            assert!(!is_exact_in_yaml(json), "{json}");
        }
    }
}
