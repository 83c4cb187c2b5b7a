//! The dashboard for Grafana asks only for what is exported.

use std::collections::{BTreeMap, BTreeSet};

use asynq::{
    ActorState, PublishedTree, TreeNode,
    info::{QueueInfo, ServerInfo, ServerStatus},
    metrics::{Metric, MetricKind},
    names::QueueName,
};
use promql_parser::{
    parser::{self, Expr, LabelModifier, VectorSelector},
    util::{ExprVisitor, walk_expr},
};

use super::*;

const DASHBOARD: &str = include_str!("../../grafana/asynq.json");

type Exported = BTreeMap<String, BTreeSet<String>>;

/// All that is exported, by name, with the labels.
fn exported() -> Exported {
    let now = chrono::Utc::now();
    let mut info = QueueInfo::empty(QueueName::new("q").unwrap(), now);
    info.memory_usage = Some(1);
    let readings = queues::Readings {
        queues: vec![info],
        unread: 0,
        oldest: None,
        errors: Vec::new(),
        is_whole: true,
    };
    let server = ServerInfo {
        host: "h".to_owned(),
        pid: 1,
        server_id: "s".to_owned(),
        concurrency: 1,
        queues: BTreeMap::new(),
        strict_priority: false,
        status: ServerStatus::Active,
        start_time: now,
        active_worker_count: 0,
    };
    let mut tree = TreeNode::new("system", ActorState::Running, now);
    (tree.restarts, tree.backlog) = (1, Some(1));
    let tree = PublishedTree {
        host: "h".to_owned(),
        pid: 1,
        server_id: "s".to_owned(),
        tree,
    };
    let counts = attention::Counts::from([(("orphans", "warning".to_owned()), 1)]);
    let metrics = Metrics::new(None);
    metrics.errors.begin();
    metrics.errors.lock().insert("storage_error", 1);
    metrics.requests.ended("GET", "/", "200", 0.1);

    let families = [
        readings.families(|_| true),
        servers::of(&[&server], &[&tree]),
        attention::of(&counts, std::time::Duration::ZERO),
        metrics.errors.families(),
    ];
    let families = families.into_iter().flatten().map(|family| family.finish().unwrap());
    let mut exported = Exported::new();
    for family in families.chain(metrics.requests.gather()) {
        let labels = family.get_metric()[0]
            .get_label()
            .iter()
            .map(|label| label.name().to_owned());
        let mut labels: BTreeSet<_> = labels.collect();
        if !family.get_metric()[0].get_histogram().get_bucket().is_empty() {
            labels.insert("le".to_owned());
        }
        assert!(
            exported.insert(family.name().to_owned(), labels).is_none(),
            "{} is there twice",
            family.name()
        );
    }
    // Those that servers export with the feature `metrics`.
    for Metric { name, kind, labels, .. } in asynq::metrics::ALL {
        let mut labels: BTreeSet<_> = labels.iter().map(|label| (*label).to_owned()).collect();
        if *kind == MetricKind::Histogram {
            labels.insert("le".to_owned());
        }
        assert!(
            exported.insert((*name).to_owned(), labels).is_none(),
            "{name} is exported by both"
        );
    }
    exported
}

/// Finds the labels of a metric; those of a histogram have further names.
fn labels<'e>(exported: &'e Exported, name: &str) -> Option<&'e BTreeSet<String>> {
    let histogram = |suffix| {
        let labels = exported.get(name.strip_suffix(suffix)?)?;
        labels.contains("le").then_some(labels)
    };
    let plain = exported.get(name).filter(|labels| !labels.contains("le"));
    plain
        .or_else(|| histogram("_bucket"))
        .or_else(|| histogram("_sum"))
        .or_else(|| histogram("_count"))
}

/// Collects what an expression asks for, and what is wrong with it.
struct Asked<'e> {
    exported: &'e Exported,
    names: BTreeSet<String>,
    faults: Vec<String>,
}

