package main

import (
	"strings"

	"github.com/hibiken/asynq"
	"github.com/hibiken/asynq/x/metrics"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/expfmt"
)

// metricsEvent is one scrape, in the text format of Prometheus.
type metricsEvent struct {
	Event string `json:"event"`
	Text  string `json:"text"`
}

// runMetrics writes one scrape of the collector for Go's queues.
func runMetrics(name string, args []string) error {
	conn, err := newFlags(name).connect(args)
	if err != nil {
		return err
	}
	inspector := asynq.NewInspector(conn)
	defer inspector.Close()
	registry := prometheus.NewPedanticRegistry()
	if err := registry.Register(metrics.NewQueueMetricsCollector(inspector)); err != nil {
		return err
	}
	families, err := registry.Gather()
	if err != nil {
		return err
	}
	var text strings.Builder
	for _, family := range families {
		if _, err := expfmt.MetricFamilyToText(&text, family); err != nil {
			return err
		}
	}
	return stdout.write(metricsEvent{"metrics", text.String()})
}
