//! The pages of the periodic tasks.

use asynq::{broker::Storage, info::SchedulerEnqueueEvent, names::TaskId};
use chrono::{DateTime, TimeDelta, Utc};

use super::planted::{SCRIPT, ago, entry, page, storage};
use crate::{support::Site, v1::HOUR};

async fn enqueued(storage: &dyn Storage, entry: &str, task: &str, at: DateTime<Utc>) {
    let event = SchedulerEnqueueEvent {
        task_id: TaskId::new(task).unwrap(),
        enqueued_at: at,
    };
    storage.record_enqueue_event(entry, &event).await.unwrap();
}

#[tokio::test]
async fn entries_are_told_in_words_to_those_who_see_their_queue() {
    let site = Site::with_users().await;
    let storage = storage(&site).await;
    let mut digest = entry("m/1", "30 8 * * mon-fri", "mail:digest", "mail");
    // Its scheduler has not told yet when it is due.
    digest.next = None;
    let entries = [
        digest,
        entry("d", "@every 1h", "report", "default"),
        entry("u", "every now and then", "odd", "mail) low"),
    ];
    storage.write_scheduler_entries("a:1:a", &entries, HOUR).await.unwrap();
    let all = page(&site, "viewer", "/schedulers").await;
    for part in [
        "at 08:30 from Monday to Friday",
        "every hour",
        "cannot be read",
        "4 fields instead of 5",
    ] {
        assert!(all.contains(part), "{part}: {all}");
    }
    assert!(!all.contains("/run\""), "{all}");
    let own = page(&site, "mail", "/schedulers").await;
    assert!(
        own.contains("mail:digest") && !own.contains("report") && !own.contains("odd"),
        "{own}"
    );
    assert!(own.contains("hx-post=\"./api/v1/schedulers/m%2F1/run\""), "{own}");
    let one = page(&site, "mail", "/schedulers?entry=m/1").await;
    assert!(
        ["Next times", "Backfill", "08:30:00 UTC"]
            .iter()
            .all(|part| one.contains(part)),
        "{one}"
    );
    assert!(one.contains("nothing since its scheduler started"), "{one}");
    for hidden in ["/schedulers?entry=d", "/schedulers?entry=gone"] {
        assert!(
            page(&site, "mail", hidden)
                .await
                .contains("No running scheduler has this entry")
        );
    }
    assert!(
        !page(&site, "viewer", "/schedulers?entry=m/1")
            .await
            .contains("Backfill")
    );
    let empty = Site::open().await;
    assert!(page(&empty, "", "/schedulers").await.contains("No scheduler runs"));
}

#[tokio::test]
async fn an_entry_that_enqueues_twice_is_marked() {
    let site = Site::open().await;
    let storage = storage(&site).await;
    for (scheduler, id) in [("a:1:a", "one"), ("b:1:b", "two")] {
        let both = [
            entry(id, "@every 1h", "twice", "q"),
            entry(&format!("{id}-x"), "@every 2h", "once", "q"),
        ];
        storage.write_scheduler_entries(scheduler, &both, HOUR).await.unwrap();
        enqueued(&*storage, id, &format!("task-{id}"), ago(100)).await;
    }
    enqueued(&*storage, "one-x", "task-x", ago(100)).await;
    let shown = page(&site, "", "/schedulers").await;
    assert!(shown.contains("1 periodic task is enqueued more than once"), "{shown}");
    assert_eq!(shown.matches("registered 2 times").count(), 2);
    assert_eq!(
        shown.matches("badge warning\" title=\"Each of its entries").count(),
        1,
        "{shown}"
    );
    let one = page(&site, "", "/schedulers?entry=two").await;
    assert!(
        one.contains("tasks/task-one") && one.contains("tasks/task-two"),
        "{one}"
    );
}

#[tokio::test]
async fn the_times_that_were_missed_are_offered_for_a_backfill() {
    let site = Site::open().await;
    let storage = storage(&site).await;
    let next = DateTime::from_timestamp(Utc::now().timestamp() + 300, 0).unwrap();
    let mut hourly = entry("e", "@every 1h", "hourly", "q");
    hourly.next = Some(next);
    storage.write_scheduler_entries("a:1:a", &[hourly], HOUR).await.unwrap();
    let tick = |hours: i32| next - TimeDelta::hours(1) * hours;
    for hours in [1, 2, 4] {
        enqueued(
            &*storage,
            "e",
            &format!("t{hours}"),
            tick(hours) + TimeDelta::milliseconds(5),
        )
        .await;
    }
    let from = (tick(6) - TimeDelta::minutes(1)).format("%Y-%m-%dT%H:%M").to_string();
    let shown = page(&site, "", &format!("/schedulers?entry=e&from={from}")).await;
    let (_, offered) = shown
        .split_once("3 missed, 3 ran.")
        .unwrap_or_else(|| panic!("{shown}"));
    for (hours, is_chosen) in [(3, true), (5, false), (6, false)] {
        // The history does not reach back to the last two.
        let field = format!(
            "value=\"{}\"{}",
            tick(hours).to_rfc3339(),
            if is_chosen { " checked" } else { ">" }
        );
        assert!(offered.contains(&field), "{field}: {offered}");
    }
    for (query, told) in [
        ("from=yesterday", "From is no time"),
        ("from=2026-01-01T00:00&to=2025-01-01T00:00", "ends before it begins"),
        ("from=2026-01-01T00:00&zone=Mars", "There is no time zone"),
        ("from=2200-01-01T00:00", "ends before it begins"),
    ] {
        let shown = page(&site, "", &format!("/schedulers?entry=e&{query}")).await;
        assert!(shown.contains(told), "{query}: {shown}");
    }
}

#[tokio::test]
async fn names_of_others_stay_text() {
    let site = Site::open().await;
    let storage = storage(&site).await;
    let mut odd = entry("e", SCRIPT, SCRIPT, "q");
    odd.payload = SCRIPT.into();
    odd.options.push(SCRIPT.to_owned());
    storage.write_scheduler_entries("a:1:a", &[odd], HOUR).await.unwrap();
    for path in ["/schedulers", "/schedulers?entry=e", "/schedulers?q=%3Cscript%3Ealert"] {
        assert!(page(&site, "", path).await.contains("&lt;script&gt;"), "{path}");
    }
}

#[tokio::test]
async fn a_thousand_entries_are_shown_page_by_page() {
    let site = Site::open().await;
    let storage = storage(&site).await;
    let entries: Vec<_> = (0..1000)
        .map(|nth| {
            entry(
                &format!("entry-{nth:04}"),
                &format!("{} {} * * *", nth % 60, nth % 24),
                &format!("type:{nth:04}"),
                "a-queue",
            )
        })
        .collect();
    storage.write_scheduler_entries("a:1:a", &entries, HOUR).await.unwrap();
    let first = page(&site, "", "/schedulers?sort=type").await;
    assert!(first.contains("Page 1 of 20") && first.contains("type:0049") && !first.contains("type:0050"));
    let last = page(&site, "", "/schedulers?sort=type&page=99").await;
    assert!(last.contains("Page 20 of 20") && last.contains("type:0999"));
}
