package config

import (
	"fmt"
	"reflect"
	"strings"
)

// Markdown writes the reference page of every key.
func Markdown() []byte {
	var b strings.Builder
	b.WriteString(`# Configuration

nova-agent reads one YAML file, ` + "`/etc/nova-agent/nova-agent.yaml`" + ` or what ` + "`--config`" + ` names. Every key has a
default; ` + "`nova-agent config show`" + ` prints what is in force. A wrong key, type or value is refused, with its
line and what is allowed. Durations are written 30s, 5m or 1h, sizes 512MiB or 2GiB.

An existing compute node's file becomes nova-agent's with

    nova-agent config import /etc/nova/nova.conf > /etc/nova-agent/nova-agent.yaml

This page is written by ` + "`nova-agent config docs`" + `.
`)
	section(&b, reflect.TypeFor[Config](), reflect.ValueOf(*Default()), "")
	return []byte(b.String())
}

func section(b *strings.Builder, t reflect.Type, defaults reflect.Value, path string) {
	title := path
	if title == "" {
		title = "top level"
	}
	fmt.Fprintf(b, "\n## %s\n\n| key | takes | default | meaning |\n|---|---|---|---|\n", title)
	keys := keysOf(t)
	for _, k := range keys {
		v := defaults.FieldByIndex(k.index)
		if v.Kind() == reflect.Struct {
			continue
		}
		takes := typeName(v.Type(), k.field.Tag)
		if v.Kind() == reflect.Slice {
			takes = "a list of texts"
		}
		standard := k.field.Tag.Get("default")
		if standard == "" {
			standard = "`" + (&writer{secrets: true}).text(v, "") + "`"
			if v.Kind() == reflect.String && v.Len() == 0 {
				standard = "none"
			}
		}
		fmt.Fprintf(b, "| `%s` | %s | %s | %s |\n", k.name, strings.TrimPrefix(takes, "a "), standard, k.field.Tag.Get("doc"))
	}
	for _, k := range keys {
		v := defaults.FieldByIndex(k.index)
		if v.Kind() == reflect.Struct {
			section(b, v.Type(), v, strings.TrimPrefix(path+"."+k.name, "."))
		}
	}
}
