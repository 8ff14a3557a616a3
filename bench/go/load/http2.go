package main

import (
	"bufio"
	"io"
	"net"
	"sync"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/protobuf/encoding/protowire"
)

const (
	buffer        = 64 << 10
	receiveWindow = 1 << 30
	defaultWindow = 65_535 // of HTTP/2, until the peer says otherwise
	frameHeader   = 9
	messageHeader = 5
)

// asked is a request: for which model, and when it was due.
type asked struct {
	model int
	at    time.Time
}

// stream is a request in flight, and what has come of its answer.
type stream struct {
	asked
	status string // grpc-status
	http   string
	cold   bool
	answer []byte
}

// connection is one of HTTP/2. Header blocks are ready made and nothing is allocated but the answer, so that the
// generator takes little of the machine that it shares with what it measures.
type connection struct {
	*load
	net    net.Conn
	reader *bufio.Reader
	mutex  sync.Mutex // guards all below
	writer *bufio.Writer
	framer *http2.Framer
	next   uint32
	room   int64 // bytes the peer takes
	most   int   // streams at a time the peer takes
	flight map[uint32]*stream
	held   []asked // until the peer takes more
	closed bool
	empty  *sync.Cond
}

func dial(l *load) (*connection, error) {
	conn, err := net.DialTimeout("tcp", l.target, time.Until(l.until))
	if err != nil {
		return nil, err
	}
	_ = conn.SetReadDeadline(l.until)
	c := &connection{
		load: l, net: conn, reader: bufio.NewReaderSize(conn, buffer), writer: bufio.NewWriterSize(conn, buffer),
		next: 1, room: defaultWindow, most: 1 << 30, flight: map[uint32]*stream{},
	}
	c.empty = sync.NewCond(&c.mutex)
	c.framer = http2.NewFramer(c.writer, c.reader)
	c.framer.SetReuseFrames()
	_, _ = io.WriteString(c.writer, http2.ClientPreface)
	_ = c.framer.WriteSettings(
		http2.Setting{ID: http2.SettingHeaderTableSize, Val: 0},
		http2.Setting{ID: http2.SettingInitialWindowSize, Val: receiveWindow},
		http2.Setting{ID: http2.SettingEnablePush, Val: 0},
	)
	_ = c.framer.WriteWindowUpdate(0, receiveWindow)
	return c, c.writer.Flush()
}

// keep has so many requests in flight until there is no next one. False: the connection broke before.
func (c *connection) keep(next func() (asked, bool), inFlight int) bool {
	c.mutex.Lock()
	for range inFlight {
		if request, more := next(); more {
			c.send(request)
		}
	}
	_ = c.writer.Flush()
	nothing := len(c.flight) == 0
	c.mutex.Unlock()
	if nothing {
		_ = c.net.Close()
		return true
	}
	return c.read(next)
}

// ask sends a request with the next flush.
func (c *connection) ask(request asked) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	if c.closed {
		c.done(request, "broken", false)
		return
	}
	c.send(request)
}

func (c *connection) flush() {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	if c.writer.Buffered() > 0 {
		_ = c.writer.Flush() // a broken connection ends its reader
	}
}

func (c *connection) broken() bool {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	return c.closed
}

// finish waits until all is answered, or the time is over.
func (c *connection) finish() {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	for len(c.flight)+len(c.held) > 0 && !c.closed {
		c.empty.Wait()
	}
	_ = c.net.Close()
}

// send writes a request, or holds it back until the peer takes it. The mutex is held.
func (c *connection) send(request asked) {
	body := c.bodies[request.model]
	if len(c.flight) >= c.most || c.room < int64(len(body)) {
		c.held = append(c.held, request)
		return
	}
	id := c.next
	c.next += 2
	c.room -= int64(len(body))
	c.flight[id] = &stream{asked: request}
	_ = c.framer.WriteHeaders(http2.HeadersFrameParam{
		StreamID: id, BlockFragment: c.headers[request.model], EndHeaders: true,
	})
	_ = c.framer.WriteData(id, true, body)
}

