package main

import (
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// redial is how long a broken connection waits before it is made again.
const redial = 20 * time.Millisecond

// load is what all connections share.
type load struct {
	options
	*prepared
	*results
	sent  atomic.Int64
	until time.Time
}

// more says whether one more request is to be sent, and counts it.
func (l *load) more() bool {
	if l.sent.Add(1) <= int64(l.requests) && time.Now().Before(l.until) {
		return true
	}
	l.sent.Add(-1)
	return false
}

func run(o options) (*report, error) {
	if o.models < 1 || o.connections < 1 || o.inFlight < o.connections {
		return nil, errors.New("-models and -connections must be at least 1, and -in-flight at least -connections")
	}
	prepared, err := prepare(o)
	if err != nil {
		return nil, err
	}
	choose, err := choosers(o)
	if err != nil {
		return nil, err
	}
	if prepared.rest && (o.rate > 0 || o.connections != o.inFlight) {
		return nil, errors.New("in REST there is a connection for each request in flight, and no -rate")
	}
	began := time.Now()
	l := &load{options: o, prepared: prepared, results: newResults(o, began), until: began.Add(o.limit)}
	var running sync.WaitGroup
	switch {
	case prepared.rest:
		for number := range o.connections {
			running.Go(func() { l.askRest(choose(number)) })
		}
	case o.rate > 0:
		l.open(choose(0))
	default:
		for number := range o.connections {
			share := o.inFlight / o.connections
			if number < o.inFlight%o.connections {
				share++
			}
			running.Go(func() { l.closed(choose(number), share) })
		}
	}
	running.Wait()
	return l.report(), nil
}

// closed keeps so many requests in flight on one connection until all are sent and answered.
func (l *load) closed(choose chooser, inFlight int) {
	for time.Now().Before(l.until) {
		c, err := dial(l)
		if err != nil {
			time.Sleep(redial)
			continue
		}
		next := func() (asked, bool) {
			if !l.more() {
				return asked{}, false
			}
			return asked{model: choose(), at: time.Now()}, true
		}
		if c.keep(next, inFlight) {
			return
		}
		time.Sleep(redial)
	}
}

// open sends requests at random times, so many a second on average, over all connections in turn.
func (l *load) open(choose chooser) {
	connections := make([]*connection, l.connections)
	at := time.Now()
	times := rand.New(rand.NewPCG(l.seed, 1<<32))
	for number := 0; l.more(); number++ {
		at = at.Add(time.Duration(times.ExpFloat64() / l.rate * float64(time.Second)))
		if wait := time.Until(at); wait > 0 {
			for _, c := range connections {
				if c != nil {
					c.flush()
				}
			}
			time.Sleep(wait)
		}
		place := number % len(connections)
		if c := connections[place]; c == nil || c.broken() {
			connections[place], _ = dial(l)
			if connections[place] != nil {
				go connections[place].read(nil)
			}
		}
		request := asked{model: choose(), at: at}
		if connections[place] == nil {
			l.done(request, "unreachable", false)
		} else {
			connections[place].ask(request)
		}
	}
	for _, c := range connections {
		if c != nil {
			c.flush()
			c.finish()
		}
	}
}
