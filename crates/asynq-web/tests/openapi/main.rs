//! The API as its OpenAPI document describes it: schemathesis, a fuzzer for such documents, sends requests to a running server, some
//! as described and some not, and checks each answer against the document.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use asynq::{Client, Inspector, Task, TaskOptions, memory::MemoryStore};
use asynq_web::{
    Web,
    access::{Users, hash_token},
    serve::{Listen, WebServer},
};
use tokio::{process::Command, time::timeout};

/// The variable with the path of the program, which `cargo xtask test` sets.
const VARIABLE: &str = "ASYNQ_SCHEMATHESIS";

/// Longest time of a run. One takes about a minute.
const LIMIT: Duration = Duration::from_secs(20 * 60);

/// The checks of each answer.
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,\
                      response_schema_conformance,unsupported_method,ignored_auth";

/// Returns the program: that of the variable, one in the search path, or the one that xtask has installed.
fn schemathesis() -> OsString {
    if let Some(chosen) = std::env::var_os(VARIABLE).filter(|path| !path.is_empty()) {
        return chosen;
    }
    let program = std::env::current_exe().unwrap();
    let installed = program.ancestors().find_map(|folder| {
        let tools = std::fs::read_dir(folder.join("tools")).ok()?;
        let programs = tools.filter_map(|tool| Some(tool.ok()?.path().join("bin/schemathesis")));
        programs.filter(|path| path.is_file()).max()
    });
    installed.map_or_else(|| "schemathesis".into(), PathBuf::into_os_string)
}

/// A server with queues and tasks of all kinds.
async fn site() -> WebServer {
    let storage = MemoryStore::new();
    let client = Client::new(storage.clone()).await.unwrap();
    let inspector = Inspector::connect(storage.clone()).await.unwrap();
    let hour = Duration::from_secs(3600);
    for number in 0..20 {
        let task = || Task::new("mail:send", format!("{{\"user\":{number}}}").as_bytes()).unwrap();
        let options = |id: &str| TaskOptions::new().task_id(format!("{id}-{number}"));
        client.enqueue_with(task(), options("pending")).await.unwrap();
        client
            .enqueue_with(task(), options("scheduled").process_in(hour))
            .await
            .unwrap();
        client
            .enqueue_with(task(), options("grouped").group("g"))
            .await
            .unwrap();
        let archived = client
            .enqueue_with(task(), options("archived").queue("a/b"))
            .await
            .unwrap();
        inspector.archive_task("a/b", archived.id.as_str()).await.unwrap();
    }
    let token = hash_token("admin");
    let users = format!("[[user]]\nname = 'admin'\ntoken = '{token}'\nrole = 'admin'\n");
    let web = Web::connect(storage)
        .await
        .unwrap()
        .authenticate(Users::parse(&users).unwrap());
    WebServer::bind(web, Listen::on(([127, 0, 0, 1], 0).into()))
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_answers_as_its_document_says() {
    let panics = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&panics);
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        counted.fetch_add(1, Ordering::Relaxed);
        before(info);
    }));
    let server = site().await;
    let url = server.url();
    #[expect(clippy::disallowed_methods, reason = "its test ends it")]
    let serving = tokio::spawn(server.run(std::future::pending()));
    let folder = tempfile::tempdir().unwrap();
    let run = Command::new(schemathesis())
        .args(["run", &format!("{url}/api/v1/openapi.json")])
        .args(["--header", "Authorization:Bearer admin"])
        .args(["--checks", CHECKS])
        // Live updates have no end.
        .args(["--exclude-path", "/events"])
        .args(["--phases", "examples,coverage,fuzzing"])
        .args(["--max-examples", "10", "--seed", "1", "--workers", "1", "--no-shrink"])
        .args(["--continue-on-failure", "--request-timeout", "60"])
        .args(["--suppress-health-check", "all", "--warnings", "off"])
        .current_dir(folder.path())
        .env("NO_COLOR", "1")
        .env("HYPOTHESIS_STORAGE_DIRECTORY", folder.path())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let run = match timeout(LIMIT, run).await.unwrap() {
        Ok(run) => run,
        Err(error) => panic!(
            "cannot run {}: {error}; `cargo xtask test` installs it, and {VARIABLE} names another one",
            Path::new(&schemathesis()).display()
        ),
    };
    serving.abort();
    let text = String::from_utf8_lossy(&run.stdout);
    println!("{text}\n{}", String::from_utf8_lossy(&run.stderr));
    assert!(run.status.success(), "schemathesis has found faults");
    assert!(text.contains("No issues found"), "it has checked something");
    assert_eq!(panics.load(Ordering::Relaxed), 0);
}
