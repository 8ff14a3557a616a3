// Command shoal-bench-load sends inference requests that are spread over models, and checks every answer.
//
// In a closed loop (-in-flight) a request follows each answer; in an open one (-rate) requests are sent at their time
// whatever became of those before, and latency counts from that time. It prints one JSON object.
package main

import (
	"encoding/json"
	"flag"
	"log"
	"os"
	"time"
)

type options struct {
	target      string
	form        string
	connections int
	inFlight    int
	rate        float64
	requests    int
	limit       time.Duration
	deadline    time.Duration
	models      int
	spread      string
	seed        uint64
	asked       string
	answered    string
}

func main() {
	o := options{}
	flag.StringVar(&o.target, "target", "", "host:port that is asked")
	flag.StringVar(&o.form, "form", "message", "where a request has the name: message, mm-vmodel-id, mm-model-id, "+
		"or REST in the standard form (json) or protobuf's (contents)")
	flag.IntVar(&o.connections, "connections", 1, "connections; in REST one for each request in flight")
	flag.IntVar(&o.inFlight, "in-flight", 1, "requests in flight, over all connections")
	flag.Float64Var(&o.rate, "rate", 0, "requests a second, instead of so many in flight")
	flag.IntVar(&o.requests, "requests", 1000, "requests in all")
	flag.DurationVar(&o.limit, "limit", time.Minute, "after so long no more are sent, and those in flight count as unanswered")
	flag.DurationVar(&o.deadline, "deadline", 0, "deadline of each request; 0: none")
	flag.IntVar(&o.models, "models", 1, "how many models are asked")
	flag.StringVar(&o.spread, "spread", "uniform", "uniform, zipf (exponent 1), or each: all in turn")
	flag.Uint64Var(&o.seed, "seed", 1, "of the random choice of models")
	flag.StringVar(&o.asked, "asked", "", "what names in requests end with")
	flag.StringVar(&o.answered, "answered", "", "what names in answers end with; in gRPC a star at its end stands for anything")
	flag.Parse()
	report, err := run(o)
	if err != nil {
		log.Fatal(err)
	}
	if err := json.NewEncoder(os.Stdout).Encode(report); err != nil {
		log.Fatal(err)
	}
}
