//! The doctor: looks at this machine, the tracker and the way to other peers, and says what works, what doesn't, and which
//! command mends it.
//!
//! ```text
//! examination, user_examination     the edge: probes, concurrent, each with a time limit
//!        │ findings, a type each    account, network, tracker, port, path, user: values in, values out
//!        ▼
//! DoctorReport                      lines with a severity and a remedy; shown as text or JSON
//! ```
//!
//! | resource | bound | beyond |
//! |---|---|---|
//! | time of an examination | 5 s (`examination_deadline`) | a probe that is not done counts as unanswered |
//! | peers that are asked to look from outside | 3 | not asked |
//! | addresses of one user that are tried | those that are dialled | not tried |

mod account_examination;
mod account_findings;
mod examination;
mod examination_deadline;
mod network_findings;
mod outside_probes;
mod path_finding;
mod port_finding;
mod report;
mod tracker_examination;
mod tracker_findings;
mod user_examination;
mod user_findings;

pub use account_examination::ExaminationRequest;
pub use examination::examine;
pub use report::{CheckName, DoctorReport, ReportLine, Severity};
pub use user_examination::examine_user;
