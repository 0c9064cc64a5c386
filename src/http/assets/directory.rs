//! A directory of files in place of the page in the binary (`ui.assets`), with a cache.
//!
//! A file is read and compressed once for all requests, on a blocking thread, and cached while its identity, size and
//! times are unchanged. The cache is bounded; files that do not fit are streamed from disk in pieces, uncompressed. A
//! conditional request that matches reads nothing, and a HEAD request only index.html, whose length changes as it is filled. An
//! edit is visible at the next request: a file that has just changed is not cached, because a second change within the
//! tick of the file system's clock would not change its times.

use std::collections::HashMap;
use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::Method;
use parking_lot::Mutex;
use tokio::sync::{OnceCell, Semaphore};
use tokio::task::{JoinHandle, spawn_blocking};

use super::content::{Content, INDEX, Template, compress};

/// Most bytes of a file that is kept and compressed; a larger one is streamed from disk.
pub(super) const MAX_FILE: u64 = 8 << 20;

/// Most bytes of index.html that is filled; a larger one stays as it is.
pub(super) const MAX_TEMPLATE: u64 = 1 << 20;

/// Most bytes that are kept, plain and compressed, those included that are still being sent.
pub(super) const MAX_KEPT: u64 = 64 << 20;

const LOADS: usize = 2;

/// How long after a change a file is not kept: longer than the tick of any file system's clock.
const YOUNG: Duration = Duration::from_secs(2);

const PIECE: u64 = 64 * 1024;

/// Properties that differ between two states of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct FileState {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl FileState {
    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// Whether the file may change again without a visible difference. The kernel sets the time of change; programs can
    /// set that of modification to anything.
    fn is_young(&self) -> bool {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let (seconds, nanos) = self.changed;
        let changed = Duration::new(
            u64::try_from(seconds).unwrap_or(0),
            u32::try_from(nanos).unwrap_or(0),
        );
        now < changed.saturating_add(YOUNG)
    }

    /// Not of inode and time of change, in which copies of a directory differ.
    fn tag(&self, salt: u32) -> String {
        let (seconds, nanos) = self.modified;
        format!("{:x}-{seconds:x}.{nanos:x}-{salt:x}", self.size)
    }
}

/// A file in memory, or the attempt to get it there.
#[derive(Debug)]
struct CachedFile {
    state: FileState,
    /// `None` if it cannot be cached: no space is left, or it changed while it was read.
    content: OnceCell<Option<Arc<Content>>>,
    /// When it was last requested, as a count of requests.
    used: AtomicU64,
}

/// The directory, and its cache.
#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
    template: Template,
    /// A part of every ETag.
    salt: u32,
    cached: Mutex<HashMap<String, Arc<CachedFile>>>,
    held: Arc<AtomicU64>,
    loads: Semaphore,
    requests: AtomicU64,
}

pub(super) struct Found {
    /// `None` if the next change might not show in it.
    pub(super) tag: Option<String>,
    pub(super) body: Body,
}

pub(super) enum Body {
    Kept(Arc<Content>),
    /// On disk, with this length.
    OnDisk(File, u64),
    /// Not needed. The length is known if the file is not compressed.
    Omitted(Option<u64>),
}

