"""What the cluster holds. Each command may be run again.

  contents.py identity            users, roles, services and endpoints in Keystone
  contents.py resources ARCHIVE   flavors, quotas, networks, security groups, the image in ARCHIVE
  contents.py compute HOST        wait until HOST's compute service can take servers
  contents.py clear               delete every server, floating IP and port of a user
"""
import sys

from api import GLANCE, IP, KEYSTONE, NEUTRON, NOVA, PLACEMENT, Api, Failed, password, wait

REGION = "RegionOne"
SERVICES = [
    ("placement", "placement", "placement", "http://%s:8778" % IP),
    ("glance", "glance", "image", "http://%s:9292" % IP),
    ("nova", "nova", "compute", "http://%s:8774/v2.1" % IP),
    ("neutron", "neutron", "network", "http://%s:9696" % IP),
]
# name, vCPUs, MiB, GiB of root disk
FLAVORS = [("c1.tiny", 1, 64, 1), ("c1.small", 1, 256, 1), ("c1.medium", 2, 512, 2)]
AGENTS = {"Linux bridge agent", "DHCP agent", "L3 agent", "Metadata agent"}


def person(a, name, project, roles):
    user = a.ensure(KEYSTONE + "/users", "user", "users", {"name": name, "domain_id": "default"},
                    {"password": password(), "default_project_id": project})
    for role in roles:
        found = a.ensure(KEYSTONE + "/roles", "role", "roles", {"name": role})
        a.put("%s/projects/%s/users/%s/roles/%s" % (KEYSTONE, project, user["id"], found["id"]))


def identity(a):
    def project(name):
        return a.ensure(KEYSTONE + "/projects", "project", "projects",
                        {"name": name, "domain_id": "default"})["id"]
    service = project("service")
    for user, name, kind, url in SERVICES:
        # 'service' is what the other services ask of a service token.
        person(a, user, service, ["admin", "service"])
        svc = a.ensure(KEYSTONE + "/services", "service", "services", {"name": name, "type": kind})
        for interface in ("public", "internal", "admin"):
            a.ensure(KEYSTONE + "/endpoints", "endpoint", "endpoints",
                     {"service_id": svc["id"], "interface": interface, "region_id": REGION},
                     {"url": url})
    person(a, "demo", project("demo"), ["member"])
    # A second ordinary project: one must not see what the other has.
    person(a, "demo2", project("demo2"), ["member"])


def image(a, name, archive):
    got = a.find(GLANCE + "/images", "images", name=name)
    if got and got["status"] == "active":
        return
    if not got:
        got = a.post(GLANCE + "/images", {
            "name": name, "container_format": "docker", "disk_format": "raw", "visibility": "public"})
    with open(archive, "rb") as f:
        r = a.http.put("%s/images/%s/file" % (GLANCE, got["id"]), data=f, timeout=120,
                       headers={"Content-Type": "application/octet-stream"})
    if r.status_code != 204:
        raise Failed("upload of image %s: %s %s" % (name, r.status_code, r.text))


def flavors(a):
    have = {f["name"] for f in a.get(NOVA + "/flavors")["flavors"]}
    for name, vcpus, ram, disk in FLAVORS:
        if name not in have:
            a.post(NOVA + "/flavors", {"flavor": {"name": name, "vcpus": vcpus, "ram": ram, "disk": disk}})


def quotas(a):
    # Nova's defaults are for machines: ten to a project.
    a.put(NOVA + "/os-quota-class-sets/default",
          {"quota_class_set": {"instances": 200, "cores": 400, "ram": 200 * 1024}})


