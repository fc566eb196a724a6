package main

import (
	"context"
	"encoding/json"
	"log/slog"
	"path/filepath"
	"time"

	"novaagent/config"
	"novaagent/engine"
	"novaagent/engine/image"
	"novaagent/imagebridge"
	"novaagent/nova-agent/keystone"
	"novaagent/nova-agent/observe"
)

// images brings images with the rights of the user whose request a context carries.
type images struct {
	bridge  *imagebridge.Bridge
	session *keystone.Session
	metrics *observe.Metrics
}

func newImages(c *config.Config, s *sessions, e *engine.Engine, m *observe.Metrics, log *slog.Logger) (*images, error) {
	bridge, err := imagebridge.New(imagebridge.Options{
		Store: e.Images(), File: filepath.Join(c.StateDir, "glance-images.json"),
		Endpoint: c.Glance.Endpoint, Retries: orNone(c.Glance.Retries), DownloadTimeout: c.Glance.DownloadTimeout.D(),
		Limits:   image.Limits{MaxUnpackedBytes: int64(c.Engine.MaxImage)},
		OnEnsure: m.Image, OnBytes: m.ImageBytes, Logger: log,
	})
	if err != nil {
		return nil, err
	}
	return &images{bridge: bridge, session: s.glance, metrics: m}, nil
}

// Ensure implements compute.Images.
func (i *images) Ensure(ctx context.Context, id string, meta json.RawMessage, maxBytes int64) (string, error) {
	img, err := i.bridge.Ensure(ctx, imagebridge.Request{ID: id, Record: meta, Session: userOf(ctx, i.session), MaxBytes: maxBytes})
	if err != nil {
		i.metrics.ImageFailed()
		return "", err
	}
	return string(img.Digest), nil
}

// Delete implements compute.Images.
func (i *images) Delete(ctx context.Context, id string) error {
	return i.bridge.Delete(ctx, userOf(ctx, i.session), id)
}

// evict removes unused images every so often, until ctx ends.
func (i *images) evict(ctx context.Context, interval, age time.Duration, log *slog.Logger) {
	if interval == 0 || age == 0 {
		return
	}
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		began := time.Now()
		_, err := i.bridge.Evict(ctx, age)
		i.metrics.Ran("evict_images", time.Since(began), err)
		if err != nil && ctx.Err() == nil {
			log.WarnContext(ctx, "unused images stay", "error", err)
		}
	}
}
