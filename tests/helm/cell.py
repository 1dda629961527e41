"""Becomes a container's process: cell.py SPEC.json, with what of a container can be had without an engine.

A root file system of its own, with the files of the image and what is mounted, and read-only if it is to be; another user,
no capability, no way to new privileges. As an ordinary user all of it happens in a user namespace. Network and processes are
those of the machine.
"""

import ctypes
import json
import os
import sys

NEWNS, NEWUSER = 0x00020000, 0x10000000
RDONLY, NOSUID, NODEV, REMOUNT, BIND, REC, PRIVATE = 1, 2, 4, 32, 4096, 16384, 1 << 18
DETACH = 2
PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS = 24, 38
DEVICES = ("null", "zero", "random", "urandom")

libc = ctypes.CDLL(None, use_errno=True)


def call(what, *arguments):
    arguments = [os.fsencode(a) if isinstance(a, str) else a for a in arguments]
    if getattr(libc, what)(*arguments) != 0:
        error = ctypes.get_errno()
        sys.exit(f"{what}{tuple(arguments)}: {os.strerror(error)}")


def become(inside, uid, gid):
    """A user namespace in which we are `inside`."""
    call("unshare", NEWUSER)
    for file, text in (("setgroups", "deny"), ("uid_map", f"{inside[0]} {uid} 1"), ("gid_map", f"{inside[1]} {gid} 1")):
        with open(f"/proc/self/{file}", "w", encoding="ascii") as map:
            map.write(text)


def bind(source, target, read_only=True):
    if os.path.isdir(source):
        os.makedirs(target, exist_ok=True)
    else:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        open(target, "a", encoding="ascii").close()
    call("mount", source, target, None, BIND | REC, None)
    if read_only:
        call("mount", None, target, None, BIND | REMOUNT | RDONLY | NOSUID | NODEV, None)


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        spec = json.load(file)
    is_root, uid, gid = os.geteuid() == 0, os.geteuid(), os.getegid()
    if not is_root:
        become((0, 0), uid, gid)
    call("unshare", NEWNS)
    call("mount", None, "/", None, REC | PRIVATE, None)
    root = spec["root"]
    call("mount", "tmpfs", root, "tmpfs", NOSUID | NODEV, "mode=755")
    for source, target in spec["image"]:
        bind(source, root + target)
    for device in DEVICES:
        bind(f"/dev/{device}", f"{root}/dev/{device}", read_only=False)
    bind("/proc", f"{root}/proc", read_only=False)
    for mount in spec["mounts"]:
        bind(mount["from"], root + mount["to"], mount["readOnly"])
    if spec["readOnlyRoot"]:
        call("mount", None, root, None, REMOUNT | RDONLY | NOSUID | NODEV, "mode=755")
    # Not chroot: inside one there are no new user namespaces.
    os.chdir(root)
    call("pivot_root", ".", ".")
    call("umount2", ".", DETACH)
    os.chdir("/")
    if not is_root:
        become((spec["uid"], spec["gid"]), 0, 0)
    if spec["dropAll"]:
        for capability in range(int(open("/proc/sys/kernel/cap_last_cap", encoding="ascii").read()) + 1):
            call("prctl", PR_CAPBSET_DROP, capability, 0, 0, 0)
    if is_root:
        os.setgroups(spec["groups"])
        os.setresgid(*[spec["gid"]] * 3)
        os.setresuid(*[spec["uid"]] * 3)
    if spec["noNewPrivileges"]:
        call("prctl", PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    os.execve(spec["program"], spec["argv"], spec["env"])


main()
