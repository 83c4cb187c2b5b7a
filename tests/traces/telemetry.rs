//! A sampler, a processor and a propagator as an application may have them. They fail where a test asks for it by the name
//! of a queue, or by a header.

use std::{
    collections::HashMap,
    sync::{Mutex, OnceLock, PoisonError},
    time::Duration,
};

use opentelemetry::{
    Context, KeyValue,
    baggage::BaggageExt as _,
    propagation::{Extractor, Injector, TextMapCompositePropagator, TextMapPropagator, text_map_propagator::FieldIter},
    trace::{Link, SpanKind, TraceId},
};
use opentelemetry_sdk::{
    error::OTelSdkResult,
    propagation::{BaggagePropagator, TraceContextPropagator},
    trace::{SamplingDecision, SamplingResult, ShouldSample, Span, SpanData, SpanProcessor},
};

/// The part of the name of a queue for whose spans the sampler panics.
pub(crate) const SAMPLER: &str = "panic-sampler";
/// The same for the begin of a span.
pub(crate) const BEGIN: &str = "panic-begin";
/// The same for its end.
pub(crate) const END: &str = "panic-end";
/// The same, for spans that the sampler drops.
pub(crate) const DROPPED: &str = "dropped";
/// The same, for spans at whose begin the sampler calls [`BACK`].
pub(crate) const CALLS_BACK: &str = "calls-back";
/// The key of baggage, and the header, for which the propagator panics.
pub(crate) const PROPAGATOR: &str = "panic-propagator";

/// A call of the sampler into the library.
pub(crate) static BACK: OnceLock<Box<dyn Fn() + Send + Sync>> = OnceLock::new();

/// Attributes that the sampler was given, by names of spans.
static ASKED: Mutex<Option<HashMap<String, Vec<KeyValue>>>> = Mutex::new(None);

/// Returns what the sampler was last asked about such a span.
pub(crate) fn asked(name: &str) -> Option<Vec<KeyValue>> {
    let asked = ASKED.lock().unwrap_or_else(PoisonError::into_inner);
    asked.as_ref()?.get(name).cloned()
}

#[derive(Clone, Debug)]
pub(crate) struct Choosy;

impl ShouldSample for Choosy {
    fn should_sample(
        &self,
        parent: Option<&Context>,
        _: TraceId,
        name: &str,
        _: &SpanKind,
        attributes: &[KeyValue],
        _: &[Link],
    ) -> SamplingResult {
        use opentelemetry::trace::TraceContextExt as _;
        assert!(!name.contains(SAMPLER), "the sampler panics");
        if name.contains(CALLS_BACK)
            && let Some(back) = BACK.get()
        {
            back();
        }
        let mut asked = ASKED.lock().unwrap_or_else(PoisonError::into_inner);
        asked
            .get_or_insert_default()
            .insert(name.to_owned(), attributes.to_vec());
        SamplingResult {
            decision: if name.contains(DROPPED) {
                SamplingDecision::Drop
            } else {
                SamplingDecision::RecordAndSample
            },
            attributes: Vec::new(),
            trace_state: parent.map_or_else(Default::default, |parent| {
                parent.span().span_context().trace_state().clone()
            }),
        }
    }
}

#[derive(Debug)]
pub(crate) struct Fragile;

impl SpanProcessor for Fragile {
    fn on_start(&self, span: &mut Span, _: &Context) {
        let name = span.exported_data().map(|data| data.name);
        assert!(!name.is_some_and(|name| name.contains(BEGIN)), "the processor panics");
    }

    fn on_end(&self, span: SpanData) {
        assert!(!span.name.contains(END), "the processor panics");
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}

/// The propagators of W3C, for traces and for baggage.
pub(crate) fn propagator() -> impl TextMapPropagator + Send + Sync {
    Picky(TextMapCompositePropagator::new(vec![
        Box::new(TraceContextPropagator::new()),
        Box::new(BaggagePropagator::new()),
    ]))
}

#[derive(Debug)]
struct Picky(TextMapCompositePropagator);

impl TextMapPropagator for Picky {
    fn inject_context(&self, context: &Context, injector: &mut dyn Injector) {
        assert!(context.baggage().get(PROPAGATOR).is_none(), "the propagator panics");
        self.0.inject_context(context, injector);
    }

    fn extract_with_context(&self, context: &Context, extractor: &dyn Extractor) -> Context {
        assert!(extractor.get(PROPAGATOR).is_none(), "the propagator panics");
        self.0.extract_with_context(context, extractor)
    }

    fn fields(&self) -> FieldIter<'_> {
        self.0.fields()
    }
}
