//! The published crate `chasquimq` as a contestant. It needs Redis 8.6 or newer.

use std::sync::Arc;

use anyhow::Result;
use bytes::Bytes;
use chasquimq::{Consumer, ConsumerConfig, Producer, ProducerConfig};
use contest::{Handler, Params, Queue};
use tokio_util::sync::CancellationToken;

#[derive(Clone)]
struct Chasqui(Arc<Producer<String>>);

impl Queue for Chasqui {
    const BULK: bool = true;

    async fn connect(params: &Params) -> Result<Self> {
        let producer = Producer::connect(&params.url(), ProducerConfig::default()).await?;
        Ok(Self(Arc::new(producer)))
    }

    async fn enqueue(&self, payload: String) -> Result<()> {
        self.0.add(payload).await?;
        Ok(())
    }

    async fn enqueue_bulk(&self, payloads: Vec<String>) -> Result<()> {
        self.0.add_bulk(payloads).await?;
        Ok(())
    }

    async fn work(params: Params, handler: Handler) -> Result<()> {
        let config = ConsumerConfig {
            concurrency: params.concurrency,
            // Nobody reads the stream of events.
            events_enabled: false,
            ..ConsumerConfig::default()
        };
        Consumer::<String>::new(params.url(), config)
            .run(
                move |job| {
                    handler(job.payload.as_bytes());
                    std::future::ready(Ok(Bytes::new()))
                },
                CancellationToken::new(),
            )
            .await?;
        Ok(())
    }
}

fn main() -> Result<()> {
    contest::run::<Chasqui>()
}
