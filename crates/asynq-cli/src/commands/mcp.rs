//! `asynq mcp`.

use clap::Args;

use crate::{cli::Global, error::Result, mcp, redact};

#[derive(Debug, Args)]
#[command(
    after_help = "The tools only read, unless --allow-writes is given. Then each act needs a reason, which goes to the audit \
                        trail with the name of the operator (--actor).\n\n\
                        A client is configured with the command `asynq` and the arguments `mcp`, `--context`, and the name of \
                        a context of the configuration file."
)]
pub(crate) struct Mcp {
    /// Offer tools that change something too.
    #[arg(long)]
    allow_writes: bool,
    /// Hide payloads and results of this task type, or of all that begin alike if it ends in `*`. May be given several times,
    /// and adds to those of the context.
    #[arg(long, value_name = "PATTERN")]
    redact: Vec<String>,
}

impl Mcp {
    pub(crate) async fn run(&self, global: &Global) -> Result<()> {
        let session = global.connect().await?;
        if self.allow_writes {
            // The reason comes with each act.
            let mut hands = session.hands.clone();
            hands.reason = Some("given with each act".to_owned());
            hands.must_be_free()?;
        }
        let mut hidden = session.target.redact.clone();
        hidden.extend(self.redact.iter().cloned());
        mcp::serve(mcp::Access {
            writes: self.allow_writes,
            redaction: redact::types(&hidden),
            hidden,
            session,
        })
        .await
    }
}
