//! `asynq web`, spoken to over HTTP.

use asynq_testing::RedisServer;
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
    process::Child,
    time::timeout,
};

use crate::support::{Asynq, Fixture, PATIENCE, signal};

/// A server that runs.
struct Served {
    child: Child,
    address: String,
}

impl Served {
    /// Starts the server, and waits for the address that it tells.
    async fn start(asynq: Asynq) -> Self {
        let mut child = asynq.spawn();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let address = async {
            while let Some(line) = lines.next_line().await.unwrap() {
                if let Some((_, address)) = line.split_once(" is served at http://") {
                    return address.to_owned();
                }
            }
            panic!("the server told no address");
        };
        let address = timeout(PATIENCE, address).await.unwrap();
        Self { child, address }
    }

    /// Sends a request, and returns the status with the body.
    async fn send(&self, method: &str, path: &str, headers: &str, body: &str) -> (u16, String) {
        let exchange = async {
            let mut stream = TcpStream::connect(&self.address).await.unwrap();
            let length = body.len();
            let (_, port) = self.address.rsplit_once(':').unwrap();
            let request = format!(
                "{method} {path} HTTP/1.1\r\nHost: localhost:{port}\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n{body}"
            );
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            let (head, body) = answer.split_once("\r\n\r\n").unwrap();
            let status = head.split(' ').nth(1).unwrap().parse().unwrap();
            (status, body.to_owned())
        };
        timeout(PATIENCE, exchange).await.unwrap()
    }

    async fn get(&self, path: &str, headers: &str) -> (u16, String) {
        self.send("GET", path, headers, "").await
    }

    /// Asks the server to end, and returns its exit status.
    async fn end(mut self) -> Option<i32> {
        signal(&self.child, rustix::process::Signal::TERM);
        timeout(PATIENCE, self.child.wait()).await.unwrap().unwrap().code()
    }
}

#[tokio::test]
async fn it_serves_the_queues_of_its_redis_until_it_is_told_to_end() {
    let fixture = Fixture::start().await;
    let served = Served::start(fixture.asynq(["web", "--port", "0"])).await;
    assert!(served.address.starts_with("127.0.0.1:"), "{}", served.address);
    assert_eq!(served.get("/readyz", "").await, (200, "ok\n".to_owned()));
    let (status, session) = served.get("/api/v1/session", "").await;
    let session: Value = serde_json::from_str(&session).unwrap();
    assert_eq!(
        (status, &session["role"], &session["read_only"]),
        (200, &"admin".into(), &false.into())
    );
    assert_eq!(served.end().await, Some(0));
}