// sendHeld sends what was held back, in order, as far as the peer takes it. The mutex is held.
func (c *connection) sendHeld() {
	held := c.held
	c.held = nil
	for number, request := range held {
		if c.send(request); len(c.held) > 0 {
			c.held = append(c.held, held[number+1:]...)
			return
		}
	}
}

// read takes answers; with `next`, a request follows each. False: the connection broke with requests in flight.
func (c *connection) read(next func() (asked, bool)) bool {
	var current *stream
	decoder := hpack.NewDecoder(0, func(field hpack.HeaderField) {
		switch {
		case current == nil:
		case field.Name == "grpc-status":
			current.status = field.Value
		case field.Name == ":status":
			current.http = field.Value
		case field.Name == "x-shoal-served":
			current.cold = field.Value == "cold"
		}
	})
	for {
		read, err := c.framer.ReadFrame()
		c.mutex.Lock()
		if err != nil {
			return c.end()
		}
		ended := uint32(0)
		switch read := read.(type) {
		case *http2.HeadersFrame:
			current = c.flight[read.StreamID]
			_, _ = decoder.Write(read.HeaderBlockFragment())
			if read.StreamEnded() {
				ended = read.StreamID
			}
		case *http2.DataFrame:
			if stream := c.flight[read.StreamID]; stream != nil {
				stream.answer = append(stream.answer, read.Data()...)
			}
			if read.Length > 0 {
				_ = c.framer.WriteWindowUpdate(0, read.Length)
			}
			if read.StreamEnded() {
				ended = read.StreamID
			}
		case *http2.RSTStreamFrame:
			if stream := c.flight[read.StreamID]; stream != nil {
				stream.status = "reset"
			}
			ended = read.StreamID
		default:
			c.control(read)
		}
		if stream := c.flight[ended]; stream != nil {
			delete(c.flight, ended)
			c.finished(stream)
			if next != nil {
				if request, more := next(); more {
					c.send(request)
				}
			}
			c.sendHeld()
		}
		if c.reader.Buffered() < frameHeader {
			_ = c.writer.Flush()
		}
		idle := len(c.flight)+len(c.held) == 0
		if idle {
			c.empty.Broadcast()
		}
		c.mutex.Unlock()
		if idle && next != nil {
			_ = c.net.Close()
			return true
		}
	}
}

// control answers frames that are about the connection. The mutex is held.
func (c *connection) control(read http2.Frame) {
	switch read := read.(type) {
	case *http2.SettingsFrame:
		if read.IsAck() {
			return
		}
		if most, told := read.Value(http2.SettingMaxConcurrentStreams); told {
			c.most = int(most)
		}
		_ = c.framer.WriteSettingsAck()
	case *http2.WindowUpdateFrame:
		if read.StreamID == 0 {
			c.room += int64(read.Increment)
			c.sendHeld()
		}
	case *http2.PingFrame:
		if !read.IsAck() {
			_ = c.framer.WritePing(true, read.Data)
		}
	}
}

// end tells what became of all that is not answered, and unlocks.
func (c *connection) end() bool {
	defer c.mutex.Unlock()
	c.closed = true
	words, whole := "broken", len(c.flight)+len(c.held) == 0
	if !time.Now().Before(c.until) {
		words, whole = "unanswered", true
	}
	for _, stream := range c.flight {
		c.done(stream.asked, words, false)
	}
	for _, request := range c.held {
		c.done(request, words, false)
	}
	clear(c.flight)
	c.held = nil
	c.empty.Broadcast()
	_ = c.net.Close()
	return whole
}

// finished says how a request ended: "0" with the right answer, else a status of gRPC, of HTTP, or in words.
func (c *connection) finished(stream *stream) {
	status := stream.status
	switch {
	case status == "":
		status = "http " + stream.http
	case status == "0" && !c.expects(stream.model, answeredName(stream.answer)):
		status = "wrong"
	}
	c.done(stream.asked, status, stream.cold)
}

// answeredName is the first field of a ModelInferResponse in its frame.
func answeredName(answer []byte) []byte {
	if len(answer) < messageHeader {
		return nil
	}
	answer = answer[messageHeader:]
	if number, kind, length := protowire.ConsumeTag(answer); number == 1 && kind == protowire.BytesType {
		name, _ := protowire.ConsumeBytes(answer[length:])
		return name
	}
	return nil
}
