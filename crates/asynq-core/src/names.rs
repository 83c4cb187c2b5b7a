//! Names of queues, tasks, types, groups and servers, each with a type of its own.
//!
//! A name is valid if it is not blank, as in Go asynq (`client.go`). Surrounding blanks are kept, and only Redis
//! limits the length.

use std::{borrow::Borrow, fmt, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::excerpt::Excerpt;

/// The queue of tasks that name none.
pub const DEFAULT_QUEUE: &str = "default";
/// Name of a queue's name in errors.
const QUEUE: &str = "queue";

/// A name that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field} {fault}")]
#[non_exhaustive]
pub struct NameError {
    /// The kind of name, in words: `queue`, `task id`, `group` …
    pub field: &'static str,
    /// The fault of the name.
    pub fault: NameFault,
}

impl NameError {
    /// Returns the error for a field.
    #[must_use]
    pub fn new(field: &'static str, fault: NameFault) -> Self {
        Self { field, fault }
    }
}

/// A fault of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum NameFault {
    /// The name is empty or only white space. The text is Go's.
    #[error("must contain one or more characters")]
    Blank,
    /// The name of a queue that begins with `}`. All keys of a queue share the hash tag `{name}`. A `}` at its start
    /// would end the tag at once, and a cluster would spread the keys over its nodes.
    #[error("must not begin with '}}', which makes the hash tag of its keys empty")]
    EmptyHashTag,
    /// The text is not one that an earlier call returned.
    #[error("is not one that was returned before")]
    Unknown,
}

/// Returns what is wrong with the name of a `field`.
fn fault(field: &str, text: &str) -> Option<NameFault> {
    if text.trim().is_empty() {
        Some(NameFault::Blank)
    } else if field == QUEUE && text.starts_with('}') {
        Some(NameFault::EmptyHashTag)
    } else {
        None
    }
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $field:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks the text and keeps it as it is.
            ///
            /// # Errors
            /// [`NameError`] when the text is empty or only white space, and for the other rules of this type.
            pub fn new(text: impl AsRef<str>) -> Result<Self, NameError> {
                let text = text.as_ref();
                match fault($field, text) {
                    Some(fault) => Err(NameError { field: $field, fault }),
                    None => Ok(Self(Arc::from(text))),
                }
            }

            /// Checks a text as [`new`](Self::new) does, without keeping it.
            ///
            /// # Errors
            /// Those of [`new`](Self::new).
            pub fn check(text: &str) -> Result<(), NameError> {
                fault($field, text).map_or(Ok(()), |fault| Err(NameError { field: $field, fault }))
            }

            /// Makes a name from a text of the storage, which Go may have written with any content.
            #[must_use]
            pub fn from_storage(text: &str) -> Self {
                Self(Arc::from(text))
            }

            /// The text as it stands in Redis.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&Excerpt(&self.0), f)
            }
        }
        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
        impl TryFrom<String> for $name {
            type Error = NameError;
            fn try_from(text: String) -> Result<Self, NameError> {
                Self::new(text)
            }
        }
        impl TryFrom<&str> for $name {
            type Error = NameError;
            fn try_from(text: &str) -> Result<Self, NameError> {
                Self::new(text)
            }
        }
        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0.as_ref().to_owned()
            }
        }
        impl PartialEq<str> for $name {
            fn eq(&self, other: &str) -> bool {
                &*self.0 == other
            }
        }
        impl PartialEq<&str> for $name {
            fn eq(&self, other: &&str) -> bool {
                &*self.0 == *other
            }
        }
    };
}

name!(
    /// The name of a queue: case-sensitive, not blank, and not beginning with `}`, so that all keys of the queue are
    /// on one node of a cluster. Default: `default`.
    QueueName,
    QUEUE
);
name!(
    /// The id of a task, unique within its queue; not blank. Default: a random UUID v4.
    TaskId,
    "task id"
);
name!(
    /// The type of a task, by which handlers are chosen; not blank.
    TaskType,
    "task type"
);
name!(
    /// The name of a group whose tasks are aggregated; not blank.
    GroupKey,
    "group"
);
name!(
    /// The id of one running server: a UUID v4.
    ServerId,
    "server id"
);
name!(
    /// The id of one `AsynqSystem` in this process.
    SystemId,
    "system id"
);

/// The key of a periodic task, the same in all schedulers that have the task: the MD5 of scheduler name, spec, time
/// zone, type, payload, headers and options, in hexadecimal. Go's entry ids are random in each process.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EntryKey(Arc<str>);
impl EntryKey {
    /// The key that a digest in hexadecimal stands for.
    pub(crate) fn of_digest(hex: &str) -> Self {
        Self(Arc::from(hex))
    }

    /// The 32 hexadecimal digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for EntryKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for EntryKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Default for QueueName {
    fn default() -> Self {
        Self(Arc::from(DEFAULT_QUEUE))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blank_names_are_refused_and_blanks_inside_are_kept() {
        for blank in ["", " ", "\t\n"] {
            assert_eq!(QueueName::new(blank).unwrap_err().field, "queue");
            assert_eq!(TaskId::new(blank).unwrap_err().field, "task id");
            assert_eq!(GroupKey::new(blank).unwrap_err().field, "group");
        }
        assert_eq!(QueueName::new(" a b ").unwrap(), " a b ");
    }

    #[test]
    fn a_queue_whose_hash_tag_would_be_empty_is_refused_with_the_reason() {
        for name in ["}", "}x", "}{x}"] {
            let error = QueueName::new(name).unwrap_err();
            assert_eq!(error.fault, NameFault::EmptyHashTag);
            let text = "queue must not begin with '}', which makes the hash tag of its keys empty";
            assert_eq!(error.to_string(), text);
            assert!(QueueName::try_from(name.to_owned()).is_err(), "read from a file");
            // Names that Go wrote can be read, and other names have no hash tag.
            assert_eq!(QueueName::from_storage(name), name);
            assert_eq!(TaskId::new(name).unwrap(), name);
            assert_eq!(GroupKey::new(name).unwrap(), name);
        }
        for name in ["{", "x}", "{}", "{x}", " }"] {
            assert_eq!(QueueName::new(name).unwrap(), name);
        }
    }

    #[test]
    fn error_names_the_field_and_the_limit() {
        let text = TaskType::new("").unwrap_err().to_string();
        assert_eq!(text, "task type must contain one or more characters");
    }
}
