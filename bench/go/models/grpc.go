package main

import (
	"context"
	"runtime"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
)

const (
	window           = 1 << 20 // bytes; large enough that no small message ever waits for it
	ready            = 1       // the status of a server, in mmesh.ModelRuntime and in shoal.adapter.v1.Adapter
	loadMilliseconds = 30_000  // a load may take
)

// bytesCodec leaves messages as they are. The few fields that matter are read by hand, which costs next to nothing.
type bytesCodec struct{}

func (bytesCodec) Name() string { return "proto" }

func (bytesCodec) Marshal(message any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(*message.(*[]byte))}, nil
}

func (bytesCodec) Unmarshal(data mem.BufferSlice, message any) error {
	*message.(*[]byte) = data.Materialize()
	return nil
}

type method func(ctx context.Context, request []byte) ([]byte, error)

func newServer(models *models, guarded bool) *grpc.Server {
	server := grpc.NewServer(
		grpc.ForceServerCodecV2(bytesCodec{}), grpc.NumStreamWorkers(uint32(runtime.NumCPU())),
		grpc.InitialWindowSize(window), grpc.InitialConnWindowSize(window),
	)
	if guarded {
		server.RegisterService(adapter(models), nil)
	}
	server.RegisterService(service("mmesh.ModelRuntime", map[string]method{
		"loadModel": func(ctx context.Context, request []byte) ([]byte, error) {
			if err := models.loadOne(ctx, string(field(request, 1))); err != nil {
				return nil, status.FromContextError(err).Err()
			}
			return number(nil, 1, models.size), nil
		},
		"unloadModel": func(_ context.Context, request []byte) ([]byte, error) {
			models.unloadOne(string(field(request, 1)))
			return nil, nil
		},
		"predictModelSize": func(context.Context, []byte) ([]byte, error) { return number(nil, 1, models.size), nil },
		"modelSize":        func(context.Context, []byte) ([]byte, error) { return number(nil, 1, models.size), nil },
		"runtimeStatus": func(context.Context, []byte) ([]byte, error) {
			models.clear() // the protocol: who is ready has nothing loaded
			return runtimeStatus(models.settings), nil
		},
	}), nil)
	server.RegisterService(service("inference.GRPCInferenceService", map[string]method{
		"ModelInfer": func(_ context.Context, request []byte) ([]byte, error) { return infer(models, request) },
		"ModelReady": func(_ context.Context, request []byte) ([]byte, error) {
			ready := uint64(0)
			if models.has(field(request, 1)) {
				ready = 1
			}
			return number(nil, 1, ready), nil
		},
	}), nil)
	return server
}

func service(name string, methods map[string]method) *grpc.ServiceDesc {
	description := &grpc.ServiceDesc{ServiceName: name, HandlerType: (*any)(nil)}
	for name, do := range methods {
		handler := func(_ any, ctx context.Context, read func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
			var request []byte
			if err := read(&request); err != nil {
				return nil, err
			}
			answer, err := do(ctx, request)
			return &answer, err
		}
		description.Methods = append(description.Methods, grpc.MethodDesc{MethodName: name, Handler: handler})
	}
	return description
}

func infer(models *models, request []byte) ([]byte, error) {
	name := field(request, 1)
	if !models.has(name) {
		return nil, status.Errorf(codes.NotFound, "%s is not loaded", name)
	}
	return append(text(make([]byte, 0, 16+len(name)+len(outputs)), 1, name), outputs...), nil
}

// outputs is the answer after the model's name: one tensor of one INT64.
var outputs = func() []byte {
	tensor := text(nil, 1, []byte("predict"))
	tensor = text(tensor, 2, []byte("INT64"))
	tensor = text(tensor, 3, []byte{1, 1})
	tensor = text(tensor, 5, text(nil, 3, []byte{8}))
	return text(nil, 5, tensor)
}()

func runtimeStatus(settings settings) []byte {
	answer := number(nil, 1, ready)
	answer = number(answer, 2, settings.capacity)
	answer = number(answer, 3, uint64(settings.loads))
	answer = number(answer, 4, loadMilliseconds)
	return number(answer, 5, settings.size)
}

// field is the last value of a field of bytes or text.
func field(message []byte, wanted protowire.Number) (found []byte) {
	for len(message) > 0 {
		number, kind, length := protowire.ConsumeTag(message)
		if length < 0 {
			return found
		}
		message = message[length:]
		size := protowire.ConsumeFieldValue(number, kind, message)
		if size < 0 {
			return found
		}
		if number == wanted && kind == protowire.BytesType {
			found, _ = protowire.ConsumeBytes(message)
		}
		message = message[size:]
	}
	return found
}

func number(message []byte, field protowire.Number, value uint64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(message, field, protowire.VarintType), value)
}

func text(message []byte, field protowire.Number, value []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(message, field, protowire.BytesType), value)
}
