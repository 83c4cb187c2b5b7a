//! Signatures of errors: texts without the parts that differ from one failure to the next.
//!
//! ```
//! use asynq::inspector::signature;
//!
//! let text = "read tcp 10.0.0.7:53412->10.0.0.2:6379: i/o timeout after 1m30s (request 8f3a9c21)";
//! assert_eq!(signature(text), "read tcp <addr>-><addr>: i/o timeout after <dur> (request <id>)");
//! ```

mod quotes;
mod tally;
mod tokens;

pub use self::tally::{ErrorSignatures, MAX_TOP, SignatureCount, Tally};
use self::{
    quotes::{Quotes, is_space},
    tokens::token,
};

/// Largest length of a signature, in bytes.
pub const MAX_SIGNATURE: usize = 256;
/// Number of bytes of an error that are read.
const MAX_READ: usize = 4096;
/// Mark of a signature that was cut.
const CUT: char = '…';

/// Returns the signature of an error text. Errors that differ only in their values have the same signature.
///
/// | part of the text | in the signature |
/// | --- | --- |
/// | numbers, also inside words | `<n>` |
/// | hexadecimal and random ids | `<id>` |
/// | UUIDs | `<uuid>` |
/// | IPv4 and IPv6 addresses, with their port | `<addr>` |
/// | dates and times of day | `<time>` |
/// | durations, as Go and Rust print them | `<dur>` |
/// | quoted texts that are more than a plain name | `<str>`, in the same quotes |
/// | white space and control characters | one space |
///
/// A quoted text of letters, `_`, `-`, `.`, `:` and `/`, of up to 40 bytes, is a plain name, as of a field or a type. It
/// stays, because errors about different fields are different errors.
///
/// The signature has at most [`MAX_SIGNATURE`] bytes; a longer one ends with `…`. Only the first 4096 bytes of the text
/// are read. The time is linear in what is read. The signature of a signature is itself.
#[must_use]
pub fn signature(error: &str) -> String {
    let text = cut(error, MAX_READ);
    let quotes = Quotes::find(text);
    let mut out = Out::default();
    let mut at = 0;
    while let Some(next) = text[at..].chars().next() {
        if let Some(end) = quotes.closing(at) {
            let quoted = &text[at + 1..end];
            out.push_char(next);
            if quotes::is_plain_name(quoted) {
                out.push(quoted);
            } else {
                out.push("<str>");
            }
            // What closes the text, with the backslashes in front of it.
            let closes = text[end..].find(next).map_or(end + 1, |quote| end + quote + 1);
            out.push(&text[end..closes]);
            at = closes;
        } else if let Some((length, piece)) = token(text, at) {
            out.push(&piece);
            at += length;
        } else {
            out.push_char(next);
            at += next.len_utf8();
        }
        if out.is_full {
            break;
        }
    }
    out.finish()
}

/// Returns the longest part of a signature that stands in the error text as it is, to search for. Empty if there is
/// none.
#[must_use]
pub fn literal_part<'s>(signature: &'s str, error: &str) -> &'s str {
    let mut longest = "";
    for part in signature.split(['<', '>', CUT]) {
        let part = part.trim();
        let is_placeholder = ["n", "id", "uuid", "addr", "time", "dur", "str"].contains(&part);
        if !is_placeholder && part.len() > longest.len() && error.contains(part) {
            longest = part;
        }
    }
    longest
}

/// Returns the longest beginning of at most `most` bytes.
fn cut(text: &str, most: usize) -> &str {
    let end = (0..=most.min(text.len())).rev().find(|at| text.is_char_boundary(*at));
    &text[..end.unwrap_or(0)]
}

/// A signature in the making.
#[derive(Default)]
struct Out {
    text: String,
    is_full: bool,
}

impl Out {
    /// Adds a piece. One that does not fit is left out, and nothing is added any more.
    fn push(&mut self, piece: &str) {
        if piece.starts_with('<') && !self.is_full {
            self.push_whole(piece);
        } else {
            piece.chars().for_each(|char| self.push_char(char));
        }
    }

    fn push_char(&mut self, char: char) {
        if self.is_full {
            return;
        }
        if is_space(char) {
            if !self.text.is_empty() && !self.text.ends_with(' ') {
                self.push_whole(" ");
            }
        } else {
            self.push_whole(char.encode_utf8(&mut [0; 4]));
        }
    }

    fn push_whole(&mut self, piece: &str) {
        if self.text.len() + piece.len() > MAX_SIGNATURE {
            self.is_full = true;
        } else {
            self.text.push_str(piece);
        }
    }

    fn finish(mut self) -> String {
        if self.is_full {
            let kept = cut(&self.text, MAX_SIGNATURE - CUT.len_utf8()).trim_end().len();
            self.text.truncate(kept);
            self.text.push(CUT);
        }
        self.text.truncate(self.text.trim_end_matches(' ').len());
        self.text
    }
}

#[cfg(test)]
mod tests;
