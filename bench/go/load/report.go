package main

import (
	"slices"
	"sync"
	"time"
)

// results collect how requests ended.
type results struct {
	mutex    sync.Mutex
	options  options
	began    time.Time
	last     time.Time // when the last right answer came
	hot      []time.Duration
	cold     []time.Duration
	statuses map[string]int
	models   []bool // those that answered
	asked    []bool
}

func newResults(o options, began time.Time) *results {
	return &results{
		options: o, began: began, last: began, statuses: map[string]int{},
		models: make([]bool, o.models), asked: make([]bool, o.models),
	}
}

// done notes how a request ended; "0" is a right answer.
func (r *results) done(request asked, status string, cold bool) {
	now := time.Now()
	r.mutex.Lock()
	defer r.mutex.Unlock()
	r.statuses[status]++
	r.asked[request.model] = true
	if status != "0" {
		return
	}
	r.last = now
	r.models[request.model] = true
	if took := now.Sub(request.at); cold {
		r.cold = append(r.cold, took)
	} else {
		r.hot = append(r.hot, took)
	}
}

// latencies are of right answers, in milliseconds.
type latencies struct {
	Count int     `json:"count"`
	P50   float64 `json:"p50"`
	P90   float64 `json:"p90"`
	P99   float64 `json:"p99"`
	Most  float64 `json:"most"`
}

type report struct {
	Sent           int            `json:"sent"`
	Answered       int            `json:"answered"`        // rightly
	InTime         int            `json:"in_time"`         // within the deadline, if there is one
	ModelsAsked    int            `json:"models_asked"`    // different ones
	ModelsAnswered int            `json:"models_answered"` // different ones
	Statuses       map[string]int `json:"statuses"`
	Seconds        float64        `json:"seconds"` // from the first request to the last right answer
	Hot            latencies      `json:"hot"`
	Cold           latencies      `json:"cold"` // that the activator answered
	All            latencies      `json:"all"`
}

func (r *results) report() *report {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	all := slices.Concat(r.hot, r.cold)
	report := &report{
		Answered: len(all), InTime: len(all), Statuses: r.statuses, Seconds: r.last.Sub(r.began).Seconds(),
		ModelsAsked: count(r.asked), ModelsAnswered: count(r.models),
		Hot: summary(r.hot), Cold: summary(r.cold), All: summary(all),
	}
	for _, number := range r.statuses {
		report.Sent += number
	}
	if r.options.deadline > 0 {
		report.InTime = 0
		for _, took := range all {
			if took <= r.options.deadline {
				report.InTime++
			}
		}
	}
	return report
}

func count(marks []bool) (marked int) {
	for _, mark := range marks {
		if mark {
			marked++
		}
	}
	return marked
}

func summary(took []time.Duration) latencies {
	if len(took) == 0 {
		return latencies{}
	}
	slices.Sort(took)
	at := func(part float64) float64 {
		return float64(took[min(int(float64(len(took))*part), len(took)-1)].Microseconds()) / 1000
	}
	return latencies{Count: len(took), P50: at(0.5), P90: at(0.9), P99: at(0.99), Most: at(1)}
}
