package network

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"novaagent/engine/errdefs"
)

// portRow is a port of an Open vSwitch bridge: a row of Port and one of Interface.
type portRow struct {
	Bridge, Name string
	ExternalIDs  map[string]string
	CreateBridge bool
	DatapathType string // of a bridge that is created
	// Fresh: the device has just been made, so a row of its name is from an
	// earlier life.
	Fresh bool
}

// ovsPatience is how long ovs-vswitchd has to carry out what OVSDB says.
const ovsPatience = 15 * time.Second

// addPort makes the port, and returns once ovs-vswitchd has added the device to
// the datapath. A port that is there already gets its external IDs.
func (o *ovsdb) addPort(ctx context.Context, row portRow) error {
	ctx, cancel := context.WithTimeout(ctx, ovsPatience)
	defer cancel()
	for attempt := 0; ; attempt++ {
		cfg, err := o.insertPort(ctx, row)
		switch {
		case err == nil:
			return o.settled(ctx, row, cfg)
		case attempt >= 5:
		case errors.Is(err, errdefs.ErrNotFound) && row.CreateBridge:
			if err := o.createBridge(ctx, row.Bridge, row.DatapathType); err != nil {
				return err
			}
			continue
		case errors.Is(err, errdefs.ErrConflict): // the name is taken
			done, err := o.adoptPort(ctx, row)
			if err != nil {
				return err
			}
			if done {
				return nil
			}
			continue
		}
		return fmt.Errorf("port %s of %s: %w", row.Name, row.Bridge, err)
	}
}

// insertPort makes the rows in one transaction. cfg is the configuration that has them.
func (o *ovsdb) insertPort(ctx context.Context, row portRow) (cfg int64, err error) {
	results, err := o.transact(ctx,
		map[string]any{"op": "insert", "table": "Interface", "uuid-name": "iface",
			"row": map[string]any{"name": row.Name, "external_ids": ovsMap(row.ExternalIDs)}},
		map[string]any{"op": "insert", "table": "Port", "uuid-name": "port",
			"row": map[string]any{"name": row.Name, "interfaces": ovsNamed("iface")}},
		// Without its bridge the port is garbage, and collected with the transaction.
		map[string]any{"op": "mutate", "table": "Bridge", "where": where("name", "==", row.Bridge),
			"mutations": []any{[]any{"ports", "insert", ovsSet(ovsNamed("port"))}}},
		bumpConfig(), readConfig())
	if err != nil {
		return 0, err
	}
	if results[2].Count == 0 {
		return 0, fmt.Errorf("bridge %s of Open vSwitch: %w", row.Bridge, errdefs.ErrNotFound)
	}
	return configOf(results[4])
}

// adoptPort deals with a port that has the name already. If it is where it should be, its
// external IDs are set and done is true; otherwise it is removed.
func (o *ovsdb) adoptPort(ctx context.Context, row portRow) (done bool, err error) {
	port, err := o.findPort(ctx, row.Name)
	if err != nil || port == "" {
		return false, err
	}
	results, err := o.transact(ctx, map[string]any{"op": "select", "table": "Bridge",
		"where": where("ports", "includes", port), "columns": []string{"_uuid", "name"}})
	if err != nil {
		return false, err
	}
	inPlace := len(results[0].Rows) == 1 && results[0].Rows[0].Name == row.Bridge
	if !inPlace || row.Fresh {
		// In two steps: ovs-vswitchd would keep the device that it has open under that
		// name, which is not the one that is there now.
		return false, o.removePortNow(ctx, row.Name)
	}
	keys := slices.Sorted(maps.Keys(row.ExternalIDs))
	results, err = o.transact(ctx,
		map[string]any{"op": "mutate", "table": "Interface", "where": where("name", "==", row.Name),
			"mutations": []any{
				[]any{"external_ids", "delete", ovsSet(keys...)},
				[]any{"external_ids", "insert", ovsMap(row.ExternalIDs)},
			}},
		bumpConfig(), readConfig())
	if err != nil {
		return false, err
	}
	if results[0].Count == 0 {
		return false, nil // gone meanwhile
	}
	cfg, err := configOf(results[2])
	if err != nil {
		return false, err
	}
	return true, o.settled(ctx, row, cfg)
}

// settled waits until ovs-vswitchd has carried out configuration cfg and tells
// whether the port works.
func (o *ovsdb) settled(ctx context.Context, row portRow, cfg int64) error {
	if err := o.applied(ctx, cfg); err != nil {
		return fmt.Errorf("port %s of %s: %w", row.Name, row.Bridge, err)
	}
	results, err := o.transact(ctx, map[string]any{"op": "select", "table": "Interface",
		"where": where("name", "==", row.Name), "columns": []string{"ofport", "error"}})
	if err != nil {
		return err
	}
	rows := results[0].Rows
	if len(rows) == 1 && len(rows[0].OFPort) == 1 && rows[0].OFPort[0] > 0 {
		return nil
	}
	reason := "it is gone"
	if len(rows) == 1 {
		reason = "no datapath takes it"
		if len(rows[0].Error) > 0 {
			reason = rows[0].Error[0]
		}
	}
	return fmt.Errorf("port %s of Open vSwitch bridge %s: %s: %w", row.Name, row.Bridge, reason, errdefs.ErrUnavailable)
}

