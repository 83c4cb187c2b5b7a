//! The system that runs the tasks.

use std::{
    io::{self, BufRead as _, BufReader, Write as _},
    net::TcpStream,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::Context as _;
use asynq::{
    AsynqSystem, Client, Connector, Error, GroupAggregatorFunc, HandleTask, HandlerActorSpec, RetryDelay, ServeMux,
    ServerConfig, Task, TaskContext, extract::State, scheduler::PeriodicTaskConfig, serve_mux::Next,
};
use ractor::{Actor, ActorProcessingErr, ActorRef};

use crate::tasks::{Audit, Booking, Event, Label, Mail, PlaceOrder};

/// The world outside of the service: its bank, its mail server, its printer, its disks. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct World(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    bank_is_away: AtomicU32,
    mails: Mutex<Vec<Mail>>,
    printer: Option<String>,
    labels: Mutex<Vec<String>>,
    stored: Mutex<Vec<Vec<String>>>,
    booked: AtomicU64,
    warmed: AtomicU32,
    runs: AtomicU32,
}

impl World {
    /// A world with a printer at this address.
    #[must_use]
    pub fn with_printer(address: String) -> Self {
        Self(Arc::new(Inner {
            printer: Some(address),
            ..Inner::default()
        }))
    }

    /// The next so many payments fail.
    pub fn bank_is_away_for(&self, payments: u32) {
        self.0.bank_is_away.store(payments, Ordering::SeqCst);
    }

