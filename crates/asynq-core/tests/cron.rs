//! Cron specs beside Go's, from a sample that Go wrote. How it is written anew: `interop/go/README.md`; a
//! fresh one is compared by the tests in `interop/`.

use asynq_testing::cron::disagreement;

/// Specs, times, and what robfig/cron v3.0.1 makes of them. No case depends on what the clocks of a zone with
/// changes do after June 2024, so that a newer version of its rules does not matter.
const SAMPLE: &str = include_str!("data/cron.jsonl");

#[test]
fn specs_mean_what_they_mean_in_go() {
    let differences: Vec<_> = SAMPLE.lines().filter_map(disagreement).collect();
    assert!(differences.is_empty(), "{}", differences.join("\n"));
    assert!(SAMPLE.lines().count() >= 4000);
}

/// So that the test above is known to look.
#[test]
fn a_difference_is_noticed() {
    for (line, difference) in [
        (
            r#"{"spec":"@daily","zone":"UTC","from":"2024-01-01T00:00:00Z","next":"2024-01-02T00:00:00Z"}"#,
            None,
        ),
        (
            r#"{"spec":"@daily","zone":"UTC","from":"2024-01-01T00:00:00Z","next":"2024-01-03T00:00:00Z"}"#,
            Some("ours is 2024-01-02T00:00:00Z"),
        ),
        (
            r#"{"spec":"@daily","zone":"UTC","from":"2024-01-01T00:00:00Z","never":true}"#,
            Some("ours is 2024-01-02T00:00:00Z"),
        ),
        (
            r#"{"spec":"0 0 30 2 *","zone":"UTC","from":"2024-01-01T00:00:00Z","next":"2024-02-30T00:00:00Z"}"#,
            Some("ours is never"),
        ),
        (
            r#"{"spec":"0 0 * * *","zone":"UTC","from":"2024-01-01T00:00:00Z","error":"empty spec string"}"#,
            Some("ours takes it"),
        ),
        (
            r#"{"spec":"0 24 * * *","zone":"UTC","from":"2024-01-01T00:00:00Z","error":"empty spec string"}"#,
            Some("ours refuses it for another reason: hour `24`: 24 is above 23 (allowed: 0-23)"),
        ),
        (
            r#"{"spec":"0 24 * * *","zone":"UTC","from":"2024-01-01T00:00:00Z","never":true}"#,
            Some("ours refuses it: hour `24`: 24 is above 23 (allowed: 0-23)"),
        ),
        // Go takes a negative duration as one second; ours refuses it.
        (
            r#"{"spec":"@every -5s","zone":"UTC","from":"2024-01-01T00:00:00.5Z","next":"2024-01-01T00:00:01Z"}"#,
            None,
        ),
        (
            r#"{"spec":"@every -5s","zone":"UTC","from":"2024-01-01T00:00:00Z","next":"2024-01-01T00:00:05Z"}"#,
            Some("ours refuses it as negative"),
        ),
        (
            r#"{"spec":"@daily","zone":"Europe/Berlin","from":"2024-01-01T00:00:00+02:00","never":true}"#,
            Some("our zone says that it begins at 2023-12-31 23:00:00 CET"),
        ),
    ] {
        assert_eq!(
            disagreement(line),
            difference.map(|difference| format!("{line}: {difference}"))
        );
    }
}
