//! One direction of a path, without sockets or a clock.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::{Bottleneck, Weather};

/// One direction of a path; `T` says where a datagram goes.
#[derive(Debug)]
pub struct Path<T> {
    weather: Weather,
    chance: StdRng,
    is_bad: bool,
    /// When the bottleneck has sent what waits before it.
    busy_until: Option<Instant>,
    /// When the last datagram that was not made to take a detour arrives.
    last_due: Option<Instant>,
    flying: BinaryHeap<Reverse<Flight<T>>>,
    number: u64,
    counts: Counts,
}

/// What became of the datagrams so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// They came in.
    pub taken: u64,
    /// They went out, those that went out twice twice.
    pub delivered: u64,
    /// Lost by chance, alone or in a burst.
    pub lost: u64,
    /// Too many for the queue before the bottleneck.
    pub queue_full: u64,
    /// Too long, or sent into a black-out.
    pub swallowed: u64,
    /// One bit was changed.
    pub corrupted: u64,
}

/// A datagram under way: first come those that are due first, and of those the ones that were sent first.
#[derive(Debug)]
struct Flight<T> {
    due: Instant,
    number: u64,
    to: T,
    datagram: Vec<u8>,
}

/// Everything that chance decides about one datagram. Drawn for each, needed or not: so a change of one thing in the
/// weather leaves the fate of the datagrams in every other as it was.
struct Draw {
    turn: f64,
    burst: f64,
    loss: f64,
    overtaken: f64,
    twice: f64,
    corrupt: f64,
    bit: f64,
    jitter: f64,
}

impl<T: Clone> Path<T> {
    /// A path with this weather, whose chances are all decided by `seed`.
    pub fn new(weather: Weather, seed: u64) -> Self {
        Self {
            weather,
            chance: StdRng::seed_from_u64(seed),
            is_bad: false,
            busy_until: None,
            last_due: None,
            flying: BinaryHeap::new(),
            number: 0,
            counts: Counts::default(),
        }
    }

    /// Sends a datagram at `now`.
    pub fn send(&mut self, now: Instant, to: T, mut datagram: Vec<u8>) {
        self.counts.taken += 1;
        let draw = self.draw();
        let by_chance = self.is_lost(&draw);
        if self.weather.blackout || self.weather.mtu.is_some_and(|mtu| datagram.len() > mtu) {
            self.counts.swallowed += 1;
            return;
        }
        if by_chance {
            self.counts.lost += 1;
            return;
        }
        let Some(through) = self.pass_bottleneck(now, datagram.len()) else {
            self.counts.queue_full += 1;
            return;
        };
        if draw.corrupt < self.weather.corruption {
            self.counts.corrupted += 1;
            flip_bit(&mut datagram, draw.bit);
        }
        let due = self.arrival(through, &draw);
        if draw.twice < self.weather.duplication {
            self.fly(due, to.clone(), datagram.clone());
        }
        self.fly(due, to, datagram);
    }

    /// The next datagram that has arrived by `now`.
    pub fn arrived(&mut self, now: Instant) -> Option<(T, Vec<u8>)> {
        if self.flying.peek().is_none_or(|Reverse(flight)| flight.due > now) {
            return None;
        }
        let Reverse(flight) = self.flying.pop()?;
        self.counts.delivered += 1;
        Some((flight.to, flight.datagram))
    }

    /// When the next datagram arrives.
    pub fn next_arrival(&self) -> Option<Instant> {
        self.flying.peek().map(|Reverse(flight)| flight.due)
    }

    /// How long a datagram that is sent at `now` waits before the bottleneck.
    pub fn queue_delay(&self, now: Instant) -> Duration {
        self.busy_until.map_or(Duration::ZERO, |busy| busy.saturating_duration_since(now))
    }

    /// The weather, to be changed for all datagrams that are sent from now on.
    pub const fn weather_mut(&mut self) -> &mut Weather {
        &mut self.weather
    }

    /// What became of the datagrams so far.
    pub const fn counts(&self) -> Counts {
        self.counts
    }

    fn draw(&mut self) -> Draw {
        let mut draw = || self.chance.random::<f64>();
        Draw {
            turn: draw(),
            burst: draw(),
            loss: draw(),
            overtaken: draw(),
            twice: draw(),
            corrupt: draw(),
            bit: draw(),
            jitter: draw(),
        }
    }

    fn is_lost(&mut self, draw: &Draw) -> bool {
        let in_burst = self.weather.bursts.is_some_and(|bursts| {
            self.is_bad = if self.is_bad { draw.turn >= bursts.end } else { draw.turn < bursts.begin };
            self.is_bad && draw.burst < bursts.loss
        });
        in_burst || draw.loss < self.weather.loss
    }