    fn pay(&self, cents: u64) -> anyhow::Result<String> {
        let away = |left: u32| left.checked_sub(1);
        let answer = self
            .0
            .bank_is_away
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, away);
        anyhow::ensure!(answer.is_err(), "the bank is away");
        Ok(format!("paid {cents}"))
    }

    /// Prints a label and waits until the printer says so: for ever, where it is out of paper and nobody comes.
    fn print(&self, label: &str) -> io::Result<()> {
        if let Some(address) = &self.0.printer {
            let mut printer = TcpStream::connect(address)?;
            writeln!(printer, "{label}")?;
            let mut answer = String::new();
            BufReader::new(printer).read_line(&mut answer)?;
            if answer != "printed\n" {
                return Err(io::Error::other(format!("the printer says {answer:?}")));
            }
        }
        let mut labels = self.0.labels.lock().unwrap_or_else(PoisonError::into_inner);
        labels.push(label.to_owned());
        Ok(())
    }

    /// The labels that were printed.
    #[must_use]
    pub fn labels(&self) -> Vec<String> {
        self.0.labels.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The subjects of the mails that were sent.
    #[must_use]
    pub fn mails(&self) -> Vec<String> {
        let mails = self.0.mails.lock().unwrap_or_else(PoisonError::into_inner);
        mails.iter().map(|mail| mail.subject.clone()).collect()
    }

    /// The events that were stored, by the lots in which they were.
    #[must_use]
    pub fn stored(&self) -> Vec<Vec<String>> {
        self.0.stored.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The sum in the books.
    #[must_use]
    pub fn booked(&self) -> u64 {
        self.0.booked.load(Ordering::SeqCst)
    }

    /// Returns how often the cache was warmed.
    #[must_use]
    pub fn warmed(&self) -> u32 {
        self.0.warmed.load(Ordering::SeqCst)
    }

    /// Returns how many runs the middleware has counted.
    #[must_use]
    pub fn runs(&self) -> u32 {
        self.0.runs.load(Ordering::SeqCst)
    }
}

async fn place_order(order: PlaceOrder, world: State<World>, client: Client, run: TaskContext) -> anyhow::Result<()> {
    check(&order).with_context(|| format!("order {}", order.order))?;
    let receipt = world.pay(order.cents)?;
    client.enqueue(Booking { cents: order.cents }).await?;
    let text = format!("order {}", order.order);
    client.enqueue(Label { text }).await?;
    client
        .enqueue(Mail {
            to: order.email,
            subject: format!("order {}: {receipt}", order.order),
        })
        .await?;
    run.write_result(receipt).await?;
    Ok(())
}

fn check(order: &PlaceOrder) -> Result<(), Error> {
    match order.cents {
        // There is nothing to try again: archived at once, through the context around it too.
        0 => Err(Error::skip_retry("there is nothing to pay")),
        _ => Ok(()),
    }
}

async fn send_mail(mail: Mail, world: State<World>) -> anyhow::Result<()> {
    world
        .0
        .0
        .mails
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push(mail);
    Ok(())
}

async fn store(audit: Audit, world: State<World>) -> anyhow::Result<()> {
    let mut stored = world.0.0.stored.lock().unwrap_or_else(PoisonError::into_inner);
    stored.push(audit.events);
    Ok(())
}

async fn warm(world: State<World>) -> anyhow::Result<()> {
    world.0.0.warmed.fetch_add(1, Ordering::SeqCst);
    Ok(())
}

/// Everything that runs as a function, with what is counted and logged around it.
#[must_use]
pub fn handlers(world: World) -> ServeMux {
    let (counted, printing) = (world.clone(), world.clone());
    let mut mux = ServeMux::new().with_state(world);
    mux.route(place_order);
    mux.route(send_mail);
    mux.route(store);
    mux.route_on("cache:warm", warm);
    // The printer's library is not async.
    mux.handle_func("label:print", move |task| {
        let label: Label = task.get_payload_with_json()?;
        printing.print(&label.text).map_err(Error::other)
    });
    mux.wrap(move |task: Task, next: Next| {
        let counted = counted.clone();
        async move {
            counted.0.runs.fetch_add(1, Ordering::SeqCst);
            next.run(task).await
        }
    });
    mux
}

/// Keeps the books: one instance, so that no two bookings meet.
struct Ledger;

#[cfg_attr(feature = "ractor-async-trait", ractor::async_trait)]
impl Actor for Ledger {
    type Msg = HandleTask;
    type State = World;
    type Arguments = World;

    async fn pre_start(&self, _: ActorRef<HandleTask>, world: World) -> Result<World, ActorProcessingErr> {
        Ok(world)
    }

    async fn handle(
        &self,
        _: ActorRef<HandleTask>,
        task: HandleTask,
        world: &mut World,
    ) -> Result<(), ActorProcessingErr> {
        let Some((task, reply)) = task.start() else {
            return Ok(());
        };
        let booked = task.get_payload_with_json::<Booking>().map(|booking| {
            world.0.booked.fetch_add(booking.cents, Ordering::SeqCst);
        });
        reply.send(booked);
        Ok(())
    }
}

/// Starts all that runs tasks. At the end they may run on for `grace`.
///
/// # Errors
/// As [`spawn`](asynq::AsynqSystemBuilder::spawn), where the storage does not answer within 10 s too.
pub async fn start(connector: Arc<dyn Connector>, world: World, grace: Duration) -> asynq::error::Result<AsynqSystem> {
    let config = ServerConfig::new()
        .concurrency(8)
        .shutdown_timeout(grace)
        .queues([("orders", 6), ("default", 3)])
        .group_grace_period(Duration::from_secs(1))?
        .group_max_size(100)
        // A bank that is away comes back soon; all else waits as in Go.
        .retry_delay(RetryDelay::or_default(|_, _, task| {
            (task.get_type() == "order:place").then_some(Duration::from_secs(1))
        }));
    let books = world.clone();
    AsynqSystem::builder(connector)
        .config(config)
        .connect_within(Duration::from_secs(10))
        .handler(handlers(world))
        .handler_actor(HandlerActorSpec::new("ledger:", move || (Ledger, books.clone())))
        .aggregator(GroupAggregatorFunc::new(|_group, tasks| {
            let events = tasks.iter().map(|task| Ok(task.get_payload_with_json::<Event>()?.what));
            Task::new_with_json(
                "audit:store",
                &Audit {
                    events: events.collect::<Result<_, Error>>()?,
                },
            )
        }))
        .periodic(PeriodicTaskConfig::new("@every 1s", Task::new("cache:warm", b"")?))
        .spawn()
        .await
}
