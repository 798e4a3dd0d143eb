//! What the help of the tracker says below the options: examples, and in the long form what an administrator needs.

/// What the help of a command says below its options.
#[derive(Debug, Clone, Copy)]
pub(super) struct CommandHelp {
    pub(super) examples: &'static str,
    notes: &'static str,
}

impl CommandHelp {
    /// Returns the text of `tracker help COMMAND` and `tracker --help`.
    pub(super) fn long(self) -> String {
        if self.notes.is_empty() { self.examples.to_owned() } else { format!("{}\n\n{}", self.examples, self.notes) }
    }
}

pub(super) const TRACKER: CommandHelp = CommandHelp {
    examples: "\
Examples:
  tracker
  tracker --data-dir /var/lib/vizinho-tracker --registration closed
  tracker status

`tracker --help` says more about the configuration, accounts, addresses, metrics and lost keys.",
    notes: "\
Configuration: each long option is a key of the TOML file given with --config; SIGHUP reads it again and cuts \
nobody off. `tracker config` with the same options prints every setting and where its value comes from. The \
commands need the --data-dir of the tracker where it isn't the default; root's is /var/lib/vizinho-tracker.

Accounts: with --registration closed, `tracker user add NAME` makes an account and prints its password, which is \
the invitation: who gets it runs `peer login NAME`, then `peer passwd`. A name that can be taken for somebody \
else's is refused: BOB, b0b and b.ob once there is a bob. An account that somebody makes and nobody logs in to lapses \
after 30 days, and its name is free again.

Addresses: what one machine may take is bounded by its address, or its /64. Where many people come through one \
machine that tells them apart, such as `peer web --accounts`, --trusted-door names its key, and each of them is \
counted alone. Peers hear of each \
other's addresses on the local network only; --allow-announce 192.0.2.0/24 allows others, for `peer serve \
--announce`. --no-mdns keeps the tracker from announcing itself.

Watching: --metrics 9100 serves Prometheus figures at /metrics on this machine, and /healthz, which is 503 and \
says why while anything can't be stored. --log-format json is for collectors. Who was online stays so through a \
restart.

Several trackers: --store postgres://USER@HOST/DATABASE keeps accounts, rooms and who is online in a database that \
several trackers may share; `tracker help migrate` says how to set it up. All have one key: `tracker help identity` \
says how it gets from the first one to the others. `peer --tracker a,b`, or one that found them on its network, then goes \
on at another one when its own is gone. While the database is away, who is online stays listed and found, and changes are refused as busy. Back such \
trackers up with `tracker backup`, or the database with pg_dump and a data folder for the key.

Lost files: a key that is missing beside accounts, or accounts that are missing where a tracker ran, are never \
made anew by themselves: the tracker stops and says which file it is. Restore a backup (`tracker help restore`); \
with none left, begin anew with `tracker new key` or `tracker new accounts`.

Clients of the exercise (JSON over TCP) are served on the same port. One that says `cmd` is answered in \
Portuguese, one that says `action` in English. Lists fit into the 4,096 bytes that those programs read at once, \
with as many files as there is room for; `file_count` and `total` say how much there is. They share rooms with \
`peer`: who is a member, not what is said. \
An account that `peer` ever used is never reachable in plaintext again.",
};

pub(super) const USER: CommandHelp = CommandHelp {
    examples: "\
Examples:
  tracker user list
  tracker user add bob
  tracker user reset-password bob",
    notes: "",
};

pub(super) const USER_LIST: &str = "\
Examples:
  tracker user list
  tracker user list --json | jq -r '.[].user'";

pub(super) const USER_ADD: &str = "\
Examples:
  tracker user add bob
  tracker user add bob --password-file secret.txt";

pub(super) const USER_REMOVE: &str = "\
Examples:
  tracker user remove bob
  tracker user remove --data-dir /srv/tracker bob";

pub(super) const USER_RESET_PASSWORD: &str = "\
Examples:
  tracker user reset-password bob
  tracker user reset-password bob --password-file secret.txt";

pub(super) const USER_UNBIND: &str = "\
Examples:
  tracker user unbind bob
  tracker user unbind --data-dir /srv/tracker bob";

