//! Identity of the profile: its key, and the one that an account is to be bound to.

use std::path::PathBuf;

use certs::{Identity, IdentityError, IdentityReplacement, MissingIdentityAdvice, MissingIdentityPolicy};
use localization::tr;

use super::{Profile, ProfileAccount, ProfileError};

/// The name of the folder with the key.
pub(super) const IDENTITY_FOLDER: &str = "identity";
/// The name of the key in that folder.
pub(super) const KEY: &str = "identity.pem";

/// The identity that an account is to be bound to.
#[derive(Debug)]
pub enum BindingIdentity {
    /// The profile's identity.
    Existing(Identity),
    /// A new identity that becomes the profile's after the account is bound to it.
    New(IdentityReplacement),
}

impl BindingIdentity {
    /// Returns the identity to bind.
    pub const fn identity(&self) -> &Identity {
        match self {
            Self::Existing(identity) => identity,
            Self::New(replacement) => replacement.identity(),
        }
    }

    /// Makes it the profile's identity; returns the path of the backup of the key that was there before, if any.
    ///
    /// # Errors
    /// [`ProfileError::Identity`] if the key can't be stored.
    pub fn commit(self) -> Result<Option<PathBuf>, ProfileError> {
        match self {
            Self::Existing(_) => Ok(None),
            Self::New(replacement) => Ok(replacement.commit()?),
        }
    }

    /// Leaves the profile's identity as it was, after the account could not be bound.
    ///
    /// # Errors
    /// [`ProfileError::Identity`] if the new key can't be removed.
    pub fn discard(self) -> Result<(), ProfileError> {
        match self {
            Self::Existing(_) => Ok(()),
            Self::New(replacement) => Ok(replacement.discard()?),
        }
    }
}

impl Profile {
    /// Returns the identity. It is created if there is none, unless an account is bound to the missing one.
    ///
    /// # Errors
    /// [`ProfileError::Identity`] if it is missing, damaged, or can't be created.
    pub fn identity(&self) -> Result<Identity, ProfileError> {
        let folder = self.inner.home.join(IDENTITY_FOLDER);
        // Before the first login no account can be lost by a new key.
        let Some(ProfileAccount { user, .. }) = self.account()? else {
            return Ok(Identity::open(&folder, MissingIdentityPolicy::Create)?);
        };
        let reason = tr!("the account {user} belongs to it", user);
        let otherwise = tr!("give the account a new key with `peer login {user} --rebind`", user);
        let reliance = MissingIdentityAdvice { reason: &reason, otherwise: &otherwise };
        Ok(Identity::open(&folder, MissingIdentityPolicy::Fail(reliance))?)
    }

    /// Returns the identity for an account that is to be bound to it: a new one if the present one is missing, empty or
    /// damaged.
    ///
    /// # Errors
    /// [`ProfileError::Identity`] if the key can't be read, or a new one can't be created.
    pub fn binding_identity(&self) -> Result<BindingIdentity, ProfileError> {
        let folder = self.inner.home.join(IDENTITY_FOLDER);
        match Identity::load(&folder) {
            Ok(Some(identity)) => Ok(BindingIdentity::Existing(identity)),
            Ok(None) | Err(IdentityError::Damaged { .. }) => {
                Ok(BindingIdentity::New(IdentityReplacement::begin(&folder)?))
            }
            // A key that can't be read, for want of permission, may be a good one.
            Err(error) => Err(error.into()),
        }
    }

    /// Returns the path of the key.
    pub fn key_path(&self) -> PathBuf {
        self.inner.home.join(IDENTITY_FOLDER).join(KEY)
    }

    /// True if there is a usable key.
    pub fn has_key(&self) -> bool {
        Identity::load(&self.inner.home.join(IDENTITY_FOLDER)).is_ok_and(|key| key.is_some())
    }
}