impl Directory {
    /// A directory whose files have ETags of their own for each `salt`.
    pub(super) fn new(path: PathBuf, template: Template, salt: u32) -> Self {
        Self {
            path,
            template,
            salt,
            cached: Mutex::default(),
            held: Arc::default(),
            loads: Semaphore::new(LOADS),
            requests: AtomicU64::new(0),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The file of this name; `is_known` says of its tag whether the client has it.
    pub(super) async fn find(
        self: &Arc<Self>,
        name: &str,
        method: &Method,
        takes_gzip: bool,
        is_known: impl FnOnce(&str) -> bool,
    ) -> Option<Found> {
        let path = self.path.join(name);
        let of = path.clone();
        // A directory on a network may hang.
        let metadata = spawn_blocking(move || std::fs::metadata(of)).await.ok()?;
        let Some(metadata) = metadata.ok().filter(Metadata::is_file) else {
            self.cached.lock().remove(name);
            return None;
        };
        let state = FileState::of(&metadata);
        let is_young = state.is_young();
        let is_template = name == INDEX && state.size <= MAX_TEMPLATE;
        let salt = self.salt ^ if is_template { self.template.salt() } else { 0 };
        let tag = (!is_young).then(|| state.tag(salt));
        let found = |body| Found {
            tag: tag.clone(),
            body,
        };
        if tag.as_deref().is_some_and(is_known) {
            return Some(found(Body::Omitted(None)));
        }
        if !is_young && state.size <= MAX_FILE {
            let slot = self.slot(name, state);
            // For a HEAD request, known only after a GET of the file.
            let content = match (slot.content.get(), method) {
                (Some(content), _) => content.clone(),
                (None, &Method::HEAD) if !is_template => {
                    let size = (!takes_gzip).then_some(state.size);
                    return Some(found(Body::Omitted(size)));
                }
                (None, _) => Arc::clone(self).load(slot, path.clone(), is_template).await,
            };
            if let Some(content) = content {
                return Some(found(Body::Kept(content)));
            }
        }
        if method == Method::HEAD && !is_template {
            return Some(found(Body::Omitted(Some(state.size))));
        }
        if is_template {
            // It has to be filled, so it cannot be sent as it is.
            let assets = Arc::clone(self);
            let read = spawn_blocking(move || assets.read(&path, true).map(|(plain, _)| assets.hold(plain)));
            let content = Content::new(read.await.ok()?.ok()?, None);
            return Some(found(Body::Kept(Arc::new(content))));
        }
        let opened = spawn_blocking(move || {
            let file = File::open(path)?;
            let size = file.metadata()?.size();
            Ok::<_, io::Error>((file, size))
        });
        let (file, size) = opened.await.ok()?.ok()?;
        Some(found(Body::OnDisk(file, size)))
    }

    /// The slot of a file in this state, in place of one in another.
    fn slot(&self, name: &str, state: FileState) -> Arc<CachedFile> {
        let mut cached = self.cached.lock();
        let used = self.requests.fetch_add(1, Ordering::Relaxed);
        if let Some(slot) = cached.get(name).filter(|slot| slot.state == state) {
            slot.used.store(used, Ordering::Relaxed);
            return Arc::clone(slot);
        }
        let slot = Arc::new(CachedFile {
            state,
            content: OnceCell::new(),
            used: AtomicU64::new(used),
        });
        cached.insert(name.to_owned(), Arc::clone(&slot));
        slot
    }

    /// Reads and compresses a file, once for all that wait for it.
    async fn load(
        self: Arc<Self>,
        slot: Arc<CachedFile>,
        path: PathBuf,
        is_template: bool,
    ) -> Option<Arc<Content>> {
        // In its own task, so that it continues when the client that started it disconnects.
        let loading = tokio::spawn(async move {
            let load = async || {
                let permit = self.loads.acquire().await;
                let assets = Arc::clone(&self);
                let of = Arc::clone(&slot);
                let prepared = spawn_blocking(move || assets.prepare(&of, &path, is_template)).await;
                drop(permit);
                prepared.ok().flatten()
            };
            let content = slot.content.get_or_init(load).await.clone();
            if content.is_none() {
                // The next request tries again: there may be space by then.
                self.cached.lock().retain(|_, kept| !Arc::ptr_eq(kept, &slot));
            }
            content
        });
        loading.await.ok().flatten()
    }

    /// Reads and compresses. Blocks.
    fn prepare(&self, slot: &CachedFile, path: &Path, is_template: bool) -> Option<Arc<Content>> {
        // The file, and at most as much again compressed.
        let _reserved = self.reserve(slot, 2 * slot.state.size)?;
        let (plain, state) = self.read(path, is_template).ok()?;
        if state != slot.state {
            return None;
        }
        let gzip = compress(&plain).map(|gzip| self.hold(gzip));
        Some(Arc::new(Content::new(self.hold(plain), gzip)))
    }

    /// The bytes of a file, and its state after they were read. Blocks.
    fn read(&self, path: &Path, is_template: bool) -> io::Result<(Vec<u8>, FileState)> {
        let file = File::open(path)?;
        let limit = if is_template { MAX_TEMPLATE } else { MAX_FILE };
        let mut plain = Vec::new();
        // It may have grown since it was looked at.
        (&file).take(limit + 1).read_to_end(&mut plain)?;
        if plain.len() as u64 > limit {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let state = FileState::of(&file.metadata()?);
        if is_template {
            plain = self.template.fill(plain);
        }
        Ok((plain, state))
    }

    fn hold(&self, bytes: Vec<u8>) -> Bytes {
        let held = Held::new(bytes.into_boxed_slice(), Arc::clone(&self.held));
        Bytes::from_owner(held)
    }

    /// Drops the least recently requested files until this many bytes have space, and reserves it; `None` if too much is
    /// still being sent.
    fn reserve(&self, keep: &CachedFile, wanted: u64) -> Option<Reserved> {
        let mut cached = self.cached.lock();
        while self.held.load(Ordering::Relaxed) + wanted > MAX_KEPT {
            let loaded = cached
                .iter()
                .filter(|(_, slot)| !std::ptr::eq(Arc::as_ptr(slot), keep) && slot.content.initialized());
            let oldest = loaded.min_by_key(|(_, slot)| slot.used.load(Ordering::Relaxed));
            let name = oldest.map(|(name, _)| name.clone())?;
            cached.remove(&name);
        }
        Some(Reserved::new(wanted, Arc::clone(&self.held)))
    }
}

/// A number of bytes that count as held.
struct Reserved {
    bytes: u64,
    held: Arc<AtomicU64>,
}

impl Reserved {
    fn new(bytes: u64, held: Arc<AtomicU64>) -> Self {
        held.fetch_add(bytes, Ordering::Relaxed);
        Self { bytes, held }
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.held.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Bytes that count as held until the last response that sends them is done.
struct Held {
    bytes: Box<[u8]>,
    _reserved: Reserved,
}

impl Held {
    fn new(bytes: Box<[u8]>, held: Arc<AtomicU64>) -> Self {
        Self {
            _reserved: Reserved::new(bytes.len() as u64, held),
            bytes,
        }
    }
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// A file, and bytes that were read from it.
type Piece = (File, Vec<u8>);

/// A file as it is read from disk, piece by piece, each when the one before is sent.
pub(super) struct Pieces {
    file: Option<File>,
    left: u64,
    reading: Option<JoinHandle<io::Result<Piece>>>,
}

impl Pieces {
    pub(super) const fn new(file: File, length: u64) -> Self {
        Self {
            file: Some(file),
            left: length,
            reading: None,
        }
    }
}

impl futures_core::Stream for Pieces {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        if let Some(file) = self.file.take() {
            let most = self.left.min(PIECE);
            self.reading = Some(spawn_blocking(move || {
                let mut piece = Vec::with_capacity(usize::try_from(most).unwrap_or(0));
                (&file).take(most).read_to_end(&mut piece)?;
                Ok((file, piece))
            }));
        }
        let Some(reading) = &mut self.reading else {
            return Poll::Ready(None);
        };
        let (file, piece) = ready!(Pin::new(reading).poll(context)).map_err(io::Error::other)??;
        self.reading = None;
        if piece.is_empty() {
            // Its length is promised already.
            return Poll::Ready(Some(Err(io::ErrorKind::UnexpectedEof.into())));
        }
        self.left = self.left.saturating_sub(piece.len() as u64);
        self.file = Some(file);
        Poll::Ready(Some(Ok(piece.into())))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tempfile::TempDir;

    use super::*;
    use crate::config::UiSettings;

    /// A directory of files of the largest size that is cached, old enough for that, but without a page.
    async fn directory(files: u64) -> (TempDir, Arc<Directory>) {
        let on_disk = TempDir::new().expect("a directory");
        for file in 0..files {
            let file = File::create(on_disk.path().join(file.to_string())).expect("a file");
            file.set_len(MAX_FILE).expect("a sparse file");
        }
        let newest = fs::metadata(on_disk.path().join((files - 1).to_string())).expect("it exists");
        while FileState::of(&newest).is_young() {
            tokio::time::sleep(YOUNG / 20).await;
        }
        let template = Template::new(&UiSettings::default(), &[]);
        let directory = Directory::new(on_disk.path().into(), template, 0);
        (on_disk, Arc::new(directory))
    }

    impl Directory {
        async fn get(self: &Arc<Self>, file: u64) -> Body {
            let found = self.find(&file.to_string(), &Method::GET, false, |_| false).await;
            let held = self.held.load(Ordering::Relaxed);
            assert!(held <= MAX_KEPT, "{held} bytes are held");
            found.expect("it exists").body
        }

        fn cached(&self) -> Vec<u64> {
            let cached = self.cached.lock();
            let mut names: Vec<u64> = cached
                .keys()
                .map(|name| name.parse().expect("a number"))
                .collect();
            names.sort_unstable();
            names
        }
    }

    #[tokio::test]
    async fn the_least_recently_requested_files_make_space_for_others() {
        let (_on_disk, directory) = directory(10).await;
        for file in 0..10 {
            assert!(matches!(directory.get(file).await, Body::Kept(_)), "{file}");
            assert!(matches!(directory.get(0).await, Body::Kept(_)));
        }
        let cached = directory.cached();
        assert!(
            cached.len() < 8 && cached[0] == 0,
            "eight files of 8 MiB and their compressed forms exceed 64 MiB: {cached:?}"
        );
        let first = 10 - (cached.len() as u64 - 1);
        assert_eq!(cached[1..], (first..10).collect::<Vec<u64>>());
        assert!(
            matches!(directory.get(1).await, Body::Kept(_)),
            "it is read again"
        );
    }

    #[tokio::test]
    async fn files_that_are_being_sent_count_until_they_are_sent() {
        let (_on_disk, directory) = directory(9).await;
        let mut sending = Vec::new();
        for file in 0..8 {
            match directory.get(file).await {
                Body::Kept(content) => sending.push(content),
                body => assert!(matches!(body, Body::OnDisk(_, MAX_FILE)), "{file}"),
            }
        }
        // Loading reserves a file's size twice, once for its compressed form.
        assert!((5..8).contains(&sending.len()), "{}", sending.len());
        assert!(
            matches!(directory.get(8).await, Body::OnDisk(..)),
            "no space is left"
        );
        let before = directory.held.load(Ordering::Relaxed);
        drop(sending);
        assert!(matches!(directory.get(8).await, Body::Kept(_)), "they are sent");
        assert!(directory.held.load(Ordering::Relaxed) < before);
    }
}
