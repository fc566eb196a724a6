// Package config is nova-agent's one configuration file.
//
// config.go is the whole of it: each key is a field of a struct, with its meaning,
// default and unit in tags beside it. decode.go reads YAML into it and refuses, with
// file, line and column, what is not exactly right. markdown.go writes the reference
// page, docs/configuration.md, from the same tags. importnova.go turns the
// nova.conf of a compute node into a Config. Only main imports this package;
// the others get small Options structs.
package config
