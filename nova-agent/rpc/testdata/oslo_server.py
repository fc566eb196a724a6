"""An RPC server made of the real oslo.messaging, for interop_test.go.

argv: transport URL, topic, host. Prints "ready", serves until its standard
input ends.
"""
import sys
import threading
import time

from nova import exception
from oslo_config import cfg
import oslo_messaging as messaging


class Endpoint(object):
    target = messaging.Target(version='3.0')

    def __init__(self):
        self.notes = []

    def echo(self, ctxt, **kwargs):
        return kwargs

    def context(self, ctxt):
        return ctxt

    def note(self, ctxt, n):
        self.notes.append(n)

    def get_notes(self, ctxt):
        return self.notes

    def slow(self, ctxt, seconds):
        time.sleep(seconds)
        return 'slept'

    def not_found(self, ctxt):
        raise exception.InstanceNotFound(instance_id='x')

    @messaging.expected_exceptions(exception.ComputeHostNotFound)
    def expected(self, ctxt):
        raise exception.ComputeHostNotFound(host='c1')

    def value_error(self, ctxt):
        raise ValueError('bad', 7)


class Other(object):
    target = messaging.Target(namespace='baseapi', version='1.1')

    def ping(self, ctxt, arg):
        return {'service': 'conductor', 'arg': arg}


def main():
    url, topic, host = sys.argv[1:4]
    conf = cfg.CONF  # the library looks there itself, too
    conf([], project='interop')
    transport = messaging.get_rpc_transport(conf, url=url, allowed_remote_exmods=['nova.exception'])
    server = messaging.get_rpc_server(transport, messaging.Target(topic=topic, server=host, exchange='nova'),
                                      [Endpoint(), Other()], executor='threading')
    server.start()
    print('ready', flush=True)
    sys.stdin.read()
    server.stop()
    server.wait()


if __name__ == '__main__':
    main()
