//! Directives in the errors of handlers, found through any wrapping.

use std::error::Error as StdError;

use super::{Directed, Directive, Error};

/// Largest number of errors of a chain that are examined, because a faulty chain can be endless.
const DEEPEST: usize = 100;

impl Error {
    /// Returns what this error tells the server to do with the task.
    ///
    /// Looks through the [`source`](StdError::source) chain, so [`skip_retry`](Self::skip_retry),
    /// [`revoke`](Self::revoke) and [`snooze`](Self::snooze) keep their meaning inside `anyhow::Error` with
    /// any context, inside an enum with `#[from]` or `#[source]`, and inside a box. The outermost one counts.
    ///
    /// ```
    /// use std::time::Duration;
    /// use asynq::{Directive, Error};
    ///
    /// let refused = Error::skip_retry("no such order");
    /// assert_eq!(Error::other(refused).directive(), Directive::SkipRetry);
    /// assert_eq!(Error::snooze(Duration::from_secs(5)).directive(), Directive::Snooze(Duration::from_secs(5)));
    /// assert_eq!(Error::other("no answer").directive(), Directive::Fail);
    /// ```
    #[must_use]
    pub fn directive(&self) -> Directive {
        self.chain()
            .find_map(|error| error.downcast_ref::<Directed>())
            .map_or(Directive::Fail, Directed::directive)
    }

    /// Finds an error of the given type: this error, an error that it wraps, or one of their sources.
    ///
    /// For rules such as [`IsFailure`](crate::IsFailure) and [`RetryDelay`](crate::RetryDelay), which receive an
    /// [`Error`] and depend on an application error inside it.
    ///
    /// ```
    /// use asynq::{Error, IsFailure};
    ///
    /// #[derive(Debug, thiserror::Error)]
    /// #[error("the other side is busy")]
    /// struct Busy;
    ///
    /// let rule = IsFailure::new(|error| error.find::<Busy>().is_none());
    /// assert!(!rule.of(&Error::other(Busy)));
    /// assert!(rule.of(&Error::other("no such user")));
    /// ```
    ///
    /// The method cannot find an error by its own type if the error was converted into an `anyhow::Error` without
    /// context, and this into a box. It still finds the sources of the error.
    #[must_use]
    pub fn find<E: StdError + 'static>(&self) -> Option<&E> {
        self.chain().find_map(|error| error.downcast_ref())
    }

    /// Iterates over this error, errors boxed in it, and so on along the sources.
    fn chain(&self) -> impl Iterator<Item = &(dyn StdError + 'static)> {
        let mut next: Option<&(dyn StdError + 'static)> = Some(self);
        std::iter::from_fn(move || {
            let error = next?;
            next = match error.downcast_ref::<Self>() {
                // Their sources are those of what they hold; that itself comes first.
                Some(Self::Handler(inner) | Self::Json(inner) | Self::Actor(inner)) => Some(&**inner),
                Some(Self::SkipRetry(directed) | Self::Revoke(directed) | Self::Snooze(directed)) => Some(directed),
                _ => match error.downcast_ref::<Directed>() {
                    Some(Directed { error: Some(inner), .. }) => Some(&**inner),
                    _ => error.source(),
                },
            };
            Some(error)
        })
        .take(DEEPEST)
    }
}

#[cfg(test)]
mod tests {
    use std::{fmt, io, sync::Arc, time::Duration};

    use super::{super::BoxError, *};

    #[derive(Debug, thiserror::Error)]
    enum Wrapped {
        #[error("while charging")]
        From(#[from] Error),
        #[error(transparent)]
        Boxed(BoxError),
    }

    fn all() -> [(Error, Directive); 3] {
        let delay = Duration::from_secs(90);
        [
            (Error::skip_retry("no such order"), Directive::SkipRetry),
            (Error::revoke("not needed"), Directive::Revoke),
            (Error::snooze(delay), Directive::Snooze(delay)),
        ]
    }

    #[test]
    fn a_directive_is_found_behind_every_wrapping() {
        let wrappings: [fn(Error) -> BoxError; 7] = [
            |error| error.into(),
            |error| Wrapped::from(error).into(),
            |error| Wrapped::Boxed(Wrapped::from(error).into()).into(),
            |error| io::Error::other(error).into(),
            |error| Arc::new(error).into(),
            |error| Error::other(error).into(),
            |error| Wrapped::Boxed(Error::other(io::Error::other(error)).into()).into(),
        ];
        for (at, wrap) in wrappings.into_iter().enumerate() {
            for (error, directive) in all() {
                assert_eq!(Error::other(wrap(error)).directive(), directive, "wrapping {at}");
            }
        }
    }

    #[test]
    fn the_outermost_directive_counts() {
        let error = Error::revoke(Wrapped::from(Error::skip_retry("x")));
        assert_eq!(error.directive(), Directive::Revoke);
        assert!(matches!(error.find::<Wrapped>(), Some(Wrapped::From(_))));
    }

    #[test]
    fn other_errors_are_failures() {
        for error in [
            Error::other("x"),
            Error::Canceled,
            Error::DeadlineExceeded,
            Error::Panic("x".into()),
        ] {
            assert_eq!(error.directive(), Directive::Fail);
            assert_eq!(Error::other(Wrapped::from(error)).directive(), Directive::Fail);
        }
    }

    #[test]
    fn the_chain_tells_the_reason_then_the_directive_then_the_sources_of_the_reason() {
        let reason = Wrapped::Boxed(Error::other(io::Error::other("disk")).into());
        let error = Error::skip_retry(Wrapped::From(Error::other(reason)));
        let mut texts = Vec::new();
        let mut next: Option<&(dyn StdError + 'static)> = Some(&error);
        while let Some(error) = next {
            texts.push(error.to_string());
            next = error.source();
        }
        assert_eq!(texts[..2], ["while charging", "skip retry for the task"]);
        assert_eq!(texts.last().map(String::as_str), Some("disk"));
    }

    #[test]
    fn an_endless_chain_is_followed_for_a_while() {
        #[derive(Debug)]
        struct Endless;
        impl fmt::Display for Endless {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("endless")
            }
        }
        impl StdError for Endless {
            fn source(&self) -> Option<&(dyn StdError + 'static)> {
                Some(self)
            }
        }
        assert_eq!(Error::other(Endless).directive(), Directive::Fail);
    }
}
