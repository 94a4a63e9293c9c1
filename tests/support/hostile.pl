#!/usr/bin/perl
# What a hostile maintainer script tries: each attempt adds a line `NAME<tab>no: WHY` or
# `NAME<tab>YES: WHAT` to /var/lib/attack. perl-base is all that it needs; the system call numbers
# are amd64's. %WORDS% are what tests/test_hostile.py knows of the host.
use strict;
use warnings;
use Errno;
use Fcntl;
use POSIX ();
use Socket;

my ($MARK, $PID, $PORT, $CANARY, $KEY, $SHM) = ('%MARK%', %PID%, %PORT%, '%CANARY%', %KEY%, %SHM%);
my $RESULTS = '/var/lib/attack';
mkdir '/var/lib' unless -d '/var/lib';
open my $results, '>>', $RESULTS or die "$RESULTS: $!";

sub say_result {
    my ($name, $text) = @_;
    $text =~ s/[\n\t]/ /g;
    syswrite $results, "$name\t$text\n";
}

# The code returns what it got, or undef with $! set; in a process of its own, which may not hang.
sub try {
    my ($name, $code) = @_;
    my $pid = fork;
    die "fork: $!" unless defined $pid;
    if (!$pid) {
        $SIG{ALRM} = sub { say_result($name, 'no: nothing happens'); POSIX::_exit(0) };
        alarm 10;
        $! = 0;
        my $got = eval { $code->() };
        my $why = $@ || "$!" || 'nothing';
        say_result($name, defined $got ? "YES: $got" : "no: $why");
        POSIX::_exit(0);
    }
    waitpid $pid, 0;
    say_result($name, "no: killed by $?") if $?;
}

# A system call that must fail: undef if it does.
# Copies, since syscall() takes no constant strings.
sub refused {
    my ($number, @arguments) = @_;
    my $result = syscall($number, @arguments);
    return $result < 0 ? undef : "result $result";
}

sub write_to {
    my ($path, $text) = @_;
    sysopen my $file, $path, O_WRONLY | O_CREAT or return undef;
    defined syswrite $file, $text or return undef;
    return "wrote $path";
}

