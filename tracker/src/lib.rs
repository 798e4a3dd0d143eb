//! tracker
pub mod accounts;
pub mod passwords;
pub mod registry;
