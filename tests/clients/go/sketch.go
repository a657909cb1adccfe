package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/webhook-grpc/webhook-grpc/clients/go/client"
	webhookv1 "github.com/webhook-grpc/webhook-grpc/generated/go/webhook/v1"
)

// What sketch.txt uses and does not have: a test writes sketch and sketchedReceiver around its text.

type row struct {
	Customer int64
	JSON     json.RawMessage
	Key      string
}

const (
	newSecret = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
	oldSecret = "the secret of before"
)

var (
	rows = []row{{7, json.RawMessage(`{"n":1}`), "one"}, {7, json.RawMessage(`{"n":2}`), "two"}, {7, json.RawMessage("no"), "three"}}

	ended  = make(chan string, 100)
	mu     sync.Mutex
	known  = map[string]bool{}
	cancel context.CancelFunc
)

const genuine = 3 // of the events: one more is no JSON

// seen returns whether a message has come before.
func seen(id string) bool {
	mu.Lock()
	defer mu.Unlock()
	before := known[id]
	known[id] = true
	return before
}

func handle(message *client.Message) {
	ended <- fmt.Sprintln("handled", message.WebhookID, message.EventType, string(message.Data))
}

func update(delivery *webhookv1.Delivery) {
	if delivery.GetStatus() != webhookv1.DeliveryStatus_DELIVERY_STATUS_SUCCEEDED {
		return
	}
	ended <- fmt.Sprintln("succeeded", delivery.GetEventId())
	mu.Lock()
	defer mu.Unlock()
	known[delivery.GetDeliveryId()] = true
	if len(known) == 2*genuine {
		cancel()
	}
}

func resync(context.Context) error { panic("the log has no gap") }

// runSketch receives what the sketch publishes, and has it watched from before it is published.
func runSketch(ctx context.Context) error {
	ctx, cancel = context.WithCancel(ctx)
	c, err := client.New(*address, client.WithTokenFile(*token))
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	sketchedReceiver()
	go func() { _ = http.Serve(listener, nil) }()
	if _, err := c.Service().CreateWebhook(ctx, &webhookv1.CreateWebhookRequest{Webhook: &webhookv1.Webhook{
		CustomerId: 7, Name: "hook", Url: "http://" + listener.Addr().String() + "/hook", Secret: newSecret, Events: []string{"*"},
	}}); err != nil {
		return err
	}
	first := c.Watch(client.WatchOptions{CustomerID: 7, Cursors: client.CursorFile(*cursor), UntilIdle: time.Second})
	for _, err := range first.All(ctx) {
		if err != nil {
			return err
		}
	}
	fmt.Println("ended with:", sketch(ctx))
	for range 2 * genuine {
		fmt.Print(<-ended)
	}
	return nil
}
