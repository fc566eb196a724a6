package conductor

import (
	"context"
	"time"

	"novaagent/nova-agent/objects"
)

// MigrationsInProgress lists the unfinished and failed migrations to or from a node
// of this host.
func (c *Client) MigrationsInProgress(ctx context.Context, node string) ([]*objects.Migration, error) {
	return c.migrations(ctx, "get_in_progress_and_error", args{c.host, node}, nil)
}

// MigrationsUnfinished is MigrationsInProgress without the failed ones.
func (c *Client) MigrationsUnfinished(ctx context.Context, node string) ([]*objects.Migration, error) {
	return c.migrations(ctx, "get_in_progress_by_host_and_node", args{c.host, node}, nil)
}

// MigrationsByFilters lists migrations by column: "source_compute" or "host",
// "status" (one or a list), "migration_type", "instance_uuid".
func (c *Client) MigrationsByFilters(ctx context.Context, filters map[string]any) ([]*objects.Migration, error) {
	return c.migrations(ctx, "get_by_filters", args{filters}, nil)
}

// UnconfirmedMigrations lists the resizes to this host that have waited for
// their confirmation for longer than window.
func (c *Client) UnconfirmedMigrations(ctx context.Context, window time.Duration) ([]*objects.Migration, error) {
	return c.migrations(ctx, "get_unconfirmed_by_dest_compute", args{int64(window / time.Second), c.host}, c.replicable(nil))
}

func (c *Client) migrations(ctx context.Context, method string, a args, k kwargs) ([]*objects.Migration, error) {
	list, err := get[objects.MigrationList](ctx, c, method, a, k)
	if err != nil {
		return nil, err
	}
	return list.Objects.Value(), nil
}

// Migration reads a migration. ErrMigrationNotFound, as the next two.
func (c *Client) Migration(ctx context.Context, id int64) (*objects.Migration, error) {
	return get[objects.Migration](ctx, c, "get_by_id", args{id}, nil)
}

// MigrationByStatus reads the migration of an instance that has that status.
func (c *Client) MigrationByStatus(ctx context.Context, instanceUUID, status string) (*objects.Migration, error) {
	return get[objects.Migration](ctx, c, "get_by_instance_and_status", args{instanceUUID, status}, nil)
}

// MigrationOfInstance reads a migration if it is one of the instance.
func (c *Client) MigrationOfInstance(ctx context.Context, id int64, instanceUUID string) (*objects.Migration, error) {
	return get[objects.Migration](ctx, c, "get_by_id_and_instance", args{id, instanceUUID}, nil)
}

// CreateMigration stores a new migration.
func (c *Client) CreateMigration(ctx context.Context, m *objects.Migration) error {
	return c.act(ctx, m, "create")
}

// SaveMigration writes the changed fields.
func (c *Client) SaveMigration(ctx context.Context, m *objects.Migration) error {
	return c.act(ctx, m, "save")
}
