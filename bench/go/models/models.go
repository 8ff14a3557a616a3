package main

import (
	"context"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

type settings struct {
	load, unload time.Duration
	loads        int
	size         uint64
	capacity     uint64
}

// models are those that are loaded, and counts of what was done.
type models struct {
	settings
	mutex  sync.RWMutex
	loaded map[string]struct{}

	loadsDone, unloadsDone, answered, missing atomic.Int64
}

func newModels(settings settings) *models {
	return &models{settings: settings, loaded: map[string]struct{}{}}
}

func (m *models) add(name string) {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	m.loaded[name] = struct{}{}
}

func (m *models) remove(name string) {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	delete(m.loaded, name)
}

func (m *models) names() []string {
	m.mutex.RLock()
	defer m.mutex.RUnlock()
	return slices.Collect(maps.Keys(m.loaded))
}

func (m *models) clear() {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	clear(m.loaded)
}

// has says whether a model can answer, and counts the request.
func (m *models) has(name []byte) bool {
	m.mutex.RLock()
	_, there := m.loaded[string(name)]
	m.mutex.RUnlock()
	if there {
		m.answered.Add(1)
	} else {
		m.missing.Add(1)
	}
	return there
}

// loadOne takes as long as a load shall take. A load that is cancelled leaves nothing.
func (m *models) loadOne(ctx context.Context, name string) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(m.load):
	}
	m.add(name)
	m.loadsDone.Add(1)
	return nil
}

// unloadOne takes as long as an unload shall take; the model answers no more from its start.
func (m *models) unloadOne(name string) {
	m.remove(name)
	time.Sleep(m.unload)
	m.unloadsDone.Add(1)
}
