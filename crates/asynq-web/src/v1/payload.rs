//! Payloads that a request brings.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde::Deserialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::problem::{Problem, Result};

/// A payload, in the form in which tasks show theirs.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Payload {
    /// The way in which the value is to be read.
    pub(crate) encoding: Encoding,
    /// For `json` any value, which is taken as it is written; for `text` and `base64` a text.
    #[schema(value_type = serde_json::Value)]
    pub(crate) value: Box<RawValue>,
}

/// The way in which a value is to be read.
#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = PayloadEncoding)]
pub(crate) enum Encoding {
    Json,
    Text,
    Base64,
}

impl Payload {
    /// Returns the bytes of the payload.
    pub(crate) fn bytes(&self) -> Result<Vec<u8>> {
        let text = || {
            serde_json::from_str::<String>(self.value.get())
                .map_err(|_| Problem::invalid("payload.value", "the value of this encoding is a text"))
        };
        match self.encoding {
            Encoding::Json => Ok(self.value.get().as_bytes().to_vec()),
            Encoding::Text => Ok(text()?.into_bytes()),
            Encoding::Base64 => BASE64_STANDARD
                .decode(text()?)
                .map_err(|error| Problem::invalid("payload.value", format!("this is no Base64: {error}"))),
        }
    }
}
