"""File systems of the test's own: a small tmpfs, an ext4 on a loop device whose power can be cut."""

import fcntl
import os
import struct
import subprocess
import time
import unittest

from .settings import need, need_root

# linux/fs/ext4/ext4.h: EXT4_IOC_SHUTDOWN is _IOR('X', 125, __u32); the flag says not to flush the journal, as when
# the power goes.
EXT4_IOC_SHUTDOWN = 0x8004587D
NO_LOG_FLUSH = 2


def _run(*command):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if done.returncode != 0:
        raise OSError(f"{' '.join(map(str, command))}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout.strip()


class Ext4:
    """An ext4 of `megabytes` in a file, mounted at `place`."""

    def __init__(self, image, place, megabytes):
        need_root("mounting a loop device needs it")
        need("mkfs.ext4", "losetup", "mount")
        self.image, self.place, self.device = image, place, None
        place.mkdir(parents=True, exist_ok=True)
        with open(image, "wb") as file:
            file.truncate(megabytes << 20)
        _run("mkfs.ext4", "-q", "-F", image)
        try:
            self.device = _run("losetup", "--find", "--show", image)
        except OSError as trouble:
            raise unittest.SkipTest(f"no loop device: {trouble}") from None
        try:
            self.mount()
        except OSError as trouble:
            self.remove()
            raise unittest.SkipTest(f"cannot mount: {trouble}") from None

    def mount(self):
        _run("mount", "-t", "ext4", self.device, self.place)

    def unmount(self):
        _run("umount", self.place)

    def cut(self):
        """Cuts the power: nothing more reaches the disk. Returns the wall-clock time just before."""
        folder = os.open(self.place, os.O_RDONLY)
        try:
            before = time.time()
            fcntl.ioctl(folder, EXT4_IOC_SHUTDOWN, struct.pack("I", NO_LOG_FLUSH))
            return before
        finally:
            os.close(folder)

    def remove(self):
        if os.path.ismount(self.place):
            _run("umount", "--lazy", self.place)
        if self.device:
            _run("losetup", "--detach", self.device)
            self.device = None
        self.image.unlink(missing_ok=True)


class Tmpfs:
    def __init__(self, place, megabytes):
        need_root("mounting a tmpfs needs it")
        self.place = place
        place.mkdir(parents=True, exist_ok=True)
        try:
            _run("mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", place)
        except OSError as trouble:
            raise unittest.SkipTest(f"cannot mount: {trouble}") from None

    def remove(self):
        if os.path.ismount(self.place):
            _run("umount", "--lazy", self.place)


def fill(place, leave):
    """Takes all space of a file system but `leave` bytes; returns the file to delete when space shall come back."""
    filler = place / "filler"
    free = os.statvfs(place).f_bavail * os.statvfs(place).f_frsize
    with open(filler, "wb") as file:
        try:
            os.posix_fallocate(file.fileno(), 0, max(free - leave, 1))
        except OSError:
            pass
    return filler
