"""docker-py against the daemon of $DOCKER_HOST; the archive of busybox:latest is the first argument."""

import io
import json
import socket
import sys
import tarfile
import threading

import docker
from docker.types import Mount

client = docker.from_env(timeout=120)
api = client.api
LONG = ["sleep", "1000"]


def fails(kind, code, text, call, *args, **kwargs):
    try:
        call(*args, **kwargs)
    except kind as e:
        assert e.response.status_code == code, e
        assert text.lower() in e.explanation.lower(), e
        return
    raise AssertionError("%s(%s) did not fail" % (call, args))


def read_all(sock):
    """What a hijacked connection says until its end, split into its streams."""
    out = {1: b"", 2: b""}
    for stream, data in docker.utils.socket.frames_iter(sock, tty=False):
        out[stream] += data
    return out[1], out[2]


def half_close(sock):
    getattr(sock, "_sock", sock).shutdown(socket.SHUT_WR)


def send(sock, data):
    getattr(sock, "_sock", sock).sendall(data)


def system():
    assert client.ping()
    assert client.version()["ApiVersion"] >= "1.41"
    info = client.info()
    assert info["OSType"] == "linux" and info["Images"] >= 1, info
    df = client.df()
    if "ImageUsage" in df:  # API 1.52 and later
        assert df["ImageUsage"]["TotalSize"] > 0 and "VolumeUsage" in df, df
    else:
        assert df["Images"][0]["Size"] > 0 and "Volumes" in df, df


def images():
    with open(sys.argv[1], "rb") as f:
        loaded = client.images.load(f)
    assert [i.tags for i in loaded] == [["busybox:latest"]], loaded
    image = client.images.get("busybox")
    assert image.id.startswith("sha256:") and image.attrs["Config"]["Cmd"] == ["sh"], image.attrs
    assert image.tag("example.org/name", "v1")
    assert client.images.list("example.org/name")[0].id == image.id
    image.reload()
    saved = b"".join(image.save(named="example.org/name:v1"))
    with tarfile.open(fileobj=io.BytesIO(saved)) as t:
        manifest = json.load(t.extractfile("manifest.json"))
    assert manifest[0]["RepoTags"] == ["example.org/name:v1"], manifest
    client.images.remove("example.org/name:v1")
    assert client.images.load(saved)[0].tags, "what was saved can be loaded"
    client.images.remove("example.org/name:v1")
    assert image.history()
    fails(docker.errors.ImageNotFound, 404, "no such image", client.images.get, "absent")


def lifecycle():
    c = client.containers.create("busybox", ["sh", "-c", "trap 'exit 7' TERM; echo up; while :; do sleep 0.05; done"],
                                 name="py-life", network_mode="none", labels={"who": "py"}, environment={"A": "b"},
                                 mem_limit="64m", hostname="named")
    assert c.status == "created"
    c.start()
    for line in c.logs(stream=True, follow=True):
        assert line == b"up\n", line
        break
    c.reload()
    assert c.status == "running" and c.attrs["HostConfig"]["Memory"] == 64 << 20 and "A=b" in c.attrs["Config"]["Env"]
    c.pause()
    c.reload()
    assert c.status == "paused"
    c.unpause()
    c.update(mem_limit="128m", memswap_limit="256m")
    assert "sleep" in str(c.top()["Processes"]) or "sh" in str(c.top()["Processes"])
    c.rename("py-renamed")
    assert [x.name for x in client.containers.list(filters={"label": "who=py"})] == ["py-renamed"]
    c.stop(timeout=10)
    assert c.wait()["StatusCode"] == 7
    c.start()
    c.kill("KILL")
    assert c.wait()["StatusCode"] == 137
    c.restart(timeout=0)
    fails(docker.errors.APIError, 409, "", c.remove)
    c.remove(force=True, v=True)
    fails(docker.errors.NotFound, 404, "no such container", client.containers.get, "py-renamed")
    c = client.containers.create("busybox", LONG, name="twice", network_mode="none")
    fails(docker.errors.APIError, 409, "already in use", client.containers.create, "busybox", LONG, name="twice", network_mode="none")
    fails(docker.errors.APIError, 409, "is not running", c.kill)
    c.remove()
    fails(docker.errors.ImageNotFound, 404, "no such image", client.containers.create, "absent", LONG)
    assert client.containers.run("busybox", "echo hello", remove=True, network_mode="none") == b"hello\n"
    try:
        client.containers.run("busybox", ["sh", "-c", "echo bad >&2; exit 3"], remove=True, network_mode="none")
    except docker.errors.ContainerError as e:
        assert e.exit_status == 3 and e.stderr == b"bad\n", e
    else:
        raise AssertionError("exit 3 went unnoticed")


