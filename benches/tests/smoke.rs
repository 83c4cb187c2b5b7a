//! The measuring program measures: few tasks, ours and the bare scripts, without an optimized build.

use std::process::Command;

use serde_json::Value;

/// Counts are checked by the program itself: a task that is missing or stays active fails it.
#[test]
fn ours_and_the_bare_scripts_settle_all_tasks() {
    let folder = tempfile::tempdir().unwrap();
    let (json, tables) = (folder.path().join("figures.json"), folder.path().join("tables.md"));
    let output = Command::new(env!("CARGO_BIN_EXE_asynq-bench"))
        .args(["--quick", "--pairs", "1", "--divide", "100"])
        .args(["--only", "enqueue-10,enqueue-bulk-100,drain-10,mixed,both,far-100"])
        .args(["--contestants", "ours,bare"])
        .arg("--json")
        .arg(&json)
        .arg("--markdown")
        .arg(&tables)
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");

    let results: Value = serde_json::from_slice(&std::fs::read(json).unwrap()).unwrap();
    let lines = results["lines"].as_array().unwrap();
    let of = |row: &str, contestant: &str| {
        let found = lines
            .iter()
            .find(|line| line["row"] == row && line["contestant"] == contestant);
        let samples = found.unwrap_or_else(|| panic!("{row} by {contestant}"))["samples"]
            .as_array()
            .unwrap();
        samples[0].clone()
    };
    for (row, contestant, tasks) in [
        ("enqueue-10", "ours, 2 workers", 200),
        ("enqueue-10", "bare script", 200),
        ("enqueue-bulk-1000", "bare script", 600),
        ("drain-10", "ours, 2 workers", 1000),
        ("drain-10", "bare script", 1000),
        ("mixed", "ours, 2 workers", 180),
        ("both-100", "ours, 2 workers", 300),
        ("far-100", "ours, 2 workers", 200),
        ("far-100", "bare script", 200),
    ] {
        let sample = of(row, contestant);
        assert_eq!(sample["tasks"], tasks, "{row} by {contestant}: {sample}");
        for figure in ["seconds", "client_cpu", "redis_cpu"] {
            assert!(
                sample[figure].as_f64().unwrap() > 0.0,
                "{figure} of {row} by {contestant}: {sample}"
            );
        }
        let scripts = sample["scripts"].as_u64().unwrap();
        assert!(
            (1..=2 * tasks + 100).contains(&scripts),
            "{row} by {contestant}: {sample}"
        );
    }
    let tables = std::fs::read_to_string(tables).unwrap();
    assert!(tables.contains("### Drain of no-op tasks"), "{tables}");
}
