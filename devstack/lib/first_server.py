"""first_server.py [HORIZON-URL]: boot a server as the user 'demo', give it a
floating IP, wait until it answers there, and print a table of it all."""
import subprocess
import sys
import time

from api import GLANCE, NEUTRON, NOVA, Api, Failed, wait

NAME = "web-1"


def boot(d):
    """The server and the seconds it took from the API's answer to ACTIVE (None: it was there)."""
    url = NOVA + "/servers"
    old = d.find(url, "servers", name="^%s$" % NAME)
    if old:
        server = d.get("%s/%s" % (url, old["id"]))["server"]
        if server["status"] == "ACTIVE":
            return server, None
        d.delete("%s/%s" % (url, old["id"]))      # of an earlier run that failed
        wait("the old %s to be deleted" % NAME, 120, lambda: not d.find(url, "servers", name="^%s$" % NAME))
    flavor = [f for f in d.get(NOVA + "/flavors")["flavors"] if f["name"] == "c1.tiny"][0]
    net = d.find(NEUTRON + "/networks", "networks", name="private")
    image = d.find(GLANCE + "/images", "images", name="web")
    made = d.post(url, {"server": {
        "name": NAME, "imageRef": image["id"], "flavorRef": flavor["id"], "networks": [{"uuid": net["id"]}],
        "security_groups": [{"name": "default"}, {"name": "web"}]}})["server"]
    begin = time.time()

    def settled():
        server = d.get("%s/%s" % (url, made["id"]))["server"]
        return server if server["status"] in ("ACTIVE", "ERROR") else None
    server = wait("server %s to be ACTIVE" % NAME, 180, settled, 0.02)
    if server["status"] == "ERROR":
        raise Failed("server %s: %s" % (NAME, server.get("fault", {}).get("message")))
    return server, time.time() - begin


def floating_ip(d, server):
    port = d.find(NEUTRON + "/ports", "ports", device_id=server["id"])
    public = d.find(NEUTRON + "/networks", "networks", name="public")
    return d.ensure(NEUTRON + "/floatingips", "floatingip", "floatingips", {"port_id": port["id"]},
                    {"floating_network_id": public["id"]})["floating_ip_address"]


def curl(address):
    return subprocess.run(["curl", "-s", "-m", "2", "http://%s/" % address],
                          stdout=subprocess.PIPE, text=True)


def main(horizon):
    d = Api("demo")
    server, seconds = boot(d)
    address = floating_ip(d, server)
    wait("http://%s/ to answer" % address, 60, lambda: curl(address).returncode == 0)
    console = d.post("%s/servers/%s/action" % (NOVA, server["id"]),
                     {"os-getConsoleOutput": {"length": 4}})["output"].strip().splitlines()
    fixed = ", ".join(a["addr"] for net in server["addresses"].values() for a in net
                      if a["OS-EXT-IPS:type"] == "fixed")
    rows = [("server", "%s (%s)" % (NAME, server["id"])),
            ("status", server["status"] + ("" if seconds is None else ", %.1f s after the API took the request" % seconds)),
            ("IP", "%s, floating %s" % (fixed, address)),
            ("http://%s/" % address, curl(address).stdout.strip()),
            ("console log", console[0] if console else "")]
    rows += [("", line) for line in console[1:]]
    if horizon:
        rows.append(("Horizon", "%s as demo, password in the openrc file" % horizon))
    wide = max(len(left) for left, _ in rows)
    line = "+-%s-+" % ("-" * wide) + "-" * (max(len(right) for _, right in rows) + 2) + "+"
    print(line)
    for left, right in rows:
        print("| %s | %s |" % (left.ljust(wide), right.ljust(len(line) - wide - 7)))
    print(line)


try:
    main(sys.argv[1] if len(sys.argv) > 1 else "")
except Failed as e:
    sys.exit("first server: %s" % e)
