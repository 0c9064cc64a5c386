//! Checks the cluster: the choice of the Kafka client, and for each topic partitions, records and the time index; for
//! each stream the length of its ids.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::keys;
use super::machine;
use super::network::{self, Kind};
use super::report::{Finding, Report};
use super::requests::{self, LOOK_BACK, Newest};
use super::session::{LIMIT, Session, limit};
use super::transactions;
use crate::config::{HttpSettings, KafkaSettings, Mechanism, Settings, StreamSettings, units};
use crate::daemon::plan;
use crate::kafka::api_versions;
use crate::kafka::connection::SecurityProtocol;
use crate::kafka::partition::Bounds;
use crate::stream::position::{MAX_ID, Position, TopicPosition};
use crate::stream::record_time::CLOCK_TOLERANCE;

/// Time limit for reading the newest records of a topic.
const PATIENCE: Duration = Duration::from_secs(5);

/// Partitions whose ends are shown.
const MAX_SHOWN: usize = 8;

/// 2025-01-01. A clock before it is wrong, because this program is newer.
const EPOCH: Duration = Duration::from_secs(1_735_689_600);

pub(super) fn check(settings: &Settings, report: &mut Report) {
    if settings.kafka.tls.is_some() || settings.kafka.sasl.is_some() {
        report.add(login(&settings.kafka));
    }
    let mut connection = plan::connection(&settings.kafka, &settings.streams);
    let answering = network::check(&connection, &connection.brokers, Kind::Configured, report);
    if answering.is_empty() {
        report.add(Finding::fail(
            "topics",
            "skipped: no broker answers",
            "repair the connection to the brokers first",
        ));
        report.add(clock(None));
        return;
    }
    let configured = std::mem::replace(&mut connection.brokers, answering);
    let Some(mut session) = Session::open(connection, report) else {
        report.add(clock(None));
        return;
    };
    session.check_advertised(&configured, &settings.http, report);

    let names: BTreeSet<&String> = settings
        .streams
        .iter()
        .flat_map(|stream| &stream.topics)
        .collect();
    let mut uncommitted = session.of_uncommitted();
    let (mut known, mut newest) = (BTreeMap::new(), None);
    for name in names {
        let topic: Arc<str> = name.as_str().into();
        let Some(bounds) = session.check_topic(&topic, report) else {
            continue;
        };
        if let Some(time) = session.check_reading(&topic, &bounds, report) {
            newest = newest.max(Some((time, name.clone())));
        }
        if let Some(uncommitted) = &mut uncommitted {
            transactions::check(&mut session, uncommitted, &topic, bounds.len(), report);
        }
        session.check_times(&topic, &bounds, report);
        let is_in_table = |stream: &&StreamSettings| stream.has_table() && stream.topics.contains(name);
        if settings.streams.iter().any(|stream| is_in_table(&stream)) {
            session.check_keys(&topic, &bounds, report);
        }
        known.insert(name.clone(), bounds);
    }
    session.close();
    if let Some(uncommitted) = uncommitted {
        uncommitted.close();
    }
    for stream in &settings.streams {
        report.add(id_of(stream, &known));
    }
    report.add(clock(newest));
}

/// The user at the brokers, and whether the secret is sent in plain text.
fn login(kafka: &KafkaSettings) -> Finding {
    const CHECK: &str = "login";
    let has_tls = kafka.tls.is_some();
    let over = if has_tls { "over TLS" } else { "without TLS" };
    let Some((sasl, mechanism)) = kafka.sasl.as_ref().and_then(|sasl| Some((sasl, sasl.mechanism?))) else {
        return Finding::ok(CHECK, format!("none by SASL, {over}"));
    };
    let user = sasl
        .username
        .as_ref()
        .map_or_else(|| "a token".to_owned(), |name| format!("{name:?}"));
    let found = format!("{mechanism} with {user}, {over}");
    match mechanism {
        Mechanism::Plain | Mechanism::OauthBearer if !has_tls => Finding::warn(
            CHECK,
            format!("{found}: the secret can be read on the network"),
            "set tls in [kafka] if a listener supports it, or use SCRAM-SHA-512",
        ),
        _ => Finding::ok(CHECK, found),
    }
}

