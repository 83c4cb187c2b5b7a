//! The payloads of the service's tasks.

use asynq::TaskPayload;
use serde::{Deserialize, Serialize};

/// An order to be paid. Its task has the order's number as id, and is kept for a day with the receipt.
#[derive(Clone, Debug, Serialize, Deserialize, TaskPayload)]
#[task(
    type = "order:place",
    queue = "orders",
    max_retry = 3,
    timeout = "30s",
    retention = "24h"
)]
pub struct PlaceOrder {
    /// The order's number.
    pub order: String,
    /// Address for the mails.
    pub email: String,
    /// Price in cents.
    pub cents: u64,
}

/// A mail to a customer.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize, TaskPayload)]
#[task(type = "mail:send")]
pub struct Mail {
    /// Address of the mail.
    pub to: String,
    /// Subject of the mail.
    pub subject: String,
}

/// A label for a parcel.
#[derive(Debug, Serialize, Deserialize, TaskPayload)]
#[task(type = "label:print")]
pub struct Label {
    /// Text on the label.
    pub text: String,
}

/// An amount for the books.
#[derive(Debug, Serialize, Deserialize, TaskPayload)]
#[task(type = "ledger:add")]
pub struct Booking {
    /// Price paid, in cents.
    pub cents: u64,
}

/// Something that happened in the shop. Stored many at a time, see [`Audit`].
#[derive(Debug, Serialize, Deserialize, TaskPayload)]
#[task(type = "audit:event")]
pub struct Event {
    /// Text of the event.
    pub what: String,
}

/// The events of some time.
#[derive(Debug, Serialize, Deserialize, TaskPayload)]
#[task(type = "audit:store")]
pub struct Audit {
    /// In the order of the seconds in which they were told.
    pub events: Vec<String>,
}
