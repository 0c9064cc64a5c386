//! The terms of a stream's filter whose values each request has: parameters of the path, and claims of the client.
//!
//! A value is always literal: nothing in it has a meaning to the filter. A request that lacks a value passes nothing.
//! Pure.

use std::borrow::Cow;

use super::claims::Claims;
use super::filter::{Filter, FilterError, Name, literal_key};
use super::filter_value::{Written, is_bound};
use super::path_parameters::{BadValue, PathTemplate, PathValues, ValueError};
use super::stream::StreamSettings;

/// Most values of one claim: a list with more is no list of what a client may read.
pub(crate) const MAX_CLAIM_VALUES: usize = 256;

/// A value of a term.
#[derive(Debug, Clone, PartialEq, Eq)]
enum TermValue {
    Text(String),
    /// A parameter, by its place among those of the path.
    Parameter(usize),
    /// The name of a claim.
    Claim(String),
}

/// The parameters of a stream's path, and the terms of its filter that use them or claims.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BoundFilter {
    template: Option<PathTemplate>,
    terms: Vec<(Name, Vec<TermValue>)>,
    topics: Vec<String>,
    /// Whether it compares claims.
    has_claims: bool,
    is_secret: bool,
}

/// Why a request selects no filter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unbound {
    /// A parameter of the path has a value that the filter cannot have.
    #[error(transparent)]
    Path(#[from] BadValue),
    /// The request has no values of the path.
    #[error("the request has no path")]
    NoPath,
    /// A claim has no value that the filter can have.
    #[error("the claim {0:?} is missing, or has no value that can be compared")]
    NoClaim(String),
    /// A claim has more than [`MAX_CLAIM_VALUES`].
    #[error("the claim {0:?} has more than {MAX_CLAIM_VALUES} values")]
    LongClaim(String),
}

impl BoundFilter {
    /// The bound terms of a stream of these settings, if its path has parameters or its filter claims. The configuration
    /// check rejects faulty ones, with which no record would pass.
    pub(crate) fn of(settings: &StreamSettings) -> Option<Self> {
        let template = PathTemplate::parse(&settings.path).ok()?;
        let names: Vec<&str> = template.iter().flat_map(PathTemplate::parameters).collect();
        let value = |text: &String| match Written::parse(text) {
            Written::Text(text) => TermValue::Text(text.to_owned()),
            // One that is unknown has no value.
            Written::Parameter(name) => {
                let place = names.iter().position(|known| *known == name);
                TermValue::Parameter(place.unwrap_or(usize::MAX))
            }
            Written::Claim(name) => TermValue::Claim(name.to_owned()),
        };
        let used = settings.filter.iter().filter(|(_, values)| is_bound(values));
        let terms: Vec<(Name, Vec<TermValue>)> = used
            .filter_map(|(name, values)| {
                let name = Name::parse(name).ok()??;
                Some((name, values.iter().map(value).collect()))
            })
            .collect();
        if template.is_none() && terms.is_empty() {
            return None;
        }
        // With keys and topics alone, no record of another client's key concerns a reader.
        let tells_records_apart = |(name, _): &(Name, _)| !matches!(name, Name::Key | Name::Topic);
        let has_claim = |(_, values): &(_, Vec<TermValue>)| {
            values.iter().any(|value| matches!(value, TermValue::Claim(_)))
        };
        let has_claims = terms.iter().any(has_claim);
        Some(Self {
            is_secret: has_claims && terms.iter().any(tells_records_apart),
            has_claims,
            terms,
            topics: settings.topics.clone(),
            template,
        })
    }

    /// Whether it selects by the claims of a client.
    pub(crate) fn selects_by_claims(&self) -> bool {
        self.has_claims
    }

    /// The path, if it has parameters.
    pub(crate) fn template(&self) -> Option<&PathTemplate> {
        self.template.as_ref()
    }

    /// The filter that a request's values and its client's claims select.
    ///
    /// # Errors
    /// Names the value that the filter cannot have.
    pub(crate) fn filter(
        &self,
        path: Option<&PathValues>,
        claims: Option<&Claims>,
    ) -> Result<Filter, Unbound> {
        let mut filter = Filter::default();
        let values = || {
            let terms = self.terms.iter();
            terms.flat_map(|(name, values)| values.iter().map(move |value| (name, value)))
        };
        // First what has the bounds of a client's filter.
        for (name, value) in values() {
            match value {
                TermValue::Text(text) => self.add_parameter(&mut filter, name, text, "")?,
                TermValue::Parameter(place) => {
                    let text = path.and_then(|values| values.iter().nth(*place));
                    let parameter = self
                        .template
                        .iter()
                        .flat_map(PathTemplate::parameters)
                        .nth(*place);
                    let (Some(text), Some(parameter)) = (text, parameter) else {
                        return Err(Unbound::NoPath);
                    };
                    self.add_parameter(&mut filter, name, &literal(name, text), parameter)?;
                }
                TermValue::Claim(_) => {}
            }
        }
        for (name, value) in values() {
            if let TermValue::Claim(claim) = value {
                self.add_claim(&mut filter, name, claim, claims)?;
            }
        }
        if self.is_secret {
            filter.keep_secret();
        }
        // Without a term every record would pass.
        Ok(if filter.is_empty() {
            Filter::nothing()
        } else {
            filter
        })
    }

    fn add_parameter(
        &self,
        filter: &mut Filter,
        name: &Name,
        text: &str,
        parameter: &str,
    ) -> Result<(), BadValue> {
        filter
            .add(name.clone(), text, &self.topics)
            .map_err(|why| BadValue {
                parameter: parameter.to_owned(),
                why: ValueError::Filter(why),
            })
    }

    /// Adds the values of a claim, of which any may match. Values that the filter cannot have, such as a topic of another
    /// stream, select nothing.
    fn add_claim(
        &self,
        filter: &mut Filter,
        name: &Name,
        claim: &str,
        claims: Option<&Claims>,
    ) -> Result<(), Unbound> {
        let mut added = 0;
        for text in claims.iter().flat_map(|claims| claims.values(claim)) {
            match filter.add_trusted(name.clone(), &literal(name, &text), &self.topics) {
                Ok(()) => added += 1,
                Err(FilterError::Partition(_) | FilterError::Topic(..)) => {}
                Err(_) => return Err(Unbound::NoClaim(claim.to_owned())),
            }
            if added > MAX_CLAIM_VALUES {
                return Err(Unbound::LongClaim(claim.to_owned()));
            }
        }
        if added == 0 {
            return Err(Unbound::NoClaim(claim.to_owned()));
        }
        Ok(())
    }

    /// Whether a client with these claims has all that are needed, whatever values its path has.
    pub(crate) fn has_claims(&self, claims: &Claims) -> bool {
        let mut filter = Filter::default();
        self.terms.iter().all(|(name, values)| {
            values.iter().all(|value| match value {
                TermValue::Claim(claim) => self.add_claim(&mut filter, name, claim, Some(claims)).is_ok(),
                TermValue::Text(_) | TermValue::Parameter(_) => true,
            })
        })
    }

    /// The records that a client with these values gets: none without values, or with impossible ones.
    pub(crate) fn filter_or_nothing(&self, path: Option<&PathValues>, claims: Option<&Claims>) -> Filter {
        self.filter(path, claims).unwrap_or_else(|_| Filter::nothing())
    }
}

fn literal<'a>(name: &Name, text: &'a str) -> Cow<'a, str> {
    match name {
        Name::Key => literal_key(text),
        _ => Cow::Borrowed(text),
    }
}
