//! A span of work, whether or not anything records it.
//!
//! A [`Span`] that is off is an empty pointer, and setting its attributes does nothing.

use std::fmt;

/// Limit of a text attribute in bytes, because any caller of the port may send long names.
const MAX_TEXT_BYTES: usize = 1024;

/// Value of an attribute. Attributes have names of secrets, never their values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AttributeValue {
    Text(String),
    Static(&'static str),
    Bool(bool),
    I64(i64),
}

/// Records one span. It ends when it is dropped.
pub trait SpanRecorder: fmt::Debug + Send + Sync {
    /// Starts a child span of a call to another service.
    fn client_span(&self, name: &'static str) -> Span;

    /// Sets an attribute.
    fn set(&mut self, key: &'static str, value: AttributeValue);

    /// Marks the span as failed.
    fn set_error(&mut self, reason: &'static str);

    /// ID of the trace: 32 hexadecimal digits.
    fn trace_id(&self) -> String;
}

/// A span. It ends when it is dropped.
#[derive(Debug, Default)]
pub struct Span(Option<Box<dyn SpanRecorder>>);

impl Span {
    /// Creates a span that is recorded.
    #[must_use]
    pub fn recorded(recorder: impl SpanRecorder + 'static) -> Self {
        Self(Some(Box::new(recorder)))
    }

    /// Creates a span that is not recorded.
    #[must_use]
    pub const fn off() -> Self {
        Self(None)
    }

    /// Whether the span is recorded. Otherwise, callers need not build texts for its attributes.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Starts a child span of a call to another service.
    #[must_use]
    pub fn client_span(&self, name: &'static str) -> Self {
        self.0
            .as_ref()
            .map_or(Self::off(), |recorder| recorder.client_span(name))
    }

    /// Sets a text attribute, shortened to 1 KiB. An empty text sets nothing.
    pub fn set_str(&mut self, key: &'static str, text: &str) {
        if !text.is_empty() {
            self.set(key, || {
                let end = text.floor_char_boundary(MAX_TEXT_BYTES);
                AttributeValue::Text(text.get(..end).unwrap_or_default().to_owned())
            });
        }
    }

    /// Sets a value of a fixed set.
    pub fn set_static(&mut self, key: &'static str, value: &'static str) {
        self.set(key, || AttributeValue::Static(value));
    }

    /// Sets a flag.
    pub fn set_bool(&mut self, key: &'static str, value: bool) {
        self.set(key, || AttributeValue::Bool(value));
    }

    /// Sets a number.
    pub fn set_i64(&mut self, key: &'static str, value: i64) {
        self.set(key, || AttributeValue::I64(value));
    }

    /// Marks the span as failed, for failures that need attention. The rejection of an invalid object is not a failure.
    pub fn set_error(&mut self, reason: &'static str) {
        if let Some(recorder) = &mut self.0 {
            recorder.set_error(reason);
        }
    }

    /// ID of the trace as in logs: 32 hexadecimal digits.
    #[must_use]
    pub fn trace_id(&self) -> Option<String> {
        self.0.as_ref().map(|recorder| recorder.trace_id())
    }

    fn set(&mut self, key: &'static str, value: impl FnOnce() -> AttributeValue) {
        if let Some(recorder) = &mut self.0 {
            recorder.set(key, value());
        }
    }
}
