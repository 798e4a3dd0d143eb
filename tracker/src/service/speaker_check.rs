//! The check of requests on behalf of a user: the decisions of the registry as refusals.

use shared::UserName;
use shared::tracker::{Credentials, SpeakerProof};

use super::account_actions::tls_required;
use super::client_state::ClientState;
use super::{RefusalReason, RequestError, TrackerService};
use crate::registry::{
    AuthorityClaim, AuthorityDecision, AuthorityDenial, PresenceRegistry, SessionEndReason, SessionId,
};

impl TrackerService {
    /// Refuses a request on behalf of `user` unless its sender may speak for that user. A password that decides it is
    /// checked here.
    pub(super) async fn check_authority(
        &self,
        client: &ClientState,
        user: &UserName,
        proof: &SpeakerProof,
    ) -> Result<(), RequestError> {
        self.check_claim(client, user, proof, &client.claim(proof)).await
    }

    /// Does the same for a claim that may be narrower than the connection's.
    pub(super) async fn check_claim(
        &self,
        client: &ClientState,
        user: &UserName,
        proof: &SpeakerProof,
        claim: &AuthorityClaim<'_>,
    ) -> Result<(), RequestError> {
        let decide = || self.with_registry(|registry, _| registry.authority(user, claim));
        let mut decision = decide();
        // The login may have been at another tracker a moment ago.
        if matches!(decision, AuthorityDecision::Denied(_)) && self.catch_up().await.unwrap_or_default() {
            decision = decide();
        }
        match decision {
            AuthorityDecision::Session(_) => Ok(()),
            AuthorityDecision::Denied(denial) => Err(denied(user, denial)),
            AuthorityDecision::IfPasswordIsRight => {
                let Some(password) = proof.password.clone() else {
                    return Err(denied(user, AuthorityDenial::NotLoggedIn));
                };
                let account = self.authenticate(client, Credentials { user: user.clone(), password }).await?;
                // After the password: only the owner learns that the account is bound.
                self.require_tls_if_bound(client, &account.user)
            }
        }
    }
}

/// Returns the session that may speak for `user`, given that a password in the claim is right.
pub(super) fn speaking_session(
    registry: &PresenceRegistry,
    user: &UserName,
    claim: &AuthorityClaim<'_>,
) -> Result<SessionId, RequestError> {
    match registry.authority(user, claim) {
        AuthorityDecision::Session(session) => Ok(session),
        AuthorityDecision::IfPasswordIsRight if registry.binding(user).is_some() && !claim.is_secure => {
            Err(tls_required(user))
        }
        AuthorityDecision::IfPasswordIsRight => registry.presence_session(user).ok_or_else(|| not_online(user)),
        AuthorityDecision::Denied(denial) => Err(denied(user, denial)),
    }
}

pub(super) fn denied(user: &UserName, denial: AuthorityDenial) -> RequestError {
    match denial {
        AuthorityDenial::NotLoggedIn => RefusalReason::NotLoggedInAs(user.clone()).into(),
        AuthorityDenial::SessionEnded(ended) => ended_refusal(user, ended),
        AuthorityDenial::Forbidden => RefusalReason::NotUser(user.clone()).into(),
        AuthorityDenial::TlsRequired => tls_required(user),
    }
}

pub(super) fn ended_refusal(user: &UserName, ended: SessionEndReason) -> RequestError {
    RefusalReason::SessionEnded(user.clone(), ended).into()
}

pub(super) fn not_online(user: &UserName) -> RequestError {
    RefusalReason::NotOnline(user.clone()).into()
}
