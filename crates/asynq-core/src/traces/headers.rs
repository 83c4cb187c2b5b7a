//! The context of a trace in the headers of a task. The headers are foreign: anything may stand in them.

use std::collections::BTreeMap;

use opentelemetry::{
    Context, global,
    propagation::{Extractor, Injector, TextMapPropagator},
    trace::{SpanContext, SpanId, TraceContextExt as _, TraceFlags, TraceId, TraceState},
};

/// Headers of a task, by their names.
pub(super) type Headers = BTreeMap<String, String>;

const TRACEPARENT: &str = "traceparent";
const TRACESTATE: &str = "tracestate";
const BAGGAGE: &str = "baggage";

/// Longest value that is read or written; W3C asks for so much of a `tracestate`.
const LONGEST: usize = 512;
/// Longest baggage that is read or written; W3C asks for so much.
const LONGEST_BAGGAGE: usize = 8192;

/// Returns whether a header is short enough to be read or written.
fn fits(name: &str, value: &str) -> bool {
    let longest = if name.eq_ignore_ascii_case(BAGGAGE) {
        LONGEST_BAGGAGE
    } else {
        LONGEST
    };
    value.len() <= longest
}

/// Finds a header by its name, whose case does not count if it does not match as it is.
pub(super) fn find<'h>(headers: &'h Headers, name: &str) -> Option<&'h str> {
    let exact = headers.get(name);
    let any = || headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
    exact.or_else(|| any().map(|(_, value)| value)).map(String::as_str)
}

struct Read<'h>(&'h Headers);

impl Extractor for Read<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        find(self.0, key).filter(|value| fits(key, value))
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(String::as_str).collect()
    }
}

#[derive(Default)]
struct Written(Vec<(String, String)>);

impl Injector for Written {
    fn set(&mut self, key: &str, value: String) {
        if !value.is_empty() && fits(key, &value) {
            self.0.push((key.to_owned(), value));
        }
    }
}

/// Calls the propagator of the process; the W3C one if none is set.
fn propagator<T>(mut call: impl FnMut(Option<&dyn TextMapPropagator>) -> T) -> T {
    global::get_text_map_propagator(|set| call(Some(set).filter(|set| set.fields().next().is_some())))
}

/// Returns the names of the headers that are to be replaced where a context is put into them: those that the
/// propagator writes, with a value that `is_given` knows. `None` if the application has set one that says which span
/// the task belongs to, and so has decided this itself.
pub(super) fn inherited(headers: &Headers, is_given: impl Fn(&str, &str) -> bool) -> Option<Vec<String>> {
    let mut inherited = Vec::new();
    if headers.is_empty() {
        return Some(inherited);
    }
    let fields = propagator(|set| match set {
        Some(set) => set.fields().map(str::to_owned).collect(),
        None => vec![TRACEPARENT.to_owned(), TRACESTATE.to_owned()],
    });
    for (name, value) in headers {
        let is = |field: &str| field.eq_ignore_ascii_case(name);
        let is_written = fields.iter().any(|field| is(field));
        let identifies = is(TRACEPARENT) || is_written && !is(TRACESTATE) && !is(BAGGAGE);
        if !is_written && !identifies {
            continue;
        }
        if !is_given(name, value) {
            if identifies {
                return None;
            }
        } else if is_written {
            inherited.push(name.clone());
        }
    }
    Some(inherited)
}

/// Reads the context that the headers carry; an empty one if they carry none that is valid.
pub(super) fn extract(headers: &Headers) -> Context {
    if headers.is_empty() {
        return Context::new();
    }
    let read = Read(headers);
    propagator(|set| match set {
        Some(set) => set.extract_with_context(&Context::new(), &read),
        None => match span_context(&read) {
            Some(span) => Context::new().with_remote_span_context(span),
            None => Context::new(),
        },
    })
}

/// Returns the headers that carry the context.
pub(super) fn inject(context: &Context) -> Vec<(String, String)> {
    let mut written = Written::default();
    propagator(|set| match set {
        Some(set) => set.inject_context(context, &mut written),
        None => {
            let span = context.span();
            let span = span.span_context();
            if !span.is_valid() {
                return;
            }
            let flags = span.trace_flags() & TraceFlags::SAMPLED;
            let parent = format!("00-{}-{}-{flags:02x}", span.trace_id(), span.span_id());
            written.set(TRACEPARENT, parent);
            written.set(TRACESTATE, span.trace_state().header());
        }
    });
    written.0
}

/// Returns the text if it is of so many lower hexadecimal digits.
fn digits(text: &str, number: usize) -> Option<&str> {
    let hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    (text.len() == number && text.bytes().all(hex)).then_some(text)
}

