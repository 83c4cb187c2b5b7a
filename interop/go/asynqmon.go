package main

import (
	"io"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/hibiken/asynqmon"
)

// servingEvent tells where requests are answered.
type servingEvent struct {
	Event   string `json:"event"`
	Address string `json:"address"`
}

// runAsynqmon serves the web server of asynqmon on a free port of this machine until stdin ends, with the settings
// that its program has by default. Times are in UTC.
func runAsynqmon(name string, args []string) error {
	f := newFlags(name)
	length := f.Int("length", 200, "longest payload and result in characters")
	prometheus := f.String("prometheus", "", "address of a Prometheus server")
	readOnly := f.Bool("read-only", false, "refuse all changes")
	conn, err := f.connect(args)
	if err != nil {
		return err
	}
	time.Local = time.UTC // It shows times in the zone of the machine.
	handler := asynqmon.New(asynqmon.Options{
		RedisConnOpt:      conn,
		PrometheusAddress: *prometheus,
		ReadOnly:          *readOnly,
		PayloadFormatter: asynqmon.PayloadFormatterFunc(func(kind string, payload []byte) string {
			return shortened(asynqmon.DefaultPayloadFormatter.FormatPayload(kind, payload), *length)
		}),
		ResultFormatter: asynqmon.ResultFormatterFunc(func(kind string, result []byte) string {
			return shortened(asynqmon.DefaultResultFormatter.FormatResult(kind, result), *length)
		}),
	})
	defer handler.Close()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	failed := make(chan error, 1)
	go func() { failed <- http.Serve(listener, handler) }()
	if err := stdout.write(servingEvent{"serving", listener.Addr().String()}); err != nil {
		return err
	}
	go func() {
		_, err := io.Copy(io.Discard, os.Stdin)
		failed <- err
	}()
	return <-failed
}

// shortened is the beginning of a text that has more characters than the limit, and a mark.
func shortened(text string, limit int) string {
	runes := []rune(text)
	if len(runes) <= limit {
		return text
	}
	return string(runes[:limit]) + "…"
}
