//! A lock with figures beside it, for those who must not wait.
//!
//! The writer of a stream locks its state for every batch and its table for every record. On a machine without a
//! processor to spare it may lose its own while it holds a lock, for tens of milliseconds. Health and metrics must not
//! wait for that on a thread that serves clients: they read the figures, which follow whenever the lock is released.

use std::ops::{Deref, DerefMut};

use parking_lot::{RwLock, RwLockReadGuard, RwLockWriteGuard};

/// What has figures that are read without its lock, or by one that is held for a few stores.
pub(super) trait Gauges {
    /// Its figures, for several threads at once.
    type Figures: Default;

    /// Updates the figures. Called under the lock for writing, often: it must take no more than some stores.
    fn update(&self, figures: &Self::Figures);
}

/// A value, its lock and its figures.
#[derive(Debug)]
pub(super) struct Gauged<T: Gauges> {
    lock: RwLock<T>,
    figures: T::Figures,
}

impl<T: Gauges> Gauged<T> {
    pub(super) fn new(value: T) -> Self {
        let figures = T::Figures::default();
        value.update(&figures);
        Self {
            lock: RwLock::new(value),
            figures,
        }
    }

    pub(super) fn read(&self) -> RwLockReadGuard<'_, T> {
        self.lock.read()
    }

    pub(super) fn write(&self) -> GaugedGuard<'_, T> {
        GaugedGuard {
            value: self.lock.write(),
            figures: &self.figures,
        }
    }

    /// As of the last time that the lock for writing was about to be released. Each figure is right; two may be of different
    /// moments.
    pub(super) fn figures(&self) -> &T::Figures {
        &self.figures
    }

    /// Whether nobody holds the lock.
    #[cfg(test)]
    pub(super) fn is_free(&self) -> bool {
        self.lock.try_write().is_some()
    }
}

/// The lock for writing.
pub(super) struct GaugedGuard<'a, T: Gauges> {
    value: RwLockWriteGuard<'a, T>,
    figures: &'a T::Figures,
}

impl<T: Gauges> Deref for GaugedGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: Gauges> DerefMut for GaugedGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.value
    }
}

impl<T: Gauges> Drop for GaugedGuard<'_, T> {
    fn drop(&mut self) {
        self.value.update(self.figures);
    }
}
