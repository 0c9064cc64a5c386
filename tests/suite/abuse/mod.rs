//! What the service shows to whom, by listener, host name and origin, and what becomes of requests that are up to no
//! good.

mod admin;
mod cors_streams;
mod hosts;
mod requests;

use crate::cors;
use libtest_mimic::Trial;

pub fn trials() -> Vec<Trial> {
    [
        admin::trials(),
        cors::trials(),
        cors_streams::trials(),
        hosts::trials(),
        requests::trials(),
    ]
    .into_iter()
    .flatten()
    .collect()
}
