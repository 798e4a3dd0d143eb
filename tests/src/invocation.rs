//! One run of a binary: arguments, input, environment, folder; then its outcome.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::{Host, Outcome, Process, Terminal};

/// A run that is being described.
#[derive(Debug, Clone)]
#[must_use = "nothing runs before run, start or in_terminal"]
pub struct Invocation {
    program: PathBuf,
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    folder: PathBuf,
    stdin: Input,
}

#[derive(Debug, Clone)]
enum Input {
    Nothing,
    Bytes(Vec<u8>),
    Open,
}

impl Invocation {
    /// A run of `program` in `folder` with an environment that leads nowhere near the real home.
    pub fn new(program: impl Into<PathBuf>, folder: &Path) -> Self {
        let keep = |name: &str| std::env::var_os(name).map(|value| (name.into(), value));
        let mut env: Vec<(OsString, OsString)> = ["PATH", "TMPDIR"].into_iter().filter_map(keep).collect();
        for (name, value) in [("HOME", folder.as_os_str()), ("LANG", "C.UTF-8".as_ref()), ("TZ", "UTC".as_ref())] {
            env.push((name.into(), value.into()));
        }
        env.push(("TERM".into(), "xterm-256color".into()));
        Self { program: program.into(), args: Vec::new(), env, folder: folder.to_owned(), stdin: Input::Nothing }
    }

    /// Further arguments.
    pub fn args(mut self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// One more argument.
    pub fn arg(self, arg: impl AsRef<OsStr>) -> Self {
        self.args([arg])
    }

    /// A variable of the environment.
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.env.retain(|(other, _)| other != name);
        self.env.push((name.into(), value.as_ref().to_owned()));
        self
    }

    /// The working directory.
    pub fn folder(mut self, folder: impl AsRef<Path>) -> Self {
        folder.as_ref().clone_into(&mut self.folder);
        self
    }

    /// What it reads from standard input, which then ends. Without, it ends at once.
    pub fn stdin(mut self, bytes: impl AsRef<[u8]>) -> Self {
        self.stdin = Input::Bytes(bytes.as_ref().to_owned());
        self
    }

    /// Standard input stays open, for [`Process::write`].
    pub fn open_stdin(mut self) -> Self {
        self.stdin = Input::Open;
        self
    }

    /// Runs it through `sh -c SCRIPT`, where `"$@"` is the command.
    pub fn through_shell(mut self, script: &str) -> Self {
        let program = std::mem::replace(&mut self.program, "bash".into());
        let args = std::mem::take(&mut self.args);
        self.args(["-c", script, "bash"]).arg(program).args(args)
    }

    /// Runs it on another machine.
    pub fn on(mut self, host: &Host) -> Self {
        let program = std::mem::replace(&mut self.program, "ip".into());
        let args = std::mem::take(&mut self.args);
        self.args(["netns", "exec", host.namespace()]).arg(program).args(args)
    }

    /// Runs it with a clock that begins there (`2031-07-16 09:10:11`, UTC); `None`, and a word about it, where the library for
    /// that isn't installed.
    #[must_use]
    pub fn at_time(self, begin: &str) -> Option<Self> {
        let folders = std::fs::read_dir("/usr/lib").into_iter().flatten().flatten();
        let library =
            folders.map(|folder| folder.path().join("faketime/libfaketimeMT.so.1")).find(|path| path.exists());
        if library.is_none() {
            println!("skipped: libfaketime is not installed");
        }
        let run = self.env("LD_PRELOAD", library?).env("FAKETIME", format!("@{begin}"));
        // Timers go on as they are; it is the time of day that is wrong.
        Some(run.env("FAKETIME_DONT_FAKE_MONOTONIC", "1"))
    }

    /// Runs it as somebody whom the system forbids things: root would not notice.
    ///
    /// # Panics
    /// When the program can't be copied to where everybody may run it.
    pub fn unprivileged(mut self) -> Self {
        if !rustix::process::geteuid().is_root() {
            return self;
        }
        // The checkout may lie where only root gets to.
        let copy = self.folder.join("for-everybody");
        // By a program of its own: a file that this process writes is open in whatever another test starts meanwhile,
        // and can't be run as long as it is.
        let copied = Command::new("cp").arg("--remove-destination").arg(&self.program).arg(&copy).status();
        assert!(copied.expect("cp can be started").success(), "the program can be copied");
        self.program = copy;
        let nobody = r#"chown -R 65534:65534 "$VIZINHO_HOME" || exit 77
            exec setpriv --reuid 65534 --regid 65534 --clear-groups "$@""#;
        self.through_shell(nobody)
    }

    /// Runs it to its end.
    #[track_caller]
    pub fn run(self) -> Outcome {
        self.start().finish()
    }

    /// Starts it.
    ///
    /// # Panics
    /// When it can't be started.
    #[track_caller]
    pub fn start(self) -> Process {
        let what = self.to_string();
        let mut command = self.command();
        let stdin = if matches!(self.stdin, Input::Nothing) { Stdio::null() } else { Stdio::piped() };
        command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.spawn().unwrap_or_else(|why| panic!("{what}: {why}"));
        let mut process = Process::watch(what, child);
        if let Input::Bytes(bytes) = self.stdin {
            process.feed(bytes);
        }
        process
    }

    /// Starts it with a terminal of this size for standard input, output and error.
    #[track_caller]
    pub fn in_terminal(self, columns: u16, rows: u16) -> Terminal {
        Terminal::start(&self, columns, rows)
    }

    /// The command as the standard library has it, for a run whose streams are somebody else's.
    pub fn command(&self) -> Command {
        self.configure(Command::new(self.find_program(&self.program)))
    }

    /// The same run below `setsid`, which makes the terminal on standard input the controlling one, and with no signal
    /// ignored: a script ignores some in whatever it starts in the background, such as these tests.
    pub(crate) fn command_with_terminal(&self) -> Command {
        let mut command = Command::new(self.find_program(Path::new("setsid")));
        command.args(["--ctty", "env", "--default-signal"]).arg(&self.program);
        self.configure(command)
    }

    /// Returns where a program is. With a cleared environment the standard library forks to look for it, which copies the
    /// tables of all this process's memory; a path it hands to `posix_spawn`.
    fn find_program(&self, program: &Path) -> PathBuf {
        let is_name = program.components().count() == 1;
        let search = self.env.iter().rfind(|(name, _)| name == "PATH").filter(|_| is_name);
        let folders = search.into_iter().flat_map(|(_, folders)| std::env::split_paths(folders));
        folders.map(|folder| folder.join(program)).find(|path| path.is_file()).unwrap_or_else(|| program.to_owned())
    }

    fn configure(&self, mut command: Command) -> Command {
        command.args(&self.args).env_clear().current_dir(&self.folder);
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command
    }
}

impl std::fmt::Display for Invocation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.program.file_name().unwrap_or_default().to_string_lossy())?;
        self.args.iter().try_for_each(|arg| write!(f, " {:?}", arg.to_string_lossy()))
    }
}
