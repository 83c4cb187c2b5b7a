//! Durations as Go's `time.ParseDuration` reads them.

use super::DurationFault;

/// The largest sum of nanoseconds that counts as one, before the sign is applied.
const LIMIT: u64 = 1 << 63;

/// Nanoseconds. The arithmetic is exactly Go's, including its one flaw: two parts of exactly 2^63 ns each add up to
/// zero.
pub(crate) fn parse(text: &str) -> Result<i64, DurationFault> {
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(DurationFault::Invalid);
    }
    let mut sum = 0_u64;
    while !rest.is_empty() {
        let part;
        (part, rest) = leading_part(rest)?;
        sum = sum.wrapping_add(part);
        if sum > LIMIT {
            return Err(DurationFault::Invalid);
        }
    }
    match i64::try_from(sum) {
        Ok(nanos) if negative => Ok(-nanos),
        Ok(nanos) => Ok(nanos),
        Err(_) if negative => Ok(i64::MIN),
        Err(_) => Err(DurationFault::Invalid),
    }
}

/// The nanoseconds of a number with its unit, and what follows it.
fn leading_part(text: &str) -> Result<(u64, &str), DurationFault> {
    let (whole, rest) = leading_digits(text);
    let number = whole
        .bytes()
        .try_fold(0_u64, |number, digit| {
            number.checked_mul(10)?.checked_add(u64::from(digit - b'0'))
        })
        .filter(|number| *number <= LIMIT)
        .ok_or(DurationFault::Invalid)?;
    let (decimals, rest) = rest.strip_prefix('.').map_or(("", rest), leading_digits);
    if whole.is_empty() && decimals.is_empty() {
        return Err(DurationFault::Invalid);
    }
    let end = rest
        .find(|c: char| c == '.' || c.is_ascii_digit())
        .unwrap_or(rest.len());
    let (name, rest) = rest.split_at(end);
    if name.is_empty() {
        return Err(DurationFault::MissingUnit);
    }
    let unit = unit(name).ok_or_else(|| DurationFault::UnknownUnit { unit: name.to_owned() })?;
    if number > LIMIT / unit {
        return Err(DurationFault::Invalid);
    }
    let nanos = number * unit + fraction(decimals, unit);
    match nanos <= LIMIT {
        true => Ok((nanos, rest)),
        false => Err(DurationFault::Invalid),
    }
}

fn leading_digits(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text.split_at(end)
}

fn unit(name: &str) -> Option<u64> {
    Some(match name {
        "ns" => 1,
        // The micro sign and the Greek letter.
        "us" | "\u{b5}s" | "\u{3bc}s" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    })
}

/// Returns the nanoseconds behind the point. Decimals beyond 63 bits are dropped.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "what Go computes, in its floating point; at most an hour in nanoseconds"
)]
fn fraction(decimals: &str, unit: u64) -> u64 {
    let (mut number, mut scale) = (0_u64, 1.0_f64);
    for digit in decimals.bytes() {
        if number > (LIMIT - 1) / 10 {
            break;
        }
        let longer = number * 10 + u64::from(digit - b'0');
        if longer > LIMIT {
            break;
        }
        number = longer;
        scale *= 10.0;
    }
    (number as f64 * (unit as f64 / scale)) as u64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_are_read_as_go_reads_them() {
        for (text, nanos) in [
            ("0", 0),
            ("-0", 0),
            ("+5s", 5_000_000_000),
            ("1h30m", 5_400_000_000_000),
            ("1.5s", 1_500_000_000),
            (".5s", 500_000_000),
            ("5.s", 5_000_000_000),
            ("1\u{b5}s2\u{3bc}s3us", 6_000),
            ("-1.5h", -5_400_000_000_000),
            ("0.3333333333333333333h", 1_200_000_000_000),
            ("0.0175000000000000h", 63_000_000_000),
            ("0.050000000000000000m", 2_999_999_999),
            ("9223372036854775807ns", i64::MAX),
            ("-9223372036854775808ns", i64::MIN),
            ("9223372036854775808ns9223372036854775808ns", 0),
        ] {
            assert_eq!(parse(text), Ok(nanos), "{text}");
        }
    }

    #[test]
    fn what_is_no_duration_says_what_it_lacks() {
        use DurationFault::{Invalid, MissingUnit};
        for text in [
            "",
            "-",
            "+",
            ".",
            ".s",
            "s",
            "--1s",
            " 1s",
            "9223372036854775808ns",
            "-9223372036854775809ns",
            "9223372036854775808s",
            "2562048h",
            "99999999999999999999s",
            "1sx",
        ] {
            let fault = match text {
                "1sx" => DurationFault::UnknownUnit { unit: "sx".to_owned() },
                _ => Invalid,
            };
            assert_eq!(parse(text), Err(fault), "{text}");
        }
        for text in ["1", "1h5", "00", "-1.5"] {
            assert_eq!(parse(text), Err(MissingUnit), "{text}");
        }
        for (text, unit) in [("1d", "d"), ("1 s", " s"), ("1H", "H"), ("1h ", "h "), ("1h-5s", "h-")] {
            assert_eq!(parse(text), Err(DurationFault::UnknownUnit { unit: unit.to_owned() }));
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "[-+]?([0-9.]{0,22}(ns|us|ms|s|m|h|\u{b5}s|x| )?){0,4}") {
            let _ = parse(&text);
        }
    }
}
