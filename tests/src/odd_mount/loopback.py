"""A view of a folder by FUSE that is odd in chosen ways.

loopback.py BEHIND MOUNTPOINT ODDITY...

fold           names that differ by case or normal form are one; numbers of files stay (as on ext4 with casefold)
no-links       no hard links, no RENAME_NOREPLACE, as exFAT has it
small-files    no file is larger than 2 MiB
quota          what is written is refused for want of quota
quota-later    the same while there is a BEHIND.quota
truncates      BEHIND.truncates notes that a file was made longer by truncate
broken         while there is a BEHIND.broken, nothing can be read behind the second MiB of a file
hangs          while there is a BEHIND.hangs, no file can be opened whose name does not start with begun,
               and none can be read between its second and its 16th MiB: both take as long as it is there
no-locks       nothing can be locked by byte ranges (ENOLCK), which is how SQLite locks
new-inodes     each look at a file finds another number, as on network file systems that forget them
"""

import errno
import os
import sys
import time
import unicodedata

try:
    from fusepy import FUSE, FuseOSError, Operations
except ImportError:
    from fuse import FUSE, FuseOSError, Operations

behind, mountpoint, oddities = sys.argv[1], sys.argv[2], set(sys.argv[3:])


def folded(name):
    return unicodedata.normalize("NFD", name).casefold()


def hang():
    while "hangs" in oddities and os.path.exists(behind + ".hangs"):
        time.sleep(0.05)


class View(Operations):
    def real(self, path):
        if "fold" not in oddities:
            return behind + path
        at = behind
        for part in [part for part in path.split("/") if part]:
            names = os.listdir(at) if os.path.isdir(at) else []
            at = os.path.join(at, next((name for name in names if folded(name) == folded(part)), part))
        return at

    def access(self, path, mode):
        if not os.access(self.real(path), mode):
            raise FuseOSError(errno.EACCES)

    def getattr(self, path, fh=None):
        stat = os.lstat(self.real(path))
        keys = ("st_mode", "st_ino", "st_nlink", "st_uid", "st_gid", "st_size", "st_blocks")
        found = {key: getattr(stat, key) for key in keys}
        if "new-inodes" in oddities:
            found["st_ino"] = time.monotonic_ns() // 1000
        found.update(st_atime=stat.st_atime_ns / 1e9, st_mtime=stat.st_mtime_ns / 1e9, st_ctime=stat.st_ctime_ns / 1e9)
        return found

    def readdir(self, path, fh):
        return [".", ".."] + os.listdir(self.real(path))

    def chmod(self, path, mode):
        os.chmod(self.real(path), mode)

    def chown(self, path, uid, gid):
        os.chown(self.real(path), uid, gid)

    def mkdir(self, path, mode):
        os.mkdir(self.real(path), mode)

    def rmdir(self, path):
        os.rmdir(self.real(path))

    def unlink(self, path):
        os.unlink(self.real(path))

    def rename(self, old, new):
        # On a system that folds, a file takes the place of whatever has its name in any spelling.
        old, there = self.real(old), self.real(new)
        if os.path.lexists(there) and not os.path.samefile(old, there):
            os.unlink(there)
        os.rename(old, os.path.join(os.path.dirname(there), os.path.basename(new)))

    def link(self, target, source):
        if "no-links" in oddities:
            raise FuseOSError(errno.EPERM)
        os.link(self.real(source), self.real(target))

    def utimens(self, path, times=None):
        os.utime(self.real(path), times)

    def open(self, path, flags):
        if not os.path.basename(path).startswith("begun"):
            hang()
        return os.open(self.real(path), flags & ~os.O_APPEND)

    def create(self, path, mode, fi=None):
        return os.open(self.real(path), os.O_RDWR | os.O_CREAT, mode)

    def read(self, path, length, offset, fh):
        if "broken" in oddities and offset + length > 2 << 20 and os.path.exists(behind + ".broken"):
            raise FuseOSError(errno.EIO)
        if 2 << 20 < offset + length <= 16 << 20:
            hang()
        return os.pread(fh, length, offset)

    def write(self, path, data, offset, fh):
        if "quota" in oddities and not path.endswith(".state"):
            raise FuseOSError(errno.EDQUOT)
        if "quota-later" in oddities and os.path.exists(behind + ".quota"):
            raise FuseOSError(errno.EDQUOT)
        if "small-files" in oddities and offset + len(data) > 2 << 20:
            raise FuseOSError(errno.EFBIG)
        return os.pwrite(fh, data, offset)

    def truncate(self, path, length, fh=None):
        if "truncates" in oddities and length > os.path.getsize(self.real(path)):
            open(behind + ".truncates", "w").close()
        os.truncate(self.real(path), length)

    def statfs(self, path):
        found = os.statvfs(self.real(path))
        keys = ("f_bavail", "f_bfree", "f_blocks", "f_bsize", "f_favail", "f_ffree", "f_files", "f_flag", "f_frsize", "f_namemax")
        return {key: getattr(found, key) for key in keys}

    def fsync(self, path, datasync, fh):
        os.fsync(fh)

    def release(self, path, fh):
        os.close(fh)


def no_lock(self, path, fh, cmd, lock):
    raise FuseOSError(errno.ENOLCK)


# A view that has the operation is asked for every lock; otherwise the system does them all.
if "no-locks" in oddities:
    View.lock = no_lock

FUSE(View(), mountpoint, foreground=True, nothreads=False, use_ino=True, allow_other=os.geteuid() == 0)
