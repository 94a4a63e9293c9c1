"""What packages' programs find in /proc and /sys: the same on every host, since no key holds it.

A hook of initramfs-tools takes the disk to resume from out of /proc/swaps, another looks in
/proc/cpuinfo for AES, a third in /sys for modules: the builder's own would decide what an image
has. So each entry of /proc that is no process is a text of this file or empty, but for those of
REAL, and /sys is the small tree of SYS. docs/design.md says what is left, and why.
"""

from __future__ import annotations

from collections.abc import Mapping

from . import sandbox_confine

# Two processors, an Intel and an AMD, that have what every x86-64 has: a generic image wants the
# microcode of both (amd64-microcode's and intel-microcode's hooks look for vendor_id), and no
# module for what only some CPUs can do. MODULES=most has those in any case.
_X86 = """\
processor\t: {number}
vendor_id\t: {vendor}
cpu family\t: {family}
model\t\t: 0
model name\t: Generic x86-64
stepping\t: 0
cpu MHz\t\t: 2000.000
cache size\t: 1024 KB
physical id\t: {number}
siblings\t: 1
core id\t\t: 0
cpu cores\t: 1
apicid\t\t: {number}
initial apicid\t: {number}
fpu\t\t: yes
fpu_exception\t: yes
cpuid level\t: 13
wp\t\t: yes
flags\t\t: fpu vme de pse tsc msr pae mce cx8 apic sep mtrr pge mca cmov pat pse36 clflush mmx \
fxsr sse sse2 syscall nx lm constant_tsc rep_good nopl cpuid
bugs\t\t:
bogomips\t: 4000.00
clflush size\t: 64
cache_alignment\t: 64
address sizes\t: 40 bits physical, 48 bits virtual
power management:

"""


_CPUINFO = {
    "x86": _X86.format(number=0, vendor="GenuineIntel", family=6)
    + _X86.format(number=1, vendor="AuthenticAMD", family=23),
    "arm64": "".join(
        f"processor\t: {number}\nBogoMIPS\t: 100.00\nFeatures\t: fp asimd\n"
        "CPU implementer\t: 0x00\nCPU architecture: 8\n\n" for number in (0, 1)
    ),
    "other": "processor\t: 0\n\nprocessor\t: 1\n\n",
}  # fmt: skip


_CPU = {"amd64": "x86", "i386": "x86", "arm64": "arm64", "armhf": "arm64", "armel": "arm64"}

_TIMES = " ".join(["0"] * 10)

_MEMORY = {
    "MemTotal": 4194304, "MemFree": 2097152, "MemAvailable": 3145728, "Buffers": 65536,
    "Cached": 1048576, "SwapCached": 0, "Active": 524288, "Inactive": 524288, "SwapTotal": 0,
    "SwapFree": 0, "Dirty": 0, "Writeback": 0, "AnonPages": 262144, "Mapped": 131072,
    "Shmem": 16384, "Slab": 65536, "PageTables": 8192, "CommitLimit": 2097152,
    "Committed_AS": 524288, "VmallocTotal": 34359738367, "VmallocUsed": 0,
    "HugePages_Total": 0, "HugePages_Free": 0,
    "Hugepagesize": 2048,
}  # fmt: skip


# What is not here is empty. What a kernel lacks, like mdstat without its module, cannot be added:
# these have the text that says the same as their lack.
_PROC: dict[str, str] = {
    "cgroups": "#subsys_name\thierarchy\tnum_cgroups\tenabled\n",
    "cmdline": "ro\n",
    "devices": "Character devices:\n  1 mem\n  5 /dev/tty\n  5 /dev/ptmx\n136 pts\n\n"
    "Block devices:\n",
    # No selinuxfs: nothing gets labels where the builder runs SELinux.
    "filesystems": "".join(f"nodev\t{name}\n" for name in (
        "sysfs", "tmpfs", "bdev", "proc", "cgroup2", "devtmpfs", "devpts", "overlay"))
    + "\text3\n\text2\n\text4\n\tvfat\n",
    "loadavg": "0.00 0.00 0.00 1/1 1\n",
    "mdstat": "Personalities : \nunused devices: <none>\n",
    "meminfo": "".join(
        f"{name + ':':<16}{size:>8}{'' if name.startswith('HugePages_') else ' kB'}\n"
        for name, size in _MEMORY.items()
    ),
    "partitions": "major minor  #blocks  name\n\n",
    "stat": f"cpu  {_TIMES}\ncpu0 {_TIMES}\ncpu1 {_TIMES}\nintr 0\nctxt 0\nbtime 0\nprocesses 1\n"
    f"procs_running 1\nprocs_blocked 0\nsoftirq {_TIMES} 0\n",
    "swaps": "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n",
    "uptime": "3600.00 7200.00\n",
    "version": "Linux version 6.1.0 (strata@localhost) #1 SMP\n",
}  # fmt: skip


