package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"
)

// askRest keeps one request in flight on a connection of HTTP/1.1 until all are sent.
func (l *load) askRest(choose chooser) {
	var conn net.Conn
	var reader *bufio.Reader
	defer func() {
		if conn != nil {
			_ = conn.Close()
		}
	}()
	for l.more() {
		request := asked{model: choose(), at: time.Now()}
		if conn == nil {
			var err error
			if conn, err = net.DialTimeout("tcp", l.target, time.Until(l.until)); err != nil {
				conn = nil
				l.done(request, "unreachable", false)
				time.Sleep(redial)
				continue
			}
			_ = conn.SetDeadline(l.until)
			reader = bufio.NewReaderSize(conn, buffer)
		}
		status, cold, err := l.exchange(conn, reader, request.model)
		if err != nil {
			_ = conn.Close()
			conn = nil
			status = "broken"
			if !time.Now().Before(l.until) {
				status = "unanswered"
			}
		}
		l.done(request, status, cold)
	}
}

func (l *load) exchange(conn net.Conn, reader *bufio.Reader, model int) (status string, cold bool, err error) {
	if _, err = conn.Write(l.bodies[model]); err != nil {
		return "", false, err
	}
	answer, err := http.ReadResponse(reader, nil)
	if err != nil {
		return "", false, err
	}
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		return "", false, err
	}
	_ = answer.Body.Close()
	cold = answer.Header.Get("x-shoal-served") == "cold"
	switch {
	case answer.StatusCode != http.StatusOK:
		status = fmt.Sprintf("http %d", answer.StatusCode)
	case !bytes.Contains(body, []byte(`"`+l.expected[model]+`"`)):
		status = "wrong"
	default:
		status = "0"
	}
	return status, cold, nil
}
