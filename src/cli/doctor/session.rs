//! A Kafka client for requests with time limits. It is rebuilt after a request that failed or hangs.

use std::sync::Arc;
use std::time::Duration;

use super::report::{Finding, Report};
use crate::config::{Client, Isolation};
use crate::kafka::client::{self, Handles};
use crate::kafka::client_choice::choose;
use crate::kafka::connection::{Connection, Purpose};
use crate::kafka::error::KafkaError;
use crate::kafka::worker_thread::within;

/// Time limit of one request, and the addition for each of its partitions.
pub(super) const LIMIT: (Duration, Duration) = (Duration::from_secs(10), Duration::from_millis(100));

const CLOSE_LIMIT: Duration = Duration::from_secs(2);

pub(super) struct Session {
    pub(super) connection: Connection,
    client: Client,
    /// Whether the daemon changes to the other client at a batch that this one cannot read.
    pub(super) is_auto: bool,
    handles: Option<Handles>,
}

pub(super) struct FailedRequest {
    pub(super) found: String,
    pub(super) remedy: String,
    pub(super) is_codec: bool,
}

impl Session {
    /// Chooses a client as the daemon does, and builds it.
    pub(super) fn open(connection: Connection, report: &mut Report) -> Option<Self> {
        const CHECK: &str = "kafka client";
        let asked = connection.clone();
        let choice = match within(LIMIT.0, move || choose(&asked)) {
            Some(Ok(choice)) => choice,
            Some(Err(error)) => {
                let failed = FailedRequest::from(error);
                report.add(Finding::fail(CHECK, failed.found, failed.remedy));
                return None;
            }
            None => {
                report.add(FailedRequest::late(LIMIT.0).finding(CHECK.to_owned()));
                return None;
            }
        };
        let mut session = Self {
            is_auto: connection.client == Client::Auto,
            connection,
            client: choice.client,
            handles: None,
        };
        match session.ask(LIMIT.0, |_| Ok(())) {
            Ok(()) => {
                let found = format!("{}: {}", choice.client, choice.reason);
                report.add(Finding::ok(CHECK, found));
                Some(session)
            }
            Err(failed) => {
                report.add(failed.finding(CHECK.to_owned()));
                None
            }
        }
    }

    pub(super) fn ask<T: Send + 'static>(
        &mut self,
        limit: Duration,
        question: impl FnOnce(&mut Handles) -> Result<T, KafkaError> + Send + 'static,
    ) -> Result<T, FailedRequest> {
        let (connection, client) = (self.connection.clone(), self.client);
        let handles = self.handles.take();
        let answered: Option<Result<_, KafkaError>> = within(limit, move || {
            let mut handles = match handles {
                Some(handles) => handles,
                None => client::build(&connection, client, Purpose::Live, &Arc::default())?,
            };
            let answer = question(&mut handles);
            Ok((handles, answer))
        });
        let (handles, answer) = answered.ok_or_else(|| FailedRequest::late(limit))??;
        // A client that does not reconnect is unusable after an error.
        if answer.is_ok() || handles.consumer.reconnects() {
            self.handles = Some(handles);
        }
        answer.map_err(|error| {
            let mut failed = FailedRequest::from(error);
            failed.is_codec &= client == Client::Kafka;
            failed
        })
    }

    /// A second session that reads records of open transactions; `None` if this one does.
    pub(super) fn of_uncommitted(&self) -> Option<Self> {
        (self.connection.isolation == Isolation::ReadCommitted).then(|| Self {
            connection: Connection {
                isolation: Isolation::ReadUncommitted,
                ..self.connection.clone()
            },
            client: self.client,
            is_auto: self.is_auto,
            handles: None,
        })
    }

    pub(super) fn close(mut self) {
        let handles = self.handles.take();
        // While a broker hangs it takes longer, and ends with the process.
        let _ = within(CLOSE_LIMIT, move || drop(handles));
    }
}

impl FailedRequest {
    fn late(limit: Duration) -> Self {
        Self {
            found: format!("no answer within {limit:?}"),
            remedy: "a broker hangs, or the network drops packets: see the broker's log".to_owned(),
            is_codec: false,
        }
    }

    pub(super) fn finding(self, check: String) -> Finding {
        Finding::fail(check, self.found, self.remedy)
    }
}

impl From<KafkaError> for FailedRequest {
    fn from(error: KafkaError) -> Self {
        const REMEDY: &str = "see the broker's log, and check tls and sasl in [kafka]";
        Self {
            found: error.reason(),
            remedy: error.remedy().unwrap_or(REMEDY).to_owned(),
            is_codec: error.is_of_batch(),
        }
    }
}

pub(super) fn limit(partitions: usize) -> Duration {
    let partitions = u32::try_from(partitions).unwrap_or(u32::MAX);
    LIMIT.0 + LIMIT.1.saturating_mul(partitions)
}
