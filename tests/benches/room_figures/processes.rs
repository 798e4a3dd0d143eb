//! 24 real nodes in one room.

use std::time::{Duration, Instant};

use tests::{EventProgram, Lab, User, make_room};

use super::printed_lines::PrintingNodes;
use super::process_usage::cpu_time;
use super::{median, millis, verdict};

const NODES: usize = 24;
/// Members who write, and the messages of each.
const AUTHORS: [usize; 5] = [0, 5, 11, 17, 23];
const MESSAGES: usize = 12;
const MAX_DELAY: Duration = Duration::from_millis(500);
const MAX_CPU: Duration = Duration::from_millis(50);
/// Time for the links, which come up by themselves and in an order of their own, and for what follows a message.
const SETTLING: Duration = Duration::from_secs(8);
const REPLIES: Duration = Duration::from_secs(1);

pub(crate) fn run() {
    let lab = Lab::start();
    let users: Vec<User<'_>> = (0..NODES).map(|number| lab.user(&format!("user{number}"))).collect();
    make_room(&users.iter().collect::<Vec<_>>());
    let mut nodes = PrintingNodes::new();
    for user in &users {
        nodes.start(user);
    }
    std::thread::sleep(SETTLING);
    let (mut delays, mut cpu_times) = (Vec::new(), Vec::new());
    for author in AUTHORS {
        let mut program = EventProgram::start(&users[author]);
        program.drop_output();
        // The first message opens what later ones use.
        send_to_all(&mut program, &nodes, author, "warm.");
        std::thread::sleep(REPLIES);
        let pids = [nodes.pid(author), program.pid()];
        let used = || pids.into_iter().map(cpu_time).sum::<Duration>();
        let before = used();
        for number in 0..MESSAGES {
            delays.push(send_to_all(&mut program, &nodes, author, &format!("message {number} of {author}.")));
        }
        std::thread::sleep(REPLIES);
        cpu_times.push((used() - before) / u32::try_from(MESSAGES).unwrap());
    }
    let (middle, worst) = (median(&mut delays), *delays.last().unwrap());
    println!(
        "{} messages until all {} others have printed them: median {:.0} ms, worst {:.0} ms (at most {} ms: {})",
        delays.len(),
        NODES - 1,
        millis(middle),
        millis(worst),
        MAX_DELAY.as_millis(),
        verdict(middle <= MAX_DELAY)
    );
    let (middle, worst) = (median(&mut cpu_times), *cpu_times.last().unwrap());
    println!(
        "processor time at the author's for each: median {:.1} ms, worst {:.1} ms (at most {} ms: {})",
        millis(middle),
        millis(worst),
        MAX_CPU.as_millis(),
        verdict(middle <= MAX_CPU)
    );
}

/// Sends a message; returns the time until the last member has printed it.
fn send_to_all(program: &mut EventProgram, nodes: &PrintingNodes, author: usize, text: &str) -> Duration {
    let begin = Instant::now();
    program.send("#lab", text);
    nodes.wait_for_all(author, text).into_iter().max().map_or(Duration::ZERO, |last| last - begin)
}
