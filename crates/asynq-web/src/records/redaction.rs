//! The tasks whose data are hidden, and the form in which others are shown.

use std::{fmt, sync::Arc};

use super::{Data, Shown};

/// Decides by queue and task type.
type Hides = dyn Fn(&str, &str) -> bool + Send + Sync;

/// The tasks whose payloads and results are not shown, and the length and form in which others are. Cheap to clone. The default
/// shows everything as it is.
///
/// ```
/// use asynq_web::records::Redaction;
///
/// let redaction = Redaction::new(|_queue, task_type| task_type.starts_with("card:"));
/// assert!(redaction.hides("default", "card:charge"));
/// let shown = serde_json::to_string(&redaction.data("default", "mail:send", b"hello")).unwrap();
/// assert_eq!(shown, r#"{"encoding":"text","value":"hello"}"#);
/// ```
#[derive(Clone, Default)]
pub struct Redaction {
    hides: Option<Arc<Hides>>,
    longest: Option<usize>,
    as_value: Option<fn(&str) -> bool>,
}

impl Redaction {
    /// Hides the data of the tasks for whose queue and type `hides` returns `true`.
    #[must_use]
    pub fn new(hides: impl Fn(&str, &str) -> bool + Send + Sync + 'static) -> Self {
        Self {
            hides: Some(Arc::new(hides)),
            ..Self::default()
        }
    }

    /// Shows only the beginning of data that have more bytes, and writes JSON whose value a usual reader cannot hold as text.
    #[must_use]
    pub fn up_to(&self, longest: usize) -> Self {
        Self {
            longest: Some(longest),
            ..self.clone()
        }
    }

    /// Writes JSON as a text, unless `as_value` returns `true` for it: for formats that cannot hold all that JSON can.
    #[must_use]
    pub fn with_values_if(&self, as_value: fn(&str) -> bool) -> Self {
        Self {
            as_value: Some(as_value),
            ..self.clone()
        }
    }

    /// Returns whether the data of tasks of this type in this queue are hidden.
    #[must_use]
    pub fn hides(&self, queue: &str, task_type: &str) -> bool {
        self.hides.as_ref().is_some_and(|hides| hides(queue, task_type))
    }

    /// Returns a payload or a result as it is shown.
    #[must_use]
    pub fn data(&self, queue: &str, task_type: &str, bytes: &[u8]) -> Shown {
        let is_hidden = self.hides(queue, task_type);
        let data = match self.longest {
            Some(longest) if bytes.len() > longest && !is_hidden => return Shown::beginning(bytes, longest),
            Some(_) => Data::of(bytes, is_hidden).with_usual_values(),
            None => Data::of(bytes, is_hidden),
        };
        Shown::Whole(match (data, self.as_value) {
            (Data::Json(raw), Some(as_value)) if !as_value(raw.get()) => Data::JsonText(raw.get().to_owned()),
            (data, _) => data,
        })
    }
}

impl fmt::Debug for Redaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redaction")
            .field("longest", &self.longest)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_that_a_format_cannot_hold_is_a_text() {
        let shown = |redaction: &Redaction| serde_json::to_string(&redaction.data("q", "t", b"[1,1]")).unwrap();
        assert_eq!(shown(&Redaction::default()), r#"{"encoding":"json","value":[1,1]}"#);
        let no_lists = Redaction::default().with_values_if(|json| !json.starts_with('['));
        assert_eq!(shown(&no_lists), r#"{"encoding":"json","value":"[1,1]"}"#);
    }

    #[test]
    fn queue_and_type_decide() {
        let redaction = Redaction::new(|queue, task_type| queue == "q" && task_type == "t").up_to(2);
        assert!(redaction.hides("q", "t") && !redaction.hides("p", "t") && !redaction.hides("q", "s"));
        let shown = |queue| serde_json::to_value(redaction.data(queue, "t", b"hello")).unwrap();
        assert_eq!(shown("q"), serde_json::json!({"encoding": "redacted"}));
        assert_eq!(shown("p")["beginning"]["text"], "he");
    }
}
