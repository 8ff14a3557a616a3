package main

import (
	"fmt"
	"math/rand/v2"
	"sort"
	"sync/atomic"
)

// chooser says which model is asked next. Each goroutine has its own.
type chooser func() int

// popularity is which model has which rank: fixed, so that all runs agree, and unlike the order of their numbers.
const popularity = 20260101

// choosers makes a chooser for each goroutine, by its number.
func choosers(o options) (func(goroutine int) chooser, error) {
	random := func(goroutine int) *rand.Rand { return rand.New(rand.NewPCG(o.seed, uint64(goroutine))) }
	switch o.spread {
	case "uniform":
		return func(goroutine int) chooser {
			source := random(goroutine)
			return func() int { return source.IntN(o.models) }
		}, nil
	case "zipf":
		ranks := rand.New(rand.NewPCG(popularity, 0)).Perm(o.models)
		shares, total := make([]float64, o.models), 0.0
		for rank := range shares {
			total += 1 / float64(rank+1)
			shares[rank] = total
		}
		return func(goroutine int) chooser {
			source := random(goroutine)
			return func() int { return ranks[sort.SearchFloat64s(shares, source.Float64()*total)] }
		}, nil
	case "each":
		var asked atomic.Int64
		return func(int) chooser {
			return func() int { return int(asked.Add(1)-1) % o.models }
		}, nil
	}
	return nil, fmt.Errorf("-spread is %q, not uniform, zipf or each", o.spread)
}
