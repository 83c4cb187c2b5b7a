//! The bounds of requests and replies, in RESP2 and RESP3.

use bytes::{Buf, Bytes, BytesMut};

/// A request with its words.
pub(super) struct Request {
    pub(super) bytes: Bytes,
    pub(super) words: Vec<Bytes>,
}

/// Takes the first whole request from the buffer.
pub(super) fn take_request(buffer: &mut BytesMut) -> Option<Request> {
    let length = match buffer.first()? {
        b'*' => value_length(buffer)?,
        // The old inline form: one line.
        _ => line_length(buffer)?,
    };
    let bytes = buffer.split_to(length).freeze();
    let words = words(&bytes);
    Some(Request { bytes, words })
}

/// Takes the first whole reply (or push) from the buffer.
pub(super) fn take_reply(buffer: &mut BytesMut) -> Option<Bytes> {
    let length = value_length(buffer)?;
    Some(buffer.split_to(length).freeze())
}

fn words(request: &Bytes) -> Vec<Bytes> {
    if request.first() != Some(&b'*') {
        return request
            .split(u8::is_ascii_whitespace)
            .filter(|word| !word.is_empty())
            .map(Bytes::copy_from_slice)
            .collect();
    }
    let mut rest = request.clone();
    rest.advance(line_length(&rest).unwrap_or(0));
    let mut words = Vec::new();
    while let Some(head) = line_length(&rest) {
        let length = number(&rest[..head]).and_then(|n| usize::try_from(n).ok()).unwrap_or(0);
        rest.advance(head);
        words.push(rest.split_to(length.min(rest.len())));
        rest.advance(2.min(rest.len()));
    }
    words
}

fn line_length(input: &[u8]) -> Option<usize> {
    input.windows(2).position(|pair| pair == b"\r\n").map(|at| at + 2)
}

fn number(line: &[u8]) -> Option<i64> {
    std::str::from_utf8(line.get(1..line.len().checked_sub(2)?)?)
        .ok()?
        .parse()
        .ok()
}

/// The length of the value at the start of `input`; `None` if it is not there whole.
fn value_length(input: &[u8]) -> Option<usize> {
    let head = line_length(input)?;
    let count = || number(&input[..head]).and_then(|n| usize::try_from(n).ok());
    let nested = |values: usize| {
        let mut at = head;
        for _ in 0..values {
            at += value_length(&input[at..])?;
        }
        Some(at)
    };
    match input[0] {
        b'$' | b'=' | b'!' => match count() {
            Some(length) => (input.len() >= head + length + 2).then_some(head + length + 2),
            None => Some(head),
        },
        b'*' | b'~' | b'>' => nested(count().unwrap_or(0)),
        b'%' => nested(count().unwrap_or(0) * 2),
        // An attribute stands before the value that it belongs to.
        b'|' => nested(count().unwrap_or(0) * 2 + 1),
        _ => Some(head),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_and_replies_are_told_apart() {
        let mut input = BytesMut::from(&b"*2\r\n$4\r\nPING\r\n$0\r\n\r\nPING x\r\n*1\r\n$9\r\nhal"[..]);
        let first = take_request(&mut input).unwrap();
        assert_eq!(first.words, vec![Bytes::from("PING"), Bytes::new()]);
        assert_eq!(
            take_request(&mut input).unwrap().words,
            vec![Bytes::from("PING"), Bytes::from("x")]
        );
        assert!(take_request(&mut input).is_none());

        let replies: [&[u8]; 7] = [
            b"+OK\r\n",
            b"$-1\r\n",
            b"*2\r\n:1\r\n$2\r\n\r\n\r\n",
            b"%1\r\n+a\r\n,1.5\r\n",
            b">2\r\n+invalidate\r\n_\r\n",
            b"|1\r\n+ttl\r\n:1\r\n*0\r\n",
            b"*-1\r\n",
        ];
        let mut input = BytesMut::from(&replies.concat()[..]);
        for reply in replies {
            assert_eq!(take_reply(&mut input).unwrap(), reply);
        }
        assert!(input.is_empty());
    }
}
