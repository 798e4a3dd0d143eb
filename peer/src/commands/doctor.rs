//! The command `peer doctor`.

use clap::Args;
use localization::tr;
use serde_json::json;
use shared::UserName;

use super::command_help::CommandHelp;
use super::context::CommandContext;
use super::user_resolution::{LookupScope, reject_own_name, resolve_arguments};
use crate::engine::Error;
use crate::engine::doctor::{DoctorReport, ExaminationRequest, Severity, examine, examine_user};
use crate::net::silence_wait_notice;
use crate::profile::Access;
use crate::ui::doctor_lines;

const HELP: CommandHelp = CommandHelp {
    examples: "\
Examples:
  peer doctor
  peer doctor bob
  peer --json doctor | jq -r 'select(.state == \"problem\").remedy'",
    notes: "\
Each line has a mark, what was looked at and what was found: ✓ works, · a fact, ! could be better, ✗ doesn't work. Below
stands the command that mends it, where there is one. It takes 5 seconds at most and changes nothing.

To see whether others reach this machine, up to three peers who are online are asked to send it a few packets, from an
address that this machine hasn't written to. Each does so once a minute. Without other peers, nobody can look.

With a user: every address of theirs is tried by itself, with the time that it took and what came back.

Exit code: 0 if nothing is broken, warnings included; else that of what is broken (7 network, 9 disk, 3 not logged in,
4 the user is offline, 11 an identity changed), and 12 if several things of different kinds are.

With --json: one `check` for each finding, with check, code, state (ok, note, warning, problem), text and remedy; then
`doctor` with the number of problems and warnings.",
};

/// Find out what works, what doesn't, and which command mends it.
#[derive(Debug, Args)]
#[command(after_help = HELP.examples, after_long_help = HELP.long())]
pub(crate) struct DoctorArgs {
    /// Look at the way to this user.
    user: Option<UserName>,
}

pub(super) async fn run(context: &CommandContext, args: DoctorArgs) -> Result<(), Error> {
    // The report says what doesn't answer.
    silence_wait_notice();
    let report = match args.user {
        Some(user) => examine_named(context, user).await?,
        None => {
            let request = ExaminationRequest {
                home: context.home.clone(),
                tracker: context.tracker.clone(),
                key_policy: context.key_policy,
                no_mdns: context.no_mdns,
            };
            context.output.note(&tr!("looking at this machine and its network: up to 5 s"));
            examine(request).await?
        }
    };
    print_report(context, &report)
}

async fn examine_named(context: &CommandContext, mut user: UserName) -> Result<DoctorReport, Error> {
    let me = context.me(Access::Look)?;
    resolve_arguments(context, &me, LookupScope::Local, [&mut user]).await?;
    reject_own_name(&me, &user)?;
    examine_user(&me, &user).await
}

fn print_report(context: &CommandContext, report: &DoctorReport) -> Result<(), Error> {
    let output = &context.output;
    if output.is_json() {
        for line in report.lines() {
            let check = line.check.as_str().replace(' ', "_");
            let fields = json!({
                "check": check, "code": line.code, "state": line.severity, "text": line.text, "remedy": line.remedy,
            });
            output.print_object("check", &fields)?;
        }
        let (problems, warnings) = (report.count(Severity::Problem), report.count(Severity::Warning));
        output.print_object("doctor", &json!({ "problems": problems, "warnings": warnings }))?;
    } else {
        for line in doctor_lines(report, output) {
            output.print_data(&line)?;
        }
    }
    match report.failure() {
        Some(error) => Err(error),
        None => {
            output.note(&report.summary());
            Ok(())
        }
    }
}
