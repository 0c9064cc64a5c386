//! A real schema registry: Apicurio, in memory, with the REST interface of Confluent's. One for the whole suite; subjects
//! keep tests apart.

use super::broker::free_port;
use super::http;
use super::process::Process;
use super::scratch;
use super::wait::{block_on, ensure, eventually_async, secs};
use serde_json::{Value, json};
use std::fs;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tempfile::TempDir;

/// How long a start may take on a machine that is busy with other builds.
const START: Duration = Duration::from_secs(120);

/// Stopped when dropped.
pub struct Apicurio {
    url: String,
    /// Before `directory`: the process ends before its files go.
    process: Process,
    directory: TempDir,
}

/// A registry that never started is not tried again by every test; its error is shown again.
static SHARED: Mutex<Option<Result<Arc<Apicurio>, String>>> = Mutex::new(None);

impl Apicurio {
    /// The one that all tests of the run share.
    pub fn shared() -> Arc<Apicurio> {
        let mut slot = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        let started = slot.get_or_insert_with(|| Apicurio::start().map(Arc::new));
        match started {
            Ok(registry) => Arc::clone(registry),
            Err(error) => panic!("{error}"),
        }
    }

    fn start() -> Result<Apicurio, String> {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/schema-registry");
        let output = Command::new(script)
            .stderr(Stdio::inherit())
            .output()
            .map_err(|error| format!("{script}: {error}"))?;
        if !output.status.success() {
            return Err(format!("{script}: {} (its stderr is above)", output.status));
        }
        let jar = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        let directory = scratch::directory("schema-registry");
        let log = directory.path().join("log");
        let out = fs::File::create(&log).map_err(|error| format!("{}: {error}", log.display()))?;
        let port = free_port();
        let mut command = Command::new("java");
        command
            // Quick to start, and small.
            .args([
                "-Xmx256m",
                "-XX:TieredStopAtLevel=1",
                "-XX:+UseSerialGC",
                "-Dquarkus.http.host=127.0.0.1",
                // Deleting is a test's right.
                "-Dapicurio.rest.deletion.artifact.enabled=true",
                "-Dapicurio.rest.deletion.artifact-version.enabled=true",
            ])
            .arg(format!("-Dquarkus.http.port={port}"))
            .arg("-jar")
            .arg(jar)
            .current_dir(directory.path())
            .stdout(out.try_clone().map_err(|error| error.to_string())?)
            .stderr(out);
        let process = Process::spawn(&mut command).map_err(|error| format!("java: {error}"))?;
        let registry = Apicurio {
            url: format!("http://127.0.0.1:{port}/apis/ccompat/v7"),
            process,
            directory,
        };
        block_on(eventually_async(
            START,
            "the schema registry answers",
            async || {
                if let Some(status) = registry.process.try_wait() {
                    let log = fs::read_to_string(&log).unwrap_or_default();
                    panic!("the schema registry ended ({status}):\n{log}");
                }
                let url = format!("{}/subjects", registry.url);
                let answer = http::request(reqwest::Method::GET, &url, &[])
                    .await
                    .map_err(|error| error.to_string())?;
                ensure(answer.status == 200, answer.text())
            },
        ));
        Ok(registry)
    }

    /// Its base URL.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Registers a version of a subject; returns the schema's id. `references` are names, subjects and versions.
    #[track_caller]
    pub fn register(&self, subject: &str, kind: &str, schema: &str, references: &[(&str, &str, u32)]) -> u32 {
        let references: Vec<Value> = references
            .iter()
            .map(|(name, subject, version)| json!({ "name": name, "subject": subject, "version": version }))
            .collect();
        let body = json!({ "schema": schema, "schemaType": kind, "references": references }).to_string();
        let answer = block_on(async {
            let client = reqwest::Client::builder()
                .no_proxy()
                .timeout(secs(30))
                .build()
                .expect("a client");
            let answer = client
                .post(format!("{}/subjects/{}/versions", self.url, encoded(subject)))
                .header("Content-Type", "application/vnd.schemaregistry.v1+json")
                .body(body)
                .send()
                .await
                .expect("an answer");
            answer.text().await.expect("its text")
        });
        let parsed: Value = serde_json::from_str(&answer).unwrap_or_else(|error| panic!("{error}: {answer}"));
        let id = parsed["id"].as_u64().unwrap_or_else(|| panic!("{answer}"));
        u32::try_from(id).expect("an id")
    }

    /// Deletes a subject with all its versions, for good or only so that it is no longer listed.
    #[track_caller]
    pub fn delete(&self, subject: &str, is_permanent: bool) {
        let query = if is_permanent { "?permanent=true" } else { "" };
        let url = format!("{}/subjects/{}{query}", self.url, encoded(subject));
        let answer =
            block_on(http::request(reqwest::Method::DELETE, &url, &[])).expect("the registry answers");
        assert_eq!(answer.status, 200, "{url}: {}", answer.text());
    }
}

fn encoded(subject: &str) -> String {
    percent_encoding::utf8_percent_encode(subject, percent_encoding::NON_ALPHANUMERIC).to_string()
}

pub(super) fn stop_shared() {
    drop(SHARED.lock().unwrap_or_else(PoisonError::into_inner).take());
}
