//! Choices made from bytes, so that proptest makes schemas and values by making bytes. Without bytes the choice is the
//! first, which generators keep the simplest.

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngSeed, TestRunner};
use std::sync::LazyLock;

pub struct Draws {
    bytes: Vec<u8>,
    next: usize,
}

impl Draws {
    pub fn new(bytes: Vec<u8>) -> Draws {
        Draws { bytes, next: 0 }
    }

    pub fn byte(&mut self) -> u8 {
        let byte = self.bytes.get(self.next).copied();
        self.next += 1;
        byte.unwrap_or_default()
    }

    /// A number below `count`, which is at most 256.
    pub fn below(&mut self, count: usize) -> usize {
        usize::from(self.byte()) % count
    }

    /// True once in so many times.
    pub fn once_in(&mut self, count: usize) -> bool {
        self.below(count) == count - 1
    }

    pub fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }

    pub fn bytes(&mut self, most: usize) -> Vec<u8> {
        let length = self.below(most + 1);
        self.exactly(length)
    }

    pub fn exactly(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.byte()).collect()
    }

    pub fn array<const N: usize>(&mut self) -> [u8; N] {
        std::array::from_fn(|_| self.byte())
    }

    /// Small numbers, extremes, and any.
    pub fn long(&mut self) -> i64 {
        match self.below(4) {
            0 => i64::from(self.byte()) - 100,
            1 => self.of(&[i64::MIN, i64::MAX, i64::from(i32::MIN), 1 << 53, (1 << 53) + 1]),
            _ => i64::from_le_bytes(self.array()),
        }
    }

    pub fn text(&mut self) -> String {
        match self.below(3) {
            0 => self
                .of(&[
                    "",
                    "a",
                    "Zürich",
                    "\"q\"\\",
                    "line\n\r\t",
                    "\u{1}\u{7f}\u{2028}",
                    "日本語 🚀",
                ])
                .to_owned(),
            _ => String::from_utf8_lossy(&self.bytes(30)).into_owned(),
        }
    }
}

/// That of this run, which `PROPTEST_RNG_SEED` repeats.
pub fn seed() -> u64 {
    static SEED: LazyLock<u64> = LazyLock::new(|| {
        let seed = match Config::default().rng_seed {
            RngSeed::Fixed(seed) => seed,
            // Four digits are written down easily.
            RngSeed::Random => rand::random_range(0..10_000),
        };
        eprintln!("decoders: PROPTEST_RNG_SEED={seed}");
        seed
    });
    *SEED
}

pub fn runner(cases: u32) -> TestRunner {
    TestRunner::new(Config {
        cases,
        rng_seed: RngSeed::Fixed(seed()),
        failure_persistence: None,
        ..Config::default()
    })
}

/// Bytes for a case.
pub fn seeds() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..800)
}

/// So many cases at once, for a reference library that reads them in one process.
pub fn batch<T>(count: usize, make: impl Fn(&mut Draws) -> T) -> Vec<T> {
    let mut runner = runner(0);
    let seeds = seeds();
    (0..count)
        .map(|_| {
            let seed = seeds.new_tree(&mut runner).expect("a case").current();
            make(&mut Draws::new(seed))
        })
        .collect()
}
