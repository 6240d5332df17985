//! The spans of an encoding, as a subscriber sees them.

use std::{collections::BTreeSet, fmt};

use parking_lot::Mutex;
use tracing::{
    Subscriber,
    field::{Field, Visit},
    info_span,
    span::{Attributes, Id, Record},
};
use tracing_subscriber::{
    Layer,
    layer::{Context, SubscriberExt},
    registry::LookupSpan,
};

use super::*;

struct SeenSpan {
    id: Id,
    name: &'static str,
    parent: Option<&'static str>,
    /// Fields that got a value after the span began.
    recorded: BTreeSet<&'static str>,
}

#[derive(Clone, Default)]
struct SpanRecorder(Arc<Mutex<Vec<SeenSpan>>>);

struct FieldNames<'n>(&'n mut BTreeSet<&'static str>);

impl Visit for FieldNames<'_> {
    fn record_debug(&mut self, field: &Field, _value: &dyn fmt::Debug) {
        self.0.insert(field.name());
    }
}

impl<S: Subscriber + for<'s> LookupSpan<'s>> Layer<S> for SpanRecorder {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let parent = context.span(id).and_then(|span| Some(span.parent()?.name()));
        let name = attributes.metadata().name();
        self.0.lock().push(SeenSpan { id: id.clone(), name, parent, recorded: BTreeSet::new() });
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, _context: Context<'_, S>) {
        let mut spans = self.0.lock();
        // The registry uses ids again: the last span of this id is meant.
        if let Some(span) = spans.iter_mut().rfind(|span| span.id == *id) {
            values.record(&mut FieldNames(&mut span.recorded));
        }
    }
}

#[tokio::test]
async fn the_steps_of_an_encoding_stand_below_the_request_with_their_waits() {
    let encoders = serving(vec![synthetic_package("model")]);
    let encoder = encoders.for_modality(Modality::Person).expect("loaded");
    let recorder = SpanRecorder::default();
    let subscriber = tracing::subscriber::set_default(tracing_subscriber::registry().with(recorder.clone()));
    let sample = sample(Modality::Person, SampleContent::Image(crop(90)));
    encoder.encode(sample, now()).instrument(info_span!("request")).await.expect("encoded");
    drop(subscriber);
    let spans = recorder.0.lock();
    let step = |name: &str| {
        let span = spans.iter().find(|span| span.name == name).unwrap_or_else(|| panic!("there is no span {name}"));
        (span.parent, span.recorded.iter().copied().collect::<Vec<_>>())
    };
    assert_eq!(step("decode"), (Some("request"), vec!["wait_ms"]));
    assert_eq!(step("encode"), (Some("request"), vec!["batch", "wait_ms"]));
}
