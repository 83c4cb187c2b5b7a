//! Patterns of names.

use std::{convert::Infallible, fmt};

use serde::Deserialize;

/// A pattern of names of queues or task types: a name, or a name with one or more `*`, each of which stands for any
/// characters or none. Case counts.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(from = "String")]
pub struct Pattern(Vec<String>);

impl Pattern {
    /// Returns the pattern `*`, which fits every name.
    #[must_use]
    pub fn any() -> Self {
        Self::from("*")
    }

    /// Returns whether a name fits.
    #[must_use]
    pub fn fits(&self, name: &str) -> bool {
        // Parts between the stars. Each one is found at its first place after the one before it; the last one at the end.
        let Some((first, rest)) = self.0.split_first() else {
            return name.is_empty();
        };
        let Some((last, middle)) = rest.split_last() else {
            return name == first;
        };
        let Some(mut left) = name.strip_prefix(first.as_str()) else {
            return false;
        };
        for part in middle {
            match left.find(part.as_str()) {
                Some(at) => left = &left[at + part.len()..],
                None => return false,
            }
        }
        left.ends_with(last.as_str())
    }

    /// Returns whether the pattern fits every name.
    #[must_use]
    pub fn is_any(&self) -> bool {
        self.0.len() > 1 && self.0.iter().all(String::is_empty)
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("*"))
    }
}

impl From<&str> for Pattern {
    fn from(text: &str) -> Self {
        Self(text.split('*').map(str::to_owned).collect())
    }
}

impl From<String> for Pattern {
    fn from(text: String) -> Self {
        Self::from(text.as_str())
    }
}

impl std::str::FromStr for Pattern {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self::from(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_stand_for_anything() {
        for (pattern, name, fits) in [
            ("*", "", true),
            ("*", "mail", true),
            ("mail", "mail", true),
            ("mail", "mail2", false),
            ("mail*", "mail", true),
            ("mail*", "mail:low", true),
            ("mail*", "email", false),
            ("*:low", "mail:low", true),
            ("*:low", "mail:lower", false),
            ("a*b*c", "a1b2c", true),
            ("a*b*c", "abc", true),
            ("a*b*c", "acb", false),
            ("ab*ba", "aba", false),
            ("", "", true),
            ("", "a", false),
            ("é*", "éa", true),
        ] {
            assert_eq!(Pattern::from(pattern).fits(name), fits, "{pattern} {name}");
        }
        assert!(Pattern::from("**").is_any());
        assert!(!Pattern::from("a*").is_any());
        assert!(!Pattern::from("").is_any());
    }
}