/// Reads a W3C trace context: version, trace, span and flags in lower hexadecimal digits.
fn span_context(read: &Read<'_>) -> Option<SpanContext> {
    let mut parts = read.get(TRACEPARENT)?.trim().split('-');
    let version = digits(parts.next()?, 2)?;
    let trace = digits(parts.next()?, 32)?;
    let span = digits(parts.next()?, 16)?;
    let flags = digits(parts.next()?, 2)?;
    // A later version may add parts, and the highest one is none.
    if version == "ff" || (version == "00" && parts.next().is_some()) {
        return None;
    }
    let flags = TraceFlags::new(u8::from_str_radix(flags, 16).ok()?) & TraceFlags::SAMPLED;
    let state = read.get(TRACESTATE).and_then(|state| state.parse::<TraceState>().ok());
    let (trace, span) = (TraceId::from_hex(trace).ok()?, SpanId::from_hex(span).ok()?);
    let context = SpanContext::new(trace, span, flags, true, state.unwrap_or_default());
    context.is_valid().then_some(context)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn read(headers: &[(&str, &str)]) -> Option<SpanContext> {
        let headers = headers.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        let context = extract(&headers.collect());
        let span = context.span();
        Some(span.span_context().clone()).filter(SpanContext::is_valid)
    }

    #[test]
    fn what_was_written_is_read() {
        let span = read(&[(TRACEPARENT, GOOD), (TRACESTATE, "a=1,b=2")]).unwrap();
        assert!(span.is_remote() && span.is_sampled());
        let written = inject(&Context::new().with_remote_span_context(span));
        let expected = [(TRACEPARENT, GOOD), (TRACESTATE, "a=1,b=2")];
        assert_eq!(written, expected.map(|(k, v)| (k.to_owned(), v.to_owned())));
    }

    #[test]
    fn no_damaged_header_is_read() {
        let long = format!("{GOOD}{}", "-x".repeat(1 << 16));
        for bad in [
            "",
            "-",
            "---",
            "00",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c0-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-1",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-zz",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "0-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-+af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-ä0af7651916cd43dd8448eb211c8031-b7ad6b7169203331-01",
            "\0\u{1b}[31m<script>",
            &long,
        ] {
            assert_eq!(read(&[(TRACEPARENT, bad)]), None, "{bad:?}");
        }
        assert_eq!(read(&[(TRACESTATE, "a=1")]), None);
        let later = "01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more";
        assert!(read(&[(TRACEPARENT, later)]).is_some(), "a later version");
        assert!(read(&[("Traceparent", GOOD)]).is_some(), "the case of a name");
    }

    #[test]
    fn what_was_given_is_replaced_and_the_rest_is_not() {
        let headers = |pairs: &[(&str, &str)]| -> Headers {
            let pairs = pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
            pairs.collect()
        };
        let given = headers(&[(TRACEPARENT, GOOD), (TRACESTATE, "a=1"), (BAGGAGE, "b=1")]);
        let of = |pairs: &[(&str, &str)]| inherited(&headers(pairs), |name, value| find(&given, name) == Some(value));
        let names = |names: &[&str]| Some(names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>());
        assert_eq!(of(&[]), names(&[]));
        assert_eq!(of(&[("own", "1")]), names(&[]));
        // Nothing would write baggage again.
        assert_eq!(
            of(&[(TRACEPARENT, GOOD), (TRACESTATE, "a=1"), (BAGGAGE, "b=1")]),
            names(&[TRACEPARENT, TRACESTATE])
        );
        assert_eq!(of(&[("TraceParent", GOOD)]), names(&["TraceParent"]));
        assert_eq!(of(&[(TRACEPARENT, GOOD), (TRACESTATE, "own=1")]), names(&[TRACEPARENT]));
        assert_eq!(of(&[(TRACESTATE, "own=1")]), names(&[]));
        // One of two that do not say the same.
        assert_eq!(of(&[(TRACEPARENT, GOOD), ("Traceparent", "own")]), None);
        assert_eq!(of(&[(TRACEPARENT, "")]), None);
        assert_eq!(inherited(&given, |_, _| false), None);
    }

    #[test]
    fn no_context_is_no_header() {
        assert!(inject(&Context::new()).is_empty());
    }

    #[test]
    fn a_damaged_or_long_state_is_left_out() {
        for state in [
            "no member",
            "A=1",
            "a=1,b",
            &"a=1,".repeat(1 << 16),
            &format!("a={}", "x".repeat(600)),
        ] {
            let span = read(&[(TRACEPARENT, GOOD), (TRACESTATE, state)]).unwrap();
            assert_eq!(span.trace_state().header(), "", "{:?}", state.get(..20));
        }
    }
}
