//! Findings, and how they look to people and to programs.

use std::fmt;

use serde_json::json;

use crate::cli::common::say;
use crate::logging::printable;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    /// As it should be.
    Ok,
    /// Works, but may not do what is wanted.
    Warn,
    /// Does not work.
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

/// What one check has found.
#[derive(Debug, Clone)]
pub(super) struct Finding {
    /// What was looked at: `dns kafka-1:9092`.
    check: String,
    status: Status,
    /// What was found, in one line.
    found: String,
    /// What to do; present unless all is well.
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
        // Some of it comes from others, and may hold more lines than one.
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

/// All findings of a run. For people each is told at once, because the next may take its time.
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

    /// Tells what it all came to; returns whether nothing failed.
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
    // The exit code says it to those who do not read.
    let _ = say(text);
}
