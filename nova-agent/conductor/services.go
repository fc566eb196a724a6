package conductor

import (
	"context"
	"encoding/json"
	"fmt"

	"novaagent/engine/errdefs"
	"novaagent/nova-agent/objects"
)

// Binary is the name of a compute service in its service record.
const Binary = "nova-compute"

// Service reads the record of the compute service on this host. ErrNotFound if
// there is none yet.
func (c *Client) Service(ctx context.Context) (*objects.Service, error) {
	return get[objects.Service](ctx, c, "get_by_host_and_binary", args{c.host, Binary}, nil)
}

// ServiceByComputeHost reads the record of the compute service on any host.
// ErrComputeHostNotFound.
func (c *Client) ServiceByComputeHost(ctx context.Context, host string) (*objects.Service, error) {
	return get[objects.Service](ctx, c, "get_by_compute_host", args{host}, c.replicable(nil))
}

// MinimumServiceVersion is the lowest version that a service of the binary has
// announced; 0 if there is none.
func (c *Client) MinimumServiceVersion(ctx context.Context, binary string) (int, error) {
	raw, err := c.classAction(ctx, "Service", "get_minimum_version", args{binary}, nil)
	if err != nil {
		return 0, err
	}
	var version int
	if err := json.Unmarshal(raw, &version); err != nil {
		return 0, fmt.Errorf("conductor: Service.get_minimum_version: %v: %w", err, errdefs.ErrInvalid)
	}
	return version, nil
}

// CreateService stores a new record: host, binary, topic, report_count and version.
// ErrServiceBinaryExists or ErrServiceTopicExists if somebody was faster,
// ErrServiceTooOld if version is below the oldest in the cell.
func (c *Client) CreateService(ctx context.Context, s *objects.Service) error {
	return c.act(ctx, s, "create")
}

// SaveService writes the changed fields. A changed report_count is a sign of life.
// The version is checked on each save: ErrServiceTooOld. Never change disabled or
// forced_down: they are the API's. ErrServiceNotFound.
func (c *Client) SaveService(ctx context.Context, s *objects.Service) error {
	return c.act(ctx, s, "save")
}

// DestroyService removes the record.
func (c *Client) DestroyService(ctx context.Context, s *objects.Service) error {
	return c.act(ctx, s, "destroy")
}

// ComputeNode reads the node of that name on this host. ErrComputeHostNotFound.
func (c *Client) ComputeNode(ctx context.Context, nodename string) (*objects.ComputeNode, error) {
	return get[objects.ComputeNode](ctx, c, "get_by_host_and_nodename", args{c.host, nodename}, nil)
}

// ComputeNodeByUUID reads a node. Since 2023.1 a node is known by its UUID.
// ErrComputeHostNotFound.
func (c *Client) ComputeNodeByUUID(ctx context.Context, uuid string) (*objects.ComputeNode, error) {
	return get[objects.ComputeNode](ctx, c, "get_by_uuid", args{uuid}, nil)
}

// ComputeNodeByNodename reads a node of any host. ErrComputeHostNotFound.
func (c *Client) ComputeNodeByNodename(ctx context.Context, nodename string) (*objects.ComputeNode, error) {
	return get[objects.ComputeNode](ctx, c, "get_by_nodename", args{nodename}, nil)
}

// FirstComputeNode reads the first node of a host. ErrComputeHostNotFound.
func (c *Client) FirstComputeNode(ctx context.Context, host string) (*objects.ComputeNode, error) {
	return get[objects.ComputeNode](ctx, c, "get_first_node_by_host_for_old_compat", args{host}, c.replicable(nil))
}

// ComputeNodes lists the nodes of this host. ErrComputeHostNotFound if it has none.
func (c *Client) ComputeNodes(ctx context.Context) ([]*objects.ComputeNode, error) {
	return c.computeNodes(ctx, "get_all_by_host", args{c.host}, c.replicable(nil))
}

// ComputeNodesByUUIDs lists those of the nodes that exist.
func (c *Client) ComputeNodesByUUIDs(ctx context.Context, uuids []string) ([]*objects.ComputeNode, error) {
	return c.computeNodes(ctx, "get_all_by_uuids", args{uuids}, nil)
}

func (c *Client) computeNodes(ctx context.Context, method string, a args, k kwargs) ([]*objects.ComputeNode, error) {
	list, err := get[objects.ComputeNodeList](ctx, c, method, a, k)
	if err != nil {
		return nil, err
	}
	return list.Objects.Value(), nil
}

// CreateComputeNode stores a new node. ErrDuplicateRecord since 2023.1 if the name or
// UUID is taken.
func (c *Client) CreateComputeNode(ctx context.Context, n *objects.ComputeNode) error {
	return c.act(ctx, n, "create")
}

// SaveComputeNode writes the changed fields. ErrComputeHostNotFound.
func (c *Client) SaveComputeNode(ctx context.Context, n *objects.ComputeNode) error {
	return c.act(ctx, n, "save")
}

// DestroyComputeNode removes the node. ErrObjectAction if another host has taken it
// over.
func (c *Client) DestroyComputeNode(ctx context.Context, n *objects.ComputeNode) error {
	return c.act(ctx, n, "destroy")
}

func text(action string, raw json.RawMessage) (string, error) {
	var s string
	if err := json.Unmarshal(raw, &s); err != nil {
		return "", fmt.Errorf("conductor: %s: %v: %w", action, err, errdefs.ErrInvalid)
	}
	return s, nil
}