impl Session {
    /// Checks the addresses that brokers advertise: clients use only these after the first response.
    fn check_advertised(&mut self, configured: &[String], http: &HttpSettings, report: &mut Report) {
        // librdkafka may be connecting to an unreachable advertised address already, and then its requests time out.
        let plain = self.connection.brokers.first().cloned();
        let plain = plain.filter(|_| SecurityProtocol::of(&self.connection) == SecurityProtocol::Plain);
        let credentials = self.connection.credentials.clone();
        let asked = self.ask(LIMIT.0, move |handles| {
            match plain.map(|broker| api_versions::advertised(&broker, &credentials)) {
                Some(Ok(members)) => Ok(members),
                _ => handles.admin.call(|admin| admin.brokers()),
            }
        });
        match asked {
            Ok(mut advertised) => {
                if advertised.len() > configured.len() {
                    report.add(machine::check_descriptors(http, advertised.len()));
                }
                advertised.retain(|broker| !configured.contains(broker));
                let connection = &self.connection;
                network::check(connection, &advertised, Kind::Advertised, report);
            }
            Err(failed) => report.add(failed.finding("brokers".to_owned())),
        }
    }

    fn check_topic(&mut self, topic: &Arc<str>, report: &mut Report) -> Option<Vec<Bounds>> {
        let check = format!("topic {topic}");
        let (connection, asked) = (self.connection.clone(), Arc::clone(topic));
        let counted = self.ask(LIMIT.0, move |handles| {
            requests::partitions(&handles.admin, &connection, &asked)
        });
        let bounds = counted.and_then(|count| {
            let asked = Arc::clone(topic);
            self.ask(limit(count), move |handles| {
                handles.admin.bounds_of(&asked, count)
            })
        });
        match bounds {
            Ok(bounds) if bounds.is_empty() => {
                report.add(Finding::fail(
                    check,
                    "does not exist, or the daemon's user may not describe it",
                    "create it, correct topics in [[stream]], or allow the daemon's user to read it; \
                     the daemon retries every 5s",
                ));
                None
            }
            Ok(bounds) => {
                let leaderless = bounds.iter().enumerate().filter(|(_, bounds)| bounds.is_none());
                let leaderless: Vec<String> =
                    leaderless.map(|(partition, _)| partition.to_string()).collect();
                if leaderless.is_empty() {
                    let bounds: Vec<Bounds> = bounds.into_iter().flatten().collect();
                    report.add(Finding::ok(check, describe(&bounds)));
                    return Some(bounds);
                }
                report.add(Finding::fail(
                    check,
                    format!("no leader answers for partition {}", leaderless.join(", ")),
                    "start the brokers that hold its replicas; the daemon reads the other partitions",
                ));
                None
            }
            Err(failed) => {
                report.add(failed.finding(check));
                None
            }
        }
    }

    /// Returns the time of the newest record, in milliseconds since the epoch.
    fn check_reading(&mut self, topic: &Arc<str>, bounds: &[Bounds], report: &mut Report) -> Option<i64> {
        let check = format!("reading {topic}");
        let (connection, asked, of) = (self.connection.clone(), Arc::clone(topic), bounds.to_vec());
        let answer = self.ask(limit(bounds.len()), move |handles| {
            requests::newest(&mut *handles.consumer, &connection, &asked, &of, PATIENCE)
        });
        match answer {
            Ok(newest) => {
                report.add(describe_newest(check, newest));
                newest.timestamp
            }
            Err(failed) if failed.is_codec && self.is_auto && cfg!(feature = "librdkafka") => {
                report.add(Finding::warn(
                    check,
                    failed.found,
                    "none needed: the daemon changes to librdkafka at the first such record; \
                     client = \"librdkafka\" in [kafka] avoids the change",
                ));
                None
            }
            Err(failed) => {
                report.add(failed.finding(check));
                None
            }
        }
    }

    fn check_times(&mut self, topic: &Arc<str>, bounds: &[Bounds], report: &mut Report) {
        let check = format!("times {topic}");
        let (asked, of) = (Arc::clone(topic), bounds.to_vec());
        let filled = bounds.iter().filter(|bounds| bounds.low < bounds.high).count();
        let answer = self.ask(limit(bounds.len()), move |handles| {
            requests::times(&handles.admin, &asked, &of)
        });
        report.add(match answer {
            Ok(0) if filled > 0 => Finding::warn(
                check,
                "the time index answers, but has no record",
                "none if the topic holds only transaction markers or records without timestamps; \
                 ?since= finds nothing in this topic",
            ),
            Ok(indexed) => Finding::ok(
                check,
                format!(
                    "the time index answers, with records in {indexed} of {filled} partitions that hold any"
                ),
            ),
            // Only ?since= needs the time index.
            Err(failed) => Finding::warn(check, failed.found, failed.remedy),
        });
    }

