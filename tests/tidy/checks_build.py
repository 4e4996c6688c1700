# SPDX-License-Identifier: Apache-2.0
"""Checks that need the build folder: what archives call, what they export, headers by
themselves."""

import concurrent.futures
import glob
import json
import os
import re
import shlex
import subprocess

# Memory and string functions, the compiler's own helpers and what hardening turns them into.
P0_ALLOWED = re.compile(
    r"(mem(cpy|move|set|cmp|chr|rchr|mem)|str(len|nlen|cmp|ncmp|chr|rchr|str)|v?snprintf"
    r"|__(mem|str)\w+_chk|__v?snprintf_chk|__stack_chk_fail|_GLOBAL_OFFSET_TABLE_"
    r"|__u?(div|mod|mul|divmod)[dt]i[34]|__(popcount|clz|ctz)[dt]i2)"
)
# Only for base's default allocator.
BASE_ALLOWED = re.compile(r"malloc|calloc|realloc|free")
# What core may not take from base: its memory is the block given at init and the step's arena.
CORE_DENIED = re.compile(r"mr_(alloc|alloc_zero|realloc|free|free_pointer|allocator_set)")
# Clock, files, sockets, threads, processes and the libraries that reach them.
P1_DENIED = re.compile(
    r"(open|openat|creat|read|readv|pread|write|writev|pwrite|close|lseek|fsync|fdatasync|ftruncate"
    r"|truncate|stat|lstat|fstat|fstatat|access|unlink|unlinkat|rename|renameat|mkdir|mkdirat|rmdir"
    r"|opendir|readdir|closedir|scandir|mmap|munmap|mprotect|flock|fcntl|ioctl|pipe|pipe2|dup\w*"
    r"|socket|socketpair|connect|bind|listen|accept|accept4|send|sendto|sendmsg|recv|recvfrom"
    r"|recvmsg|shutdown|getaddrinfo|freeaddrinfo|getsockopt|setsockopt|poll|ppoll|select|epoll_\w+"
    r"|eventfd|timerfd_\w+|signalfd|inotify_\w+"
    r"|time|clock|clock_\w+|gettimeofday|times|localtime\w*|gmtime\w*|mktime|strftime|nanosleep"
    r"|usleep|sleep|alarm|setitimer"
    r"|pthread_\w+|thrd_\w+|mtx_\w+|cnd_\w+|sem_\w+|fork|vfork|exec\w+|posix_spawn\w*|wait|waitpid"
    r"|waitid|kill|raise|signal|sigaction|sigprocmask|exit|_exit|abort|atexit|system|popen"
    r"|fopen\w*|fdopen|freopen|fclose|fread|fwrite|fflush|fseek|ftell|fgets|fputs|fputc|fgetc"
    r"|getline|printf|vprintf|fprintf|vfprintf|dprintf|puts|putchar|perror|scanf|fscanf"
    r"|__(v?f?printf|printf)_chk|stdin|stdout|stderr|syslog"
    r"|getenv|secure_getenv|setenv|putenv|environ|getpid|getuid|gethostname|sysconf|uname"
    r"|rand|srand|random|srandom|drand48|getrandom|getentropy|arc4random\w*"
    r"|dlopen|dlsym|uv_\w+|sqlite3_\w+|curl_\w+|PQ\w+)"
)
# A panic and an allocation have no context to carry these in.
GLOBALS_ALLOWED = {("base", "panic_hook"), ("base", "allocator_now"), ("sim", "running")}
HEADER_FLAGS = [
    "-std=gnu17",
    "-fsyntax-only",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-Wno-unused",
    "-D_GNU_SOURCE",
    "-x",
    "c",
]


def archives(tree):
    """module: path of its static archive in the build folder."""
    found = {}
    for top in ("src", "work", "cmd"):
        for path in glob.glob(os.path.join(tree.build, top, "**", "libmr_*.a"), recursive=True):
            found[os.path.basename(path)[len("libmr_") : -2]] = path
    return found


def symbols(archive):
    """(names that it defines for others, {name that it needs: object that needs it})."""
    done = subprocess.run(["nm", "-A", archive], capture_output=True, text=True)
    defined, needed = set(), {}
    for line in done.stdout.splitlines():
        match = re.match(r"\S+?:([^:]+):\s*[0-9a-f]*\s+([A-Za-z])\s+(\S+)$", line)
        if not match:
            continue
        member, kind, name = match.group(1), match.group(2), match.group(3).split("@")[0]
        if kind in "Uvw":
            needed.setdefault(name, member)
        elif kind.isupper():
            defined.add(name)
    return defined, {name: member for name, member in needed.items() if name not in defined}


def missing_archives(tree, grades):
    """A graded module with sources but no archive would pass without being looked at."""
    built = archives(tree)
    findings = []
    for module, (grade, _) in tree.layers().items():
        has_sources = any(f.startswith(f"src/{module}/") and f.endswith(".c") for f in tree.files)
        if grade in grades and has_sources and module not in built:
            findings.append(
                f"src/{module}: libmr_{module}.a is not in the build folder: declare "
                f"static_library('mr_{module}', …)"
            )
    return findings