    /// When it has left the bottleneck; `None` when the queue is full.
    fn pass_bottleneck(&mut self, now: Instant, bytes: usize) -> Option<Instant> {
        let Some(Bottleneck { rate, queue }) = self.weather.bottleneck else { return Some(now) };
        let begins = self.busy_until.map_or(now, |busy| busy.max(now));
        let waiting = begins.saturating_duration_since(now).as_secs_f64() * as_f64(rate);
        // One datagram always gets on the wire, or a short queue would let nothing long through.
        if waiting > 0.0 && waiting + as_f64(bytes as u64) > as_f64(queue as u64) {
            return None;
        }
        let through = begins + Duration::from_secs_f64(as_f64(bytes as u64) / as_f64(rate.max(1)));
        self.busy_until = Some(through);
        Some(through)
    }

    fn arrival(&mut self, through: Instant, draw: &Draw) -> Instant {
        let due = through + self.weather.delay + self.weather.jitter.mul_f64(draw.jitter);
        if draw.overtaken < self.weather.reordering {
            return due + self.weather.detour;
        }
        let due = self.last_due.map_or(due, |last| last.max(due));
        self.last_due = Some(due);
        due
    }

    fn fly(&mut self, due: Instant, to: T, datagram: Vec<u8>) {
        self.number += 1;
        self.flying.push(Reverse(Flight { due, number: self.number, to, datagram }));
    }
}

impl<T> PartialEq for Flight<T> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl<T> Eq for Flight<T> {}

impl<T> PartialOrd for Flight<T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Flight<T> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.due, self.number).cmp(&(other.due, other.number))
    }
}

#[expect(clippy::cast_precision_loss, reason = "rates and lengths are far below 2^53")]
const fn as_f64(number: u64) -> f64 {
    number as f64
}

