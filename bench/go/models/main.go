// Command shoal-bench-models is the model server of the benchmarks.
//
// It speaks mmesh.ModelRuntime, and of the Open Inference Protocol inference alone, over gRPC and over REST. It does
// next to nothing for a request, so that a measurement shows what is before it.
package main

import (
	"flag"
	"log"
	"net"
	"net/http"
	"time"

	"shoal/bench/names"
)

func main() {
	grpcAddress := flag.String("grpc", "", "address for gRPC")
	httpAddress := flag.String("http", "", "address for REST, and for counts of what was done at /counts")
	holds := flag.Int("holds", 0, "so many models are loaded from the start")
	suffix := flag.String("suffix", "", "what their names end with")
	guarded := flag.Bool("guarded", false, "speak Shoal's adapter protocol, which says that unloads harm no request")
	settings := settings{}
	flag.DurationVar(&settings.load, "load", 0, "time a load takes")
	flag.DurationVar(&settings.unload, "unload", 0, "time an unload takes")
	flag.IntVar(&settings.loads, "loads", 4, "loads at a time, as told to the mesh")
	flag.Uint64Var(&settings.size, "size", 1<<20, "bytes of a model, as told to the mesh")
	flag.Uint64Var(&settings.capacity, "capacity", 1<<36, "bytes that all models together may have, as told to the mesh")
	flag.Parse()

	models := newModels(settings)
	for number := range *holds {
		models.add(names.Model(number) + *suffix)
	}
	listener, err := net.Listen("tcp", *grpcAddress)
	if err != nil {
		log.Fatal(err)
	}
	failed := make(chan error, 2)
	go func() { failed <- newServer(models, *guarded).Serve(listener) }()
	if *httpAddress != "" {
		rest := http.Server{Addr: *httpAddress, Handler: newRest(models), ReadHeaderTimeout: 10 * time.Second}
		go func() { failed <- rest.ListenAndServe() }()
	}
	log.Fatal(<-failed)
}
