//! The page of the audit trail.

use asynq::inspector::Actor;
use axum::http::{Method, StatusCode};

use super::planted::{SCRIPT, page};
use crate::support::Site;

async fn acts(site: &Site) {
    for queue in ["mail", "default"] {
        site.client.enqueue(super::task("t").with_queue(queue)).await.unwrap();
        let ann = Actor::new("ann").with_reason(format!("{SCRIPT} {queue}"));
        let ann = site.inspector.acting_as(ann).unwrap();
        ann.pause_queue(queue).await.unwrap();
        let bob = site.inspector.acting_as(Actor::new("bob")).unwrap();
        bob.unpause_queue(queue).await.unwrap();
    }
}

#[tokio::test]
async fn acts_are_found_by_user_act_queue_and_time() {
    let site = Site::with_users().await;
    acts(&site).await;
    let rows = |page: &str| page.matches("act-name").count();
    let all = page(&site, "viewer", "/audit").await;
    assert_eq!(rows(&all), 4, "{all}");
    assert!(
        all.contains("&lt;script&gt;alert(&#39;x") || all.contains("&lt;script&gt;alert('x"),
        "{all}"
    );
    for (query, count) in [
        ("actor=ann", 2),
        ("act=unpause_queue", 2),
        ("queue=mail", 2),
        ("actor=bob&queue=mail&act=unpause_queue", 1),
        ("actor=nobody", 0),
        ("range=1h", 4),
        ("from=2000-01-01T00:00", 4),
        ("to=2000-01-01T00:00", 0),
        ("from=2200-01-01T00:00", 0),
    ] {
        let found = page(&site, "viewer", &format!("/audit?{query}")).await;
        assert_eq!(rows(&found), count, "{query}: {found}");
        assert_eq!(found.contains("No act fits"), count == 0, "{query}");
    }
    let own = page(&site, "mail", "/audit").await;
    assert_eq!(rows(&own), 2);
    assert!(!own.contains("default"), "{own}");
    for wrong in ["/audit?from=yesterday", "/audit?cursor=x"] {
        let answer = site.ask("viewer", Method::GET, wrong, None).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{wrong}");
    }
}

#[tokio::test]
async fn a_long_trail_is_shown_part_by_part() {
    let site = Site::open().await;
    assert!(
        page(&site, "", "/audit")
            .await
            .contains("Nobody has changed anything yet")
    );
    site.client.enqueue(super::task("t").with_queue("mail")).await.unwrap();
    for nth in 0..125 {
        let actor = Actor::new(format!("user-{nth:03}")).with_reason("r".repeat(1024));
        let inspector = site.inspector.acting_as(actor).unwrap();
        inspector.pause_queue("mail").await.unwrap();
    }
    let first = page(&site, "", "/audit").await;
    assert!(first.contains(">user-124<") && first.contains(">user-025<") && !first.contains(">user-024<"));
    let (_, next) = first.split_once("rel=\"next\" href=\"").unwrap();
    let next = next.split('"').next().unwrap();
    let second = page(&site, "", &format!("/audit{next}")).await;
    assert!(second.contains(">user-024<") && second.contains(">user-000<") && !second.contains(">user-025<"));
    assert!(second.contains("Newest") && !second.contains("rel=\"next\""));
}
