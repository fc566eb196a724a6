"""image.py ARCHIVE: a small container image as 'docker save' writes it: one layer
with Debian's static busybox, and a web server as its command. It is made of
files of this machine, so nothing has to be downloaded."""
import hashlib
import io
import json
import os
import sys
import tarfile

BUSYBOX = "/bin/busybox"
BOOT = """#!/bin/sh
echo "$(hostname): booted"
ip -o addr show scope global | while read -r _ dev _ addr _; do echo "$dev $addr"; done
echo "It works: $(hostname), in a container of its own" > /www/index.html
exec httpd -f -p 80 -h /www
"""
CREATED = "2024-01-01T00:00:00Z"


def entry(tar, name, data=b"", mode=0o644, kind=tarfile.REGTYPE, link=""):
    info = tarfile.TarInfo(name)
    info.mode, info.type, info.linkname, info.size = mode, kind, link, len(data)
    tar.addfile(info, io.BytesIO(data))


def layer():
    out = io.BytesIO()
    with open(BUSYBOX, "rb") as f:
        busybox = f.read()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name in ("bin", "dev", "etc", "home", "proc", "root", "run", "sys", "tmp", "usr", "var", "www"):
            entry(tar, name, mode=0o1777 if name == "tmp" else 0o755, kind=tarfile.DIRTYPE)
        entry(tar, "bin/busybox", busybox, 0o755)
        for name in sorted(os.popen(BUSYBOX + " --list").read().split()):
            if name != "busybox":
                entry(tar, "bin/" + name, kind=tarfile.SYMTYPE, mode=0o777, link="busybox")
        entry(tar, "etc/passwd", b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n")
        entry(tar, "etc/group", b"root:x:0:\nnogroup:x:65534:\n")
        entry(tar, "bin/boot", BOOT.encode(), 0o755)
    return out.getvalue()


def main(path):
    data = layer()
    digest = hashlib.sha256(data).hexdigest()
    config = json.dumps({
        "architecture": {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine),
        "os": "linux", "created": CREATED,
        "config": {"Cmd": ["/bin/boot"], "WorkingDir": "/", "ExposedPorts": {"80/tcp": {}},
                   "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]},
        "rootfs": {"type": "layers", "diff_ids": ["sha256:" + digest]},
        "history": [{"created": CREATED, "created_by": "busybox and a web server"}]}).encode()
    config_name = hashlib.sha256(config).hexdigest() + ".json"
    with tarfile.open(path, "w") as tar:
        entry(tar, digest, kind=tarfile.DIRTYPE, mode=0o755)
        entry(tar, digest + "/layer.tar", data)
        entry(tar, config_name, config)
        entry(tar, "manifest.json", json.dumps([{
            "Config": config_name, "RepoTags": ["web:latest"], "Layers": [digest + "/layer.tar"]}]).encode())


main(sys.argv[1])