#[tokio::test]
async fn contexts_of_the_file_stand_beside_each_other() {
    let fixture = Fixture::start().await;
    let uri = fixture.redis.url();
    fixture.write_home(
        ".asynq.yaml",
        &format!(
            "contexts:\n  live:\n    uri: {uri}\n    protected: true\n  look:\n    uri: {uri}\n    db: 1\n    environment: staging\n    read_only: true\n"
        ),
    );
    let served = Served::start(fixture.bare(["--context", "live", "web", "--port", "0", "--beside", "look"])).await;
    let (status, page) = served.get("/contexts/look", "").await;
    assert_eq!(status, 200);
    assert!(page.contains(">live<") && page.contains(">look<"), "{page}");
    assert!(
        page.contains(r#"data-environment="staging""#) && page.contains("read-only"),
        "{page}"
    );
    let (_, page) = served.get("/", "").await;
    assert!(page.contains(r#"data-environment="production""#), "{page}");
    assert_eq!(served.end().await, Some(0));

    for (name, says) in [("nowhere", "no context \"nowhere\""), ("live", "given twice")] {
        let refused = fixture
            .bare(["--context", "live", "web", "--port", "0", "--beside", name])
            .run()
            .await;
        assert!(refused.stderr.contains(says), "{}", refused.stderr);
    }
}

#[tokio::test]
async fn users_come_in_with_a_password_or_a_token_of_the_program() {
    let fixture = Fixture::start().await;
    let password = fixture.bare(["web", "password"]).stdin("secret\n").ok().await;
    let made = fixture.bare(["web", "token"]).json().await;
    let (token, hash) = (made["token"].as_str().unwrap(), made["hash"].as_str().unwrap());
    fixture.write_home(
        "users.toml",
        &format!(
            "[[user]]\nname = 'ann'\n{password}role = 'admin'\n\n[[user]]\nname = 'ci'\ntoken = '{hash}'\nrole = 'viewer'\n"
        ),
    );
    let users = fixture.home.path().join("users.toml");
    let served = Served::start(fixture.asynq(["web", "--port", "0", "--users", users.to_str().unwrap()])).await;
    assert_eq!(served.get("/api/v1/session", "").await.0, 401);
    let (status, session) = served
        .get("/api/v1/session", &format!("Authorization: Bearer {token}\r\n"))
        .await;
    assert_eq!(status, 200);
    assert_eq!(serde_json::from_str::<Value>(&session).unwrap()["user"], "ci");
    let json = "Content-Type: application/json\r\n";
    for (password, status) in [("wrong", 401), ("secret", 200)] {
        let body = format!(r#"{{"name":"ann","password":"{password}"}}"#);
        assert_eq!(
            served.send("POST", "/api/v1/session", json, &body).await.0,
            status,
            "{password}"
        );
    }
    assert_eq!(served.end().await, Some(0));
}

#[tokio::test]
async fn new_findings_are_posted_to_the_webhook() {
    let fixture = Fixture::start().await;
    fixture.write_home("secret", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n");
    let secret = fixture.home.path().join("secret");
    let receiver = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook", receiver.local_addr().unwrap());
    let mut raw = fixture.redis.client().await;
    raw.ok(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]).await;
    let words = [
        "web",
        "--port",
        "0",
        "--webhook",
        &url,
        "--webhook-secret",
        secret.to_str().unwrap(),
    ];
    let served = Served::start(fixture.asynq(words)).await;
    let received = async {
        let (mut stream, _) = receiver.accept().await.unwrap();
        let mut text = String::new();
        let mut part = [0; 4096];
        while !text.contains("asynq.findings.new") {
            let read = stream.read(&mut part).await.unwrap();
            assert_ne!(read, 0, "{text}");
            text.push_str(&String::from_utf8_lossy(&part[..read]));
        }
        text
    };
    let text = timeout(PATIENCE, received).await.unwrap();
    assert!(text.starts_with("POST /hook HTTP/1.1\r\n"), "{text}");
    assert!(text.contains("webhook-signature: v1,"), "{text}");
    assert!(text.contains("eviction_policy"), "{text}");
    assert_eq!(served.end().await, Some(0));
}

#[tokio::test]
async fn nothing_can_be_changed_where_the_context_says_so() {
    let fixture = Fixture::start().await;
    let url = fixture.redis.url();
    fixture.write_home(
        ".asynq.yaml",
        &format!("context: prod\ncontexts:\n  prod: {{uri: '{url}', protected: true}}\n  ro: {{uri: '{url}', read_only: true}}\n"),
    );
    for (words, status) in [
        (&["web", "--port", "0"][..], 405),
        (&["--context", "ro", "web", "--port", "0"], 405),
        (&["--context", "prod", "--read-only", "web", "--port", "0"], 405),
        (&["--context", "prod", "web", "--port", "0"], 200),
    ] {
        let served = Served::start(fixture.bare(words)).await;
        assert_eq!(
            served.send("POST", "/api/v1/doctor/fix", "", "").await.0,
            status,
            "{words:?}"
        );
        assert_eq!(served.end().await, Some(0));
    }
}

#[tokio::test]
async fn unsafe_addresses_and_wrong_flags_are_refused() {
    let fixture = Fixture::on(RedisServer::start().await).await;
    let token = fixture.bare(["web", "token"]).json().await["hash"].clone();
    fixture.write_home(
        "users.toml",
        &format!("[[user]]\nname = 'ci'\ntoken = {token}\nrole = 'viewer'\n"),
    );
    fixture.write_home("wrong.toml", "[[user]]\nname = 'ci'\n");
    let home = |name: &str| fixture.home.path().join(name).to_str().unwrap().to_owned();
    let (users, wrong, none) = (home("users.toml"), home("wrong.toml"), home("none.toml"));
    for (words, status, text) in [
        (&["--listen", "0.0.0.0:0"][..], 4, "there is no authentication"),
        (&["--listen", "[::]:0"], 4, "there is no authentication"),
        (&["--listen", "0.0.0.0:0", "--users", &users], 4, "without HTTPS"),
        (&["--users", &wrong], 2, "needs a password or a token"),
        (&["--users", &none], 2, "cannot read the users"),
        (&["--listen", "localhost"], 2, "invalid socket address"),
        (&["--port", "65536"], 2, "65536 is not in 0..=65535"),
        (&["--tls-cert", &users], 2, "--tls-key"),
        (
            &["--port", "0", "--tls-cert", &users, "--tls-key", &users],
            1,
            "cannot use the certificate",
        ),
        (&["--proxy-header", "x-user"], 2, "--proxy-from"),
        (
            &["--proxy-header", "x user", "--proxy-from", "127.0.0.1"],
            2,
            "is no name of a header",
        ),
        (&["--webhook", "https://hooks.example.com"], 2, "--webhook-secret"),
        (
            &["--webhook", "https://hooks.example.com", "--webhook-secret", &none],
            2,
            "cannot read the secret",
        ),
        (
            &["--webhook", "https://hooks.example.com", "--webhook-secret", &wrong],
            2,
            "it must be `whsec_`",
        ),
        (
            &["--webhook", "ftp://hooks", "--webhook-secret", &wrong],
            2,
            "it must begin with https://",
        ),
        (&["--prometheus", "ftp://prometheus"], 2, "http://"),
        (&["--public-url", "queues"], 2, "a URL is like"),
        (&["--frame-ancestors", "a;b"], 2, "is no list of sources"),
    ] {
        let said = fixture.asynq(["web"]).args(words).fails(status).await;
        assert!(said.contains(text), "{words:?}: {said}");
    }
    let said = fixture.bare(["web", "password"]).stdin("\n").fails(2).await;
    assert!(said.contains("a password has 1 to 1024 bytes"), "{said}");
}
