"""Calls made with the real oslo.messaging, for bench_test.go.

argv: transport URL, topic, host. Prints "ready"; for each number N read makes
N calls, one after the other, and prints how long they took.
"""
import sys
import time

from oslo_config import cfg
import oslo_messaging as messaging


def main():
    url, topic, host = sys.argv[1:4]
    conf = cfg.CONF
    conf([], project='interop')
    transport = messaging.get_rpc_transport(conf, url=url)
    client = messaging.RPCClient(transport, messaging.Target(topic=topic, version='3.0', server=host, exchange='nova'))
    text = 'x' * 1000
    client.call({}, 'echo', text=text)
    print('ready', flush=True)
    for line in sys.stdin:
        began = time.monotonic()
        for _ in range(int(line)):
            client.call({}, 'echo', text=text)
        print('%.6fs' % (time.monotonic() - began), flush=True)


if __name__ == '__main__':
    main()
