//! The handlers of the shop's servers.

use std::time::Duration;

use asynq::{Error, HandleTask, Task};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use serde_json::Value;
use tokio::time::sleep;

use super::SCRIPT;

/// Runs the tasks that have no actor.
pub(crate) async fn work(task: Task) -> asynq::Result<()> {
    let context = task.context().cloned();
    match task.get_type() {
        // It runs as long as the shop is open.
        "image:resize" => {
            if let Some(context) = &context {
                context.set_progress(40, "2 of 3 sizes").await?;
            }
            std::future::pending().await
        }
        "email:send" => {
            sleep(Duration::from_millis(5)).await;
            if let Some(context) = &context {
                context
                    .write_result(r#"{"message":"250 2.0.0 OK queued","attempts":1}"#)
                    .await?;
            }
        }
        _ => {}
    }
    Ok(())
}

/// Charges cards.
#[derive(Debug)]
pub(crate) struct Cashier;

impl Actor for Cashier {
    type Msg = HandleTask;
    type State = u64;
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<HandleTask>, (): ()) -> Result<u64, ActorProcessingErr> {
        Ok(0)
    }

    async fn handle(
        &self,
        _: ActorRef<HandleTask>,
        task: HandleTask,
        charged: &mut u64,
    ) -> Result<(), ActorProcessingErr> {
        let Some((task, reply)) = task.start() else {
            return Ok(());
        };
        let payload: Value = serde_json::from_slice(task.get_payload())?;
        let order = &payload["order"];
        let end = match payload["test"].as_str() {
            Some("declined") => Err(Error::other(format!(
                "card declined: issuer did not answer (order {order})"
            ))),
            Some("html") => Err(Error::other(format!("the bank answered {SCRIPT} for order {order}"))),
            Some("crash") => return Err("the connection to the bank broke".into()),
            _ => Ok(()),
        };
        *charged += u64::from(end.is_ok());
        reply.send(end);
        Ok(())
    }
}
