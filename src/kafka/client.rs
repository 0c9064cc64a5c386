//! Connects to Kafka with the client library that [`client_choice`](super::client_choice) chooses.

use std::sync::Arc;
use std::time::Duration;

use log::info;
#[cfg(feature = "librdkafka")]
use rdkafka::ClientConfig;

use super::admin::{Admin, AdminThread, PendingRequest, TopicState};
use super::auth_error::AuthError;
use super::client_choice::{Choice, choose};
use super::connection::{BROKER_PATIENCE, Connection, Purpose};
use super::consumer::Consumer;
use super::error::{ErrorKind, KafkaError};
use super::metadata::{self, Looked, TopicQuery};
use super::pulse::Pulse;
use super::reader_status::ReaderStatus;
use super::security::Credentials;
use super::status::KafkaStatus;
use crate::config::Client;

/// How many handles a connected client has.
pub(crate) const HANDLES: usize = 2;

/// A connected client: one handle consumes, the other makes requests.
pub struct Handles {
    /// Reads records.
    pub consumer: Box<dyn Consumer>,
    /// Makes requests about topics and offsets.
    pub admin: AdminThread,
    looking: Option<PendingRequest<Vec<Looked>>>,
}

impl Handles {
    /// Both handles of one client.
    pub fn new(consumer: Box<dyn Consumer>, admin: AdminThread) -> Self {
        Self {
            consumer,
            admin,
            looking: None,
        }
    }

    /// Begins a metadata refresh, or returns the result of the previous one: `None` while that is in progress.
    pub(super) fn look(&mut self, asked: &[TopicQuery]) -> Option<Result<Vec<Looked>, KafkaError>> {
        let Some(looking) = &self.looking else {
            match self.admin.begin(self.request(asked)) {
                Ok(looking) => self.looking = Some(looking),
                Err(error) => return Some(Err(error)),
            }
            return None;
        };
        let answer = looking.answer()?;
        self.looking = None;
        Some(self.note(answer))
    }

    pub(super) fn look_now(&mut self, asked: &[TopicQuery]) -> Result<Vec<Looked>, KafkaError> {
        let answer = self.admin.call(self.request(asked));
        self.note(answer)
    }

    /// Discards a refresh in progress, because its result would be compared with outdated state.
    pub(super) fn forget_look(&mut self) {
        self.looking = None;
    }

    fn request(
        &self,
        asked: &[TopicQuery],
    ) -> impl FnOnce(&mut dyn Admin) -> Result<Vec<Looked>, KafkaError> + Send + 'static {
        let (asked, unauthorized) = (asked.to_vec(), self.consumer.unauthorized().clone());
        let pulse = Arc::clone(self.admin.pulse());
        move |admin| metadata::look(admin, &asked, &unauthorized, &pulse)
    }

    fn note(&mut self, answer: Result<Vec<Looked>, KafkaError>) -> Result<Vec<Looked>, KafkaError> {
        if let Ok(looked) = &answer {
            let states: Vec<&TopicState> = looked.iter().map(|looked| &looked.state).collect();
            self.consumer.note_topics(&states);
        }
        answer
    }
}

/// Connects to Kafka.
pub trait Connect: Send {
    /// Builds both handles of a client.
    ///
    /// # Errors
    /// When no broker answers, or no client supports it.
    fn connect(&mut self) -> Result<Handles, KafkaError>;

    /// Builds only the admin handle.
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    fn connect_admin(&mut self) -> Result<AdminThread, KafkaError> {
        self.connect().map(|handles| handles.admin)
    }

    /// How long [`connect`](Connect::connect) may take until it has chosen a client.
    fn patience(&self) -> Duration {
        BROKER_PATIENCE
    }

    /// The brokers as configured, for messages.
    fn brokers(&self) -> Arc<str>;

    /// The refusal to report for an unauthorized topic.
    fn forbids(&self, topic: &str) -> AuthError {
        AuthError::topic(topic, &Credentials::default())
    }

    /// A batch could not be read. Returns whether the next client will use the other library.
    fn refuse(&mut self, why: &KafkaError) -> bool;
}

