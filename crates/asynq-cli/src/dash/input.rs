//! A line of text that is being typed.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

/// Most characters of a line.
const LONGEST: usize = 4096;

/// A line of text, and the place where the next character goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Input {
    text: String,
    /// In bytes, at the border of a character.
    at: usize,
}

impl Input {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        let text = text.into();
        Self { at: text.len(), text }
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// Returns the text before and after the place of the next character.
    pub(crate) fn parts(&self) -> (&str, &str) {
        self.text.split_at(self.at)
    }

    /// Inserts text, without characters that control a terminal.
    pub(crate) fn insert(&mut self, text: &str) {
        for char in text.chars().filter(|char| !char.is_control()) {
            if self.text.len() < LONGEST {
                self.text.insert(self.at, char);
                self.at += char.len_utf8();
            }
        }
    }

    /// Carries out a key. Keys that mean nothing here do nothing.
    pub(crate) fn key(&mut self, key: KeyEvent) {
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        match key.code {
            KeyCode::Char('u') if control => {
                self.text.drain(..self.at);
                self.at = 0;
            }
            KeyCode::Char('w') if control => {
                let kept = self.text[..self.at].trim_end();
                let from = kept.rfind(char::is_whitespace).map_or(0, |at| at + 1);
                self.text.drain(from..self.at);
                self.at = from;
            }
            KeyCode::Char('a') if control => self.at = 0,
            KeyCode::Char('e') if control => self.at = self.text.len(),
            KeyCode::Char(char) if !control => self.insert(char.encode_utf8(&mut [0; 4])),
            KeyCode::Backspace => {
                if let Some(char) = self.text[..self.at].chars().next_back() {
                    self.at -= char.len_utf8();
                    self.text.remove(self.at);
                }
            }
            KeyCode::Delete if self.at < self.text.len() => {
                self.text.remove(self.at);
            }
            KeyCode::Left => {
                self.at -= self.text[..self.at].chars().next_back().map_or(0, char::len_utf8);
            }
            KeyCode::Right => {
                self.at += self.text[self.at..].chars().next().map_or(0, char::len_utf8);
            }
            KeyCode::Home => self.at = 0,
            KeyCode::End => self.at = self.text.len(),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_edit_the_line() {
        let mut line = Input::new("añb");
        for code in [
            KeyCode::Left,
            KeyCode::Backspace,
            KeyCode::Char('日'),
            KeyCode::Home,
            KeyCode::Delete,
        ] {
            line.key(code.into());
        }
        assert_eq!(line.parts(), ("", "日b"));
        line.key(KeyCode::End.into());
        line.insert(" x\u{1b}[31m\n");
        assert_eq!(line.text(), "日b x[31m");
        line.key(KeyEvent::new(KeyCode::Char('w'), KeyModifiers::CONTROL));
        assert_eq!(line.text(), "日b ");
        line.key(KeyEvent::new(KeyCode::Char('u'), KeyModifiers::CONTROL));
        line.key(KeyCode::Left.into());
        line.key(KeyCode::Backspace.into());
        assert_eq!(line.text(), "");
    }
}
