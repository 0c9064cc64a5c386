//! Why the server ends a stream, in the word that clients are sent.

/// Why the server ends a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Goodbye {
    /// The daemon ends.
    Shutdown,
    /// The client fell behind the records in memory.
    Slow,
    /// The stream is served no more.
    StreamRemoved,
    /// The connection has lasted as long as connections may.
    Lifetime,
}

impl Goodbye {
    /// The word on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Shutdown => "shutdown",
            Self::Slow => "slow",
            Self::StreamRemoved => "stream-removed",
            Self::Lifetime => "lifetime",
        }
    }
}
