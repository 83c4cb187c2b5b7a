//! Completions, manual pages, the reference and watched listings.

use asynq_testing::RedisServer;

use crate::{
    support::{Fixture, PATIENCE},
    terminal::Terminal,
};

#[tokio::test]
async fn completions_know_commands_and_live_queues() {
    let fixture = Fixture::filled().await;
    // As the script of bash asks: the words so far, and the number of the one that is typed.
    let complete = async |words: &[&str]| {
        let index = (words.len() - 1).to_string();
        let words = [&["--", "asynq"], words].concat();
        fixture
            .bare(words)
            .env("COMPLETE", "bash")
            .env(
                "_CLAP_COMPLETE_INDEX",
                &(index.parse::<usize>().unwrap() + 1).to_string(),
            )
            .env("_CLAP_IFS", "\n")
            .env("_CLAP_COMPLETE_COMP_TYPE", "9")
            .ok()
            .await
    };
    let commands = complete(&["task", "arch"]).await;
    assert_eq!(commands.lines().collect::<Vec<_>>(), ["archive", "archiveall"]);
    let url = fixture.redis.url();
    let queues = complete(&["-u", &url, "queue", "pause", "d"]).await;
    assert_eq!(queues.trim(), "default");
    let queues = complete(&["-u", &url, "task", "ls", "-q", ""]).await;
    assert!(queues.contains("low"), "{queues}");
    // Without a Redis, nothing is offered, and nothing is said.
    assert_eq!(complete(&["-u", "127.0.0.1:1", "queue", "pause", "d"]).await.trim(), "");
}

#[tokio::test]
async fn completions_are_set_up_for_each_shell() {
    let fixture = Fixture::start().await;
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = fixture.bare(["completions", shell]).ok().await;
        assert!(
            script.contains("asynq") && script.contains("COMPLETE"),
            "{shell}: {script}"
        );
    }
    assert!(fixture.bare(["completions", "tcsh"]).fails(2).await.contains("tcsh"));
}

#[tokio::test]
async fn every_command_has_a_manual_page() {
    let fixture = Fixture::start().await;
    let folder = fixture.home.path().join("man");
    fixture.bare(["man", "--folder", folder.to_str().unwrap()]).ok().await;
    for page in ["asynq.1", "asynq-task.1", "asynq-task-search.1", "asynq-dash.1"] {
        let text = std::fs::read_to_string(folder.join(page)).unwrap();
        assert!(text.contains(".SH NAME"), "{page}");
    }
    assert!(fixture.bare(["man"]).ok().await.contains(".TH asynq"));
}

/// The reference in `docs/cli.md` is what the program prints. `ASYNQ_UPDATE_DOCS=1` rewrites it.
#[tokio::test]
async fn the_reference_is_that_of_the_program() {
    const MARK: &str = "<!-- The rest of this page is the output of `asynq markdown`. -->\n\n";
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/cli.md");
    let fixture = Fixture::start().await;
    let reference = fixture.bare(["markdown"]).ok().await;
    let text = std::fs::read_to_string(page).unwrap();
    let (guide, written) = text.split_once(MARK).expect("the mark before the reference");
    if std::env::var_os("ASYNQ_UPDATE_DOCS").is_some() {
        std::fs::write(page, format!("{guide}{MARK}{reference}")).unwrap();
    } else {
        assert!(written == reference, "ASYNQ_UPDATE_DOCS=1 rewrites docs/cli.md");
    }
}

#[tokio::test]
async fn a_watched_listing_follows_the_queue() {
    let fixture = Fixture::start().await;
    fixture.enqueue_many("q", "first-", 1).await;
    let words = ["--watch", "100ms", "task", "ls", "-q", "q", "-s", "pending"];
    let mut terminal = Terminal::open(&fixture, &words, 80, 24);
    terminal.wait_for("first-000000");
    fixture.enqueue_many("q", "second-", 1).await;
    let screen = terminal.wait_for("second-000000");
    assert_eq!(
        screen.matches("Payload").count(),
        1,
        "one listing takes the place of the former: {screen}"
    );
    terminal.press("\u{3}");
    assert_eq!(terminal.end(), 0);
    let wrong = fixture.asynq(["--watch", "1s", "queue", "pause", "q"]).fails(2).await;
    assert!(wrong.contains("for commands that show something"), "{wrong}");
    assert!(
        fixture
            .asynq(["--watch", "1ms", "queue", "ls"])
            .fails(2)
            .await
            .contains("at least 100ms")
    );
}

#[tokio::test]
async fn a_watched_listing_outlives_an_outage() {
    let fixture = Fixture::on(RedisServer::builder().persistent().start().await).await;
    fixture.enqueue_many("q", "t", 1).await;
    let words = ["--watch", "100ms", "queue", "ls"];
    let mut terminal = Terminal::open(&fixture, &words, 80, 24);
    terminal.wait_for("q");
    fixture.redis.kill();
    terminal.wait_for("error");
    fixture.redis.restart().await;
    terminal.wait("the listing again", |screen| screen == "q");
    terminal.press("\u{3}");
    assert_eq!(terminal.end(), 0);
}

#[tokio::test]
async fn a_stream_begins_before_its_end_is_read() {
    let fixture = Fixture::start().await;
    fixture.enqueue_many("bulk", "t", 5_000).await;
    let words = ["-o", "ndjson", "task", "ls", "-q", "bulk", "-s", "pending", "--all"];
    let mut child = fixture.asynq(words).spawn();
    let mut stdout = child.stdout.take().unwrap();
    let mut start = [0; 64];
    tokio::io::AsyncReadExt::read_exact(&mut stdout, &mut start)
        .await
        .unwrap();
    assert!(start.starts_with(b"{\"id\":\"t000000\""));
    // The reader goes, as `head` does.
    drop(stdout);
    let status = tokio::time::timeout(PATIENCE, child.wait()).await.unwrap().unwrap();
    assert_eq!(status.code(), Some(0));
}