# Linux's own defaults. Programs that measure the machine by these are started elsewhere.
_SYSCTL: dict[str, object] = {
    "crypto/fips_enabled": 0,
    "fs/aio-max-nr": 65536, "fs/aio-nr": 0, "fs/file-max": 9223372036854775807,
    "fs/file-nr": "1024\t0\t9223372036854775807", "fs/nr_open": 1048576,
    "fs/inotify/max_queued_events": 16384, "fs/inotify/max_user_instances": 128,
    "fs/inotify/max_user_watches": 65536, "fs/pipe-max-size": 1048576, "fs/suid_dumpable": 0,
    "fs/protected_hardlinks": 1, "fs/protected_symlinks": 1, "fs/protected_fifos": 1,
    "fs/protected_regular": 2, "fs/overflowgid": 65534, "fs/overflowuid": 65534,
    "kernel/core_pattern": "core", "kernel/core_uses_pid": 0, "kernel/dmesg_restrict": 1,
    "kernel/kptr_restrict": 1, "kernel/modprobe": "/sbin/modprobe", "kernel/modules_disabled": 1,
    "kernel/msgmax": 8192, "kernel/msgmnb": 16384, "kernel/msgmni": 32000,
    "kernel/ngroups_max": 65536, "kernel/osrelease": "6.1.0", "kernel/ostype": "Linux",
    "kernel/overflowgid": 65534, "kernel/overflowuid": 65534, "kernel/panic": 0,
    "kernel/perf_event_paranoid": 3, "kernel/pid_max": sandbox_confine.PROCESSES,
    "kernel/randomize_va_space": 2, "kernel/sem": "32000\t1024000000\t500\t32000",
    "kernel/shmall": 18446744073692774399, "kernel/shmmax": 18446744073692774399,
    "kernel/shmmni": 4096, "kernel/sysrq": 0, "kernel/threads-max": sandbox_confine.PROCESSES,
    "kernel/unprivileged_bpf_disabled": 2, "kernel/version": "#1 SMP",
    "kernel/random/boot_id": "00000000-0000-4000-8000-000000000000",
    "kernel/random/entropy_avail": 256, "kernel/random/poolsize": 256,
    "net/core/rmem_max": 212992, "net/core/somaxconn": 4096, "net/core/wmem_max": 212992,
    "net/ipv4/ip_forward": 0, "net/ipv4/ip_local_port_range": "32768\t60999",
    "net/ipv4/ip_unprivileged_port_start": 1024, "net/ipv4/tcp_max_syn_backlog": 256,
    "net/ipv4/tcp_syncookies": 1, "net/ipv6/bindv6only": 0,
    "net/ipv6/conf/all/disable_ipv6": 0, "net/ipv6/conf/default/disable_ipv6": 0,
    "user/max_user_namespaces": 0,
    "vm/max_map_count": 65530, "vm/min_free_kbytes": 65536, "vm/mmap_min_addr": 65536,
    "vm/nr_hugepages": 0, "vm/overcommit_memory": 0, "vm/overcommit_ratio": 50, "vm/swappiness": 60,
}  # fmt: skip


REAL = ("sysvipc", "sys/kernel/cap_last_cap", "sys/kernel/domainname", "sys/kernel/hostname",
        "sys/kernel/random/uuid")  # fmt: skip
"""Of the sandbox's own namespaces, a number of the kernel's interface, and plain chance."""


SYS: dict[str, str | None] = {
    "block": None, "bus": None, "class/block": None, "class/tty": None,
    "class/net/lo/address": "00:00:00:00:00:00\n", "class/net/lo/mtu": "65536\n",
    "class/net/lo/type": "772\n", "dev/block": None, "dev/char": None,
    **{f"devices/system/cpu/{name}": "0-1\n" for name in ("online", "possible", "present")},
    "devices/system/cpu/cpu0": None, "devices/system/cpu/cpu1": None, "devices/virtual": None,
    "firmware": None, "fs/cgroup": None, "kernel/debug": None, "kernel/security": None,
    "module": None, "power": None,
}  # fmt: skip


def content(arch: str) -> dict[str, Mapping[str, str | None] | list[str]]:
    """The field `seen` of the sandbox's plan, for programs of a Debian architecture."""
    proc = {**_PROC, "cpuinfo": _CPUINFO[_CPU.get(arch, "other")]}
    proc |= {f"sys/{name}": f"{value}\n" for name, value in _SYSCTL.items()}
    return {"proc": proc, "real": list(REAL), "sys": SYS}
