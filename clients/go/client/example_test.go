package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"

	"google.golang.org/grpc"

	"github.com/webhook-grpc/webhook-grpc/clients/go/client"
	webhookv1 "github.com/webhook-grpc/webhook-grpc/generated/go/webhook/v1"
)

// service stands for webhook-grpc: it knows one type of event.
type service struct {
	webhookv1.UnimplementedWebhookServiceServer
}

func (service) BatchPublishEvents(
	_ context.Context, request *webhookv1.BatchPublishEventsRequest,
) (*webhookv1.BatchPublishEventsResponse, error) {
	response := &webhookv1.BatchPublishEventsResponse{}
	for _, event := range request.GetRequests() {
		result := &webhookv1.BatchPublishResult{Result: &webhookv1.BatchPublishResult_Published{
			Published: &webhookv1.PublishEventResponse{EventId: "evt_of_" + event.GetRequestId()},
		}}
		if event.GetEvent().GetEventType() != "job.completed" {
			result.Result = &webhookv1.BatchPublishResult_Error{Error: &webhookv1.BatchPublishError{
				Code: 9, Reason: "EVENT_TYPE_UNKNOWN", Message: "register it",
			}}
		}
		response.Results = append(response.Results, result)
	}
	return response, nil
}

func (service) WatchDeliveries(
	_ *webhookv1.WatchDeliveriesRequest, stream grpc.ServerStreamingServer[webhookv1.WatchDeliveriesResponse],
) error {
	delivery := &webhookv1.Delivery{
		DeliveryId: "dlv_1", Status: webhookv1.DeliveryStatus_DELIVERY_STATUS_SUCCEEDED, AttemptCount: 1,
	}
	return stream.Send(&webhookv1.WatchDeliveriesResponse{
		Deliveries: []*webhookv1.Delivery{delivery}, Cursor: []byte("1"),
	})
}

func started() (address string, stop func()) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	server := grpc.NewServer()
	webhookv1.RegisterWebhookServiceServer(server, service{})
	go func() { _ = server.Serve(listener) }()
	return listener.Addr().String(), server.Stop
}

func ExamplePublisher() {
	address, stop := started()
	defer stop()
	ctx := context.Background()
	c, err := client.New(address)
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = c.Close() }()

	p := c.NewPublisher(client.PublisherOptions{})
	results := []*client.Result{}
	for _, eventType := range []string{"job.completed", "nobody.knows"} {
		result, err := p.Publish(ctx, client.Event{
			CustomerID: 1, Type: eventType, Data: json.RawMessage(`{"job_id":"job-1"}`), RequestID: eventType + "-1",
		})
		if err != nil {
			log.Fatal(err)
		}
		results = append(results, result)
	}
	if err := p.Close(ctx); err != nil { // everything is settled
		log.Fatal(err)
	}
	for _, result := range results {
		published, err := result.Get(ctx)
		if refused := (*client.RefusedError)(nil); errors.As(err, &refused) {
			fmt.Println(refused.Reason, refused.Message)
		} else if err != nil {
			log.Fatal(err)
		} else {
			fmt.Println(published.EventID)
		}
	}
	// Output:
	// evt_of_job.completed-1
	// EVENT_TYPE_UNKNOWN register it
}

func ExampleWatcher_All() {
	address, stop := started()
	defer stop()
	c, err := client.New(address)
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = c.Close() }()

	w := c.Watch(client.WatchOptions{CustomerID: 1, EventTypes: []string{"job.*"}})
	for delivery, err := range w.All(context.Background()) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(delivery.GetDeliveryId(), delivery.GetStatus(), delivery.GetAttemptCount())
		break // a program that watches for ever does not
	}
	// Output:
	// dlv_1 DELIVERY_STATUS_SUCCEEDED 1
}

func ExampleVerify() {
	secrets := client.Secrets("whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=", "the secret of before")
	hook := client.Verify(secrets, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		message := client.MessageFrom(r.Context()) // genuine, or the request would not have come here
		fmt.Println(message.WebhookID, message.EventType, string(message.Data))
		w.WriteHeader(http.StatusNoContent)
	}))

	forged := httptest.NewRequest(http.MethodPost, "/hook", strings.NewReader(`{"data":{}}`))
	answer := httptest.NewRecorder()
	hook.ServeHTTP(answer, forged)
	fmt.Print(answer.Code, " ", answer.Body)
	// Output:
	// 400 HEADER_MISSING
}