impl Asked<'_> {
    fn selector(&mut self, selector: &VectorSelector) {
        let name = selector.name.clone().unwrap_or_default();
        match labels(self.exported, &name) {
            None => self.faults.push(format!("no metric {name:?}")),
            Some(known) => {
                for matcher in &selector.matchers.matchers {
                    if !known.contains(&matcher.name) {
                        self.faults.push(format!("{name} has no label {}", matcher.name));
                    }
                }
            }
        }
        self.names.insert(name);
    }
}

impl ExprVisitor for Asked<'_> {
    type Error = ();

    fn pre_visit(&mut self, expr: &Expr) -> std::result::Result<bool, ()> {
        match expr {
            Expr::VectorSelector(selector) => self.selector(selector),
            Expr::MatrixSelector(matrix) => self.selector(&matrix.vs),
            Expr::Aggregate(aggregate) => {
                // Each label that is kept must be one of all that is aggregated.
                let mut inside = Asked {
                    exported: self.exported,
                    names: BTreeSet::new(),
                    faults: Vec::new(),
                };
                walk_expr(&mut inside, &aggregate.expr)?;
                if let Some(LabelModifier::Include(kept)) = &aggregate.modifier {
                    for (label, name) in kept
                        .labels
                        .iter()
                        .flat_map(|l| inside.names.iter().map(move |n| (l, n)))
                    {
                        if labels(self.exported, name).is_some_and(|known| !known.contains(label)) {
                            self.faults.push(format!("{name} has no label {label}"));
                        }
                    }
                }
            }
            _ => {}
        }
        Ok(true)
    }
}

fn ask(exported: &Exported, expr: &str) -> (BTreeSet<String>, Vec<String>) {
    let plain = expr
        .replace("$__rate_interval", "5m")
        .replace("$queue", ".*")
        .replace("$type", ".*");
    let parsed = match parser::parse(&plain) {
        Ok(parsed) => parsed,
        Err(error) => return (BTreeSet::new(), vec![format!("{expr}: {error}")]),
    };
    let mut asked = Asked {
        exported,
        names: BTreeSet::new(),
        faults: Vec::new(),
    };
    walk_expr(&mut asked, &parsed).unwrap();
    let faults = asked.faults.into_iter().map(|fault| format!("{expr}: {fault}"));
    (asked.names, faults.collect())
}

#[test]
fn the_dashboard_asks_only_for_what_is_exported() {
    let exported = exported();
    let dashboard: serde_json::Value = serde_json::from_str(DASHBOARD).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let (mut asked, mut faults, mut ids) = (BTreeSet::new(), Vec::new(), BTreeSet::new());
    for panel in panels {
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{panel}");
        for target in panel["targets"].as_array().into_iter().flatten() {
            let (names, wrong) = ask(&exported, target["expr"].as_str().unwrap());
            asked.extend(names);
            faults.extend(wrong);
        }
    }
    for variable in dashboard["templating"]["list"].as_array().unwrap() {
        let Some(query) = variable["query"]["query"].as_str() else {
            continue;
        };
        let inside = query.strip_prefix("label_values(").unwrap().strip_suffix(')').unwrap();
        let (name, label) = inside.split_once(", ").unwrap();
        if !labels(&exported, name).is_some_and(|labels| labels.contains(label)) {
            faults.push(query.to_owned());
        }
    }
    assert!(faults.is_empty(), "{faults:#?}");
    assert!(asked.len() > 30, "{asked:#?}");
    // What shows nowhere is left out on purpose.
    let base = |name: &String| !asked.iter().any(|asked| asked.starts_with(name.as_str()));
    let unasked: Vec<_> = exported.keys().filter(|name| base(name)).collect();
    assert_eq!(unasked, ["asynq_server_info", "asynq_web_scrapes_total"]);
}

#[test]
fn a_wrong_query_is_found() {
    let exported = exported();
    for wrong in [
        "asynq_queue_sizes",
        "asynq_queue_size{state=\"active\"}",
        "sum by (state) (asynq_queue_size)",
        "rate(asynq_run_duration_seconds[5m])",
        "sum by (le) (rate(asynq_queue_size_bucket[5m]))",
        "sum(asynq_queue_size",
    ] {
        assert!(!ask(&exported, wrong).1.is_empty(), "{wrong}");
    }
}
