use shared::peer::RoomSummary;
use tokio::task::JoinSet;

use super::*;
use crate::engine::node_event::NodeEvent;
use crate::engine::room_values::RoomNewsKind;
use crate::engine::rooms::run_room_stream;
use crate::engine::rooms::tests::{ROOM, dial, room_of};
use crate::net::frame_receiver::{FrameQuota, FrameReceiver};
use crate::net::stream::StreamSender;

/// Nothing takes that long.
const PATIENCE: Duration = Duration::from_secs(60);
/// More of them than a stream's window has room for are sent before the first is answered.
const PUSHES: usize = 60;

/// The end of a stream whose member reads when a test says so.
struct MemberEnd {
    sender: StreamSender,
    receiver: FrameReceiver,
}

impl MemberEnd {
    async fn accept(link: &Link) -> Self {
        let (sender, mut receiver) = link.accept_stream(&FrameQuota::for_user()).await.unwrap();
        assert!(matches!(receiver.next_frame().await, Ok(Some(PeerRequest::Room { .. }))));
        Self { sender, receiver }
    }

    /// Reads up to the next summary, and refuses what is pushed before it.
    async fn next_summary(&mut self) -> RoomSummary {
        loop {
            if let RoomStreamRequest::Summary(summary) = self.receiver.next_frame().await.unwrap().unwrap() {
                return summary;
            }
            let refused = RoomStreamReply::Error { code: PeerErrorCode::Busy, message: "later".into() };
            self.sender.send_frame(&refused).await.unwrap();
        }
    }
}

#[tokio::test]
async fn whoever_reads_nothing_is_listened_to_all_the_same_and_then_loses_the_stream() {
    let (_, [mut alice, bob]) = room_of(["alice", "bob"]).await;
    let (hers, his) = dial(&alice, &bob).await;
    let (mut tasks, rooms) = (JoinSet::new(), alice.rooms.clone());
    tasks.spawn(async move { run_room_stream(hers, rooms, ROOM, Arc::new(Semaphore::new(1))).await });
    let mut end = MemberEnd::accept(&his).await;
    let summary = end.next_summary().await;
    end.sender.send_frame(&RoomStreamReply::Summary(summary)).await.unwrap();
    let text = "x".repeat(16_000);
    for _ in 0..PUSHES {
        alice.write(&text).await;
    }
    alice.rooms.perform(|registry| registry.outlets().compare_with_all(ROOM)).await.unwrap();
    let summary = end.next_summary().await;
    // From here on more is on its way to the member than it reads.
    for _ in 0..8 {
        assert!(matches!(end.receiver.next_frame().await, Ok(Some(RoomStreamRequest::New { .. }))));
    }
    end.sender.send_frame(&RoomStreamReply::Summary(summary)).await.unwrap();
    let is_delivery = |event: &NodeEvent| match event {
        NodeEvent::Room(news) => matches!(news.kind, RoomNewsKind::Delivered { count: 1, .. }).then_some(()),
        _ => None,
    };
    alice.wait_for("reply", is_delivery).await;
    let ended = tokio::time::timeout(PATIENCE, tasks.join_next()).await.unwrap().unwrap().unwrap();
    assert!(matches!(ended, Err(StreamError::Timeout(_))), "{ended:?}");
}
