//! The connection of a command to its Redis.

use std::{
    io::Write as _,
    sync::Arc,
    time::{Duration, Instant},
};

use asynq::{
    Connector as _, Inspector,
    error::{BrokerError, Error},
    findings::quote,
    redis::{RedisBroker, RedisConnectionType},
};
use asynq_web::records::Redaction;
use serde::Serialize;

use crate::{
    address::connector,
    error::{CliError, Result},
    hands::Hands,
    output::{Form, Output, one_line},
    redact,
    settings::Target,
};

/// A connected Redis, and what the user has said about it.
#[derive(Clone, Debug)]
pub(crate) struct Session {
    /// Reads and acts, on behalf of the operator of `hands`.
    pub(crate) inspector: Inspector,
    pub(crate) redis: Arc<RedisBroker>,
    /// Opens further connections, as clients need them.
    pub(crate) connector: RedisConnectionType,
    pub(crate) target: Target,
    pub(crate) hands: Hands,
    pub(crate) out: Output,
}

impl Session {
    /// Connects, within `limit`.
    ///
    /// # Errors
    /// [`Status::Connection`](crate::error::Status::Connection) with the address and the time that was spent.
    ///
    /// # Cancel safety
    /// Safe.
    pub(crate) async fn open(target: Target, hands: Hands, out: Output, limit: Duration) -> Result<Self> {
        let connector = connector(&target.redis)?.connect_timeout(limit);
        let started = Instant::now();
        let opened = tokio::time::timeout(limit, RedisBroker::new(connector.clone())).await;
        let redis = match opened {
            Ok(Ok(redis)) => Arc::new(redis),
            Ok(Err(error)) => return Err(not_connected(error, &connector, started.elapsed())),
            Err(_) => {
                return Err(CliError::connection(format!(
                    "cannot connect to Redis at {}: no answer within {limit:?}",
                    connector.describe()
                ))
                .hint("`--connect-timeout` waits longer."));
            }
        };
        let storage: Arc<dyn asynq::broker::Storage> = Arc::clone(&redis) as _;
        let mut inspector = Inspector::new(storage).acting_as(hands.operator())?;
        if hands.require_reason {
            inspector = inspector.requiring_reason();
        }
        Ok(Self {
            inspector,
            redis,
            connector,
            target,
            hands,
            out,
        })
    }

    /// Returns a suggested command as it is run on this Redis: with the context, and with the address for `redis-cli`.
    pub(crate) fn runnable(&self, command: &str) -> String {
        let described = self.connector.describe();
        let server = described
            .strip_prefix("redis://")
            .and_then(|rest| rest.split('/').next());
        match (command.strip_prefix("asynq "), &self.target.context, server) {
            (Some(words), Some(context), _) => format!("asynq --context={} {words}", quote(context)),
            (None, _, Some(server)) => match server.rsplit_once(':') {
                Some((host, port)) => command.replace("-h HOST -p PORT", &format!("-h {} -p {port}", quote(host))),
                None => command.to_owned(),
            },
            _ => command.to_owned(),
        }
    }

    /// The task types whose data are hidden here.
    pub(crate) fn redaction(&self) -> Redaction {
        let redaction = redact::types(&self.target.redact);
        match self.out.form {
            Form::Yaml => redaction.with_values_if(redact::is_exact_in_yaml),
            _ => redaction,
        }
    }

    /// Answers an act: `text` for people, with the place on stderr, since the text of Go's program does not say it; or the
    /// record with the place for programs. If nobody reads it any more, the command goes on all the same.
    pub(crate) fn answer(&self, record: &impl Serialize, text: impl FnOnce() -> String) -> Result<()> {
        #[derive(Serialize)]
        struct Answer<'a, T> {
            #[serde(flatten)]
            record: &'a T,
            redis: String,
        }
        if self.out.is_text() {
            // Nobody is left to tell if stderr is closed.
            let _ = writeln!(anstream::stderr(), "at {}", self.place());
        }
        let answer = Answer {
            record,
            redis: self.place(),
        };
        match self.out.record(&answer, text) {
            Err(error) if error.reader_gone => Ok(()),
            written => written,
        }
    }

    /// The Redis as it is named in questions and answers: the context, or else the address.
    pub(crate) fn place(&self) -> String {
        match &self.target.context {
            Some(context) => format!("{} ({})", one_line(context), self.connector.describe()),
            None => self.connector.describe(),
        }
    }
}

fn not_connected(error: Error, connector: &RedisConnectionType, spent: Duration) -> CliError {
    let refused = matches!(&error, Error::Broker(BrokerError::Refused { .. }));
    let error = CliError::from(error);
    let hint = match refused {
        true => "Check `--username` and `--password`.",
        false => "Check `--uri`, or the context, and that Redis runs.",
    };
    CliError {
        status: crate::error::Status::Connection,
        ..error
    }
    .context(format!(
        "cannot connect to Redis at {}, tried for {}",
        connector.describe(),
        asynq::go::write_duration(Duration::from_millis(
            u64::try_from(spent.as_millis()).unwrap_or(u64::MAX)
        ))
    ))
    .hint(hint)
}
