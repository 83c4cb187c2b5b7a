//! Texts of others in errors: quoted up to a length.

use std::fmt::{self, Write as _};

/// Largest number of characters of a text that an error shows.
pub const MAX_SHOWN: usize = 100;

/// A text in the form that errors show: the whole text if it has up to [`MAX_SHOWN`] characters, otherwise its first
/// characters and its size in bytes. `Display` writes it as it is, and `Debug` writes it in quotes.
///
/// ```
/// use asynq_core::excerpt::Excerpt;
///
/// assert_eq!(Excerpt("low").to_string(), "low");
/// let shown = format!("{:?}", Excerpt(&"x".repeat(10_000)));
/// assert!(shown.ends_with("xxx\"… (10000 bytes)") && shown.len() < 130);
/// ```
#[derive(Clone, Copy)]
pub struct Excerpt<'t>(pub &'t str);

impl<'t> Excerpt<'t> {
    /// Returns what is shown, and whether that is not all.
    fn cut(self) -> (&'t str, bool) {
        match self.0.char_indices().nth(MAX_SHOWN) {
            Some((end, _)) => (&self.0[..end], true),
            None => (self.0, false),
        }
    }

    fn rest(self, f: &mut fmt::Formatter<'_>, is_cut: bool) -> fmt::Result {
        if is_cut {
            f.write_char('…')?;
            write!(f, " ({} bytes)", self.0.len())?;
        }
        Ok(())
    }
}

impl fmt::Display for Excerpt<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (shown, is_cut) = self.cut();
        f.write_str(shown)?;
        self.rest(f, is_cut)
    }
}

impl fmt::Debug for Excerpt<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (shown, is_cut) = self.cut();
        fmt::Debug::fmt(shown, f)?;
        self.rest(f, is_cut)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_behind_a_hundred_characters() {
        let hundred = "ü".repeat(100);
        assert_eq!(Excerpt(&hundred).to_string(), hundred);
        assert_eq!(format!("{:?}", Excerpt(&hundred)), format!("{hundred:?}"));
        let more = format!("{hundred}x");
        assert_eq!(Excerpt(&more).to_string(), format!("{hundred}… (201 bytes)"));
        assert_eq!(format!("{:?}", Excerpt(&more)), format!("\"{hundred}\"… (201 bytes)"));
        assert_eq!(Excerpt("").to_string(), "");
    }
}
