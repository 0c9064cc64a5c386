//! Properties of librdkafka: whether the library takes a name and its value. Opens no connection.
//!
//! No message holds a value: it may be a secret, also under a misspelt name.

use rdkafka::config::ClientConfig;
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaConfRes;

/// The reason for which the library refuses a property, with the remedy.
pub(super) fn fault(name: &str, value: &str) -> Option<String> {
    let error = ClientConfig::new()
        .set(name, value)
        .create_native_config()
        .err()?;
    Some(reason(&error))
}

/// The same, from the error that the library returned for the property.
pub(crate) fn reason(error: &KafkaError) -> String {
    let KafkaError::ClientConfig(result, said, ..) = error else {
        return "cannot be passed to librdkafka; correct it or remove it".to_owned();
    };
    if *result == RDKafkaConfRes::RD_KAFKA_CONF_UNKNOWN {
        return "is not a property of librdkafka; correct its name (CONFIGURATION.md of librdkafka lists all) or remove it"
            .to_owned();
    }
    // Most messages of the library hold the value, so only parts that are known not to are shown.
    let range = said
        .trim_end()
        .rsplit_once(" is outside allowed range ")
        .map(|(_, range)| range)
        .filter(|range| {
            range
                .bytes()
                .all(|byte| byte.is_ascii_digit() || b"+-.e".contains(&byte))
        });
    let unsupported = said
        .starts_with("Configuration property ")
        .then(|| said.split_once("\" not supported in this build: "))
        .flatten();
    match (range, unsupported) {
        (Some(range), _) => format!("has a value outside of {range}; correct it or remove the property"),
        (None, Some((_, why))) => format!("is not supported by this build of librdkafka ({why}); remove it"),
        (None, None) if said.starts_with("Expected bool value ") => {
            "has a value that is neither true nor false; correct it or remove the property".to_owned()
        }
        (None, None) => {
            "has a value that librdkafka does not take; correct it (CONFIGURATION.md of librdkafka lists \
             those it takes) or remove the property"
                .to_owned()
        }
    }
}