def streams():
    c = client.containers.run("busybox", ["sh", "-c", "echo out; echo err >&2; exec sleep 1000"], detach=True, network_mode="none")
    follow = c.logs(stream=True, follow=True, stdout=True, stderr=True)
    assert sorted([next(follow), next(follow)]) == [b"err\n", b"out\n"]
    follow.close()
    assert c.logs(stderr=False) == b"out\n" and c.logs(stdout=False) == b"err\n"
    assert c.logs(tail=1, timestamps=True).count(b"Z ") == 1

    code, output = c.exec_run(["sh", "-c", "echo o; echo e >&2; exit 4"], demux=True)
    assert (code, output) == (4, (b"o\n", b"e\n")), (code, output)
    code, output = c.exec_run(["sh", "-c", "id -u; pwd; echo $X"], user="user", workdir="/tmp", environment={"X": "y"})
    assert output == b"1000\n/tmp\ny\n", output
    made = api.exec_create(c.id, ["cat"], stdin=True)
    sock = api.exec_start(made["Id"], socket=True)
    send(sock, b"over the wire\n")
    half_close(sock)
    assert read_all(sock) == (b"over the wire\n", b"")
    sock.close()
    assert api.exec_inspect(made["Id"])["ExitCode"] == 0
    fails(docker.errors.NotFound, 404, "", api.exec_inspect, "0" * 64)

    stats = c.stats(stream=False)
    assert stats["memory_stats"]["usage"] > 0 and stats["pids_stats"]["current"] == 1, stats
    live = c.stats(stream=True, decode=True)
    assert next(live)["cpu_stats"]["cpu_usage"]["total_usage"] > 0 and next(live)["name"]
    live.close()
    c.remove(force=True)

    c = client.containers.create("busybox", ["cat"], stdin_open=True, network_mode="none")
    sock = c.attach_socket(params={"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1})
    c.start()
    send(sock, b"attached\n")
    half_close(sock)
    # stdin_open without StdinOnce: it stays open, so the process is ended
    stream = docker.utils.socket.frames_iter(sock, tty=False)
    assert next(stream) == (1, b"attached\n")
    c.remove(force=True)
    sock.close()


def events():
    seen = []
    stream = client.events(decode=True, filters={"label": "who=events"})

    def listen():
        for e in stream:
            seen.append((e["Type"], e["Action"], e["Actor"]["Attributes"].get("name")))
            if e["Action"] == "destroy":
                return

    listener = threading.Thread(target=listen)
    listener.start()
    client.containers.run("busybox", "true", name="told", labels={"who": "events"}, network_mode="none", remove=False)
    client.containers.get("told").remove()
    listener.join(60)
    stream.close()
    actions = [a for t, a, n in seen if t == "container" and n == "told"]
    assert [a for a in actions if a in ("create", "start", "die", "destroy")] == ["create", "start", "die", "destroy"], seen


def files():
    c = client.containers.create("busybox", LONG, network_mode="none")
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as t:
        entry = tarfile.TarInfo("dir/file")
        entry.size = 5
        t.addfile(entry, io.BytesIO(b"hello"))
    assert c.put_archive("/tmp", data.getvalue())
    for _ in range(2):  # not running, then running
        chunks, stat = c.get_archive("/tmp/dir/file")
        assert stat["name"] == "file" and stat["size"] == 5, stat
        with tarfile.open(fileobj=io.BytesIO(b"".join(chunks))) as t:
            assert t.extractfile("file").read() == b"hello"
        c.start()
    fails(docker.errors.NotFound, 404, "/absent", c.get_archive, "/absent")
    fails(docker.errors.NotFound, 404, "", c.put_archive, "/no/such", data.getvalue())
    assert {"Path": "/tmp/dir", "Kind": 1} in c.diff(), c.diff()
    with tarfile.open(fileobj=io.BytesIO(b"".join(c.export()))) as t:
        assert t.extractfile("tmp/dir/file").read() == b"hello"
    image = c.commit("committed", "v1", message="m", conf={"Cmd": ["cat", "/tmp/dir/file"]})
    assert client.containers.run("committed:v1", remove=True, network_mode="none") == b"hello"
    c.remove(force=True)
    client.images.remove(image.id, force=True)


def volumes():
    v = client.volumes.create("py-data", labels={"a": "b"})
    assert v.attrs["Driver"] == "local" and client.volumes.get("py-data").attrs["Labels"] == {"a": "b"}
    client.containers.run("busybox", ["sh", "-c", "echo kept > /data/f"], volumes={"py-data": {"bind": "/data", "mode": "rw"}},
                          remove=True, network_mode="none")
    c = client.containers.run("busybox", ["cat", "/data/f"], mounts=[Mount("/data", "py-data", read_only=True)], detach=True,
                              network_mode="none")
    c.wait()
    assert c.logs() == b"kept\n"
    fails(docker.errors.APIError, 409, "volume is in use", v.remove)
    c.remove()
    assert [x.name for x in client.volumes.list(filters={"dangling": "true"})] == ["py-data"]
    v.remove()
    fails(docker.errors.NotFound, 404, "no such volume", client.volumes.get, "py-data")


def networks():
    assert {n.name for n in client.networks.list()} >= {"bridge", "none", "host"}
    n = client.networks.create("py-net", driver="bridge", labels={"a": "b"})
    server = client.containers.run("busybox", ["sh", "-c", "echo found > /tmp/index.html; exec httpd -f -p 80 -h /tmp"], name="py-server",
                                   network="py-net", detach=True)
    try:
        got = client.containers.run("busybox", ["sh", "-c", "until wget -q -O - http://py-server/; do sleep 0.1; done"], network="py-net", remove=True)
        assert got == b"found\n", got
        n.reload()
        assert [c.name for c in n.containers] == ["py-server"]
        n.disconnect(server)
        n.connect(server, aliases=["other"])
        got = client.containers.run("busybox", ["wget", "-q", "-O", "-", "http://other/"], network="py-net", remove=True)
        assert got == b"found\n", got
    finally:
        server.remove(force=True)
        n.remove()
    fails(docker.errors.NotFound, 404, "not found", client.networks.get, "py-net")


for part in (images, system, lifecycle, streams, events, files, volumes, networks):
    if part.__name__ in sys.argv[2:]:
        continue
    part()
    print("ok", part.__name__)
assert client.containers.list(all=True) == [] and client.volumes.list() == []
