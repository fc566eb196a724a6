"""A small REST client for the cluster's services, used by the scripts here."""
import os
import time

import requests

IP = "127.0.0.1"
KEYSTONE = "http://%s:5000/v3" % IP
NOVA = "http://%s:8774/v2.1" % IP
NEUTRON = "http://%s:9696/v2.0" % IP
GLANCE = "http://%s:9292/v2" % IP
PLACEMENT = "http://%s:8778" % IP


def password():
    with open(os.path.join(os.environ["CLUSTER_STATE"], "password")) as f:
        return f.read().strip()


class Failed(Exception):
    pass


class Api:
    """A session of one user in the project of the same name."""

    def __init__(self, user="admin"):
        self.http = requests.Session()
        self.http.trust_env = False
        body = {"auth": {
            "identity": {"methods": ["password"], "password": {"user": {
                "name": user, "domain": {"name": "Default"}, "password": password()}}},
            "scope": {"project": {"name": user, "domain": {"name": "Default"}}}}}
        r = self.http.post(KEYSTONE + "/auth/tokens", json=body, timeout=60)
        if r.status_code != 201:
            raise Failed("login as %s: %s %s" % (user, r.status_code, r.text))
        self.project = r.json()["token"]["project"]["id"]
        self.http.headers.update({
            "X-Auth-Token": r.headers["X-Subject-Token"],
            "X-OpenStack-Nova-API-Version": "2.93"})

    def call(self, method, url, body=None, ok=(200, 201, 202, 203, 204), **kw):
        if url.startswith(PLACEMENT):
            kw["headers"] = {"OpenStack-API-Version": "placement 1.39"}
        r = self.http.request(method, url, json=body, timeout=120, **kw)
        if ok and r.status_code not in ok:
            raise Failed("%s %s: %s %s" % (method, url, r.status_code, r.text[:400]))
        try:
            return r.json()
        except ValueError:
            return {}

    def get(self, url, **kw):
        return self.call("GET", url, **kw)

    def post(self, url, body=None, **kw):
        return self.call("POST", url, body, **kw)

    def put(self, url, body=None, **kw):
        return self.call("PUT", url, body, **kw)

    def delete(self, url, **kw):
        return self.call("DELETE", url, **kw)

    def find(self, url, key, **query):
        """The first object of a list that the query matches, or None."""
        rows = self.get(url, params=query)[key]
        return rows[0] if rows else None

    def ensure(self, url, key, plural, match, extra=None):
        """The object with the fields of match; made from match + extra if there is none."""
        got = self.find(url, plural, **match)
        if got:
            return got
        return self.post(url, {key: dict(match, **(extra or {}))})[key]


def wait(what, seconds, test, pause=0.2):
    end = time.time() + seconds
    while True:
        got = test()
        if got:
            return got
        if time.time() > end:
            raise Failed("timed out after %s s: %s" % (seconds, what))
        time.sleep(pause)
