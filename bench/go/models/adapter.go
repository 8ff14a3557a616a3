package main

import (
	"strconv"
	"time"

	"google.golang.org/grpc"
)

// adapter is shoal.adapter.v1.Adapter, as far as the mesh needs it. It says that unloads harm no request: one that is
// under way is answered at once, and one that comes later is told that the model is not loaded.
func adapter(models *models) *grpc.ServiceDesc {
	incarnation := strconv.FormatInt(time.Now().UnixNano(), 36)
	watch := func(_ any, stream grpc.ServerStream) error {
		var request []byte
		if err := stream.RecvMsg(&request); err != nil {
			return err
		}
		state := adapterState(models, incarnation)
		if err := stream.SendMsg(&state); err != nil {
			return err
		}
		<-stream.Context().Done() // nothing changes but by what the mesh itself asks for
		return nil
	}
	return &grpc.ServiceDesc{
		ServiceName: "shoal.adapter.v1.Adapter", HandlerType: (*any)(nil),
		Streams: []grpc.StreamDesc{{StreamName: "watchState", Handler: watch, ServerStreams: true}},
	}
}

func adapterState(models *models, incarnation string) []byte {
	state := number(nil, 1, ready)
	state = text(state, 3, []byte(incarnation))
	state = number(state, 4, models.capacity)
	state = number(state, 5, uint64(models.loads))
	state = number(state, 6, loadMilliseconds)
	state = number(state, 7, models.size)
	for _, name := range models.names() {
		state = text(state, 9, number(text(nil, 1, []byte(name)), 2, models.size))
	}
	return number(state, 14, 1)
}