// applied waits until ovs-vswitchd has carried out configuration cfg.
func (o *ovsdb) applied(ctx context.Context, cfg int64) error {
	patience := ovsPatience
	if end, ok := ctx.Deadline(); ok {
		patience = min(patience, time.Until(end))
	}
	// Until the rows that have reached cfg are not none.
	_, err := o.transact(ctx, map[string]any{"op": "wait", "table": "Open_vSwitch",
		"where": where("cur_cfg", ">=", cfg), "columns": []string{"cur_cfg"}, "until": "!=", "rows": []any{},
		"timeout": max(patience.Milliseconds(), 1)})
	var no *ovsError
	if (errors.As(err, &no) && no.Kind == "timed out") || errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("ovs-vswitchd has not carried it out in %s; does it run?: %w", ovsPatience, errdefs.ErrUnavailable)
	}
	return err
}

// removePort asks for the absence of the port.
func (o *ovsdb) removePort(ctx context.Context, name string) error {
	_, err := o.deletePort(ctx, name)
	return err
}

// removePortNow is removePort that waits for ovs-vswitchd.
func (o *ovsdb) removePortNow(ctx context.Context, name string) error {
	cfg, err := o.deletePort(ctx, name)
	if err != nil || cfg == 0 {
		return err
	}
	return o.applied(ctx, cfg)
}

// deletePort takes the port from its bridge; cfg is 0 if there was none.
func (o *ovsdb) deletePort(ctx context.Context, name string) (cfg int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, ovsPatience)
	defer cancel()
	port, err := o.findPort(ctx, name)
	if err != nil || port == "" {
		return 0, err
	}
	results, err := o.transact(ctx,
		map[string]any{"op": "mutate", "table": "Bridge", "where": where("ports", "includes", port),
			"mutations": []any{[]any{"ports", "delete", port}}},
		bumpConfig(), readConfig())
	if err != nil {
		return 0, fmt.Errorf("port %s: delete: %w", name, err)
	}
	return configOf(results[2])
}

// findPort is the row of a port, "" if there is none.
func (o *ovsdb) findPort(ctx context.Context, name string) (ovsUUID, error) {
	results, err := o.transact(ctx, map[string]any{"op": "select", "table": "Port",
		"where": where("name", "==", name), "columns": []string{"_uuid"}})
	if err != nil {
		return "", fmt.Errorf("port %s: %w", name, err)
	}
	if len(results[0].Rows) == 0 {
		return "", nil
	}
	return results[0].Rows[0].UUID, nil
}

// createBridge makes a bridge with its internal port, as "ovs-vsctl --may-exist add-br".
func (o *ovsdb) createBridge(ctx context.Context, name, datapathType string) error {
	bridge := map[string]any{"name": name, "ports": ovsNamed("port")}
	if datapathType != "" {
		bridge["datapath_type"] = datapathType
	}
	_, err := o.transact(ctx,
		map[string]any{"op": "insert", "table": "Interface", "uuid-name": "iface",
			"row": map[string]any{"name": name, "type": "internal"}},
		map[string]any{"op": "insert", "table": "Port", "uuid-name": "port",
			"row": map[string]any{"name": name, "interfaces": ovsNamed("iface")}},
		map[string]any{"op": "insert", "table": "Bridge", "uuid-name": "bridge", "row": bridge},
		map[string]any{"op": "mutate", "table": "Open_vSwitch", "where": []any{},
			"mutations": []any{[]any{"bridges", "insert", ovsSet(ovsNamed("bridge"))}}},
		bumpConfig())
	if errors.Is(err, errdefs.ErrConflict) { // somebody was faster
		return nil
	}
	if err != nil {
		return fmt.Errorf("bridge %s of Open vSwitch: create: %w", name, err)
	}
	return nil
}

func where(column, function string, value any) []any {
	return []any{[]any{column, function, value}}
}

// bumpConfig and readConfig are how ovs-vsctl learns that its change was carried
// out: ovs-vswitchd copies next_cfg to cur_cfg when it has.
func bumpConfig() map[string]any {
	return map[string]any{"op": "mutate", "table": "Open_vSwitch", "where": []any{},
		"mutations": []any{[]any{"next_cfg", "+=", 1}}}
}

func readConfig() map[string]any {
	return map[string]any{"op": "select", "table": "Open_vSwitch", "where": []any{}, "columns": []string{"next_cfg"}}
}

func configOf(r ovsResult) (int64, error) {
	if len(r.Rows) != 1 {
		return 0, fmt.Errorf("OVSDB: %d rows in Open_vSwitch: %w", len(r.Rows), errdefs.ErrUnavailable)
	}
	return r.Rows[0].NextCfg, nil
}
