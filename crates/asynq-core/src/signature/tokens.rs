//! The parts of an error that are values.

use std::{borrow::Cow, net::Ipv6Addr};

/// Returns the value at this place: its length, and what stands for it. The place is not inside a word.
pub(super) fn token(text: &str, at: usize) -> Option<(usize, Cow<'static, str>)> {
    let rest = &text.as_bytes()[at..];
    let first = *rest.first()?;
    let known = |length, name: &'static str| Some((length, Cow::Borrowed(name)));
    if !first.is_ascii_alphanumeric() {
        let before = at.checked_sub(1).map(|before| text.as_bytes()[before]);
        let length = match first {
            b'-' if !before.is_some_and(is_word) => number(&rest[1..]).map(|length| length + 1),
            b'[' => bracketed(text, at),
            b':' if before != Some(b':') => ipv6(text, at),
            _ => None,
        };
        return known(length?, if first == b'-' { "<n>" } else { "<addr>" });
    }
    if let Some(length) = uuid(rest) {
        return known(length, "<uuid>");
    }
    if let Some(length) = timestamp(rest) {
        return known(length, "<time>");
    }
    if let Some(length) = ipv4(rest).or_else(|| ipv6(text, at)) {
        return known(length, "<addr>");
    }
    if let Some(length) = duration(text, at) {
        return known(length, "<dur>");
    }
    let length = rest.iter().take_while(|byte| byte.is_ascii_alphanumeric()).count();
    let word = &text[at..at + length];
    if !word.bytes().any(|byte| byte.is_ascii_digit()) {
        return Some((length, Cow::Owned(word.to_owned())));
    }
    if is_id(word) {
        return known(length, "<id>");
    }
    if word.bytes().all(|byte| byte.is_ascii_digit()) {
        return known(number(rest).unwrap_or(length), "<n>");
    }
    Some((length, Cow::Owned(without_digits(word))))
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

fn digits(bytes: &[u8]) -> usize {
    bytes.iter().take_while(|byte| byte.is_ascii_digit()).count()
}

/// Digits, with a fraction and thousands separated by commas or underscores.
fn number(bytes: &[u8]) -> Option<usize> {
    let mut length = digits(bytes);
    if length == 0 {
        return None;
    }
    while matches!(bytes.get(length), Some(b'.' | b',' | b'_')) && digits(&bytes[length + 1..]) > 0 {
        length += 1 + digits(&bytes[length + 1..]);
    }
    Some(length)
}

/// Returns whether a word with a digit is an id: hexadecimal, or letters and digits in no order.
fn is_id(word: &str) -> bool {
    let bytes = word.as_bytes();
    if let Some(hex) = word.strip_prefix("0x").or_else(|| word.strip_prefix("0X")) {
        return !hex.is_empty() && hex.bytes().all(|byte| byte.is_ascii_hexdigit());
    }
    let letters = bytes.iter().filter(|byte| byte.is_ascii_alphabetic()).count();
    if letters == 0 {
        return false;
    }
    let changes = bytes
        .windows(2)
        .filter(|pair| pair[0].is_ascii_digit() != pair[1].is_ascii_digit())
        .count();
    let is_hex = bytes.iter().all(u8::is_ascii_hexdigit);
    is_hex && word.len() >= 6 || word.len() >= 16 || changes >= 3
}

/// A word with `<n>` for each run of digits.
fn without_digits(word: &str) -> String {
    let mut out = String::with_capacity(word.len() + 2);
    let mut in_digits = false;
    for char in word.chars() {
        if !char.is_ascii_digit() {
            out.push(char);
        } else if !in_digits {
            out.push_str("<n>");
        }
        in_digits = char.is_ascii_digit();
    }
    out
}

/// Returns whether the bytes fit a pattern: `d` a digit, `x` a hexadecimal digit, others themselves.
fn fits(bytes: &[u8], pattern: &[u8]) -> bool {
    bytes.len() >= pattern.len()
        && bytes.iter().zip(pattern).all(|(byte, want)| match want {
            b'd' => byte.is_ascii_digit(),
            b'x' => byte.is_ascii_hexdigit(),
            other => byte == other,
        })
}

fn ends_word(bytes: &[u8], length: usize) -> bool {
    !bytes.get(length).is_some_and(u8::is_ascii_alphanumeric)
}

fn uuid(bytes: &[u8]) -> Option<usize> {
    let has_digit = || bytes[..36].iter().any(u8::is_ascii_digit);
    (fits(bytes, b"xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx") && ends_word(bytes, 36) && has_digit()).then_some(36)
}

/// A date with or without a time of day, or a time of day.
fn timestamp(bytes: &[u8]) -> Option<usize> {
    if fits(bytes, b"dddd-dd-dd") || fits(bytes, b"dddd/dd/dd") {
        if !ends_word(bytes, 10) && bytes.get(10) != Some(&b'T') {
            return None;
        }
        let time = matches!(bytes.get(10), Some(b'T' | b't' | b' '))
            .then(|| time_of_day(&bytes[11..]))
            .flatten();
        let length = time.map_or(10, |time| 11 + time);
        return (time.is_some() || ends_word(bytes, 10)).then_some(length);
    }
    time_of_day(bytes)
}

/// A time of day with seconds, a fraction and a zone.
fn time_of_day(bytes: &[u8]) -> Option<usize> {
    if !fits(bytes, b"dd:dd:dd") {
        return None;
    }
    let mut length = 8;
    if matches!(bytes.get(8), Some(b'.' | b',')) && digits(&bytes[9..]) > 0 {
        length += 1 + digits(&bytes[9..]);
    }
    for (zone, size) in [
        (&b" +dddd UTC"[..], 10),
        (b" +dddd", 6),
        (b" -dddd", 6),
        (b"+dd:dd", 6),
        (b"-dd:dd", 6),
        (b"+dddd", 5),
        (b"-dddd", 5),
        (b" UTC", 4),
        (b"Z", 1),
    ] {
        if fits(&bytes[length..], zone) {
            length += size;
            break;
        }
    }
    ends_word(bytes, length).then_some(length)
}

/// An IPv4 address, with its port or the length of its prefix.
fn ipv4(bytes: &[u8]) -> Option<usize> {
    let mut length = 0;
    for part in 0..4 {
        if part > 0 {
            (bytes.get(length) == Some(&b'.')).then_some(())?;
            length += 1;
        }
        let count = digits(&bytes[length..]);
        (1..=3).contains(&count).then_some(())?;
        length += count;
    }
    let more_parts = bytes.get(length) == Some(&b'.') && digits(&bytes[length + 1..]) > 0;
    (ends_word(bytes, length) && !more_parts).then(|| length + suffix(&bytes[length..]))
}

/// The length of `:port` or `/prefix`.
fn suffix(bytes: &[u8]) -> usize {
    let count = bytes.get(1..).map_or(0, digits);
    let follows = matches!(bytes.first(), Some(b':' | b'/')) && (1..=5).contains(&count) && ends_word(bytes, count + 1);
    if follows { count + 1 } else { 0 }
}

/// A bare IPv6 address.
fn ipv6(text: &str, at: usize) -> Option<usize> {
    const LONGEST: usize = 45;
    let bytes = &text.as_bytes()[at..];
    let part = |byte: &&u8| byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.');
    let mut length = bytes.iter().take(LONGEST + 1).take_while(part).count();
    // The end of a sentence, or what introduces the next words.
    while length > 0 && matches!(bytes[length - 1], b'.' | b':') && !bytes[..length].ends_with(b"::") {
        length -= 1;
    }
    let address = &bytes[..length];
    let colons = address.iter().filter(|byte| **byte == b':').count();
    let is_possible = length <= LONGEST && colons >= 2 && address.iter().any(u8::is_ascii_digit);
    let beside_quote = bytes.get(length) == Some(&b'\'') || at > 0 && text.as_bytes()[at - 1] == b'\'';
    if !is_possible || beside_quote || !ends_word(bytes, length) {
        return None;
    }
    std::str::from_utf8(address).ok()?.parse::<Ipv6Addr>().ok()?;
    Some(length)
}

/// An IPv6 address in brackets, with its port.
fn bracketed(text: &str, at: usize) -> Option<usize> {
    let inner = ipv6(text, at + 1)?;
    let bytes = &text.as_bytes()[at..];
    let mut length = 1 + inner;
    if bytes.get(length) == Some(&b'%') {
        let zone = |byte: &&u8| byte.is_ascii_alphanumeric();
        length += 1 + bytes[length + 1..].iter().take(32).take_while(zone).count();
    }
    (bytes.get(length) == Some(&b']')).then(|| length + 1 + suffix(&bytes[length + 1..]))
}

/// A duration such as `1h2m3.5s` or `250ms`.
fn duration(text: &str, at: usize) -> Option<usize> {
    const UNITS: [&str; 8] = ["ns", "us", "µs", "μs", "ms", "s", "m", "h"];
    let bytes = &text.as_bytes()[at..];
    let mut length = 0;
    // Go prints three parts at most.
    for _ in 0..4 {
        let mut count = digits(&bytes[length..]);
        if count == 0 {
            break;
        }
        if bytes.get(length + count) == Some(&b'.') {
            let fraction = digits(&bytes[length + count + 1..]);
            count += if fraction > 0 { 1 + fraction } else { 0 };
        }
        let behind = &text[at + length + count..];
        let unit = UNITS.into_iter().find(|unit| behind.starts_with(unit))?;
        length += count + unit.len();
    }
    (length > 0 && ends_word(bytes, length)).then_some(length)
}
