//! `asynq tree`.

use asynq::{ActorState, PublishedTree, TreeNode};
use chrono::{DateTime, Utc};
use clap::Args;

use crate::{
    cli::Global,
    error::Result,
    go,
    output::{BOLD, one_line, plain_table},
};

#[derive(Debug, Args)]
#[command(after_help = "Servers publish their trees with their heartbeats, every 5 seconds. Servers of Go have none.")]
pub(crate) struct Tree {
    /// Only the servers whose host, `host:pid` or id this is.
    #[arg(value_name = "SERVER")]
    servers: Vec<String>,
}

impl Tree {
    pub(crate) async fn run(&self, global: &Global) -> Result<()> {
        let session = global.connect().await?;
        let trees = session.inspector.trees().await?;
        let asked = trees.iter().filter(|tree| self.is_asked(tree));
        if !session.out.is_text() {
            let mut records = session.out.listing(&[]);
            for tree in asked {
                records.push(Vec::new(), tree)?;
            }
            records.end(String::new)?;
            return Ok(());
        }
        let now = Utc::now();
        let texts: Vec<String> = asked.map(|tree| text(tree, now)).collect();
        session.out.text(match texts.is_empty() {
            true => "no supervision trees\n".to_owned(),
            false => texts.join("\n"),
        })
    }

    fn is_asked(&self, tree: &PublishedTree) -> bool {
        let is_it = |server: &String| {
            [&tree.host, &tree.server_id].contains(&server) || *server == format!("{}:{}", tree.host, tree.pid)
        };
        self.servers.is_empty() || self.servers.iter().any(is_it)
    }
}

/// A tree for people.
fn text(published: &PublishedTree, now: DateTime<Utc>) -> String {
    let mut rows = Vec::new();
    draw(&published.tree, "", "", now, &mut rows);
    format!(
        "{BOLD}{}{BOLD:#}\n{}",
        one_line(&format!("{}:{} {}", published.host, published.pid, published.server_id)),
        plain_table(
            &["Actor", "State", "Since", "Restarts", "Backlog", "Note", "Last failure"],
            &rows
        )
    )
}

/// Adds the rows of an actor and of those below it. `branch` is in front of its name, `trunk` in front of those below.
fn draw(node: &TreeNode, branch: &str, trunk: &str, now: DateTime<Utc>, rows: &mut Vec<Vec<String>>) {
    let dash = || "-".to_owned();
    rows.push(vec![
        format!("{branch}{}", node.name),
        state(node.state).to_owned(),
        format!("{} ago", go::between(node.since, now)),
        node.restarts.to_string(),
        node.backlog.map_or_else(dash, |backlog| backlog.to_string()),
        node.note.clone().unwrap_or_else(dash),
        node.last_failure.clone().unwrap_or_else(dash),
    ]);
    for (at, child) in node.children.iter().enumerate() {
        let (fork, below) = match at + 1 == node.children.len() {
            true => ("└─ ", "   "),
            false => ("├─ ", "│  "),
        };
        draw(child, &format!("{trunk}{fork}"), &format!("{trunk}{below}"), now, rows);
    }
}

fn state(state: ActorState) -> &'static str {
    match state {
        ActorState::Running => "running",
        ActorState::Restarting => "restarting",
        ActorState::Stopped => "stopped",
        ActorState::Failed => "failed",
        _ => "unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_is_drawn_with_its_branches() {
        let since = DateTime::from_timestamp(1_700_000_000, 0).unwrap();
        let node = |name: &str| TreeNode::new(name, ActorState::Running, since);
        let mut root = node("system");
        let (mut middle, mut last) = (node("maintenance"), node("work"));
        middle.children = vec![node("forwarder"), node("jan\u{1b}[0mitor")];
        let mut processor = TreeNode::new("processor", ActorState::Restarting, since);
        (processor.restarts, processor.backlog) = (3, Some(7));
        (processor.note, processor.last_failure) = (Some("polling".into()), Some("boom\nbang".into()));
        last.children = vec![processor];
        root.children = vec![middle, last];
        let tree = PublishedTree {
            host: "h".into(),
            pid: 7,
            server_id: "s".into(),
            tree: root,
        };
        let drawn = anstream::adapter::strip_str(&text(&tree, since + chrono::TimeDelta::seconds(65))).to_string();
        let expected = "\
h:7 s
Actor                   State       Since     Restarts  Backlog  Note     Last failure
-----                   -----       -----     --------  -------  ----     ------------
system                  running     1m5s ago  0         -        -        -
├─ maintenance          running     1m5s ago  0         -        -        -
│  ├─ forwarder         running     1m5s ago  0         -        -        -
│  └─ jan\\u{1b}[0mitor  running     1m5s ago  0         -        -        -
└─ work                 running     1m5s ago  0         -        -        -
   └─ processor         restarting  1m5s ago  3         7        polling  boom\\nbang
";
        assert_eq!(drawn, expected);
    }
}
