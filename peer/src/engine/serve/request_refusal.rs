//! Refusals of a request: the code on the wire and its text.

use shared::peer::{PeerErrorCode, PeerReply};

use crate::engine::Error;
use crate::net::StreamError;
use crate::net::stream::StreamSender;

/// The error reply to a request: a code, and words for the other side.
pub(super) type RequestRefusal = (PeerErrorCode, String);

/// Returns the reply to a blocked user, which says nothing about the shares.
pub(super) fn unauthorised_refusal() -> RequestRefusal {
    (PeerErrorCode::Unauthorised, "refused".to_owned())
}

pub(super) fn not_found_refusal() -> RequestRefusal {
    (PeerErrorCode::NotFound, "no such file is shared".to_owned())
}

#[expect(clippy::needless_pass_by_value, reason = "it ends here: the other side learns only that it happened")]
pub(super) fn internal_refusal(error: Error) -> RequestRefusal {
    tracing::error!("{error}");
    (PeerErrorCode::Internal, "a fault on the sharing side".to_owned())
}

/// Sends a refusal as the answer to a request.
pub(super) async fn send_refusal(
    sender: &mut StreamSender,
    (code, message): RequestRefusal,
) -> Result<(), StreamError> {
    sender.send_frame(&PeerReply::Error { code, message: message.into() }).await
}
