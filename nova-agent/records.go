package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"novaagent/engine/errdefs"
	"novaagent/nova-agent/conductor"
	"novaagent/nova-agent/neutron"
	"novaagent/nova-agent/objects"
)

// records are the rows that go with ports, as conductor keeps them.
type records struct{ conductor *conductor.Client }

func (r records) CreateVIF(ctx context.Context, vif neutron.VIFRecord) error {
	mac, _, _ := strings.Cut(vif.Address, "/")
	return r.conductor.CreateVirtualInterface(ctx, conductor.NewVirtualInterface(vif.InstanceUUID, vif.UUID, mac, vif.Tag))
}

func (r records) DestroyVIF(ctx context.Context, portID string) error {
	vif, err := r.conductor.VirtualInterface(ctx, portID)
	if errors.Is(err, errdefs.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	return r.conductor.DestroyVirtualInterface(ctx, vif)
}

func (r records) DestroyVIFs(ctx context.Context, instanceUUID string) error {
	return r.conductor.DeleteVirtualInterfaces(ctx, instanceUUID)
}

func (r records) VIFOrder(ctx context.Context, instanceUUID string) ([]string, error) {
	vifs, err := r.conductor.VirtualInterfaces(ctx, instanceUUID)
	if err != nil {
		return nil, err
	}
	ports := make([]string, len(vifs))
	for i, v := range vifs {
		ports[i] = v.UUID.Value()
	}
	return ports, nil
}

func (r records) LoadInfoCache(ctx context.Context, instanceUUID string) (string, error) {
	cache, err := r.conductor.InfoCache(ctx, instanceUUID)
	if errors.Is(err, errdefs.ErrNotFound) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	return string(cache.NetworkInfo.Or("")), nil
}

func (r records) SaveInfoCache(ctx context.Context, instanceUUID, networkInfo string) error {
	cache := &objects.InstanceInfoCache{
		InstanceUUID: objects.Of(instanceUUID),
		NetworkInfo:  objects.Of(objects.NetworkModel(networkInfo)),
	}
	if err := r.conductor.SaveInfoCache(ctx, cache); err != nil {
		return fmt.Errorf("network info of instance %s: %w", instanceUUID, err)
	}
	return nil
}
