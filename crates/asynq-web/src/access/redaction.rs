//! Payloads and results that not everybody may see.

use super::{Pattern, Role};

/// Hides the payloads and results of some task types from users below a role.
///
/// ```
/// use asynq_web::access::{RedactionRule, Role};
///
/// let rule = RedactionRule::new(["card:*"], Role::Admin);
/// assert!(rule.hides("card:charge", Role::Operator));
/// assert!(!rule.hides("card:charge", Role::Admin));
/// assert!(!rule.hides("mail:send", Role::Viewer));
/// ```
#[derive(Clone, Debug)]
pub struct RedactionRule {
    types: Vec<Pattern>,
    shown_to: Option<Role>,
}

impl RedactionRule {
    /// Hides the data of these types from users below a role.
    #[must_use]
    pub fn new<P: Into<Pattern>>(types: impl IntoIterator<Item = P>, shown_to: Role) -> Self {
        Self {
            types: types.into_iter().map(Into::into).collect(),
            shown_to: Some(shown_to),
        }
    }

    /// Hides the data of these types from everybody.
    #[must_use]
    pub fn from_everybody<P: Into<Pattern>>(types: impl IntoIterator<Item = P>) -> Self {
        Self {
            types: types.into_iter().map(Into::into).collect(),
            shown_to: None,
        }
    }

    /// Returns whether the data of a task type are hidden from a role.
    #[must_use]
    pub fn hides(&self, task_type: &str, role: Role) -> bool {
        self.shown_to.is_none_or(|shown_to| role < shown_to) && self.types.iter().any(|types| types.fits(task_type))
    }

    /// Returns the rule in words, such as `card:* (shown to admin)`.
    pub(crate) fn words(&self) -> String {
        let types: Vec<String> = self.types.iter().map(ToString::to_string).collect();
        let types = types.join(", ");
        match self.shown_to {
            Some(role) => format!("{types} (shown to the role {})", role.as_str()),
            None => format!("{types} (hidden from everybody)"),
        }
    }
}
