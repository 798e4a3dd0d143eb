//! Texts of the help and of errors that add to clap's own.

use std::ffi::OsString;

use clap::CommandFactory;
use clap::error::{ContextKind, ContextValue, ErrorKind};

use super::CliArgs;

/// What the help of a command says below its options: examples, and in the long form what else there is to know.
#[derive(Debug, Clone, Copy)]
pub(super) struct CommandHelp {
    pub(super) examples: &'static str,
    notes: &'static str,
}

impl CommandHelp {
    /// Returns the text of `peer help COMMAND`.
    pub(super) fn long(self) -> String {
        if self.notes.is_empty() { self.examples.to_owned() } else { format!("{}\n\n{}", self.examples, self.notes) }
    }
}

pub(super) const PEER: CommandHelp = CommandHelp {
    examples: "\
Examples:
  peer register bob
  peer share report.pdf ~/photos
  peer serve
  peer fetch bob report.pdf
  peer chat bob \"lunch?\"

`peer help COMMAND` has all options, examples and details of a command.

Exit codes:
  0 done            3 not logged in, wrong password   8 data was not what it claimed to be
  1 something else  4 user unknown or offline         9 local disk or file
  2 usage           5 that file is not shared        10 the destination exists
                    6 refused by the other side      11 an identity changed
                    7 network, time-out, tracker     12 some of several failed
  129, 130 and 143: the terminal is gone, interrupted, terminated",
    notes: "\
Environment:
  VIZINHO_HOME=DIR                 like --home: another folder is another account
  VIZINHO_TRACKER=HOST[:PORT]      like --tracker
  VIZINHO_TRACKER_KEY=FINGERPRINT  like --tracker-key
  VIZINHO_ACCEPT_NEW=1             like --accept-new
  ACCESSIBLE=1, TERM=dumb          like --plain: nothing is drawn again
  NO_COLOR=1                       like --color never

With --json each line is one object: {\"v\":1,\"type\":\"…\",…}.",
};

pub(super) const REGISTER: CommandHelp = CommandHelp {
    examples: "\
Examples:
  peer register bob
  peer register bob --tracker 192.0.2.7:8000 --tracker-key FINGERPRINT
  pass show vizinho | peer register bob --password-file - --tracker-key FINGERPRINT",
    notes: "\
The tracker prints the line to use when it starts, and `tracker status` prints it again. Without --tracker the \
tracker is looked for on the local network, and you are asked whether its key is the one in that line: the \
password goes to no other tracker.

A name that can be taken for somebody else's is refused: BOB, b0b and b.ob once there is a bob. So `peer chat BOB` \
finds bob.",
};

pub(super) const LOGIN: CommandHelp = CommandHelp {
    examples: "\
Examples:
  peer login bob
  peer login bob --rebind
  pass show vizinho | peer login bob --password-file -",
    notes: "\
An account lives on one machine: --rebind moves it here, and signs the other machine out. It also gives the \
account a new key when this machine's is lost; a damaged key file is kept as identity.pem.damaged-N.",
};

pub(super) const PASSWD: CommandHelp = CommandHelp {
    examples: "\
Examples:
  peer passwd
  peer passwd --password-file both.txt",
    notes: "",
};

pub(super) const LOGOUT: CommandHelp = CommandHelp {
    examples: "\
Examples:
  peer logout
  peer --home ~/second logout",
    notes: "",
};

pub(super) const WHOAMI: CommandHelp = CommandHelp {
    examples: "\
Examples:
  peer whoami
  peer --json whoami | jq .online",
    notes: "",
};

pub(super) const SHARE: CommandHelp = CommandHelp {
    examples: "\
Examples:
  peer share report.pdf ~/photos
  peer share build/out.iso --as debian.iso
  peer share ~/photos/.hidden.jpg",
    notes: "\
A file is hashed once, and again only when it changed. A link that you name is followed. `peer shares` lists what \
is shared, `peer serve` puts it online, `peer offer` gives a file to one person alone.

A name that turns the text around it (bidi overrides) or is far too long can't be shared: give another with --as. \
Line breaks, \\, other control characters and bytes that aren't UTF-8 travel as stand-ins such as Icon␛0D␛ and \
arrive as they were; an older peer keeps the stand-in.

With --json the last line is a summary: shared, unchanged, bytes, failed, left_out by reason, and the code of the \
error or null.",
};

pub(super) const UNSHARE: CommandHelp = CommandHelp {
    examples: "\
Examples:
  peer unshare report.pdf
  peer unshare photos/",
    notes: "",
};

pub(super) const SHARES: CommandHelp = CommandHelp {
    examples: "\
Examples:
  peer shares
  peer --json shares | jq -r .name",
    notes: "\
Files that came into a folder later are shared with another `peer share`. Files that are gone, have changed or \
can't be read are marked.",
};

pub(super) const SERVE: CommandHelp = CommandHelp {
    examples: "\
Examples:
  peer serve
  peer serve --limit 20M --limit-per-peer 5M
  peer serve --port 40000 --announce 192.0.2.7:5000",
    notes: "\
It shows messages, and who fetched what; Ctrl-C ends it. What --limit leaves goes round between those who fetch. \
While you talk with somebody, transfers keep to 50 MB/s until three seconds after the last message or key, so that \
no message waits behind them.

In a container or behind a router, forward a UDP port and name it with --announce. For an address beyond the local \
network, whoever runs the tracker allows that: `tracker --allow-announce 192.0.2.0/24`.

If a copy of this account is online on another machine, `peer serve` takes over here. `peer -v serve` says when \
the system's UDP buffer is small, and the `sysctl` line that helps.",
};

pub(super) const LIST: CommandHelp = CommandHelp {
    examples: "\
Examples:
  peer list
  peer list --sharing film.mkv
  peer list bob",
    notes: "",
};

pub(super) const FIND: CommandHelp = CommandHelp {
    examples: "\
Examples:
  peer find annual rep
  peer find --limit 20 iso",
    notes: "\
Each word has to begin a word of the file's name, whatever case and accents: `cafe` finds `Café.txt`. A hash finds \
the same content under any name. Exit code 5 when nobody who is online shares any.",
};

pub(super) const FILES: CommandHelp = CommandHelp {
    examples: "\
Examples:
  peer files bob
  peer files bob photos/",
    notes: "",
};

pub(super) const FETCH: CommandHelp = CommandHelp {
    examples: "\
Examples:
  peer fetch bob report.pdf
  peer fetch bob photos/ '*.iso' -o ~/from-bob
  peer fetch bob backup.tar -o - | tar x",
    notes: "\
What to fetch: names, folders (docs/), everything (/) and patterns. As in a shell, * stops at a / and ** doesn't, \
and what matches may be a folder: '**/*.jpg'. Folders keep their empty ones, times and executable bits; what only \
its owner may read stays so, and holes stay holes. A name is found as it is shown, and in whatever normal form it \
is typed.

Where to: one name with -o PATH becomes a file of that path; several names, a pattern or a folder go into a folder \
of that path. Nothing is made there before it is known what comes and that there is room for it. A file that \
exists with the same content is skipped; else, and when the file system can't hold a name, the new file is \
renamed, and that is told. Two files of one fetch never take each other's place. -o -, a pipe, a device or \
/dev/stdout gets the bytes in order, verified as they come.

Resuming: interrupt it wherever you like and run the same line again, or `peer fetch --retry`. Unfinished files \
lie beside the destination as .NAME.HASH.part and are verified again; no file has its name before it is whole. \
When the user goes offline, the fetch calls again for --patience seconds.

Sources: whoever else shares the same content is asked as well, without being named; --only asks nobody else. Who \
sends a wrong byte is named and left out, and the others complete the file. With --share each file is shared under \
the same name, from its first verified part on. While you talk with somebody, transfers keep to 50 MB/s.

With --json: `progress` (phase verifying or fetching), one `file` for each file (status done, renamed, skipped, or \
failed with a code), `source` when somebody goes offline, comes back or is slow, `collision` for two names that \
differ only by case or accents, `error`, and last a `summary` that counts the files by status, with the code of \
the error or null.

Exit code 0 when all files are there, 12 when some of several failed, else that of the error: see `peer --help`.",
};

pub(super) const CHAT: CommandHelp = CommandHelp {
    examples: "\
Examples:
  peer chat bob
  peer chat bob \"lunch?\"
  uptime | peer chat bob
  peer chat bob \"$(cat letter.txt)\"    all of it as one message, with its blank lines",
    notes: "\
One message returns when it is stored by the other side. When bob is offline it is queued, and sent while `peer \
serve` runs; --now fails with exit code 4 instead. In a pipe each line of standard input is a message, and each \
line of output one of his.

In a terminal the conversation stays in the scrollback. Each message of yours has a mark: … queued, → sent, ✓ \
stored by the other side, ! failed (. > + ! where the locale isn't UTF-8). Only what was shown counts as read. A \
message is stored before it is sent: nothing that was entered is lost.

  /files [START]    list what bob shares
  /get 2, /get NAME fetch a file while you talk
  /stop [N|NAME]    stop a download; /get resumes it
  /offer PATH…      offer files to bob alone
  /search WORDS     search messages
  /history [N|AGE]  show older messages
  /accept, /ignore  answer a stranger, or ignore bob
  /who, /help       show who is online; all commands
  //…               a line that begins with a slash

Tab completes commands, names and paths. Ctrl-C clears the line and leaves when it is empty, as Ctrl-D does; while \
files are being transferred, only the second time. Ctrl-Z goes to the shell and `fg` comes back, while `peer \
serve` runs. Many pasted lines are sent only after a question. Twenty columns are enough; the terminal has to \
speak UTF-8. With --plain it reads line by line, and the commands work in a terminal all the same.",
};

pub(super) const UI: CommandHelp = CommandHelp {
    examples: "\
Examples:
  peer
  peer --home ~/second ui",
    notes: "\
Tab goes from pane to pane. What you type goes into the line to the chosen person. ? (in the line F1) shows all \
keys. A narrow terminal shows one pane at a time. With --plain use `peer chat USER`.",
};

pub(super) const HISTORY: CommandHelp = CommandHelp {
    examples: "\
Examples:
  peer history bob --since 2d --limit 20
  peer history --search orcam
  peer history --forget --older 90d",
    notes: "\
--search looks for words that begin so, whatever case and accents: orcam finds Orçamento.

--forget deletes for good, also on the disk. Queued messages stay, and a deleted message that is delivered again \
doesn't come back. --keep 90d has `peer serve` do so once a day, --keep all never.",
};

pub(super) const INBOX: CommandHelp = CommandHelp {
    examples: "\
Examples:
  peer inbox
  peer inbox --accept mallory",
    notes: "\
The first message of a stranger is a request to talk: little more is received until you answer, or accept them. \
`peer block mallory` ignores them.",
};

pub(super) const OUTBOX: CommandHelp = CommandHelp {
    examples: "\
Examples:
  peer outbox
  peer outbox drop 3f2a",
    notes: "\
Queued messages are sent while `peer serve` runs. One that can't be delivered for 14 days expires, and you are \
told; the days of a machine that is off count two at a time.",
};

pub(super) const OUTBOX_DROP: &str = "\
Examples:
  peer outbox
  peer outbox drop 3f2a";

pub(super) const OFFER: CommandHelp = CommandHelp {
    examples: "\
Examples:
  peer offer bob plan.pdf
  peer offer
  peer offer bob --withdraw plan.pdf",
    notes: "\
Nobody else sees or gets the file. The person is told in a message, and fetches it with `peer fetch YOU NAME` \
while `peer serve` runs. --withdraw also drops that message if it is still queued.",
};

pub(super) const BLOCK: CommandHelp = CommandHelp {
    examples: "\
Examples:
  peer block mallory
  peer block",
    notes: "",
};

pub(super) const UNBLOCK: CommandHelp = CommandHelp {
    examples: "\
Examples:
  peer unblock mallory
  peer block",
    notes: "",
};

pub(super) const NOTIFY: CommandHelp = CommandHelp {
    examples: "\
Examples:
  peer notify
  peer notify --bell off
  peer notify -- sh -c 'notify-send -a Vizinho -- \"$VIZINHO_FROM\" \"$VIZINHO_TEXT\"'",
    notes: "\
The program runs for each message, without a shell unless you name one, while `peer serve` or a chat is open, and \
for at most 30 seconds. It reads the text on its standard input. Its environment has VIZINHO_FROM (who wrote), \
VIZINHO_TEXT (what), VIZINHO_EVENT (message, offer or left_out), VIZINHO_ID, VIZINHO_TS and VIZINHO_HOME.

Each person has a turn. What a flood left out is told once, as left_out. The bell rings in `peer chat` and `peer \
ui`; -q keeps one of them quiet.",
};

pub(super) const EVENTS: CommandHelp = CommandHelp {
    examples: "\
Examples:
  peer events
  peer events | jq -r 'select(.type == \"message\") | \"\\(.from): \\(.text)\"'
  peer events < commands.ndjson",
    notes: "\
Commands, one object a line on standard input:
  {\"type\":\"send\",\"to\":\"bob\",\"text\":\"…\"}   send a message; its \"id\" may be given: 32 hex digits
  {\"type\":\"read\",\"from\":\"bob\"}             mark his messages read
  {\"type\":\"typing\",\"to\":\"bob\"}             show that you are typing
  {\"type\":\"accept\",\"from\":\"mallory\"}       accept a stranger
  {\"type\":\"ignore\",\"from\":\"mallory\"}       block somebody

A \"ref\" in a command comes back in its `done` or `error`. A `send` with an \"id\" can be repeated: it is sent \
once. A bad line is answered by an `error` and changes nothing.

What is printed: `message`, `offer`, `request`, `ack`, `presence`, `tracker`, `transfer`, `account_moved`, `done` \
and `error` objects. It goes on when `peer serve` starts or ends beside it. All fields are in the documentation of \
peer::commands::events.",
};

pub(super) const TRUST: CommandHelp = CommandHelp {
    examples: "\
Examples:
  peer trust bob
  peer trust bob --replace FINGERPRINT
  peer trust --the-tracker",
    notes: "\
A key is remembered at the first contact. Replace it only after bob said by other means that he has a new one; in \
scripts add --yes. For the tracker it also says whether the key was confirmed or only seen: a password goes only \
to a confirmed one.",
};

pub(super) const VERIFY: CommandHelp = CommandHelp {
    examples: "\
Examples:
  peer verify bob
  peer verify bob --yes",
    notes: "\
Both see the same 60 digits: compare them aloud, or face to face. The same number means that nobody is in between.",
};

/// Commands of other programs with the equivalent of this one.
pub(super) const FOREIGN_COMMANDS: [(&str, &str); 14] = [
    ("get", "peer fetch USER NAME"),
    ("download", "peer fetch USER NAME"),
    ("send", "peer offer USER FILE"),
    ("put", "peer offer USER FILE"),
    ("upload", "peer share PATH"),
    ("ls", "peer files USER"),
    ("who", "peer list"),
    ("users", "peer list"),
    ("peers", "peer list"),
    ("msg", "peer chat USER TEXT"),
    ("message", "peer chat USER TEXT"),
    ("status", "peer whoami"),
    ("search", "peer find WORDS"),
    ("stop", "peer logout"),
];

/// Adds facts that clap leaves out: the argument that isn't text, or this program's name for a foreign command.
pub(super) fn explain_error(error: clap::Error, args: &[OsString]) -> clap::Error {
    match error.kind() {
        ErrorKind::InvalidUtf8 => {
            let is_wrong = |(_, arg): &(usize, &OsString)| arg.to_str().is_none();
            let Some((number, arg)) = args.iter().enumerate().find(is_wrong) else { return error };
            // Escaped: the bytes may be anything, control codes of the terminal included.
            let shown = arg.as_encoded_bytes().escape_ascii();
            let why = format!(
                "argument {number}, \"{shown}\", is not UTF-8 text: a path may be anything, the rest is text\n"
            );
            CliArgs::command().error(ErrorKind::InvalidUtf8, why)
        }
        ErrorKind::InvalidSubcommand => {
            let Some(ContextValue::String(tried)) = error.get(ContextKind::InvalidSubcommand) else { return error };
            let Some((_, ours)) = FOREIGN_COMMANDS.iter().find(|(theirs, _)| theirs == tried) else { return error };
            let why = format!("there is no `peer {tried}`: you may mean `{ours}`; `peer --help` lists all commands\n");
            CliArgs::command().error(ErrorKind::InvalidSubcommand, why)
        }
        _ => error,
    }
}
