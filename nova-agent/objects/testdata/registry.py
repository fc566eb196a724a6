"""Writes what an installed Nova says of its versioned objects, as JSON.

python3 registry.py NAME... > nova-VERSION.json

For each object: its version, the manifest that Nova sends for it, and its
fields, each as [type, flags...] in the notation of the Go test that reads it.
"""
import json
import sys

from nova import objects
from nova import version
import nova.virt.libvirt  # noqa: registers the drivers' objects
from oslo_versionedobjects import base
from oslo_versionedobjects import fields


def type_of(t):
    if isinstance(t, fields.List):
        return '[]' + optional(t._element_type)
    if isinstance(t, fields.Set):
        return 'set ' + optional(t._element_type)
    if isinstance(t, fields.Dict):
        return 'dict ' + optional(t._element_type)
    if isinstance(t, fields.Object):
        return ('any ' if getattr(t, '_subclasses', False) else 'obj ') + t._obj_name
    if isinstance(t, fields.Enum):
        return 'enum ' + json.dumps(list(t.valid_values))
    return type(t).__name__


def optional(field):
    return ('?' if field.nullable else '') + type_of(field._type)


def describe(field):
    flags = [type_of(field._type)]
    if field.nullable:
        flags.append('null')
    if field.read_only:
        flags.append('ro')
    if field.default is not fields.UnspecifiedDefault:
        flags.append('default')
    return flags


def main(names):
    objects.register_all()
    registry = base.VersionedObjectRegistry.obj_classes()
    out = {'nova': version.version_string(), 'objects': {}}
    for name in sorted(names):
        cls = registry[name][0]
        out['objects'][name] = {
            'version': cls.VERSION,
            'manifest': base.obj_tree_get_versions(name),
            'fields': {k: describe(f) for k, f in sorted(cls.fields.items())},
        }
    json.dump(out, sys.stdout, indent=1)
    print()


main(sys.argv[1:])
