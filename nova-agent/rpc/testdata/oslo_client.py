"""An RPC client made of the real oslo.messaging, for interop_test.go.

argv: transport URL, topic, server host. One JSON object a line on stdout:
what was done and what came of it.
"""
import json
import sys
import time

from oslo_config import cfg
import oslo_messaging as messaging


def say(step, **what):
    print(json.dumps(dict(step=step, **what)), flush=True)


def main():
    url, topic, host = sys.argv[1:4]
    conf = cfg.CONF  # the library looks there itself, too
    conf([], project='interop')
    transport = messaging.get_rpc_transport(conf, url=url, allowed_remote_exmods=['nova.exception'])
    client = messaging.RPCClient(transport, messaging.Target(topic=topic, version='6.0', exchange='nova'), timeout=2)
    to_host = client.prepare(server=host)
    ctxt = {'request_id': 'req-interop', 'user_id': 'u', 'project_id': None, 'is_admin': False,
            'roles': ['member'], 'something_new': {'a': [1]}}

    args = {'text': 'h\u00e9llo <&> \u20ac \U0001f600', 'number': 12345678901234567890, 'null': None,
            'object': {'nova_object.name': 'X', 'list': [1.5, True, {}]}}
    say('call', same=to_host.call(ctxt, 'echo', **args) == args)
    say('call any', same=client.call(ctxt, 'echo', **args) == args)
    say('context', result=to_host.call(ctxt, 'context'))
    say('big', length=len(to_host.call(ctxt, 'echo', text='x' * 1000000)['text']))

    client.prepare(server=host, version='6.1').cast(ctxt, 'note', n=1)
    client.prepare(fanout=True).cast(ctxt, 'note', n=2)
    deadline = time.time() + 30
    notes = []
    while sorted(notes) != [1, 2] and time.time() < deadline:
        notes = to_host.call(ctxt, 'notes')
    say('casts', notes=sorted(notes))

    # Longer than the monitor's period: only heartbeats keep it alive.
    long_client = client.prepare(server=host, timeout=60, call_monitor_timeout=2)
    began = time.time()
    result = long_client.call(ctxt, 'slow', seconds=3.5)
    say('monitored', result=result, long=time.time() - began > 3)

    for method, kind in (('not_found', 'InstanceNotFound'), ('not_implemented', 'NotImplementedError'),
                         ('plain', 'RuntimeError'), ('missing', 'NoSuchMethod'), ('_hidden', 'NoSuchMethod'),
                         ('reserved', 'ComputeResourcesUnavailable')):
        try:
            to_host.call(ctxt, method)
            say('failure', method=method, error='none')
        except messaging.RemoteError as exc:
            say('failure', method=method, error='RemoteError', type=exc.exc_type, text=str(exc.value))
        except Exception as exc:
            say('failure', method=method, error=type(exc).__name__,
                module=type(exc).__module__, text=str(exc), kwargs=getattr(exc, 'kwargs', None))
    try:
        client.prepare(server=host, version='6.9').call(ctxt, 'echo')
    except messaging.RemoteError as exc:
        say('failure', method='version', error='RemoteError', type=exc.exc_type, text=str(exc.value))
    say('done')


if __name__ == '__main__':
    main()
