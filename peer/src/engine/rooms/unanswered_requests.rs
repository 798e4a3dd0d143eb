//! The requests of a room's stream that have no reply yet. Pure.

use std::collections::VecDeque;

use shared::peer::RoomStreamReply;
use shared::room::MessageHash;

/// Pushed messages without a reply.
const MAX_UNANSWERED: usize = 64;

/// The requests without a reply, oldest first: replies come in the order of the requests.
#[derive(Debug, Default)]
pub(super) struct UnansweredRequests(VecDeque<UnansweredRequest>);

/// A request whose reply is due.
#[derive(Debug, Clone, Copy)]
enum UnansweredRequest {
    /// A pushed message, and its number if it is ours.
    Push { message: MessageHash, own_number: Option<u64> },
    /// Any other.
    Question,
}

/// The request to which a reply belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AnsweredRequest {
    /// One of our messages, by its number, which the member has now.
    Delivered { message: MessageHash, number: u64 },
    /// Another pushed message.
    Push,
    /// Any other.
    Question,
}

impl UnansweredRequests {
    /// Returns true if one more message may be pushed.
    pub(super) fn has_room_for_push(&self) -> bool {
        self.0.len() < MAX_UNANSWERED
    }

    /// Notes a pushed message, and its number if it is ours.
    pub(super) fn note_push(&mut self, message: MessageHash, own_number: Option<u64>) {
        self.0.push_back(UnansweredRequest::Push { message, own_number });
    }

    /// Notes any other request.
    pub(super) fn note_question(&mut self) {
        self.0.push_back(UnansweredRequest::Question);
    }

    /// Assigns a reply to the oldest request without one; `None` if there is none.
    pub(super) fn settle(&mut self, reply: &RoomStreamReply) -> Option<AnsweredRequest> {
        Some(match (self.0.pop_front()?, reply) {
            (UnansweredRequest::Question, _) => AnsweredRequest::Question,
            (UnansweredRequest::Push { message, own_number: Some(number) }, RoomStreamReply::Taken {}) => {
                AnsweredRequest::Delivered { message, number }
            }
            (UnansweredRequest::Push { .. }, _) => AnsweredRequest::Push,
        })
    }
}

#[cfg(test)]
mod tests {
    use shared::peer::PeerErrorCode;

    use super::*;

    #[test]
    fn replies_come_in_the_order_of_the_requests() {
        let message = MessageHash::from_bytes([1; 32]);
        let refused = RoomStreamReply::Error { code: PeerErrorCode::Busy, message: "later".into() };
        let mut unanswered = UnansweredRequests::default();
        unanswered.note_push(message, Some(3));
        unanswered.note_question();
        unanswered.note_push(message, None);
        unanswered.note_push(message, Some(4));
        let replies = [RoomStreamReply::Taken {}, RoomStreamReply::Taken {}, RoomStreamReply::Taken {}, refused];
        let settled: Vec<_> = replies.iter().map(|reply| unanswered.settle(reply).unwrap()).collect();
        let delivered = AnsweredRequest::Delivered { message, number: 3 };
        // One that was refused is not delivered.
        assert_eq!(settled, [delivered, AnsweredRequest::Question, AnsweredRequest::Push, AnsweredRequest::Push]);
        assert_eq!(unanswered.settle(&RoomStreamReply::Taken {}), None);
    }

    #[test]
    fn whoever_does_not_answer_is_sent_no_more() {
        let mut unanswered = UnansweredRequests::default();
        while unanswered.has_room_for_push() {
            unanswered.note_push(MessageHash::from_bytes([1; 32]), None);
        }
        assert_eq!(unanswered.0.len(), MAX_UNANSWERED);
        unanswered.settle(&RoomStreamReply::Taken {});
        assert!(unanswered.has_room_for_push());
    }
}
