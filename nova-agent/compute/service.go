package compute

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"novaagent/engine/errdefs"
	"novaagent/nova-agent/conductor"
	"novaagent/nova-agent/objects"
)

const (
	// zedVersion is the service version of Zed's nova-compute (nova/objects/service.py,
	// SERVICE_VERSION). A cell whose other computes announce more gets theirs: a lower one
	// would be refused on every heartbeat.
	zedVersion = 64
	// oldestVersion is Yoga's, the oldest that Zed's control plane works with.
	oldestVersion = 61
)

// service is the record by which Nova knows that this host lives.
type service struct {
	m *Manager

	mu       sync.Mutex // guards the following
	record   *objects.Service
	lastBeat time.Time
	beatErr  error
}

// waitForConductor asks until a conductor answers: ten times with ten seconds' patience,
// then with a minute's, as nova-compute does.
func (s *service) waitForConductor(ctx context.Context) error {
	for attempt := 0; ; attempt++ {
		patience := 10 * time.Second
		if attempt >= 10 {
			patience = time.Minute
		}
		ask, cancel := context.WithTimeout(ctx, patience)
		err := s.m.conductor.Ping(ask)
		cancel()
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return fmt.Errorf("no conductor answers: %w", err)
		}
		s.m.log.WarnContext(ctx, "no conductor answers yet", "error", err)
	}
}

// register finds the service record or creates it, and brings its version up to date.
func (s *service) register(ctx context.Context) error {
	version, err := s.version(ctx)
	if err != nil {
		return err
	}
	record, err := s.m.conductor.Service(ctx)
	if errors.Is(err, errdefs.ErrNotFound) {
		record = &objects.Service{}
		record.Host.Set(s.m.opts.Host)
		record.Binary.Set(conductor.Binary)
		record.Topic.Set("compute")
		record.ReportCount.Set(0)
		record.Version.Set(int64(version))
		err = s.m.conductor.CreateService(ctx, record)
		if errors.Is(err, conductor.ErrServiceTopicExists) || errors.Is(err, conductor.ErrServiceBinaryExists) {
			record, err = s.m.conductor.Service(ctx)
		}
	}
	if err != nil {
		return fmt.Errorf("service record of host %s: %w", s.m.opts.Host, err)
	}
	if record.Version.Or(0) != int64(version) {
		record.Version.Set(int64(version))
		if err := s.m.conductor.SaveService(ctx, record); err != nil {
			return fmt.Errorf("service record of host %s: version %d: %w", s.m.opts.Host, version, err)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.record, s.lastBeat = record, time.Now()
	return nil
}

// version is what is announced as nova-compute's version.
func (s *service) version(ctx context.Context) (int, error) {
	if s.m.opts.ServiceVersion > 0 {
		return s.m.opts.ServiceVersion, nil
	}
	least, err := s.m.conductor.MinimumServiceVersion(ctx, conductor.Binary)
	if err != nil {
		return 0, fmt.Errorf("oldest compute service of the cell: %w", err)
	}
	if least > 0 && least < oldestVersion {
		return 0, fmt.Errorf("the cell has a compute service of version %d, older than %d (Yoga): upgrade or delete it first: %w",
			least, oldestVersion, errdefs.ErrConflict)
	}
	return max(zedVersion, least), nil
}

// beat reports that this host lives. disabled and forced_down are the API's and are never sent.
func (s *service) beat(ctx context.Context) error {
	s.mu.Lock()
	record := s.record
	s.mu.Unlock()
	record.ReportCount.Set(record.ReportCount.Or(0) + 1)
	err := s.m.conductor.SaveService(ctx, record)
	s.mu.Lock()
	s.beatErr = err
	if err == nil {
		s.lastBeat = time.Now()
	}
	s.mu.Unlock()
	switch {
	case errors.Is(err, conductor.ErrServiceNotFound):
		err = fmt.Errorf("an administrator deleted the service record of host %s; restart nova-agent to create it again: %w", s.m.opts.Host, err)
	case errors.Is(err, conductor.ErrServiceTooOld):
		err = fmt.Errorf("the other compute services were upgraded; set compute.service_version or restart: %w", err)
	}
	if s.m.opts.Observe.Heartbeat != nil {
		s.m.opts.Observe.Heartbeat(err)
	}
	return err
}

// Fresh says whether Nova considers this host alive: nil, or why it does not.
func (m *Manager) Fresh() error {
	m.service.mu.Lock()
	defer m.service.mu.Unlock()
	if m.service.record == nil {
		return errors.New("the service record is not registered yet")
	}
	// Nova's service_down_time is 60 s by default, six times the interval.
	if age := time.Since(m.service.lastBeat); age > 6*m.opts.ReportInterval {
		return fmt.Errorf("the service record was last reported %s ago: %v", age.Round(time.Second), m.service.beatErr)
	}
	return nil
}
