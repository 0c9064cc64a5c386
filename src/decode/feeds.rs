//! Decodes the feeds of a stream, with schemas from wherever the daemon has them.

use std::fmt;
use std::future::{Future, poll_fn, ready};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use super::decoder::{Decoder, Step, Supplied};
use super::registered::SchemaId;
use super::used::UsedSchemas;
use crate::config::StreamSettings;
use crate::kafka::record::Feed;

type SuppliedFuture = Pin<Box<dyn Future<Output = Supplied> + Send>>;

/// Finds the schema of an id.
#[derive(Clone)]
pub struct Lookup(Arc<dyn Fn(SchemaId) -> SuppliedFuture + Send + Sync>);

impl Lookup {
    /// A lookup by `find`, which may take as long as a registry cannot be reached.
    pub fn new<F>(find: impl Fn(SchemaId) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Supplied> + Send + 'static,
    {
        Self(Arc::new(move |id| Box::pin(find(id))))
    }
}

impl fmt::Debug for Lookup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Lookup")
    }
}

/// Decodes feeds, one after the other.
pub struct FeedDecoder {
    decoder: Decoder,
    /// `None` where the daemon has no registry.
    lookup: Option<Lookup>,
    /// The schemas that are waited for.
    asked: Vec<(SchemaId, SuppliedFuture)>,
}

impl fmt::Debug for FeedDecoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FeedDecoder")
    }
}

impl FeedDecoder {
    /// A decoder for a stream of these settings.
    pub fn new(settings: &StreamSettings, lookup: Option<Lookup>) -> Self {
        Self {
            decoder: Decoder::new(settings),
            lookup,
            asked: Vec::new(),
        }
    }

    /// Notes the schemas of the records there too.
    #[must_use]
    pub fn noting(self, used: Arc<UsedSchemas>) -> Self {
        Self {
            decoder: self.decoder.noting(used),
            ..self
        }
    }

    /// Decodes a feed, or its next part; true where another part of it follows: then the same feed is to be given
    /// again. `step` is called before every record.
    ///
    /// Dropping the future loses nothing: the same feed, given again, is continued.
    pub async fn decode(&mut self, feed: &Feed, mut step: impl FnMut()) -> (Feed, bool) {
        let Feed::Records(batch) = feed else {
            return (feed.clone(), false);
        };
        loop {
            match self.decoder.decode(batch, &mut step) {
                Step::Done(decoded) => {
                    // Nothing waits for what else was asked for.
                    self.asked.clear();
                    return (Feed::Records(decoded), false);
                }
                Step::Part(decoded) => return (Feed::Records(decoded), true),
                Step::Need(ids) => self.supply(&ids).await,
            }
        }
    }

    /// Supplies the first of these schemas, and asks for the others too.
    async fn supply(&mut self, ids: &[SchemaId]) {
        for &id in ids {
            if !self.asked.iter().any(|(asked, _)| *asked == id) {
                self.asked.push((id, self.ask(id)));
            }
        }
        poll_fn(|context| {
            let mut is_first_there = false;
            let mut next = 0;
            while let Some((id, answer)) = self.asked.get_mut(next) {
                if let Poll::Ready(supplied) = answer.as_mut().poll(context) {
                    is_first_there |= ids.first() == Some(id);
                    self.decoder.supply(*id, supplied);
                    drop(self.asked.swap_remove(next));
                } else {
                    next += 1;
                }
            }
            if is_first_there {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
    }

    fn ask(&self, id: SchemaId) -> SuppliedFuture {
        match &self.lookup {
            Some(lookup) => lookup.0(id),
            None => Box::pin(ready(Supplied::Unusable(
                "there is no schema registry".to_owned(),
            ))),
        }
    }
}
