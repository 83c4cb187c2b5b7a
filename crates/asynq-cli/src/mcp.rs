//! A server of the Model Context Protocol: the inspector as tools for language models.
//!
//! Nothing but the protocol goes to stdout.

mod answer;
mod args;
mod read;
mod server;
mod watch;
mod write;

use rmcp::{
    ErrorData, ServerHandler, ServiceExt as _,
    handler::server::tool::ToolCallContext,
    model::{CallToolRequestParams, CallToolResponse, ErrorCode, Implementation, ServerCapabilities, ServerConfig},
    service::{QuitReason, RequestContext, RoleServer, ServerInitializeError},
    tool_handler,
    transport::io::stdio_pipes,
};

pub(crate) use self::server::Access;
use self::server::Server;
use crate::error::{CliError, Result};

/// Serves until the client closes stdin.
///
/// # Errors
/// [`Status::Failure`](crate::error::Status::Failure) if the client does not speak the protocol.
pub(crate) async fn serve(access: Access) -> Result<()> {
    let mut router = Server::read_router() + Server::watch_router();
    if access.writes {
        router += Server::write_router();
    }
    let server = Server::new(access, router);
    let running = match server.clone().serve(stdio_pipes()).await {
        Ok(running) => running,
        Err(ServerInitializeError::ConnectionClosed(_)) => return Ok(()),
        Err(error) => return Err(CliError::failure(format!("cannot begin the protocol: {error}"))),
    };
    let ended = running.waiting().await;
    server.last_acts().await;
    match ended {
        Ok(QuitReason::JoinError(error)) | Err(error) => Err(CliError::failure(format!("the server failed: {error}"))),
        Ok(_) => Ok(()),
    }
}

#[tool_handler(router = self.router)]
impl ServerHandler for Server {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
            .with_server_info(Implementation::new("asynq", env!("CARGO_PKG_VERSION")))
            .with_instructions(self.instructions())
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let is_known = self.router.has_route(&request.name);
        match self.router.call(ToolCallContext::new(self, request, context)).await {
            // A model sees the errors of tools, and can mend its arguments.
            Err(error) if is_known && error.code == ErrorCode::INVALID_PARAMS => {
                Ok(answer::failed(&CliError::usage(error.message)).into())
            }
            answered => answered,
        }
    }
}