/// Builds both handles of the chosen client, for a thread with this pulse.
///
/// # Errors
/// When no broker answers, librdkafka refuses a setting, or the client is not part of this build.
pub fn build(
    connection: &Connection,
    client: Client,
    purpose: Purpose,
    pulse: &Arc<Pulse>,
) -> Result<Handles, KafkaError> {
    let (consumer, admin) = match client {
        #[cfg(feature = "kafka-crate")]
        Client::Kafka => super::kafka_crate::connect(connection, purpose, pulse),
        #[cfg(feature = "librdkafka")]
        Client::Librdkafka => super::librdkafka::connect(connection, purpose, pulse),
        other => return Err(not_built(connection, other)),
    }?;
    Ok(Handles::new(consumer, admin))
}

fn build_admin(
    connection: &Connection,
    client: Client,
    pulse: &Arc<Pulse>,
) -> Result<AdminThread, KafkaError> {
    match client {
        #[cfg(feature = "kafka-crate")]
        Client::Kafka => super::kafka_crate::connect_admin(connection, pulse),
        #[cfg(feature = "librdkafka")]
        Client::Librdkafka => super::librdkafka::connect_admin(connection, pulse),
        other => Err(not_built(connection, other)),
    }
}

fn not_built(connection: &Connection, client: Client) -> KafkaError {
    KafkaError::unsupported(
        &connection.bootstrap_servers(),
        format!("client {client} is not part of this build"),
        "set client = \"auto\" in [kafka]",
    )
}

/// The properties of a librdkafka handle for this connection, for benchmarks of the library alone.
///
/// # Errors
/// When a file that `[kafka]` names cannot be used.
#[cfg(feature = "librdkafka")]
pub fn librdkafka_config(connection: &Connection, purpose: Purpose) -> Result<ClientConfig, KafkaError> {
    super::librdkafka::settings::config(connection, &connection.credentials, purpose)
}

pub(super) struct Clients {
    connection: Connection,
    choice: Option<Choice>,
    role: Role,
    pulse: Arc<Pulse>,
}

enum Role {
    /// The reading thread, which reports the library in use.
    Leading(Arc<ReaderStatus>),
    /// Replays and lookups, which follow the choice for live records.
    Following(Arc<KafkaStatus>),
}

impl Clients {
    pub(super) fn leading(connection: Connection, status: Arc<ReaderStatus>) -> Self {
        Self {
            connection,
            choice: None,
            pulse: Arc::clone(status.pulse()),
            role: Role::Leading(status),
        }
    }

    /// For replays and lookups, whose library supports no less than the one that reads live records.
    pub(super) fn following(connection: Connection, live: Arc<KafkaStatus>) -> Self {
        Self {
            connection,
            choice: None,
            role: Role::Following(live),
            // The watchdog does not watch replays.
            pulse: Arc::default(),
        }
    }
}

impl Clients {
    fn choose(&mut self) -> Result<Choice, KafkaError> {
        if let Role::Following(live) = &self.role
            && self.connection.client == Client::Auto
            && live.reads_with(Client::Librdkafka)
        {
            self.connection
                .needs_librdkafka
                .get_or_insert("live records are read with it");
        }
        choose(&self.connection)
    }

    fn note(&mut self, choice: Choice) {
        if self.choice.as_ref() != Some(&choice) {
            info!(
                "kafka {}: reading with {}: {}",
                self.brokers(),
                choice.client,
                choice.reason
            );
            if let Role::Leading(status) = &self.role {
                status.set_client(choice.client.as_str());
            }
            self.choice = Some(choice);
        }
    }

    fn purpose(&self) -> Purpose {
        match self.role {
            Role::Leading(_) => Purpose::Live,
            Role::Following(_) => Purpose::History,
        }
    }
}

impl Connect for Clients {
    fn connect(&mut self) -> Result<Handles, KafkaError> {
        let choice = self.choose()?;
        let handles = build(&self.connection, choice.client, self.purpose(), &self.pulse)?;
        self.note(choice);
        Ok(handles)
    }

    fn connect_admin(&mut self) -> Result<AdminThread, KafkaError> {
        let choice = self.choose()?;
        let admin = build_admin(&self.connection, choice.client, &self.pulse)?;
        self.note(choice);
        Ok(admin)
    }

    fn patience(&self) -> Duration {
        let brokers = u32::try_from(self.connection.brokers.len()).unwrap_or(u32::MAX);
        BROKER_PATIENCE.saturating_mul(brokers)
    }

    fn brokers(&self) -> Arc<str> {
        self.connection.bootstrap_servers()
    }

    fn forbids(&self, topic: &str) -> AuthError {
        AuthError::topic(topic, &self.connection.credentials)
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
