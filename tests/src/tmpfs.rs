//! A small file system.

use std::path::{Path, PathBuf};

use crate::Invocation;

/// A file system in memory, gone when this is dropped.
#[derive(Debug)]
pub struct Tmpfs(PathBuf);

impl Tmpfs {
    /// Mounts it with these options; `None` where that isn't allowed.
    pub fn mount(folder: &Path, options: &str) -> Option<Self> {
        let mount = Invocation::new("mount", Path::new("/")).args(["-t", "tmpfs", "-o", options, "none"]).arg(folder);
        (mount.run().code == 0).then(|| Self(folder.to_owned()))
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let unmount = Invocation::new("umount", Path::new("/")).arg("-l").arg(&self.0).run();
        assert!(unmount.code == 0 || std::thread::panicking(), "{unmount}");
    }
}
