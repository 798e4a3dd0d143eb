//! Private messages beside a busy room.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tests::{EventProgram, Lab, User, make_room};

use super::printed_lines::PrintingNodes;
use super::{median, millis, verdict};

/// Time until it is the other's turn, and the number of turns.
const TURN: Duration = Duration::from_secs(4);
const TURNS: usize = 5;
/// Pause between two messages of each of the two others in the room: together ten a second.
const ROOM_PAUSE: Duration = Duration::from_millis(200);
const MAX_RATIO: f64 = 1.1;
const SETTLING: Duration = Duration::from_secs(4);

pub(crate) fn run() {
    let lab = Lab::start();
    let users: Vec<User<'_>> = ["alice", "bob", "carol", "dave"].map(|name| lab.user(name)).into();
    make_room(&users.iter().collect::<Vec<_>>());
    let mut nodes = PrintingNodes::new();
    for user in &users {
        nodes.start(user);
    }
    std::thread::sleep(SETTLING);
    let mut hers = EventProgram::start(&users[0]);
    let _his = EventProgram::start(&users[1]).answering(|event| {
        let is_question = event["state"] == "received" && event["room"].is_null();
        is_question.then(|| ("alice".to_owned(), "pong".to_owned()))
    });
    let mut others = [&users[2], &users[3]].map(|user| {
        let mut program = EventProgram::start(user);
        program.drop_output();
        program
    });
    let is_busy = Arc::new(AtomicBool::new(false));
    let (mut idle, mut busy) = (Vec::new(), Vec::new());
    talk(&mut hers, Duration::from_millis(500), &mut Vec::new());
    std::thread::scope(|scope| {
        let writing = is_busy.clone();
        let is_over = Arc::new(AtomicBool::new(false));
        let ends = is_over.clone();
        scope.spawn(move || {
            while !ends.load(Ordering::Relaxed) {
                for program in &mut others {
                    if writing.load(Ordering::Relaxed) {
                        program.send("#lab", "as long as what people say to each other on a usual day");
                    }
                    std::thread::sleep(ROOM_PAUSE / 2);
                }
            }
        });
        for _ in 0..TURNS {
            talk(&mut hers, TURN, &mut idle);
            is_busy.store(true, Ordering::Relaxed);
            talk(&mut hers, TURN, &mut busy);
            is_busy.store(false, Ordering::Relaxed);
        }
        is_over.store(true, Ordering::Relaxed);
    });
    let (idle_median, busy_median) = (median(&mut idle), median(&mut busy));
    let ratio = busy_median.as_secs_f64() / idle_median.as_secs_f64();
    println!(
        "round trip: idle {:.2} ms ({} of them), beside a busy room {:.2} ms ({}): {ratio:.2} times (at most {MAX_RATIO}: {})",
        millis(idle_median),
        idle.len(),
        millis(busy_median),
        busy.len(),
        verdict(ratio <= MAX_RATIO)
    );
}

/// Sends one message after another to bob, each when the answer to the one before is here.
fn talk(program: &mut EventProgram, time: Duration, round_trips: &mut Vec<Duration>) {
    let end = Instant::now() + time;
    while Instant::now() < end {
        let begin = Instant::now();
        program.send("bob", "ping");
        loop {
            let event = program.next_event().expect("an event");
            assert_ne!(event["type"], "error", "{event}");
            if event["type"] == "message" && event["state"] == "received" && event["room"].is_null() {
                break;
            }
        }
        round_trips.push(begin.elapsed());
    }
}
