//! What a path does to datagrams.

use std::time::Duration;

/// What one direction of a path does to datagrams. By default nothing.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Weather {
    /// Every datagram takes this long.
    pub delay: Duration,
    /// And up to this much longer, without overtaking.
    pub jitter: Duration,
    /// The share that is lost, each by itself.
    pub loss: f64,
    /// Losses that come together.
    pub bursts: Option<Bursts>,
    /// The share that is overtaken by whatever comes in the next [`Weather::detour`].
    pub reordering: f64,
    /// How much longer those take that are overtaken.
    pub detour: Duration,
    /// The share that arrives twice.
    pub duplication: f64,
    /// The share in which one bit is another.
    pub corruption: f64,
    /// The slowest piece of the path and the queue before it.
    pub bottleneck: Option<Bottleneck>,
    /// Longer datagrams vanish without a word.
    pub mtu: Option<usize>,
    /// Everything vanishes without a word.
    pub blackout: bool,
}

/// A link of limited rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bottleneck {
    /// Bytes a second that get through.
    pub rate: u64,
    /// Bytes that may wait; what doesn't fit is lost.
    pub queue: usize,
}

/// Losses that come together (Gilbert and Elliott): the path is now good, now bad.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bursts {
    /// The chance, at each datagram, that a good path becomes bad.
    pub begin: f64,
    /// The chance, at each datagram, that a bad path becomes good.
    pub end: f64,
    /// The share that a bad path loses.
    pub loss: f64,
}

impl Weather {
    /// A path that takes `delay` and is otherwise good.
    pub fn delayed(delay: Duration) -> Self {
        Self { delay, ..Self::default() }
    }
}