sub opened { my ($path, $flags) = @_; sysopen(my $file, $path, $flags // O_RDONLY) or return undef; return "opened $path" }

sub seen {
    my ($path) = @_;
    open my $file, '<', $path or return undef;
    local $/;
    my $text = <$file>;
    return $text eq '' ? undef : "read $path: " . substr $text, 0, 60;
}

sub device {    # opened, in every place where a node can be made
    my ($kind, $major, $minor) = @_;
    my ($mode, $got) = ($kind eq 'b' ? 0060666 : 0020666, undef);
    for my $folder ('', '/tmp', '/dev', '/dev/shm', '/run', '/dev/.strata', '/var/lib') {
        my $path = "$folder/node-$$";
        syscall(133, $path, $mode, ($major << 8) | $minor) == 0 or next;
        $got = "opened $path" if sysopen my $file, $path, O_RDONLY | O_NONBLOCK;
        unlink $path;
        return $got if $got;
    }
    return undef;
}

# -------- network
try net_loopback => sub {
    socket my $s, AF_INET, SOCK_STREAM, 0 or return undef;
    connect $s, pack_sockaddr_in($PORT, inet_aton('127.0.0.1')) or return undef;
    'connected';
};
try net_dns => sub {
    socket my $s, AF_INET, SOCK_DGRAM, 0 or return undef;
    send $s, "\x12\x34\1\0\0\1\0\0\0\0\0\0\1x\0\0\1\0\1", 0, pack_sockaddr_in(53, inet_aton('192.0.2.1')) or return undef;
    'sent';
};
try net_resolver => sub { my $host = gethostbyname('example.org'); $host ? inet_ntoa($host) : undef };
try net_raw => sub { socket my $s, AF_INET, SOCK_RAW, 1 or return undef; 'raw socket' };
try net_packet => sub { refused(41, 17, 3, 0x0300) };
try net_vsock => sub { refused(41, 40, 1, 0) };
try net_families => sub { my @found = grep { syscall(41, $_, 2, 0) >= 0 || syscall(41, $_, 3, 0) >= 0 || syscall(41, $_, 5, 0) >= 0 } grep { !/^(1|2|10|16)$/ } 0 .. 255; @found ? "@found" : undef };
try net_alg => sub { refused(41, 38, 5, 0) };
try net_sctp => sub { my @found = grep { syscall(41, $_, 1, 132) >= 0 || syscall(41, $_, 5, 132) >= 0 } 2, 10; @found ? "@found" : undef };
try net_dccp => sub { my @found = grep { syscall(41, $_, 6, 0) >= 0 || syscall(41, $_, 6, 33) >= 0 } 2, 10; @found ? "@found" : undef };
try net_netlinks => sub { my @found = grep { syscall(41, 16, 3, $_) >= 0 } grep { !/^(0|9|15)$/ } 0 .. 31; @found ? "@found" : undef };
try net_vlan => sub { socket my $s, AF_INET, SOCK_DGRAM, 0 or return undef; my $request = "\0" x 64; ioctl($s, 0x8982, $request) || !$!{EPERM} ? "asked: $!" : undef };
try net_pair_tipc => sub { my $pair = "\0" x 8; refused(53, 30, 1, 0, $pair) };
try net_abstract => sub {
    socket my $s, AF_UNIX, SOCK_STREAM, 0 or return undef;
    connect $s, pack('Sa*', AF_UNIX, "\0$MARK") or return undef;
    'connected';
};
try net_interfaces => sub {
    opendir my $dir, '/sys/class/net' or return undef;
    my @found = grep { !/^\.|^lo$/ } readdir $dir;
    @found ? "@found" : undef;
};
try net_add => sub {    # SIOCSIFADDR
    socket my $s, AF_INET, SOCK_DGRAM, 0 or return undef;
    my $request = pack 'a16S@40', 'lo', AF_INET;
    ioctl $s, 0x8916, $request or return undef;
    'set an address';
};

# -------- processes of the host
try see_process => sub {
    for my $path (glob '/proc/[0-9]*/cmdline') {
        my $line = do { local (@ARGV, $/) = $path; no warnings; <> } // '';
        return "$path: $line" if index($line, $MARK) >= 0;
    }
    undef;
};
try see_pid => sub { -d "/proc/$PID" ? "/proc/$PID" : undef };
try signal_process => sub { kill(0, $PID) ? "kill 0 $PID" : undef };
try proc_1_root => sub { opendir(my $dir, '/proc/1/root/') ? 'opened' : undef };
try proc_1_cwd => sub { opendir(my $dir, '/proc/1/cwd/') ? 'opened' : undef };
try proc_1_fd => sub { for my $fd (0 .. 9) { return "fd $fd" if defined readlink "/proc/1/fd/$fd" or opened("/proc/1/fd/$fd") } undef };
try proc_1_environ => sub { seen('/proc/1/environ') };
try proc_1_mem => sub { opened('/proc/1/mem', O_RDWR) };
try proc_1_maps => sub { seen('/proc/1/maps') };
try ptrace_attach => sub { refused(101, 16, 1, 0, 0) };
try ptrace_seize => sub { refused(101, 0x4206, 1, 0, 0) };
try process_vm_readv => sub { my $b = "\0" x 64; my $v = pack 'pQ', $b, 1; refused(310, 1, $v, 1, $v, 1, 0) };
try pidfd_getfd => sub {
    my $fd = syscall(434, 1, 0);
    $fd < 0 ? undef : refused(438, $fd, 0, 0);
};
try renice_init => sub { refused(141, 0, 1, -20) };

# -------- out of the tree
sub outside {    # is this the host's root?
    return "saw $CANARY" if -e $CANARY;
    return "saw $CANARY" if -e ".$CANARY";
    undef;
}
try canary_plain => sub { outside() };
try canary_dotdot => sub { chdir '../../../../../../../../../..'; outside() // (-e "/../../../..$CANARY" ? 'dotdot' : undef) };
try chroot_fchdir => sub {
    mkdir '/tmp/jail';
    sysopen my $root, '/', O_RDONLY or return undef;
    chroot '/tmp/jail' or return undef;
    syscall(81, fileno $root);
    chdir '..' for 1 .. 64;
    chroot '.' or return undef;
    outside() // write_to("$CANARY.new", 'x');
};
try chroot_host_usr => sub {    # of a base, where the bootstrap tool's root has the host's /usr
    mkdir '/tmp/jail';
    sysopen my $root, '/', O_RDONLY or return undef;
    chroot '/tmp/jail' or return undef;
    syscall(81, fileno $root);
    chdir '..' for 1 .. 64;
    chroot '.' or return undef;
    -d '/target' or do { $! = 0; return undef };
    write_to("/usr/$MARK", 'x') // write_to("/repo/$MARK", 'x') // seen('/etc/shadow') // seen('/root/.bashrc');
};
try descriptors => sub {    # folders and files outside, kept open for us
    my @found;
    for my $fd (glob '/proc/self/fd/*') {
        my $to = readlink $fd // next;
        next if $to =~ m{^(pipe:|/dev/null$|/var/lib/attack|/proc/\d+/fd|/target/var/lib/attack|socket:)};
        next if $to =~ m{^(/target)?/(var/lib/dpkg|tmp|dev/\.strata|dev/pts|var/log|debootstrap)/};
        push @found, $to;
    }
    @found ? "@found" : undef;
};
try open_by_handle => sub { my $handle = pack 'Ii Q', 8, 1, 2; refused(304, -100, $handle, 0) };
try input_write => sub { -d '/dev/.strata/in' ? write_to("/dev/.strata/in/$MARK", 'x') : undef };
try input_shadow => sub { opened('/dev/.strata/in/shadow') };

# -------- mounts
sub mount_at { my ($source, $target, $kind, $flags, $data) = @_; mkdir $target; refused(165, $source, $target, $kind, $flags, $data // 0) }
try mount_bind => sub { mount_at('/', '/tmp/m', 'none', 4096) };
try mount_tmpfs => sub { mount_at('none', '/tmp/m', 'tmpfs', 0) };
try mount_proc => sub { mount_at('proc', '/tmp/m', 'proc', 0) };
try mount_sysfs => sub { mount_at('sysfs', '/tmp/m', 'sysfs', 0) };
try mount_cgroup => sub { mount_at('none', '/tmp/m', 'cgroup2', 0) };
try mount_devtmpfs => sub { mount_at('none', '/tmp/m', 'devtmpfs', 0) };
try mount_debugfs => sub { mount_at('none', '/tmp/m', 'debugfs', 0) };
try mount_overlay => sub { mount_at('overlay', '/tmp/m', 'overlay', 0, 'lowerdir=/usr:/etc') };
try remount_root_dev => sub { mount_at('none', '/', 'none', 32 | 4096) };
try remount_proc_sys => sub { mount_at('none', '/proc/sys', 'none', 32 | 4096) };
try remount_sys => sub { mount_at('none', '/sys', 'none', 32) };
try umount_proc_sys => sub { refused(166, '/proc/sys', 2) };
try umount_kcore => sub { refused(166, '/proc/kcore', 2) };
try umount_root => sub { refused(166, '/', 2) };
try pivot_root => sub { refused(155, '/tmp', '/tmp') };
try fsopen => sub { refused(430, 'tmpfs', 0) };
try open_tree => sub { refused(428, -100, '/', 1) };
try mount_setattr => sub { my $a = pack 'QQQQ', 0, 1, 0, 0; refused(442, -100, '/proc/sys', 0, $a, 32) };

# -------- namespaces
try unshare_user => sub { refused(272, 0x10000000) };
try unshare_user_mount => sub { refused(272, 0x10000000 | 0x20000) };
try unshare_mount => sub { refused(272, 0x20000) };
try unshare_net => sub { refused(272, 0x40000000) };
try unshare_pid => sub { refused(272, 0x20000000) };
try clone_user => sub { my $pid = syscall(56, 0x10000000 | 17, 0, 0, 0, 0); $pid == 0 ? POSIX::_exit(0) : $pid > 0 ? 'a child' : undef };
try clone3_user => sub { my $args = pack 'Q8', 0x10000000, 0, 0, 0, 17, 0, 0, 0; my $pid = syscall(435, $args, 64); $pid == 0 ? POSIX::_exit(0) : $pid > 0 ? 'a child' : undef };
try setns_init => sub {
    for my $kind (qw(mnt net pid uts ipc user cgroup)) {
        sysopen my $file, "/proc/1/ns/$kind", O_RDONLY or next;
        syscall(308, fileno $file, 0) == 0 and $kind ne 'user' and return $kind;
    }
    undef;
};

# -------- the kernel
try init_module => sub { my $text = "\x7fELF"; refused(175, $text, 4, '') };
try finit_module => sub { sysopen my $file, '/bin/sh', O_RDONLY or die; refused(313, fileno $file, '', 0) };
try delete_module => sub { refused(176, 'loop', 0) };
try modprobe => sub { system('modprobe loop 2>/dev/null') == 0 ? 'ran' : undef };
try kexec_load => sub { refused(246, 0, 0, 0, 0) };
try kexec_file_load => sub { refused(320, -1, -1, 0, 0, 0) };
try reboot => sub { refused(169, 0xfee1dead, 672274793, 0, 0) };    # only turns Ctrl-Alt-Del off
try swapon => sub { refused(167, '/tmp/none', 0) };
try acct => sub { refused(163, 0) };
try syslog_read => sub { my $buffer = "\0" x 4096; refused(103, 3, $buffer, 4096) };
try syslog_clear => sub { refused(103, 5, 0, 0) };
try iopl => sub { refused(172, 3) };
try ioperm => sub { refused(173, 0x80, 1, 1) };
try vhangup => sub { refused(153) };
try bpf_map => sub { my $attr = pack 'I4 x56', 1, 4, 4, 1; refused(321, 0, $attr, 72) };
try perf_event_open => sub { my $attr = pack 'IIQ x112', 1, 128, 0; refused(298, $attr, 0, -1, -1, 0) };
try userfaultfd => sub { refused(323, 0) };
try userfaultfd_user => sub { refused(323, 1) };
try io_uring => sub { my $params = "\0" x 120; refused(425, 4, $params) };
try fanotify => sub { refused(300, 4, 0) };
try fanotify_plain => sub { refused(300, 0x200, 0) };
try quotactl_fd => sub { sysopen my $root, '/', O_RDONLY or return undef; refused(443, fileno $root, 0x80000100, 0, 0) };
try quotactl => sub { refused(179, 0x80000100, '/dev/vda', 0, 0) };
try keyctl_user => sub { refused(250, 0, -4, 0) };
try keyctl_session => sub { refused(250, 0, -3, 0) };
try keyctl_read => sub { my $buffer = "\0" x 64; refused(250, 11, $KEY, $buffer, 64) };
try keyctl_describe => sub { my $buffer = "\0" x 64; refused(250, 6, $KEY, $buffer, 64) };
try add_key => sub { refused(248, 'user', $MARK, 'x', 1, -4) };
try request_key => sub { refused(249, 'user', "$MARK-key", 0, 0) };

# -------- devices
try loop_device => sub { device('b', 7, 0) };
try loop_control => sub { device('c', 10, 237) };
try host_disks => sub {
    open my $file, '<', '/proc/partitions' or return undef;
    while (<$file>) {
        my ($major, $minor) = /^\s*(\d+)\s+(\d+)\s/ or next;
        my $got = device('b', $major, $minor);
        return "$major:$minor $got" if $got;
    }
    $! = 0;
    undef;
};
try dev_mem => sub { device('c', 1, 1) };
try dev_kmem => sub { device('c', 1, 2) };
try dev_port => sub { device('c', 1, 4) };
try dev_kmsg => sub { device('c', 1, 11) };
try dev_null => sub { device('c', 1, 3) };
try dev_tty0 => sub { device('c', 4, 0) };
try dev_console => sub { device('c', 5, 1) };
try dev_kvm => sub { device('c', 10, 232) };
try dev_tun => sub { device('c', 10, 200) };
try dev_fuse => sub { device('c', 10, 229) };
try dev_listing => sub {
    opendir my $dir, '/dev' or return undef;
    my %known = map { $_ => 1 } qw(. .. null zero full random urandom tty pts shm .strata fd stdin stdout stderr ptmx console);
    my @found = grep { !$known{$_} && !-l "/dev/$_" && (-b "/dev/$_" || -c _) && opened("/dev/$_", O_RDONLY | O_NONBLOCK) } readdir $dir;
    @found ? "@found" : undef;
};

# -------- owners, modes, times and attributes of what is the host's own
sub marked {    # one of these paths, changed in any way
    my @found;
    for my $path (@_) {
        my @was = lstat $path or next;
        next if -l _;
        push @found, "chmod $path" if chmod $was[2] & 07777 ^ 022, $path;
        push @found, "chown $path" if chown 4242, 4242, $path;
        push @found, "utime $path" if utime 1, 1, $path;
        my ($name, $value) = ('user.strata', 'x');
        push @found, "setxattr $path" if syscall(188, my $copy = $path, $name, $value, 1, 0) == 0;
        my ($acl, $entries) = ('system.posix_acl_access', pack 'L(SSL)4', 2, 1, 6, ~0, 4, 6, ~0, 0x10, 6, ~0, 0x20, 6, ~0);
        push @found, "acl $path" if syscall(188, $copy, $acl, $entries, length $entries, 0) == 0;
        my $flags = pack 'L', 0x10;    # FS_IOC_SETFLAGS: immutable
        if (-f _ and sysopen my $file, $path, O_RDONLY | O_NONBLOCK) {
            push @found, "fchmod $path" if chmod 0666, $file;
            push @found, "chattr $path" if ioctl $file, 0x40086602, $flags;
        }
    }
    $! = 0;
    @found ? "@found[0 .. ($#found < 5 ? $#found : 5)]" : undef;
}
sub below {
    my ($folder, $depth) = @_;
    my @found = ($folder);
    opendir my $dir, $folder or return @found;
    for my $name (grep { !/^\.\.?$/ } readdir $dir) {
        my $path = "$folder/$name";
        push @found, $depth > 1 && -d $path && !-l $path ? below($path, $depth - 1) : $path;
    }
    return @found;
}
try node_marks => sub { marked(map { "/dev/$_" } qw(null zero full random urandom tty)) };
try node_through_fd => sub { open my $file, '+<', '/dev/full' or return undef; chmod(0622, $file) || chown(4242, 4242, $file) ? 'changed' : undef };
try node_truncated => sub { truncate('/dev/null', 1) ? 'truncated' : undef };
try node_unlinked => sub { unlink('/dev/null') || rename('/dev/zero', '/dev/null') ? 'gone' : undef };
try proc_marks => sub { marked(grep { !m{^/proc/(\d+|self|thread-self)(/|$)} && $_ ne '/proc' } below('/proc', 4)) };
try sys_marks => sub { -d '/sys/class' or return undef; marked(below('/sys', 9)) };
try input_marks => sub { marked(below('/dev/.strata/in', 9)) };
try host_usr_marks => sub {    # of a base: see chroot_host_usr
    mkdir '/tmp/jail';
    sysopen my $root, '/', O_RDONLY or return undef;
    chroot '/tmp/jail' or return undef;
    syscall(81, fileno $root);
    chdir '..' for 1 .. 64;
    chroot '.' or return undef;
    -d '/target' or do { $! = 0; return undef };
    marked('/usr', '/usr/bin/env', '/usr/share/keyrings', below('/repo', 9), map { "/dev/$_" } qw(null full tty));
};

# -------- /proc and /sys
for my $path (qw(sys/kernel/hostname sys/kernel/core_pattern sys/kernel/panic sys/kernel/modprobe sys/kernel/pid_max
        sys/vm/drop_caches sys/vm/overcommit_memory sys/net/ipv4/ip_forward sys/user/max_user_namespaces
        sys/fs/binfmt_misc/register sys/fs/file-max sysrq-trigger irq/default_smp_affinity acpi/wakeup scsi/scsi mtrr)) {
    (my $name = "proc_$path") =~ tr{/-}{__};
    try $name => sub { opened("/proc/$path", O_WRONLY) };
}
try proc_writable => sub {    # of all but the processes' own folders
    my (@todo, @found) = ('/proc');
    while (defined(my $folder = pop @todo)) {
        opendir my $dir, $folder or next;
        for my $name (readdir $dir) {
            next if $name =~ /^\.\.?$/ || $folder eq '/proc' && $name =~ /^(\d+|self|thread-self)$/;
            my $path = "$folder/$name";
            next if -l $path;
            if (-d _) { push @todo, $path; next }
            next if -c _ || !((stat _)[2] & 0222);
            push @found, $path if sysopen my $file, $path, O_WRONLY | O_NONBLOCK;
        }
    }
    $! = 0;
    @found ? "@found" : undef;
};
try sys_writable => sub {
    my (@found) = ();
    for my $path (qw(/sys/kernel/uevent_helper /sys/power/state /sys/kernel/mm/transparent_hugepage/enabled /sys/module/loop/parameters/max_part),
            glob('/sys/block/*/queue/scheduler'), glob('/sys/devices/system/cpu/cpu*/online'), glob('/sys/class/*/*/uevent')) {
        push @found, $path if sysopen my $file, $path, O_WRONLY | O_NONBLOCK;
    }
    $! = 0;
    @found ? "@found[0 .. ($#found < 5 ? $#found : 5)]" : undef;
};
try sys_made => sub { mkdir '/sys/fs/cgroup/strata' or return undef; 'made a cgroup' };
try proc_kcore => sub { seen('/proc/kcore') };
try proc_kmsg => sub { sysopen my $file, '/proc/kmsg', O_RDONLY | O_NONBLOCK or return undef; my $text; sysread($file, $text, 100) ? "read $text" : undef };
try proc_keys => sub { seen('/proc/keys') };
try proc_kallsyms => sub { open my $file, '<', '/proc/kallsyms' or return undef; while (<$file>) { return $_ if !/^0+ / } undef };
try proc_timer_list => sub { seen('/proc/timer_list') };
try sys_debug => sub { opendir my $dir, '/sys/kernel/debug' or return undef; my @found = grep { !/^\./ } readdir $dir; @found ? "@found" : undef };
try sys_firmware => sub { opendir my $dir, '/sys/firmware' or return undef; my @found = grep { !/^\./ } readdir $dir; @found ? "@found" : undef };

# -------- clock, names, limits
try settimeofday => sub { my $time = pack 'QQ', 1, 0; refused(164, $time, 0) };
try clock_settime => sub { my $time = pack 'QQ', 1, 0; refused(227, 0, $time) };
try adjtimex => sub { my $timex = pack 'Ix4Q x192', 1, 1; refused(159, $timex) };
try sethostname => sub { refused(170, $MARK, length $MARK) };
try setdomainname => sub { refused(171, $MARK, length $MARK) };
try raise_files => sub { my $limit = "\0" x 16; syscall(97, 7, $limit); my ($soft, $hard) = unpack 'QQ', $limit; my $new = pack 'QQ', $hard + 1, $hard + 1; refused(160, 7, $new) };
try raise_core => sub { my $old = "\0" x 16; syscall(97, 4, $old); my ($soft, $hard) = unpack 'QQ', $old; return "$soft $hard" if $hard != 1; my $new = pack 'QQ', ~0, ~0; refused(160, 4, $new) };
try nice => sub { refused(141, 0, 0, -20) };
try realtime => sub { my $param = pack 'i', 50; refused(144, 0, 1, $param) };
try io_realtime => sub { refused(251, 1, 0, (1 << 13) | 0) };
try oom_immune => sub { open my $file, '>', '/proc/self/oom_score_adj' or return undef; defined syswrite $file, '-1000' or return undef; 'set' };

# -------- other ways to the host
try shm_attach => sub { refused(29, $SHM, 0, 0) };
try shm_list => sub { my $info = "\0" x 256; my $got = syscall(31, 0, 13, $info); $got > 0 ? "up to $got" : undef };
try tty => sub { opened('/dev/tty', O_RDWR) };
try tty_inject => sub { my $c = 'x'; for my $fd (0 .. 9) { return "fd $fd" if syscall(16, $fd, 0x5412, $c) == 0 } undef };
try tty_linux => sub { my $c = "\4"; for my $fd (0 .. 9) { return "fd $fd" if syscall(16, $fd, 0x541C, $c) == 0 } undef };
try tty_take => sub { for my $fd (0 .. 9) { return "fd $fd" if syscall(16, $fd, 0x540E, 1) == 0 } undef };
try environment => sub { my @found = map { "$_=$ENV{$_}" } grep { /^(STRATA|PYTHON|SSH|SUDO|DBUS|XDG|http)|_proxy$/i || index($ENV{$_}, $MARK) >= 0 } sort keys %ENV; @found ? "@found" : undef };
try setuid_program => sub {
    system('cp', '/usr/bin/perl', '/var/lib/suid-perl') == 0 or return undef;
    chmod 04755, '/var/lib/suid-perl';
    my $pid = open my $pipe, '-|';
    if (!$pid) {
        POSIX::setgid(1000);
        POSIX::setuid(1000);
        exec '/var/lib/suid-perl', '-e', 'print $>' or print 'none';
        POSIX::_exit(0);
    }
    my $euid = <$pipe> // 'none';
    unlink '/var/lib/suid-perl';
    $! = 0;
    $euid eq '0' ? 'euid 0 again' : undef;
};
try no_new_privs => sub { my $status = do { local (@ARGV, $/) = '/proc/self/status'; <> }; $! = 0; $status =~ /^NoNewPrivs:\t1$/m ? undef : 'not set' };
try capabilities => sub {
    my $status = do { local (@ARGV, $/) = '/proc/self/status'; <> };
    my ($bounding) = $status =~ /^CapBnd:\t(\w+)$/m;
    $! = 0;
    # chown, dac_override, fowner, fsetid, kill, setgid, setuid, setpcap, net_bind_service,
    # sys_chroot, mknod, audit_write, setfcap
    $bounding eq '00000000a80405fb' ? undef : $bounding;
};

# -------- PID 1 lives through what it is sent; all but the last are left running
for my $signal (qw(INT TERM HUP QUIT USR1 ALRM KILL STOP)) { kill $signal, 1 }
for my $kind (qw(plain stubborn)) {
    if (!fork) {
        POSIX::setsid();
        POSIX::_exit(0) if fork;
        $SIG{$_} = 'IGNORE' for $kind eq 'stubborn' ? qw(TERM INT HUP QUIT) : ();
        POSIX::close($_) for 0 .. 20;
        $0 = "$MARK-daemon-$kind";
        sleep 1000;
        POSIX::_exit(0);
    }
    wait;
}
say_result('end', 'no: reached');
