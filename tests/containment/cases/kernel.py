"""Ways into the kernel, and what it shows."""

from __future__ import annotations

from tests.containment.cases.case import inside

namespaces = inside("A35", "mounts, namespaces, chroot", """
for name, flag in (("user", 0x10000000), ("mount", 0x20000), ("net", 0x40000000), ("pid", 0x20000000), ("uts", 0x4000000)):
    if libc.unshare(flag) == 0: through("unshare " + name)
pid = libc.syscall(56 if X86 else 220, 0x10000000 | 17, 0, 0, 0, 0)
if pid == 0: os._exit(0)
if pid > 0: through("clone(NEWUSER)")
if libc.mount(b"none", b"/tmp", b"tmpfs", 0, None) == 0: through("mount")
if libc.mount(b"proc", b"/proc", b"proc", 14, None) == 0: through("mount of /proc")
if libc.umount2(b"/tmp", 2) == 0: through("umount")
if libc.umount2(b"/proc", 2) == 0: through("umount of /proc")
if libc.syscall(155 if X86 else 41, b".", b".") == 0: through("pivot_root")
tried("setns", lambda: libc.setns(os.open("/proc/1/ns/net", 0), 0) and (_ for _ in ()).throw(OSError()))
tried("chroot", os.chroot, "/tmp")
syscall("fsopen", 430, 430, 0, 0); syscall("open_tree", 428, 428, -100 & (2**64 - 1), 0, 0)
""")  # fmt: skip
odd_calls = inside("A36", "keyrings, bpf, userfaultfd, perf, kexec, modules, handles", """
syscall("keyctl", 250, 219, 0, -3 & (2**64 - 1)); syscall("add_key", 248, 217, 0, 0, 0, 0)
syscall("bpf", 321, 280, 0, 0, 0); syscall("userfaultfd", 323, 282, 0); syscall("userfaultfd (user)", 323, 282, 1)
syscall("perf_event_open", 298, 241, 0, 0, 0, 0, 0); syscall("kexec_load", 246, 104, 0, 0, 0, 0)
syscall("init_module", 175, 105, 0, 0, 0); syscall("open_by_handle_at", 304, 265, 0, 0, 0)
syscall("process_vm_readv", 310, 270, 1, 0, 0, 0, 0, 0); syscall("pidfd_getfd", 438, 438, 0, 0, 0); syscall("syslog", 103, 116, 3, 0, 0)
""")  # fmt: skip
sockets = inside("A37", "io_uring, raw and odd socket families", """
buffer = ctypes.create_string_buffer(256)
if libc.syscall(425, 1, buffer) >= 0: through("io_uring_setup")
for name, family in (("AF_PACKET", 17), ("AF_ALG", 38), ("AF_VSOCK", 40), ("AF_SMC", 43), ("AF_XDP", 44), ("AF_BLUETOOTH", 31)):
    for kind in (socket.SOCK_RAW, socket.SOCK_DGRAM, socket.SOCK_STREAM, socket.SOCK_SEQPACKET):
        tried(name, socket.socket, family, kind, 0)
tried("raw IP", socket.socket, socket.AF_INET, socket.SOCK_RAW, 1)
""")  # fmt: skip
setuid = inside("A38", "programs with set-user-id gain nothing", """
for path in ("/bin/su", "/usr/bin/su", "/bin/mount", "/usr/bin/passwd", "/usr/bin/newgrp", "/usr/bin/chsh", "/usr/bin/sudo"):
    try:
        if os.getuid() != 0 and os.stat(path).st_mode & 0o4000 and os.access(path, os.X_OK):
            status = open("/proc/self/status").read()
            if "NoNewPrivs:\\t1" not in status and "NoNewPrivs" in status: through(path)
    except OSError:
        pass
tried("become root", os.setuid, 0) if os.getuid() else through("is root")
""")  # fmt: skip
interfaces = inside("A39", "kernel interfaces in /proc, /sys and /dev", """
for path in ("/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/kmsg", "/dev/kmsg", "/dev/mem", "/dev/sda", "/dev/vda", "/dev/loop0"):
    try:
        if open(path, "rb").read(10): through("read " + path)
    except OSError: pass
for path in ("/proc/sysrq-trigger", "/proc/sys/kernel/core_pattern", "/proc/sys/kernel/hostname",
             "/proc/sys/vm/overcommit_memory", *glob.glob("/sys/fs/cgroup/*/memory.limit_in_bytes"),
             *glob.glob("/sys/fs/cgroup/**/release_agent"),
             "/sys/fs/cgroup/memory.max", "/etc/passwd", "/usr/bin/env", "/usr/local/bin/python3", "/new"):
    tried("write " + path, lambda: open(path, "a").close())
if os.path.exists("/new"): os.unlink("/new")
for folder in ("/sys/firmware", "/proc/scsi", "/proc/acpi"):
    try:
        if os.listdir(folder): through("list " + folder)
    except OSError: pass
tried("mknod", os.mknod, "/tmp/sda", 0o600 | stat.S_IFBLK, os.makedev(8, 0))
""")  # fmt: skip
core_dumps = inside(
    "A53", "no core dumps", 'if resource.getrlimit(resource.RLIMIT_CORE)[1] != 0: through("core dumps")'
)
