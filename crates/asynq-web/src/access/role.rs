//! Users and their roles.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Pattern;

/// The rights of a user. Each role has those of the roles before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Looks at queues, tasks and servers. Changes nothing.
    Viewer,
    /// Acts on tasks and pauses queues: run, archive, delete, cancel, edit, copy, enqueue.
    Operator,
    /// Deletes queues and clears counters, and repairs what the doctor finds.
    Admin,
}

impl Role {
    /// All roles, the least one first.
    pub const ALL: [Self; 3] = [Self::Viewer, Self::Operator, Self::Admin];

    /// Returns the name as it stands in files and in JSON: `viewer`, `operator` or `admin`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }
}

/// A role for the queues whose names fit one of the patterns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The role.
    pub role: Role,
    /// Patterns of queue names.
    pub queues: Vec<Pattern>,
}

/// A user that has been recognized.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct User {
    /// The name in the audit trail: 1 to 256 bytes, not blank.
    pub name: String,
    /// The roles. If several fit a queue, the highest one counts.
    pub grants: Vec<Grant>,
    /// The proof with which the user has signed in, in a form that proves nothing. A session ends when it changes.
    pub(crate) stamp: String,
}

impl User {
    /// Returns a user with several roles.
    #[must_use]
    pub fn with_grants(name: impl Into<String>, grants: impl IntoIterator<Item = Grant>) -> Self {
        Self {
            name: name.into(),
            grants: grants.into_iter().collect(),
            stamp: String::new(),
        }
    }

    /// Returns a user with one role for all queues.
    #[must_use]
    pub fn new(name: impl Into<String>, role: Role) -> Self {
        Self::with_grants(
            name,
            [Grant {
                role,
                queues: vec![Pattern::any()],
            }],
        )
    }

    /// Returns a user with one role for the queues that fit these patterns, such as `mail*`.
    #[must_use]
    pub fn for_queues<P: Into<Pattern>>(
        name: impl Into<String>,
        role: Role,
        queues: impl IntoIterator<Item = P>,
    ) -> Self {
        Self::with_grants(
            name,
            [Grant {
                role,
                queues: queues.into_iter().map(Into::into).collect(),
            }],
        )
    }

    /// Returns the role for a queue, `None` if the user must not even see it.
    #[must_use]
    pub fn role_for(&self, queue: &str) -> Option<Role> {
        let fits = |grant: &&Grant| grant.queues.iter().any(|pattern| pattern.fits(queue));
        self.grants.iter().filter(fits).map(|grant| grant.role).max()
    }

    /// Returns the role for everything, which includes queues that do not exist yet, and what belongs to no queue.
    #[must_use]
    pub fn role_everywhere(&self) -> Option<Role> {
        let everywhere = |grant: &&Grant| grant.queues.iter().any(Pattern::is_any);
        self.grants.iter().filter(everywhere).map(|grant| grant.role).max()
    }

    /// Returns the highest role that the user has for any queue.
    #[must_use]
    pub fn highest_role(&self) -> Option<Role> {
        self.grants
            .iter()
            .filter(|grant| !grant.queues.is_empty())
            .map(|grant| grant.role)
            .max()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_role_that_fits_a_queue_counts() {
        let grant = |role, queues: &[&str]| Grant {
            role,
            queues: queues.iter().map(|queue| Pattern::from(*queue)).collect(),
        };
        let grants = [
            grant(Role::Viewer, &["*"]),
            grant(Role::Operator, &["mail*", "default"]),
        ];
        let user = User::with_grants("ann", grants);
        assert_eq!(user.role_for("mail:low"), Some(Role::Operator));
        assert_eq!(user.role_for("default"), Some(Role::Operator));
        assert_eq!(user.role_for("default2"), Some(Role::Viewer));
        assert_eq!(user.role_everywhere(), Some(Role::Viewer));
        assert_eq!(user.highest_role(), Some(Role::Operator));
        let limited = User::for_queues("bob", Role::Admin, ["mail"]);
        assert_eq!(limited.role_for("default"), None);
        assert_eq!(limited.role_everywhere(), None);
    }
}
