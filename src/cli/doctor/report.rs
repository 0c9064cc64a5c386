//! Findings, printed as text or JSON.

use std::fmt;

use serde_json::json;

use crate::cli::common::say;
use crate::logging::printable;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    Ok,
    /// Works, but the result may be unexpected.
    Warn,
    Fail,
}

impl Status {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }
}

/// The result of one check.
#[derive(Debug, Clone)]
pub(super) struct Finding {
    /// The name of the check: `dns kafka-1:9092`.
    check: String,
    status: Status,
    /// The result, in one line.
    found: String,
    /// `None` for [`Status::Ok`].
    remedy: Option<String>,
}

impl Finding {
    pub(super) fn ok(check: impl Into<String>, found: impl Into<String>) -> Self {
        Self::new(check, Status::Ok, found, None)
    }

    pub(super) fn warn(
        check: impl Into<String>,
        found: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self::new(check, Status::Warn, found, Some(remedy.into()))
    }

    pub(super) fn fail(
        check: impl Into<String>,
        found: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self::new(check, Status::Fail, found, Some(remedy.into()))
    }

    fn new(
        check: impl Into<String>,
        status: Status,
        found: impl Into<String>,
        remedy: Option<String>,
    ) -> Self {
        let found: String = found.into();
        // Texts of brokers and libraries may have several lines.
        let lines: Vec<&str> = found.lines().map(str::trim).collect();
        Self {
            check: check.into(),
            status,
            found: printable(&lines.join("; ")),
            remedy,
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:4}  {}: {}", self.status.as_str(), self.check, self.found)?;
        match &self.remedy {
            Some(remedy) => writeln!(f, "      remedy: {remedy}"),
            None => Ok(()),
        }
    }
}

/// All findings of a run. Text is printed finding by finding, because a check may take seconds.
#[derive(Debug)]
pub(super) struct Report {
    is_json: bool,
    findings: Vec<Finding>,
}

impl Report {
    pub(super) fn new(is_json: bool) -> Self {
        Self {
            is_json,
            findings: Vec::new(),
        }
    }

    pub(super) fn add(&mut self, finding: Finding) {
        if !self.is_json {
            print(&finding.to_string());
        }
        self.findings.push(finding);
    }

    /// Prints the summary; returns whether no check failed.
    pub(super) fn finish(&self) -> bool {
        let count = |status| {
            self.findings
                .iter()
                .filter(|found| found.status == status)
                .count()
        };
        let (ok, warn, fail) = (count(Status::Ok), count(Status::Warn), count(Status::Fail));
        if self.is_json {
            let checks = self.findings.iter().map(|found| {
                json!({
                    "check": found.check,
                    "status": found.status.as_str(),
                    "found": found.found,
                    "remedy": found.remedy,
                })
            });
            let report = json!({
                "checks": checks.collect::<Vec<_>>(),
                "summary": { "ok": ok, "warn": warn, "fail": fail },
            });
            print(&format!("{report:#}\n"));
        } else {
            print(&format!("{ok} ok, {warn} warn, {fail} fail\n"));
        }
        fail == 0
    }
}

fn print(text: &str) {
    // A closed stdout is no failure of a check; the exit code reports the result.
    let _ = say(text);
}
