//! QUIC connections over one bottleneck in virtual time: no sockets, no clock, no other work of the machine.
//!
//! Each flow sends without end from its client to its server, in streams of 1 MiB as peers do. All flows share the path
//! there, with its queue; the path back has the same delay and losses and as much room as it needs. A second of 1 Gbit/s
//! takes about a second.

mod bulk_flow;
pub mod wifi;

use std::sync::Arc;
use std::time::{Duration, Instant};

use quinn_proto::congestion::ControllerFactory;

use self::bulk_flow::{BulkFlow, FlowEnd};
use crate::emulator::{Path, Weather};

/// The time between two samples of the queue and of what has arrived.
pub const SAMPLE_INTERVAL: Duration = Duration::from_millis(1);

/// A flow that takes part in a simulation.
#[derive(Clone)]
pub struct FlowPlan {
    /// Its congestion control.
    pub congestion: Arc<dyn ControllerFactory + Send + Sync>,
    /// The time after which it begins.
    pub begin: Duration,
    /// Packets that must arrive after one before it is lost, and round trips that must pass.
    pub thresholds: (u32, f32),
}

/// What was observed, a sample each [`SAMPLE_INTERVAL`].
#[derive(Debug, Clone, Default)]
pub struct Observation {
    /// Bytes of each flow that have arrived.
    pub received: Vec<Vec<u64>>,
    /// The time that a packet waited before the bottleneck.
    pub queue_delay: Vec<Duration>,
}

/// Runs flows over a path for some time. `change` may change the path there before each sample; the same seed has the same
/// chances.
///
/// # Panics
/// When a connection ends.
pub fn simulate(
    flows: &[FlowPlan],
    weather: &Weather,
    duration: Duration,
    seed: u64,
    mut change: impl FnMut(&mut Weather, Duration),
) -> Observation {
    let begin = Instant::now();
    let mut flows: Vec<BulkFlow> = (0..).zip(flows).map(|(number, plan)| BulkFlow::new(plan, number, begin)).collect();
    let mut there: Path<usize> = Path::new(weather.clone(), seed);
    let mut back: Path<usize> = Path::new(Weather { bottleneck: None, ..weather.clone() }, seed + 1);
    let mut seen = Observation { received: vec![Vec::new(); flows.len()], queue_delay: Vec::new() };
    let (mut now, mut next_sample) = (begin, begin);
    while now < begin + duration {
        if now >= next_sample {
            next_sample += SAMPLE_INTERVAL;
            seen.queue_delay.push(there.queue_delay(now));
            for (flow, received) in flows.iter().zip(&mut seen.received) {
                received.push(flow.received());
            }
            change(there.weather_mut(), now - begin);
        }
        while let Some((number, packet)) = there.arrived(now) {
            flows[number].receive(FlowEnd::Server, &packet, now);
        }
        while let Some((number, packet)) = back.arrived(now) {
            flows[number].receive(FlowEnd::Client, &packet, now);
        }
        for (number, flow) in flows.iter_mut().enumerate() {
            flow.work(now, &mut |end, packet| match end {
                FlowEnd::Client => there.send(now, number, packet),
                FlowEnd::Server => back.send(now, number, packet),
            });
        }
        let due = flows.iter_mut().filter_map(BulkFlow::next_timeout);
        let due = due.chain(there.next_arrival()).chain(back.next_arrival()).chain([next_sample]).min();
        now = due.unwrap_or(next_sample).max(now);
    }
    seen
}

impl Observation {
    /// Returns the bytes a second that a flow brought in the last part of the time, which is `share` of it.
    pub fn rate(&self, flow: usize, share: f64) -> f64 {
        let samples = &self.received[flow];
        let last = samples.len() - 1;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of the samples there are")]
        let first = (last as f64 * (1.0 - share)) as usize;
        let time = SAMPLE_INTERVAL * u32::try_from(last - first).unwrap_or(u32::MAX);
        (samples[last] - samples[first]) as f64 / time.as_secs_f64()
    }

    /// Returns the mean time that packets waited before the bottleneck.
    pub fn mean_queue_delay(&self) -> Duration {
        self.queue_delay.iter().sum::<Duration>() / u32::try_from(self.queue_delay.len().max(1)).unwrap_or(u32::MAX)
    }
}