def networks(a, d):
    public = a.ensure(NEUTRON + "/networks", "network", "networks", {"name": "public"}, {
        "provider:network_type": "flat", "provider:physical_network": "public", "router:external": True})
    a.ensure(NEUTRON + "/subnets", "subnet", "subnets", {"name": "public-subnet"}, {
        "network_id": public["id"], "ip_version": 4, "cidr": "198.51.100.0/24",
        "gateway_ip": "198.51.100.1", "enable_dhcp": False,
        "allocation_pools": [{"start": "198.51.100.100", "end": "198.51.100.250"}]})
    private = d.ensure(NEUTRON + "/networks", "network", "networks", {"name": "private"}, {"shared": False})
    subnet = d.ensure(NEUTRON + "/subnets", "subnet", "subnets", {"name": "private-subnet"}, {
        "network_id": private["id"], "ip_version": 4, "cidr": "192.0.2.0/24"})
    router = d.ensure(NEUTRON + "/routers", "router", "routers", {"name": "router1"},
                      {"external_gateway_info": {"network_id": public["id"]}})
    ports = a.get(NEUTRON + "/ports", params={"device_id": router["id"]})["ports"]
    if not any(ip["subnet_id"] == subnet["id"] for p in ports for ip in p["fixed_ips"]):
        d.put("%s/routers/%s/add_router_interface" % (NEUTRON, router["id"]), {"subnet_id": subnet["id"]})


def security_groups(d):
    default = d.find(NEUTRON + "/security-groups", "security_groups", name="default", project_id=d.project)
    web = d.ensure(NEUTRON + "/security-groups", "security_group", "security_groups", {"name": "web"})
    for group, proto, port in ((default, "icmp", None), (web, "tcp", 80)):
        if not any(r["protocol"] == proto and r["port_range_min"] == port and r["direction"] == "ingress"
                   for r in group["security_group_rules"]):
            d.post(NEUTRON + "/security-group-rules", {"security_group_rule": {
                "security_group_id": group["id"], "direction": "ingress", "protocol": proto,
                "port_range_min": port, "port_range_max": port}}, ok=(201, 409))


def resources(a, archive):
    flavors(a)
    quotas(a)
    image(a, "web", archive)
    d = Api("demo")
    networks(a, d)
    security_groups(d)
    wait("Neutron's agents to be alive", 120, lambda: AGENTS <= {
        x["agent_type"] for x in a.get(NEUTRON + "/agents")["agents"] if x["alive"]}, 1)


def compute(a, host):
    def up():
        rows = a.get(NOVA + "/os-services", params={"host": host, "binary": "nova-compute"})["services"]
        return any(s["state"] == "up" for s in rows)

    def inventory():
        rows = a.get(PLACEMENT + "/resource_providers")["resource_providers"]
        return any(a.get("%s/resource_providers/%s/inventories" % (PLACEMENT, r["uuid"]))["inventories"]
                   for r in rows)

    def mapped():   # by the scheduler, into its cell
        return [h for h in a.get(NOVA + "/os-hypervisors")["hypervisors"] if h["state"] == "up"]

    wait("compute service %s to be up" % host, 90, up)
    wait("its inventory in Placement", 60, inventory)
    wait("its host mapping", 60, mapped)


def clear(a):
    everybody = {"params": {"all_tenants": "1"}}
    for server in a.get(NOVA + "/servers", **everybody)["servers"]:
        a.delete("%s/servers/%s" % (NOVA, server["id"]), ok=(204, 404))
    wait("the servers to be deleted", 120, lambda: not a.get(NOVA + "/servers", **everybody)["servers"], 0.5)
    for ip in a.get(NEUTRON + "/floatingips")["floatingips"]:
        a.delete("%s/floatingips/%s" % (NEUTRON, ip["id"]), ok=(204, 404))
    for port in a.get(NEUTRON + "/ports", params={"device_owner": ""})["ports"]:
        if not port["device_owner"]:
            a.delete("%s/ports/%s" % (NEUTRON, port["id"]), ok=(204, 404))


def main(args):
    commands = {"identity": identity, "resources": resources, "compute": compute, "clear": clear}
    if not args or args[0] not in commands:
        sys.exit(__doc__)
    try:
        commands[args[0]](Api(), *args[1:])
    except Failed as e:
        sys.exit("contents %s: %s" % (args[0], e))


if __name__ == "__main__":
    main(sys.argv[1:])