pub(super) const ROOM: CommandHelp = CommandHelp {
    examples: "\
Examples:
  tracker room list
  tracker room delete lab",
    notes: "The tracker keeps names and members of rooms. What is said in them goes from peer to peer.",
};

pub(super) const ROOM_LIST: &str = "\
Examples:
  tracker room list
  tracker room list --json | jq -r '.[].name'";

pub(super) const ROOM_DELETE: &str = "\
Examples:
  tracker room delete lab
  tracker room delete --data-dir /srv/tracker lab";

pub(super) const STATUS: CommandHelp = CommandHelp {
    examples: "\
Examples:
  tracker status
  tracker status --json | jq .",
    notes: "It also prints the line with which people make their accounts again.",
};

pub(super) const BACKUP: CommandHelp = CommandHelp {
    examples: "\
Examples:
  tracker backup tracker.tar
  sudo tracker backup /root/tracker-$(date +%F).tar",
    notes: "Keep it where nobody else can read it. `tracker restore` puts it back, also on another machine.",
};

pub(super) const RESTORE: CommandHelp = CommandHelp {
    examples: "\
Examples:
  tracker restore tracker.tar
  tracker restore tracker.tar --data-dir /srv/tracker",
    notes: "\
As a service:
  sudo systemctl stop vizinho-tracker.socket vizinho-tracker.service
  sudo tracker restore tracker.tar
  sudo systemctl start vizinho-tracker.service

Nobody is logged out, and no peer has to trust anything anew.",
};

pub(super) const MIGRATE: CommandHelp = CommandHelp {
    examples: "\
Examples:
  tracker migrate --from /var/lib/vizinho-tracker --to postgres://tracker@db.example.org/vizinho
  tracker migrate --from postgres://tracker@db.example.org/vizinho --to /srv/tracker",
    notes: "\
On the server, as Debian's packages install it:
  sudo apt install postgresql
  sudo -u postgres createuser --pwprompt tracker
  sudo -u postgres createdb -E UTF8 -T template0 -O tracker vizinho

Then put `store = \"postgres://tracker@db.example.org/vizinho?passfile=/etc/vizinho/pgpass\"` into the tracker's \
configuration, and `*:*:vizinho:tracker:PASSWORD` into that file (chown vizinho-tracker, chmod 600). Other machines \
than the server's own are reached encrypted: the server's certificate has to be signed by one that the system knows, \
or by that of sslrootcert=FILE in the address; sslmode=disable does without. Of several servers name all \
(postgres://tracker@db1,db2/vizinho): the primary is used, and after a promotion the new one. Connect directly or \
through a pooler that keeps sessions: the tracker holds a lock of its session.",
};

pub(super) const IDENTITY: CommandHelp = CommandHelp {
    examples: "\
Examples:
  tracker identity
  tracker identity export key.pem
  tracker identity import key.pem --data-dir /srv/tracker",
    notes: "\
Trackers that share a database have one key: peers know all of them by it. From the first one to another machine, \
without a copy on any disk:
  sudo tracker identity export - | ssh root@other tracker identity import -

Whoever has the file can pose as the tracker. It is not encrypted: keep it as you keep the data folder.",
};

pub(super) const IDENTITY_EXPORT: &str = "\
Examples:
  tracker identity export key.pem
  sudo tracker identity export - | ssh root@other tracker identity import -";

pub(super) const IDENTITY_IMPORT: &str = "\
Examples:
  tracker identity import key.pem
  tracker identity import key.pem --replace --data-dir /srv/tracker";

pub(super) const NEW: CommandHelp = CommandHelp {
    examples: "\
Examples:
  tracker new key
  tracker new accounts",
    notes: "\
Use it only when no copy is left: with a backup use `tracker restore FILE`. After `new key` everybody runs the \
line that `peer` shows, after they asked whether the key is right.",
};

pub(super) const EXPORT: CommandHelp = CommandHelp {
    examples: "\
Examples:
  tracker export users
  tracker export peers > peers.json",
    notes: "",
};

pub(super) const CONFIG: CommandHelp = CommandHelp {
    examples: "\
Examples:
  tracker config
  tracker --config /etc/vizinho/tracker.toml config",
    notes: "",
};
