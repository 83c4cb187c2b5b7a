//! Charts, as SVG. They need no script, and tell their values to readers of a screen.

use chrono::{DateTime, Utc};
use maud::{Markup, html};

use super::format;
use crate::pages::view::View;

/// Returns a small line without axes. `label` says in words what it shows.
#[expect(clippy::cast_precision_loss, reason = "pixels")]
pub(crate) fn spark(values: &[u64], label: &str) -> Markup {
    const WIDTH: f64 = 100.0;
    const HEIGHT: f64 = 24.0;
    let most = values.iter().copied().max().unwrap_or(0);
    let step = WIDTH / (values.len().max(2) - 1) as f64;
    let height = |value: u64| HEIGHT - 1.0 - (HEIGHT - 3.0) * (value as f64 / most.max(1) as f64);
    let points = values.iter().enumerate();
    let points: Vec<String> = points
        .map(|(index, value)| format!("{:.1},{:.1}", index as f64 * step, height(*value)))
        .collect();
    html! {
        svg class="spark" viewBox="0 0 100 24" preserveAspectRatio="none" role="img" aria-label=(label) {
            @if most > 0 {
                polygon class="spark-area" points={ "0,24 " (points.join(" ")) " 100,24" } {}
                polyline class="spark-line" points=(points.join(" ")) {}
            } @else {
                line class="spark-none" x1="0" y1="23" x2="100" y2="23" {}
            }
        }
    }
}

/// A series of a chart: its name, the class of its colour, and a value for each point.
#[derive(Clone, Debug)]
pub(crate) struct Series {
    pub(crate) name: &'static str,
    /// The end of a class `series-…` of the stylesheet.
    pub(crate) class: &'static str,
    pub(crate) values: Vec<Option<f64>>,
}

/// The form of a chart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// Bars on each other: parts of a whole.
    Bars,
    Lines,
}

/// Width of a chart, in pixels, and that of a wide one.
const WIDTH: f64 = 560.0;
const WIDE: f64 = 1120.0;
const HEIGHT: f64 = 180.0;
const LEFT: f64 = 62.0;
const RIGHT: f64 = 8.0;
const TOP: f64 = 10.0;
const BOTTOM: f64 = 22.0;

/// Returns a chart over time, for half of the page's width. `times` are the starts of its points; `shown` turns a value into a label.
pub(crate) fn over_time(
    view: &View,
    label: &str,
    times: &[DateTime<Utc>],
    series: &[Series],
    form: Form,
    shown: impl Fn(f64) -> String,
) -> Markup {
    draw(view, WIDTH, label, times, series, form, shown)
}

/// Returns a chart as [`over_time`], for the whole width of the page.
pub(crate) fn wide_over_time(
    view: &View,
    label: &str,
    times: &[DateTime<Utc>],
    series: &[Series],
    form: Form,
    shown: impl Fn(f64) -> String,
) -> Markup {
    draw(view, WIDE, label, times, series, form, shown)
}

#[expect(clippy::cast_precision_loss, reason = "pixels")]
fn draw(
    view: &View,
    full_width: f64,
    label: &str,
    times: &[DateTime<Utc>],
    series: &[Series],
    form: Form,
    shown: impl Fn(f64) -> String,
) -> Markup {
    let total = |index: usize| {
        series
            .iter()
            .filter_map(|series| *series.values.get(index)?)
            .sum::<f64>()
    };
    let largest = match form {
        Form::Bars => (0..times.len()).map(total).fold(0.0, f64::max),
        Form::Lines => {
            let values = series.iter().flat_map(|series| series.values.iter().flatten().copied());
            values.fold(0.0, f64::max)
        }
    };
    if times.is_empty() || largest <= 0.0 {
        return html! { p class="chart-none" { "Nothing in this time." } };
    }
    let top = rounded_up(largest);
    // On a narrow page a wide chart keeps its height.
    let is_wide = full_width > WIDTH;
    let (width, height) = (full_width - LEFT - RIGHT, HEIGHT - TOP - BOTTOM);
    let slot = width / times.len() as f64;
    let x = |index: usize| LEFT + index as f64 * slot;
    let y = |value: f64| TOP + height * (1.0 - value / top);
    let ticks = [0.0, top / 2.0, top];
    let label_every = times.len().div_ceil(6).max(1);
    html! {
        figure class=(if is_wide { "chart chart-wide" } else { "chart" }) {
            svg viewBox={ "0 0 " (full_width) " " (HEIGHT) } preserveAspectRatio=[is_wide.then_some("none")] role="img" aria-label=(label) {
                @for tick in ticks {
                    line class="chart-grid" x1=(LEFT) x2=(full_width - RIGHT) y1=(y(tick)) y2=(y(tick)) {}
                    text class="chart-label chart-label-y" x=(LEFT - 6.0) y=(y(tick) + 4.0) { (shown(tick)) }
                }
                @for (index, at) in times.iter().enumerate().step_by(label_every) {
                    text class="chart-label" x=(x(index)) y=(HEIGHT - 6.0) { (time_label(view, *at, times)) }
                }
                @match form {
                    Form::Bars => { (bars(times.len(), series, &x, &y, slot)) }
                    Form::Lines => { (lines(series, &x, &y, slot)) }
                }
                // One area a point, to point at.
                @for (index, at) in times.iter().enumerate() {
                    rect class="chart-point" x=(format!("{:.1}", x(index))) y=(TOP) width=(format!("{slot:.1}")) height=(height) {
                        title {
                            (moment_label(view, *at, times))
                            @for series in series {
                                @if let Some(Some(value)) = series.values.get(index) {
                                    "\n" (series.name) ": " (shown(*value))
                                }
                            }
                        }
                    }
                }
            }
            figcaption {
                @for series in series {
                    span class={ "legend series-" (series.class) } { (series.name) }
                }
            }
        }
    }
}

