//! The page of the findings, and its doctor.

use super::planted::page;
use crate::support::Site;

#[tokio::test]
async fn everybody_may_check_the_data_and_admins_may_repair_them() {
    let site = Site::with_users().await;
    for (user, may_repair) in [("viewer", false), ("operator", false), ("mail", false), ("admin", true)] {
        let shown = page(&site, user, "/findings").await;
        assert!(shown.contains("data-go") && shown.contains("doctor.js"), "{user}");
        assert_eq!(
            shown.contains("hx-post=\"./api/v1/doctor/fix\""),
            may_repair,
            "{user}: {shown}"
        );
        assert_eq!(shown.contains("data-typed=\"repair\""), may_repair, "{user}");
    }
    let site = Site::with(|web| web.read_only()).await;
    assert!(!page(&site, "", "/findings").await.contains("doctor/fix"));
}
