"""A FUSE file system that stops answering when it is told to.

    hung_fs.py MOUNTPOINT SWITCH deaf|holding

Mounts itself at MOUNTPOINT (as root, in the mount namespace that it is started in) with the type `fuse.hung`, and a tmpfs
below it at MOUNTPOINT/below. Prints `ready`. While the file SWITCH exists it answers nothing: `deaf` does not even read
the kernel's requests, so whoever waits can be killed, as with a hung NFS mount; `holding` reads them and keeps the
answers back, so whoever waits cannot, as with a dead disk. It ends with its process; the kernel then refuses what waits.
"""

import ctypes
import errno
import os
import struct
import sys
import time

LOOKUP, FORGET, GETATTR, STATFS, INIT, INTERRUPT, BATCH_FORGET = 1, 2, 3, 17, 26, 36, 42
SILENT = (FORGET, INTERRUPT, BATCH_FORGET)
DIRECTORY = 0o040755
LONGEST = 180
LIBC = ctypes.CDLL(None, use_errno=True)


def mount(source, target, kind, options):
    if LIBC.mount(source, os.fsencode(target), kind, 0, options) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"mount of {kind.decode()} at {target}: {os.strerror(number)}")


def attributes(inode):
    # inode, size, blocks, 3 times, 3 parts of nanoseconds, mode, links, uid, gid, rdev, block size, flags
    return struct.pack("<6Q10I", inode, 0, 0, 0, 0, 0, 0, 0, 0, DIRECTORY, 2, 0, 0, 0, 4096, 0)


def answer(operation):
    """The body of the answer; None where there is no such operation here. Nothing is valid for longer than now."""
    if operation == INIT:
        return struct.pack("<4I2H2I2H8I", 7, 31, 65536, 0, 12, 9, 65536, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0)
    if operation == LOOKUP:
        return struct.pack("<4Q2I", 2, 0, 0, 0, 0, 0) + attributes(2)
    if operation == GETATTR:
        return struct.pack("<QII", 0, 0, 0) + attributes(1)
    if operation == STATFS:
        # blocks, free, available, files, free, block size, longest name, fragment
        return struct.pack("<5Q4I24x", 1000, 500, 400, 100, 50, 4096, 255, 4096, 0)
    return None


def wait_for(switch):
    """Until the switch is gone; not for ever, so that a test that fails does not hang on what cannot be killed."""
    end = time.monotonic() + LONGEST
    while os.path.exists(switch):
        if time.monotonic() > end:
            sys.exit(f"{switch} is still there after {LONGEST} s")
        time.sleep(0.01)


def serve(device, switch, deaf):
    while True:
        if deaf:
            wait_for(switch)
        try:
            request = os.read(device, 1 << 20)
        except OSError as error:
            if error.errno in (errno.EINTR, errno.ENOENT):
                continue
            if error.errno == errno.ENODEV:
                return
            raise
        operation, unique = struct.unpack_from("<IQ", request, 4)
        wait_for(switch)
        if operation in SILENT:
            continue
        body = answer(operation)
        head = struct.pack("<IiQ", 16 + len(body or b""), 0 if body is not None else -errno.ENOSYS, unique)
        try:
            os.write(device, head + (body or b""))
        except OSError as error:
            # Whoever asked is gone.
            if error.errno != errno.ENOENT:
                raise


def main():
    mountpoint, switch, manner = sys.argv[1:]
    device = os.open("/dev/fuse", os.O_RDWR)
    mount(b"hung", mountpoint, b"fuse.hung", f"fd={device},rootmode=40000,user_id=0,group_id=0,allow_other".encode())
    if os.fork() == 0:
        # The first look-up waits for the server, so it is another process.
        mount(b"none", os.path.join(mountpoint, "below"), b"tmpfs", b"size=64k")
        print("ready", flush=True)
        os._exit(0)
    serve(device, switch, manner == "deaf")


if __name__ == "__main__":
    main()