fn flip_bit(datagram: &mut [u8], place: f64) {
    let bits = datagram.len() * 8;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of the bits there are")]
    let bit = (place * as_f64(bits as u64)) as usize;
    if let Some(byte) = datagram.get_mut(bit / 8) {
        *byte ^= 1 << (bit % 8);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::emulator::Bursts;

    const MS: Duration = Duration::from_millis(1);

    /// Everything that arrives of `count` datagrams of `len` bytes sent `gap` apart: number, time, content.
    fn run(weather: &Weather, seed: u64, count: u32, len: usize, gap: Duration) -> (Vec<Arrival>, Counts) {
        let start = Instant::now();
        let mut path = Path::new(weather.clone(), seed);
        for number in 0..count {
            path.send(start + gap * number, number, vec![0; len]);
        }
        let mut arrivals = Vec::new();
        while let Some(due) = path.next_arrival() {
            let (number, datagram) = path.arrived(due).expect("it is due");
            arrivals.push((number, due - start, datagram));
        }
        (arrivals, path.counts())
    }

    type Arrival = (u32, Duration, Vec<u8>);

    fn numbers(arrivals: &[Arrival]) -> Vec<u32> {
        arrivals.iter().map(|(number, ..)| *number).collect()
    }

    fn near(count: usize, wanted: f64, tolerance: f64) -> bool {
        (as_f64(count as u64) - wanted).abs() <= tolerance
    }

    fn storm() -> Weather {
        Weather {
            delay: 50 * MS,
            jitter: 20 * MS,
            loss: 0.1,
            bursts: Some(Bursts { begin: 0.02, end: 0.2, loss: 0.8 }),
            reordering: 0.1,
            detour: 30 * MS,
            duplication: 0.1,
            corruption: 0.1,
            bottleneck: Some(Bottleneck { rate: 1_000_000, queue: 50_000 }),
            mtu: Some(1_500),
            blackout: false,
        }
    }

    #[test]
    fn a_clear_path_changes_nothing() {
        let (arrivals, counts) = run(&Weather::default(), 1, 100, 10, MS);
        assert_eq!(numbers(&arrivals), (0..100).collect::<Vec<_>>());
        assert!(arrivals.iter().all(|(number, due, datagram)| *due == MS * *number && *datagram == [0; 10]));
        assert_eq!((counts.taken, counts.delivered), (100, 100));
    }

    proptest! {
        #[test]
        fn the_same_seed_is_the_same_fate(seed: u64) {
            prop_assert_eq!(run(&storm(), seed, 300, 1_000, MS), run(&storm(), seed, 300, 1_000, MS));
        }

        #[test]
        fn nothing_is_forgotten(seed: u64, len in 1_000_usize..2_000) {
            let (arrivals, counts) = run(&storm(), seed, 300, len, MS);
            prop_assert_eq!(counts.delivered, arrivals.len() as u64);
            let gone = counts.lost + counts.queue_full + counts.swallowed;
            let mut different = numbers(&arrivals);
            different.sort_unstable();
            different.dedup();
            prop_assert_eq!(different.len() as u64 + gone, counts.taken);
        }

        #[test]
        fn jitter_alone_reorders_nothing(seed: u64) {
            let weather = Weather { jitter: 50 * MS, ..Weather::default() };
            prop_assert_eq!(numbers(&run(&weather, seed, 200, 10, MS).0), (0..200).collect::<Vec<_>>());
        }

        #[test]
        fn one_change_of_the_weather_changes_no_other_fate(seed: u64) {
            let plain = Weather { loss: 0.3, ..Weather::default() };
            let delayed = Weather { delay: 70 * MS, corruption: 0.5, reordering: 0.2, ..plain.clone() };
            let sorted = |weather| {
                let mut numbers = numbers(&run(weather, seed, 200, 10, MS).0);
                numbers.sort_unstable();
                numbers
            };
            prop_assert_eq!(sorted(&plain), sorted(&delayed));
        }
    }

    #[test]
    fn another_seed_is_another_fate() {
        assert_ne!(run(&storm(), 1, 300, 1_000, MS).0, run(&storm(), 2, 300, 1_000, MS).0);
    }

    #[test]
    fn shares_are_what_they_say() {
        let weather = Weather { loss: 0.2, corruption: 0.1, duplication: 0.05, ..Weather::default() };
        let (arrivals, counts) = run(&weather, 7, 10_000, 10, MS);
        assert!(counts.lost.abs_diff(2_000) < 200, "{counts:?}");
        assert!(counts.corrupted.abs_diff(800) < 120, "{counts:?}");
        assert!(near(arrivals.len(), 8_000.0 * 1.05, 250.0), "{counts:?}");
        let damaged = arrivals.iter().filter(|(_, _, datagram)| datagram.iter().any(|byte| *byte != 0));
        let bits: Vec<u32> = damaged.map(|(_, _, datagram)| datagram.iter().map(|b| b.count_ones()).sum()).collect();
        assert!(bits.len() >= 700 && bits.iter().all(|bits| *bits == 1), "one bit each: {}", bits.len());
    }

    #[test]
    fn losses_of_bursts_come_together() {
        let bursts = Bursts { begin: 0.01, end: 0.1, loss: 1.0 };
        let (arrivals, counts) = run(&Weather { bursts: Some(bursts), ..Weather::default() }, 7, 20_000, 10, MS);
        // A bad time lasts 10 datagrams and comes every 100: one in eleven is lost.
        assert!(counts.lost.abs_diff(20_000 / 11) < 500, "{counts:?}");
        let gaps = arrivals.windows(2).filter(|pair| pair[1].0 > pair[0].0 + 1).count();
        assert!(near(gaps, as_f64(counts.lost) / 10.0, 60.0), "{gaps} gaps for {counts:?}");
    }

    #[test]
    fn those_that_take_a_detour_are_overtaken() {
        let weather = Weather { reordering: 0.1, detour: 10 * MS, ..Weather::default() };
        let (arrivals, _) = run(&weather, 7, 1_000, 10, MS);
        let late = arrivals.windows(2).filter(|pair| pair[1].0 < pair[0].0).count();
        assert!((50..=150).contains(&late), "{late} were overtaken");
    }

    #[test]
    fn the_rate_is_kept() {
        let weather =
            Weather { bottleneck: Some(Bottleneck { rate: 1_000_000, queue: 100_000 }), ..Weather::default() };
        // Twice as much as gets through, for ten seconds.
        let (arrivals, counts) = run(&weather, 1, 20_000, 1_000, MS / 2);
        for second in 1..10 {
            let within = |due: &Duration| due.as_secs() == second;
            let bytes = arrivals.iter().filter(|(_, due, _)| within(due)).count() * 1_000;
            assert!(near(bytes, 1_000_000.0, 10_000.0), "{bytes} in second {second}");
        }
        assert!(counts.queue_full.abs_diff(10_000) < 200, "{counts:?}");
        // Nobody waits longer than the queue is long.
        let longest = arrivals.iter().map(|(number, due, _)| *due - MS / 2 * *number).max().expect("some");
        assert!(longest <= 101 * MS, "{longest:?}");
    }

    #[test]
    fn a_queue_shorter_than_a_datagram_still_lets_one_through_at_a_time() {
        let weather = Weather { bottleneck: Some(Bottleneck { rate: 1_000_000, queue: 10 }), ..Weather::default() };
        let (arrivals, counts) = run(&weather, 1, 100, 1_000, MS / 2);
        assert_eq!((arrivals.len(), counts.queue_full), (50, 50));
    }

    #[test]
    fn long_datagrams_and_those_of_a_blackout_vanish_until_it_is_over() {
        let now = Instant::now();
        let mut path = Path::new(Weather { mtu: Some(1_500), ..Weather::default() }, 1);
        path.send(now, 'a', vec![0; 1_500]);
        path.send(now, 'b', vec![0; 1_501]);
        path.weather_mut().blackout = true;
        path.send(now, 'c', vec![0; 10]);
        *path.weather_mut() = Weather::default();
        path.send(now, 'd', vec![0; 65_000]);
        let arrived: String = std::iter::from_fn(|| path.arrived(now)).map(|(name, _)| name).collect();
        assert_eq!(arrived, "ad");
        assert_eq!(path.counts().swallowed, 2);
    }

    #[test]
    fn nothing_arrives_before_its_time() {
        let now = Instant::now();
        let mut path = Path::new(Weather::delayed(10 * MS), 1);
        path.send(now, (), vec![1]);
        assert!(path.arrived(now + 9 * MS).is_none());
        assert_eq!(path.next_arrival(), Some(now + 10 * MS));
        assert!(path.arrived(now + 10 * MS).is_some());
        assert_eq!(path.next_arrival(), None);
    }
}
