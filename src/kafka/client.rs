//! Builds the client that [`probe`] chooses, behind the one trait; for the tail and for history.

use std::sync::Arc;
use std::time::Duration;

use log::info;
#[cfg(feature = "librdkafka")]
use rdkafka::ClientConfig;

use super::auth_error::Refusal;
use super::connection::{BROKER_PATIENCE, Connection, Purpose};
use super::error::{ErrorKind, KafkaError};
use super::probe;
use super::pulse::Pulse;
use super::security::Access;
use super::source::Source;
use super::status::{Board, Status};
use crate::config::Client;

/// Gives a client to read with.
pub trait Connect: Send {
    /// Builds one.
    ///
    /// # Errors
    /// When no broker answers, or none can be built that suits it.
    fn connect(&mut self) -> Result<Box<dyn Source>, KafkaError>;

    /// How long [`connect`](Connect::connect) may take until it has chosen a client.
    fn patience(&self) -> Duration {
        BROKER_PATIENCE
    }

    /// The brokers as configured, for messages.
    fn brokers(&self) -> Arc<str>;

    /// What is to be said of a topic that may not be read.
    fn forbids(&self, topic: &str) -> Refusal {
        Refusal::topic(topic, &Access::default())
    }

    /// A client could not read what is there. Returns whether the next will be another.
    fn refuse(&mut self, why: &KafkaError) -> bool;
}

/// Builds the client that was chosen, for a thread with this pulse.
///
/// # Errors
/// When no broker answers, librdkafka refuses a setting, or the client is not part of this build.
pub fn build(
    connection: &Connection,
    client: Client,
    purpose: Purpose,
    pulse: &Arc<Pulse>,
) -> Result<Box<dyn Source>, KafkaError> {
    match client {
        #[cfg(feature = "kafka-crate")]
        Client::Kafka => Ok(Box::new(super::kafka_crate::KafkaCrate::new(
            connection, purpose, pulse,
        )?)),
        #[cfg(feature = "librdkafka")]
        Client::Librdkafka => Ok(Box::new(super::librdkafka::Librdkafka::new(
            connection, purpose, pulse,
        )?)),
        other => Err(KafkaError::unsupported(
            &connection.bootstrap_servers(),
            format!("client {other} is not part of this build"),
            "set client = \"auto\" in [kafka]",
        )),
    }
}

/// What librdkafka is told when it is to read over this connection: for whoever compares with the library alone.
///
/// # Errors
/// When a file that `[kafka]` names cannot be used.
#[cfg(feature = "librdkafka")]
pub fn librdkafka_config(connection: &Connection, purpose: Purpose) -> Result<ClientConfig, KafkaError> {
    super::librdkafka::settings::config(connection, &connection.access, purpose)
}

/// The client libraries.
pub(super) struct Clients {
    connection: Connection,
    choice: Option<probe::Choice>,
    role: Role,
    pulse: Arc<Pulse>,
}

/// Whose clients they are.
enum Role {
    /// A tail's, which tells what it reads with.
    Leading(Arc<Status>),
    /// Others', who look at that.
    Following(Arc<Board>),
}

impl Clients {
    /// For the tail.
    pub(super) fn leading(connection: Connection, status: Arc<Status>) -> Self {
        Self {
            connection,
            choice: None,
            pulse: Arc::clone(status.pulse()),
            role: Role::Leading(status),
        }
    }

    /// For others, who never read with less than the tails do.
    pub(super) fn following(connection: Connection, tails: Arc<Board>) -> Self {
        Self {
            connection,
            choice: None,
            role: Role::Following(tails),
            // Nobody watches what replays wait for.
            pulse: Arc::default(),
        }
    }
}

impl Connect for Clients {
    fn connect(&mut self) -> Result<Box<dyn Source>, KafkaError> {
        if let Role::Following(tails) = &self.role
            && self.connection.client == Client::Auto
            && tails.reads_with(Client::Librdkafka)
        {
            self.connection
                .needs_librdkafka
                .get_or_insert("live records are read with it");
        }
        let choice = probe::choose(&self.connection)?;
        let brokers = self.brokers();
        let purpose = match self.role {
            Role::Leading(_) => Purpose::Live,
            Role::Following(_) => Purpose::History,
        };
        let source = build(&self.connection, choice.client, purpose, &self.pulse)?;
        if self.choice.as_ref() != Some(&choice) {
            info!(
                "kafka {brokers}: reading with {}: {}",
                choice.client, choice.reason
            );
            if let Role::Leading(status) = &self.role {
                status.set_client(choice.client.as_str());
            }
            self.choice = Some(choice);
        }
        Ok(source)
    }

    fn patience(&self) -> Duration {
        let brokers = u32::try_from(self.connection.brokers.len()).unwrap_or(u32::MAX);
        BROKER_PATIENCE.saturating_mul(brokers)
    }

    fn brokers(&self) -> Arc<str> {
        self.connection.bootstrap_servers()
    }

    fn forbids(&self, topic: &str) -> Refusal {
        Refusal::topic(topic, &self.connection.access)
    }

    fn refuse(&mut self, why: &KafkaError) -> bool {
        let is_ours_to_choose = self.connection.client == Client::Auto && cfg!(feature = "librdkafka");
        let is_of_crate = self
            .choice
            .as_ref()
            .is_some_and(|choice| choice.client == Client::Kafka);
        let reason = match why.kind {
            ErrorKind::Codec(_) => "a batch is compressed as only it can read",
            ErrorKind::TooLarge { .. } => "a batch is larger than the kafka crate takes",
            _ => return false,
        };
        let is_refused = is_ours_to_choose && is_of_crate && self.connection.needs_librdkafka.is_none();
        if is_refused {
            self.connection.needs_librdkafka = Some(reason);
        }
        is_refused
    }
}