fn bars(points: usize, series: &[Series], x: &impl Fn(usize) -> f64, y: &impl Fn(f64) -> f64, slot: f64) -> Markup {
    let gap = if slot > 4.0 { 1.0 } else { 0.0 };
    html! {
        @for index in 0..points {
            @let mut below = 0.0;
            @for series in series {
                @let value = series.values.get(index).copied().flatten().unwrap_or(0.0);
                @if value > 0.0 {
                    rect class={ "chart-bar series-" (series.class) } x=(format!("{:.1}", x(index)))
                        y=(format!("{:.1}", y(below + value))) width=(format!("{:.1}", (slot - gap).max(0.5)))
                        height=(format!("{:.1}", y(below) - y(below + value))) {}
                }
                @let () = below += value;
            }
        }
    }
}

fn lines(series: &[Series], x: &impl Fn(usize) -> f64, y: &impl Fn(f64) -> f64, slot: f64) -> Markup {
    let path = |series: &Series| {
        let mut path = String::new();
        let mut pen_is_down = false;
        for (index, value) in series.values.iter().enumerate() {
            match value {
                Some(value) => {
                    let order = if pen_is_down { 'L' } else { 'M' };
                    path.push_str(&format!("{order}{:.1} {:.1}", x(index) + slot / 2.0, y(*value)));
                    if !pen_is_down {
                        // A point without neighbours is a dot.
                        path.push_str("h.1");
                    }
                    pen_is_down = true;
                }
                None => pen_is_down = false,
            }
        }
        path
    };
    html! {
        @for series in series {
            path class={ "chart-line series-" (series.class) } d=(path(series)) {}
        }
    }
}

/// Returns whether the points are whole days. Days are those of UTC for everybody.
fn are_days(times: &[DateTime<Utc>]) -> bool {
    times.len() > 1 && times.iter().all(|at| at.timestamp().rem_euclid(86_400) == 0)
}

/// Returns the time of a point in full.
fn moment_label(view: &View, at: DateTime<Utc>, times: &[DateTime<Utc>]) -> String {
    match are_days(times) {
        true => at.format("%Y-%m-%d (UTC)").to_string(),
        false => view.settings.absolute(at),
    }
}

/// Returns a label of the time axis: the time of day, or the day if the points are days apart.
fn time_label(view: &View, at: DateTime<Utc>, times: &[DateTime<Utc>]) -> String {
    if are_days(times) {
        return at.format("%m-%d").to_string();
    }
    let span = times.last().zip(times.first()).map(|(last, first)| *last - *first);
    match span {
        Some(span) if span.num_hours() > 72 => at.with_timezone(&view.settings.zone).format("%m-%d").to_string(),
        Some(span) if span.num_hours() > 24 => at.with_timezone(&view.settings.zone).format("%a %H:%M").to_string(),
        _ => view.settings.time_of_day(at),
    }
}

/// Returns the next number of the form 1, 2 or 5 times a power of ten.
fn rounded_up(value: f64) -> f64 {
    let power = 10_f64.powf(value.log10().floor());
    [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .map(|factor| factor * power)
        .find(|rounded| *rounded >= value)
        .unwrap_or(value)
}

/// Returns a bar that shows a part of a whole.
pub(crate) fn meter(part: f64, label: &str) -> Markup {
    let part = if part.is_finite() { part.clamp(0.0, 1.0) } else { 0.0 };
    html! {
        svg class="meter" viewBox="0 0 100 8" preserveAspectRatio="none" role="img" aria-label=(label) {
            rect class="meter-all" x="0" y="0" width="100" height="8" {}
            rect class="meter-part" x="0" y="0" width=(format!("{:.1}", part * 100.0)) height="8" {}
        }
    }
}

/// Returns the label of a number of tasks on an axis.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "counts are not negative"
)]
pub(crate) fn count_label(value: f64) -> String {
    match value.fract() == 0.0 {
        true => format::short_number(value as u64),
        false => format::three_digits(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_end_at_round_numbers() {
        for (value, rounded) in [(0.03, 0.05), (1.0, 1.0), (3.0, 5.0), (51.0, 100.0), (1200.0, 2000.0)] {
            assert!((rounded_up(value) - rounded).abs() < 1e-9, "{value}");
        }
    }

    #[test]
    fn a_spark_without_values_is_a_flat_line() {
        for values in [&[][..], &[0, 0, 0]] {
            assert!(spark(values, "none").into_string().contains("spark-none"));
        }
        assert!(spark(&[7], "one").into_string().contains("points=\"0.0,2.0\""));
    }
}
