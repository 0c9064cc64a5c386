//! Creates handles, all with the same settings.

use std::sync::Arc;

use rdkafka::config::ClientConfig;
use rdkafka::consumer::BaseConsumer;
use rdkafka::error::KafkaError as RdKafkaError;

use super::context::{Context, serve};
use super::settings;
use crate::config::{FileName, Isolation};
use crate::kafka::connection::{Connection, Purpose};
use crate::kafka::error::KafkaError;
use crate::kafka::security::Credentials;

#[derive(Clone)]
pub(super) struct HandleFactory {
    pub(super) brokers: Arc<str>,
    pub(super) token_file: Option<FileName>,
    /// With the content that the files had when the factory was created.
    pub(super) credentials: Credentials,
    config: ClientConfig,
    reads_uncommitted: bool,
}

impl HandleFactory {
    /// Reads the files that `[kafka]` names.
    pub(super) fn new(connection: &Connection, purpose: Purpose) -> Result<Self, KafkaError> {
        let credentials = connection.credentials.reloaded();
        Ok(Self {
            brokers: connection.bootstrap_servers(),
            token_file: credentials.token_file().cloned(),
            config: settings::config(connection, &credentials, purpose)?,
            credentials,
            reads_uncommitted: connection.isolation == Isolation::ReadUncommitted,
        })
    }

    fn create(&self, mut config: ClientConfig) -> Result<BaseConsumer<Context>, KafkaError> {
        let context = Context::new(self.reads_uncommitted, self.token_file.clone());
        // Overrides the operator's table: without it, transaction markers at the end look like records.
        let handle = config
            .set("enable.partition.eof", "true")
            .create_with_context(context)
            .map_err(|error: RdKafkaError| settings::refused_settings(&error, &self.brokers))?;
        // Provides a token now: a request without one would only time out.
        serve(&handle);
        Ok(handle)
    }

    pub(super) fn handle(&self) -> Result<BaseConsumer<Context>, KafkaError> {
        self.create(self.config.clone())
    }

    /// A handle that fetches a single batch of a partition, to find out whether it can be received.
    pub(super) fn probing(&self) -> Result<BaseConsumer<Context>, KafkaError> {
        self.create(settings::probing(&self.config))
    }
}
