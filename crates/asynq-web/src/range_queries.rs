//! A client for the range queries of a Prometheus server.

use std::time::Duration;

use reqwest::{Client, Url, redirect::Policy};
use serde_json::value::RawValue;

use crate::http_client;

/// Longest time for one answer.
const LIMIT: Duration = Duration::from_secs(30);

/// Largest answer in bytes.
const MAX_ANSWER: usize = 16 << 20;

/// A Prometheus server.
#[derive(Clone, Debug)]
pub(crate) struct Prometheus {
    range: Url,
    client: Client,
}

/// A question about a span of time, in Unix seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Range {
    pub(crate) start: i64,
    pub(crate) end: i64,
    /// Seconds between two points.
    pub(crate) step: i64,
}

impl Prometheus {
    /// A server at the URL of its web interface.
    ///
    /// # Errors
    /// A text about the URL.
    pub(crate) fn new(url: &str) -> Result<Self, String> {
        let wrong = || format!("prometheus: {url:?} is no URL that begins with http://");
        let range = Url::parse(&format!("{}/api/v1/query_range", url.trim_end_matches('/'))).map_err(|_| wrong())?;
        if range.scheme() != "http" || !range.has_host() || range.query().is_some() {
            return Err(wrong());
        }
        let client = http_client::builder()?.timeout(LIMIT).redirect(Policy::none()).build();
        Ok(Self {
            range,
            client: client.map_err(|error| error.to_string())?,
        })
    }

    /// Returns the answer to a query as it is.
    ///
    /// # Errors
    /// A text, without the URL.
    pub(crate) async fn query(&self, query: &str, range: Range) -> Result<Box<RawValue>, String> {
        let mut url = self.range.clone();
        url.query_pairs_mut()
            .append_pair("query", query)
            .append_pair("start", &range.start.to_string())
            .append_pair("end", &range.end.to_string())
            .append_pair("step", &range.step.to_string());
        let failed = |error: reqwest::Error| error.without_url().to_string();
        let mut response = self.client.get(url).send().await.map_err(failed)?;
        let mut answer = Vec::new();
        while let Some(part) = response.chunk().await.map_err(failed)? {
            if answer.len() + part.len() > MAX_ANSWER {
                return Err(format!("the answer has more than {MAX_ANSWER} bytes"));
            }
            answer.extend_from_slice(&part);
        }
        serde_json::from_slice(&answer).map_err(|error| format!("the answer is no JSON: {error}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_http_is_understood() {
        for url in ["http://127.0.0.1:9090", "http://prometheus/", "http://[::1]:1/below/"] {
            assert!(Prometheus::new(url).is_ok(), "{url}");
        }
        for url in ["", "127.0.0.1:9090", "https://prometheus", "file:///x", "http://a/?b"] {
            assert!(Prometheus::new(url).is_err(), "{url}");
        }
    }
}
