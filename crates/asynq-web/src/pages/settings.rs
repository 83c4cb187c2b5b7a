//! The settings of a browser. They are in a cookie that the settings page writes, so that pages come from the server as their
//! reader wants them.

use axum::http::{HeaderMap, header};
use axum_extra::extract::CookieJar;
use chrono::{DateTime, Utc};
use chrono_tz::Tz;

/// Name of the cookie.
pub(crate) const COOKIE: &str = "asynq_settings";

/// The colours of the pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Theme {
    /// As the system has it.
    #[default]
    Auto,
    Light,
    Dark,
}

impl Theme {
    pub(crate) const ALL: [Self; 3] = [Self::Auto, Self::Light, Self::Dark];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Light => "light",
            Self::Dark => "dark",
        }
    }
}

/// The settings of a browser.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) theme: Theme,
    /// The time zone in which absolute times are shown.
    pub(crate) zone: Tz,
    /// Seconds between two updates of what lives, `None` for no updates.
    pub(crate) refresh: Option<u32>,
    /// Rows are low, for many of them.
    pub(crate) is_dense: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            theme: Theme::Auto,
            zone: Tz::UTC,
            refresh: Some(3),
            is_dense: false,
        }
    }
}

/// The choices for the time between two updates, in seconds.
pub(crate) const REFRESH: [u32; 5] = [2, 3, 5, 15, 60];

impl Settings {
    /// Reads the settings of a request. What cannot be read has its default.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let mut settings = Self::default();
        if !headers.contains_key(header::COOKIE) {
            return settings;
        }
        let jar = CookieJar::from_headers(headers);
        let Some(cookie) = jar.get(COOKIE) else {
            return settings;
        };
        let text = percent_encoding::percent_decode_str(cookie.value()).decode_utf8_lossy();
        for (name, value) in form_urlencoded::parse(text.as_bytes()) {
            match name.as_ref() {
                "theme" => {
                    let named = Theme::ALL.into_iter().find(|theme| theme.as_str() == value);
                    settings.theme = named.unwrap_or_default();
                }
                "zone" => settings.zone = value.parse().unwrap_or(Tz::UTC),
                "refresh" if value == "off" => settings.refresh = None,
                "refresh" => {
                    let seconds = value.parse().ok().filter(|seconds| REFRESH.contains(seconds));
                    settings.refresh = seconds.or(settings.refresh);
                }
                "density" => settings.is_dense = value == "compact",
                _ => {}
            }
        }
        settings
    }

    /// Returns an absolute time in the time zone.
    pub(crate) fn absolute(&self, at: DateTime<Utc>) -> String {
        at.with_timezone(&self.zone).format("%Y-%m-%d %H:%M:%S %Z").to_string()
    }

    /// Returns the time of day in the time zone.
    pub(crate) fn time_of_day(&self, at: DateTime<Utc>) -> String {
        at.with_timezone(&self.zone).format("%H:%M").to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(cookie: &str) -> Settings {
        let mut headers = HeaderMap::new();
        headers.insert(header::COOKIE, cookie.parse().unwrap());
        Settings::of(&headers)
    }

    #[test]
    fn settings_are_read_from_the_cookie() {
        let read_all =
            read("asynq_settings=theme%3Ddark%26zone%3DEurope%252FBerlin%26refresh%3Doff%26density%3Dcompact");
        assert_eq!(read_all.theme, Theme::Dark);
        assert_eq!(read_all.zone, Tz::Europe__Berlin);
        assert_eq!(read_all.refresh, None);
        assert!(read_all.is_dense);
        let at = DateTime::from_timestamp(1_790_000_000, 0).unwrap();
        assert_eq!(read_all.absolute(at), "2026-09-21 16:13:20 CEST");
    }

    #[test]
    fn what_cannot_be_read_has_its_default() {
        for cookie in [
            "asynq_settings=",
            "asynq_settings=%ff%3d",
            "asynq_settings=theme%3Dpink%26zone%3DMars%26refresh%3D1",
            "x=y",
        ] {
            let settings = read(cookie);
            assert_eq!(settings.theme, Theme::Auto, "{cookie}");
            assert_eq!(settings.zone, Tz::UTC, "{cookie}");
            assert_eq!(settings.refresh, Some(3), "{cookie}");
        }
    }
}