    /// Checks that a table can find the latest record of each key.
    fn check_keys(&mut self, topic: &Arc<str>, bounds: &[Bounds], report: &mut Report) {
        let (asked, of) = (Arc::clone(topic), bounds.to_vec());
        let late = SystemTime::now() + CLOCK_TOLERANCE;
        let late = late.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        let late = i64::try_from(late).unwrap_or(i64::MAX);
        let answer = self.ask(limit(bounds.len()), move |handles| {
            requests::sample(&mut *handles.consumer, &asked, &of, late, PATIENCE)
        });
        match answer {
            Ok(sample) => keys::describe(topic, &sample, late)
                .into_iter()
                .for_each(|finding| report.add(finding)),
            // The check of reading has reported the failure.
            Err(failed) => report.add(Finding::warn(
                format!("keys {topic}"),
                failed.found,
                failed.remedy,
            )),
        }
    }
}

/// `3 partitions, 12 offsets; ends 0:5 1:7 2:0`
fn describe(bounds: &[Bounds]) -> String {
    let held: i64 = bounds
        .iter()
        .map(|bounds| bounds.high.saturating_sub(bounds.low))
        .fold(0, i64::saturating_add);
    let ends = (0..)
        .zip(bounds)
        .map(|(partition, bounds): (u32, _)| format!("{partition}:{}", bounds.high));
    let ends: Vec<String> = ends.take(MAX_SHOWN).collect();
    let more = if bounds.len() > MAX_SHOWN { " …" } else { "" };
    format!(
        "{} partitions, {held} offsets; ends {}{more}",
        bounds.len(),
        ends.join(" ")
    )
}

fn describe_newest(check: String, newest: Newest) -> Finding {
    let Newest {
        filled,
        read,
        timestamp,
    } = newest;
    if filled == 0 {
        return Finding::ok(check, "no records, and access is allowed");
    }
    if read < filled {
        return Finding::warn(
            check,
            format!("records at the ends of {read} of {filled} partitions, looking back {LOOK_BACK} offsets"),
            "the other partitions may end in transaction markers, or an open transaction blocks reading \
             (kafka-transactions.sh find-hanging)",
        );
    }
    let of = timestamp.map_or_else(String::new, |time| format!(", the latest of {}", readable(time)));
    Finding::ok(
        check,
        format!("records at the ends of {read} of {filled} partitions{of}"),
    )
}

fn id_of(stream: &StreamSettings, known: &BTreeMap<String, Vec<Bounds>>) -> Finding {
    let check = format!("ids {}", stream.path);
    let topics: Vec<TopicPosition> = stream
        .topics
        .iter()
        .filter_map(|topic| {
            Some(TopicPosition {
                next: known.get(topic)?.iter().map(|bounds| bounds.high).collect(),
                ..TopicPosition::unread(topic)
            })
        })
        .collect();
    let unknown = if topics.len() < stream.topics.len() {
        ", not counting unknown topics"
    } else {
        ""
    };
    let partitions: usize = topics.iter().map(|topic| topic.next.len()).sum();
    let position = Position {
        as_of: stream.has_table().then_some(0),
        topics,
    };
    let length = position.id_len_ahead();
    let found = format!("{partitions} partitions take up to {length} of {MAX_ID} bytes{unknown}");
    if length > MAX_ID {
        return Finding::fail(
            check,
            found,
            "the daemon refuses this stream: spread its topics over several streams",
        );
    }
    Finding::ok(check, found)
}

/// Compares this machine's clock with the newest record: its time in milliseconds since the epoch, and its topic.
fn clock(newest: Option<(i64, String)>) -> Finding {
    const CHECK: &str = "clock";
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let shown = units::Instant::seconds(SystemTime::now());
    if now < EPOCH {
        return Finding::fail(CHECK, format!("{shown}"), "set this machine's clock (NTP)");
    }
    let Some((time, topic)) = newest else {
        return Finding::ok(CHECK, format!("{shown}; no record timestamp to compare with"));
    };
    let time = Duration::from_millis(u64::try_from(time).unwrap_or(0));
    let seconds =
        |span: Duration| humantime::format_duration(Duration::from_secs(span.as_secs())).to_string();
    match time.checked_sub(now) {
        Some(ahead) if ahead > CLOCK_TOLERANCE => Finding::warn(
            CHECK,
            format!(
                "{shown}, and the newest record of topic {topic:?} is {} in the future",
                seconds(ahead)
            ),
            "set the clock (NTP) of this machine, or of the topic's producers: \
             ?since= and latencies are wrong by this difference",
        ),
        _ => Finding::ok(
            CHECK,
            format!(
                "{shown}; the newest record, of topic {topic:?}, is {} old",
                seconds(now.saturating_sub(time))
            ),
        ),
    }
}

/// A time in milliseconds since the epoch.
fn readable(time: i64) -> String {
    let since = Duration::from_millis(u64::try_from(time).unwrap_or(0));
    match UNIX_EPOCH.checked_add(since) {
        Some(time) => units::Instant::seconds(time).to_string(),
        None => format!("{time} ms after 1970"),
    }
}
