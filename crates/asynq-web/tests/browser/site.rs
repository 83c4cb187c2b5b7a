//! A web server for a browser.

use asynq::{Client, Inspector, memory::MemoryStore};
use asynq_web::{
    Web,
    access::{Role, Users, hash_password},
    serve::{Listen, WebServer},
};
use tokio::task::JoinSet;

/// The password of all users.
pub(crate) const PASSWORD: &str = "a long password";

/// A web server. It ends with its value.
#[derive(Debug)]
pub(crate) struct Site {
    /// Its URL, without a slash at the end.
    pub(crate) url: String,
    _server: JoinSet<()>,
}

impl Site {
    /// Serves these settings on a free port.
    pub(crate) async fn serve(web: Web) -> Self {
        Self::serve_on(web, |listen| listen).await
    }

    /// [`serve`](Self::serve), with settings of the listener.
    pub(crate) async fn serve_on(web: Web, settings: impl FnOnce(Listen) -> Listen) -> Self {
        let listen = settings(Listen::on(([127, 0, 0, 1], 0).into()));
        let server = WebServer::bind(web, listen).await.unwrap();
        let url = server.url();
        let mut running = JoinSet::new();
        running.spawn(async move { server.run(std::future::pending()).await.unwrap() });
        Self { url, _server: running }
    }

    /// An empty site on the embedded broker, with the users of [`users`].
    pub(crate) async fn with_users() -> Self {
        let web = Web::connect(MemoryStore::new()).await.unwrap();
        Self::serve(web.authenticate(users())).await
    }

    /// The URL of a path.
    pub(crate) fn at(&self, path: &str) -> String {
        format!("{}/{}", self.url, path.trim_start_matches('/'))
    }
}

/// A site on the embedded broker, open to all.
#[derive(Debug)]
pub(crate) struct Small {
    pub(crate) storage: MemoryStore,
    pub(crate) client: Client,
    pub(crate) inspector: Inspector,
    pub(crate) site: Site,
}

impl Small {
    /// Opens it, without tasks.
    pub(crate) async fn open() -> Self {
        let storage = MemoryStore::new();
        Self {
            client: Client::new(storage.clone()).await.unwrap(),
            inspector: Inspector::connect(storage.clone()).await.unwrap(),
            site: Site::serve(Web::connect(storage.clone()).await.unwrap()).await,
            storage,
        }
    }
}

/// The users `viewer`, `operator` and `admin`, who have these roles for all queues, and `mail`, who is an operator of the queues
/// `email*` only.
pub(crate) fn users() -> Users {
    let hash = hash_password(PASSWORD).unwrap();
    let user = |name: &str, role: &str, queues: &str| {
        format!("[[user]]\nname = '{name}'\npassword = '{hash}'\nrole = '{role}'\nqueues = ['{queues}']\n")
    };
    let roles = Role::ALL.map(|role| user(role.as_str(), role.as_str(), "*"));
    Users::parse(&(roles.concat() + &user("mail", "operator", "email*"))).unwrap()
}
