//! File systems that are not like the usual ones, where this machine has what they need.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::{Invocation, poll_until};

/// A mounted file system, gone when this is dropped.
#[derive(Debug)]
pub struct OddMount {
    folder: PathBuf,
    /// Serves it.
    server: Option<Child>,
    /// Its block device.
    device: Option<String>,
}

const LOOPBACK: &str = include_str!("odd_mount/loopback.py");

impl OddMount {
    /// Mounts an empty exFAT by FUSE: no hard links, no `RENAME_NOREPLACE`, no `:` in names, one case for all. `None`,
    /// with a word, where that can't be done.
    ///
    /// # Panics
    /// When a file can't be made in `folder`'s parent.
    pub fn exfat(folder: &Path) -> Option<Self> {
        let image = folder.with_extension("img");
        std::fs::File::create(&image).and_then(|file| file.set_len(96 << 20)).expect("room for an image");
        let run = |program: &str, args: &[&str]| -> Option<String> {
            let ran = Command::new(program).args(args).stderr(Stdio::null()).output().ok()?;
            ran.status.success().then(|| String::from_utf8_lossy(&ran.stdout).trim().to_owned())
        };
        let image = image.to_str()?;
        let mounted = run("mkfs.exfat", &[image]).and_then(|_| {
            let device = run("losetup", &["--find", "--show", image])?;
            if run("mount.exfat-fuse", &[&device, folder.to_str()?]).is_none() {
                detach(&device);
                return None;
            }
            Some(Self { folder: folder.to_owned(), server: None, device: Some(device) })
        });
        if mounted.is_none() {
            println!(
                "skipped: an exFAT can't be mounted here (root, loop devices, exfat-fuse and exfatprogs are needed)"
            );
        }
        mounted
    }

    /// Mounts a view of `behind` that is odd in these ways: words of `loopback.py`. `None`, with a word, where that can't
    /// be done.
    ///
    /// # Panics
    /// When the script can't be written.
    pub fn odd(folder: &Path, behind: &Path, oddities: &[&str]) -> Option<Self> {
        let script = folder.with_extension("py");
        crate::files::write(&script, LOOPBACK);
        let server = Command::new("/usr/bin/python3")
            .arg(&script)
            .arg(behind)
            .arg(folder)
            .args(oddities)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let Ok(mut server) = server else {
            println!("skipped: no /usr/bin/python3 here");
            return None;
        };
        let is_there = || match is_mounted(folder) {
            true => Some(true),
            false => server.try_wait().ok().flatten().map(|_| false),
        };
        if !poll_until(is_there, || format!("{} is never mounted", folder.display())) {
            println!("skipped: python3-fusepy and /dev/fuse are needed");
            return None;
        }
        Some(Self { folder: folder.to_owned(), server: Some(server), device: None })
    }
}

fn detach(device: &str) {
    let _ = Command::new("losetup").args(["--detach", device]).status();
}

fn is_mounted(folder: &Path) -> bool {
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let wanted = folder.to_string_lossy().replace(' ', "\\040");
    mounts.lines().any(|line| line.split(' ').nth(1) == Some(&wanted))
}

impl Drop for OddMount {
    fn drop(&mut self) {
        let unmount = Invocation::new("umount", Path::new("/")).arg("-l").arg(&self.folder).run();
        if let Some(server) = &mut self.server {
            let _ = server.kill();
            let _ = server.wait();
        }
        if let Some(device) = &self.device {
            detach(device);
        }
        assert!(unmount.code == 0 || std::thread::panicking(), "{unmount}");
    }
}
