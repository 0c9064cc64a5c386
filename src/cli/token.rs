//! `kafka-sse-bridge token`: makes a static token, and the line for the file of `[auth.tokens]`.

use std::time::{SystemTime, UNIX_EPOCH};

use clap::Args;
use serde_json::{Map, Value};

use super::common::{Failure, say};
use crate::config::claims::SUBJECT;
use crate::config::static_tokens;
use crate::config::units::Span;

/// Whose the token is.
#[derive(Debug, Args)]
pub(super) struct Options {
    /// The name of its client: the claim sub.
    subject: String,
    /// A claim, as name=value; may be repeated, also for several values of one claim.
    #[arg(long, value_name = "NAME=VALUE", value_parser = claim)]
    claim: Vec<(String, String)>,
    /// How long it lasts, such as 90days; without this it does not end.
    #[arg(long, value_name = "DURATION")]
    expires: Option<Span>,
}

fn claim(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() && !value.is_empty() => {
            if name == SUBJECT || name == "exp" {
                return Err(format!("{name:?} is set by an option of its own"));
            }
            Ok((name.to_owned(), value.to_owned()))
        }
        _ => Err("write it as name=value".to_owned()),
    }
}

/// Prints the token and the line, each on a line of its own.
pub(super) fn run(options: &Options) -> Result<(), Failure> {
    let mut claims = Map::from_iter([(SUBJECT.to_owned(), Value::from(options.subject.as_str()))]);
    if options.subject.is_empty() {
        return Err(Failure::Other("the name of the client is empty".to_owned()));
    }
    for (name, value) in &options.claim {
        let value = Value::from(value.as_str());
        match claims.get_mut(name) {
            None => {
                claims.insert(name.clone(), value);
            }
            Some(Value::Array(values)) => values.push(value),
            Some(first) => *first = Value::from(vec![first.take(), value]),
        }
    }
    if let Some(Span(lasts)) = options.expires {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        claims.insert("exp".to_owned(), (now + lasts).as_secs().into());
    }
    let token = static_tokens::token(rand::random());
    say(&format!("{token}\n{}\n", static_tokens::line(&token, &claims)))
}
