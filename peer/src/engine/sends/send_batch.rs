//! Several sends that begin together. Blocking.

use std::fs;

use super::send_creation::{BegunSend, SendRequest, end_send};
use crate::engine::Error;
use crate::profile::Profile;

/// Begins several sends by `begin`, all or none: if one fails, those that are new end, of which nobody was told. Resumed ones
/// stay, for their receivers know of them.
pub fn begin_sends(
    profile: &Profile,
    requests: &[SendRequest],
    mut begin: impl FnMut(&SendRequest) -> Result<BegunSend, Error>,
) -> Result<Vec<BegunSend>, Error> {
    let mut begun: Vec<BegunSend> = Vec::with_capacity(requests.len());
    for (number, request) in requests.iter().enumerate() {
        match begin(request) {
            Ok(one) => begun.push(one),
            Err(error) => {
                for BegunSend { send, .. } in begun.iter().filter(|one| !one.is_resumed) {
                    end_send(profile, send)?;
                }
                for SendRequest { path, .. } in requests[number..].iter().filter(|request| request.is_copy) {
                    // A leftover costs disk space only.
                    let _ = fs::remove_file(path);
                }
                return Err(error);
            }
        }
    }
    Ok(begun)
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;

    use super::super::begin_send;
    use super::*;
    use crate::profile::{Audience, OutgoingSend, SendState};

    #[test]
    fn of_several_all_are_sent_or_none() {
        let home = tempfile::tempdir().unwrap();
        let profile = Profile::open(&home.path().join("me")).unwrap();
        let room = Audience::Room(shared::RoomId::from_bytes([1; 16]));
        for name in ["a", "b", "c"] {
            std::io::Write::write_all(&mut fs::File::create(home.path().join(name)).unwrap(), name.as_bytes()).unwrap();
        }
        let begin = |request: &SendRequest| begin_send(&profile, request, &mut |_| ControlFlow::Continue(()));
        let requests = ["a", "b", "none", "c"].map(|name| SendRequest {
            audience: room.clone(),
            path: home.path().join(name),
            name: None,
            is_copy: name != "a",
        });
        let before = begin(&requests[0]).unwrap().send;
        begin_sends(&profile, &requests, begin).unwrap_err();
        let shared = profile.shares_page(&room, "", "", 9).unwrap().shares;
        assert_eq!(shared.iter().map(|share| share.name.as_str()).collect::<Vec<_>>(), ["a"]);
        let is_open = |send: &OutgoingSend| send.state == SendState::Waiting;
        let open: Vec<i64> = profile.sends().unwrap().into_iter().filter(is_open).map(|send| send.number).collect();
        assert_eq!(open, [before.number], "what was sent before goes on");
        assert!(!home.path().join("b").exists() && !home.path().join("c").exists(), "copies go");
    }
}