def p0_archives_need_only_memory_and_strings(tree):
    layers, built = tree.layers(), archives(tree)
    findings = missing_archives(tree, {"P0"})
    from_base = symbols(built["base"])[0] if "base" in built else set()
    for module, path in sorted(built.items()):
        grade, may_include = layers.get(module, ("", set()))
        if grade != "P0":
            continue
        # What stands below it is judged by itself.
        pure = [m for m in may_include - {"base"} if m in built and layers[m][0] == "P0"]
        below = set().union(*(symbols(built[m])[0] for m in pure))
        for name, member in sorted(symbols(path)[1].items()):
            if P0_ALLOWED.fullmatch(name) or name in below:
                continue
            if module == "base" and BASE_ALLOWED.fullmatch(name):
                continue
            if module != "base" and name in from_base and not CORE_DENIED.fullmatch(name):
                continue
            findings.append(f"{module} ({member}) needs {name}, which grade P0 forbids")
    return findings


def p1_archives_reach_no_clock_file_socket_or_thread(tree):
    layers, built = tree.layers(), archives(tree)
    findings = missing_archives(tree, {"P1"})
    for module, path in sorted(built.items()):
        if layers.get(module, ("", set()))[0] != "P1":
            continue
        findings += [
            f"{module} ({member}) needs {name}, which grade P1 forbids: ask the world for "
            "it through port"
            for name, member in sorted(symbols(path)[1].items())
            if P1_DENIED.fullmatch(name)
        ]
    return findings


def pure_modules_hold_no_mutable_globals(tree):
    layers = tree.layers()
    findings = []
    for module, path in sorted(archives(tree).items()):
        if layers.get(module, ("", set()))[0] not in ("P0", "P1"):
            continue
        done = subprocess.run(["nm", "-f", "sysv", path], capture_output=True, text=True)
        for line in done.stdout.splitlines():
            fields = [field.strip() for field in line.split("|")]
            if len(fields) < 7 or fields[3] not in ("OBJECT", "TLS"):
                continue
            name, section = fields[0].split(".")[0], fields[6]
            if not re.match(r"\.(data|bss|tdata|tbss)|\*COM\*", section) or section.startswith(
                ".data.rel.ro"
            ):
                continue
            if (module, name) not in GLOBALS_ALLOWED:
                findings.append(
                    f"{module}: {name} is a mutable global: state belongs to an object "
                    "that the caller owns"
                )
    return findings


def global_symbols_carry_their_modules_prefix(tree):
    findings = []
    for module, path in sorted(archives(tree).items()):
        for name in sorted(symbols(path)[0]):
            prefix = module.split("_")[0]  # a module may have several archives: infer, infer_pure
            if not name.startswith(("mr_", f"{prefix}_", "_", "DW.ref.")):
                findings.append(
                    f"{module}: {name} is global: make it static or call it " f"{module}_{name}"
                )
    return findings


def include_flags(tree):
    """Where third-party headers lie, taken from what the build itself uses."""
    flags = []
    path = os.path.join(tree.build, "compile_commands.json")
    if not os.path.exists(path):
        return flags
    with open(path, encoding="utf-8") as file:
        commands = json.load(file)
    for command in commands:
        words = shlex.split(command["command"])
        for index, word in enumerate(words):
            found = None
            if word == "-isystem":
                found = words[index + 1]
            elif word.startswith("-I/"):
                found = word[2:]
            elif word.startswith("-isystem/"):
                found = word[len("-isystem") :]
            if found and found not in flags:
                flags.append(found)
    return [word for folder in flags for word in ("-isystem", folder)]


def every_header_compiles_alone(tree):
    flags = HEADER_FLAGS + ["-I", os.path.join(tree.root, "src")] + include_flags(tree)
    headers = [f for f in tree.files if f.endswith(".h")]

    def compile_one(job):
        compiler, header = job
        full = os.path.join(tree.root, header)
        folder = os.path.dirname(full)
        done = subprocess.run(
            [compiler, *flags, "-I", folder, full], capture_output=True, text=True
        )
        if done.returncode == 0:
            return []
        first = next(
            (line for line in done.stderr.splitlines() if "error:" in line),
            done.stderr.strip().split("\n")[0],
        )
        return [f"{header} with {compiler}: {first.replace(tree.root + '/', '')}"]

    jobs = [(compiler, header) for header in headers for compiler in ("gcc", "clang-19")]
    with concurrent.futures.ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        return [finding for findings in pool.map(compile_one, jobs) for finding in findings]


CHECKS = [
    p0_archives_need_only_memory_and_strings,
    p1_archives_reach_no_clock_file_socket_or_thread,
    pure_modules_hold_no_mutable_globals,
    global_symbols_carry_their_modules_prefix,
    every_header_compiles_alone,
]
