package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"strings"
	"time"

	"golang.org/x/net/http2/hpack"
	"google.golang.org/protobuf/encoding/protowire"

	"shoal/bench/names"
)

const (
	method   = "/inference.GRPCInferenceService/ModelInfer"
	features = 64
)

// prepared requests are ready to be sent: how each model is asked, and how the answer calls it.
type prepared struct {
	rest     bool
	headers  [][]byte // of HTTP/2, by model
	bodies   [][]byte // of HTTP/2; in REST the whole request, by model
	expected []string
}

func prepare(o options) (*prepared, error) {
	r := &prepared{}
	shared := headers(o)
	for number := range o.models {
		name := names.Model(number)
		r.expected = append(r.expected, name+o.answered)
		asked := name + o.asked
		switch o.form {
		case "message":
			r.headers = append(r.headers, shared)
			r.bodies = append(r.bodies, frame(message(asked)))
		case "mm-vmodel-id", "mm-model-id":
			r.headers = append(r.headers, headers(o, hpack.HeaderField{Name: o.form, Value: asked}))
			r.bodies = append(r.bodies, frame(message("")))
		case "json", "contents":
			r.rest = true
			r.bodies = append(r.bodies, restRequest(o, asked))
		default:
			return nil, fmt.Errorf("-form is %q, not message, mm-vmodel-id, mm-model-id, json or contents", o.form)
		}
	}
	return r, nil
}

// expects says whether an answer for a model may call it so. What names end with may end in a star itself.
func (p *prepared) expects(model int, name []byte) bool {
	if begin, any := bytes.CutSuffix([]byte(p.expected[model]), []byte("*")); any {
		return bytes.HasPrefix(name, begin)
	}
	return string(name) == p.expected[model]
}

func headers(o options, more ...hpack.HeaderField) []byte {
	fields := []hpack.HeaderField{
		{Name: ":method", Value: "POST"}, {Name: ":scheme", Value: "http"}, {Name: ":path", Value: method},
		{Name: ":authority", Value: o.target}, {Name: "content-type", Value: "application/grpc"},
		{Name: "te", Value: "trailers"},
	}
	if o.deadline > 0 {
		value := fmt.Sprintf("%dm", o.deadline.Milliseconds())
		fields = append(fields, hpack.HeaderField{Name: "grpc-timeout", Value: value})
	}
	var block bytes.Buffer
	encoder := hpack.NewEncoder(&block)
	encoder.SetMaxDynamicTableSize(0) // so that a block can be sent again
	for _, field := range append(fields, more...) {
		_ = encoder.WriteField(field) // a buffer takes all
	}
	return block.Bytes()
}

// message is a ModelInferRequest of some 300 bytes. Without a name a header has it.
func message(name string) []byte {
	var request, tensor, values []byte
	if name != "" {
		request = text(request, 1, []byte(name))
	}
	for feature := range features {
		values = binary.LittleEndian.AppendUint32(values, math.Float32bits(float32(feature%16)))
	}
	tensor = text(tensor, 1, []byte("predict"))
	tensor = text(tensor, 2, []byte("FP32"))
	tensor = text(tensor, 3, []byte{1, features})
	tensor = text(tensor, 5, text(nil, 6, values))
	return text(request, 5, tensor)
}

func text(message []byte, field protowire.Number, value []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(message, field, protowire.BytesType), value)
}

// frame puts gRPC's five bytes before a message: not compressed, and its length.
func frame(message []byte) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(message))), message...)
}

func restRequest(o options, name string) []byte {
	values := strings.TrimSuffix(strings.Repeat("1.5,", features), ",")
	data := fmt.Sprintf(`"data":[%s]`, values)
	if o.form == "contents" {
		data = fmt.Sprintf(`"contents":{"fp32_contents":[%s]}`, values)
	}
	body := fmt.Sprintf(`{"inputs":[{"name":"predict","datatype":"FP32","shape":[1,%d],%s}]}`, features, data)
	head := fmt.Sprintf("POST /v2/models/%s/infer HTTP/1.1\r\nhost: %s\r\n", name, o.target)
	if o.deadline > 0 {
		head += fmt.Sprintf("x-request-timeout-seconds: %g\r\n", o.deadline.Truncate(time.Millisecond).Seconds())
	}
	return fmt.Appendf(nil, "%scontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s", head, len(body), body)
}
