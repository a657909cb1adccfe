// Quickstart registers a webhook, publishes one event and watches it arrive.
//
//	go run . -url https://example.com/hook
//
// It exits 0 when the event was delivered.
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"flag"
	"fmt"
	"os"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	webhookv1 "github.com/webhook-grpc/webhook-grpc/generated/go/webhook/v1"
)

const deadline = 30 * time.Second

func main() {
	address := flag.String("address", "127.0.0.1:50051", "where webhook-grpc serves")
	url := flag.String("url", "", "the receiver: where events are POSTed (required)")
	secret := flag.String("secret", "", "the receiver's secret; the service makes one if it is empty")
	customer := flag.Int64("customer", 1, "the customer's id")
	token := flag.String("token", os.Getenv("WEBHOOK_TOKEN"), "a token, if the service wants one")
	cacert := flag.String("cacert", "", "a file with the authority of the service's certificate; empty: plain text")
	cert := flag.String("cert", "", "a file with a certificate for this client, if the service wants one (mTLS)")
	key := flag.String("key", "", "a file with its key")
	flag.Parse()

	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	if *token != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+*token)
	}
	transport, err := credentialsOf(*cacert, *cert, *key)
	if err == nil {
		err = run(ctx, *address, transport, *url, *secret, *customer)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "quickstart:", explain(err))
		os.Exit(1)
	}
}

// credentialsOf returns how to reach the service: TLS if an authority is named, mTLS with a certificate of one's own.
func credentialsOf(cacert, cert, key string) (credentials.TransportCredentials, error) {
	if cacert == "" {
		return insecure.NewCredentials(), nil
	}
	authority, err := os.ReadFile(cacert)
	if err != nil {
		return nil, err
	}
	config := &tls.Config{RootCAs: x509.NewCertPool()}
	if !config.RootCAs.AppendCertsFromPEM(authority) {
		return nil, fmt.Errorf("%s holds no certificate", cacert)
	}
	if cert != "" {
		pair, err := tls.LoadX509KeyPair(cert, key)
		if err != nil {
			return nil, err
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return credentials.NewTLS(config), nil
}

func run(
	ctx context.Context, address string, transport credentials.TransportCredentials, url, secret string, customer int64,
) error {
	connection, err := grpc.NewClient(address, grpc.WithTransportCredentials(transport))
	if err != nil {
		return err
	}
	defer connection.Close()
	client := webhookv1.NewWebhookServiceClient(connection)

	webhook, err := client.CreateWebhook(ctx, &webhookv1.CreateWebhookRequest{
		Webhook: &webhookv1.Webhook{
			CustomerId: customer, Name: "quickstart", Url: url, Secret: secret, Events: []string{"job.*"},
		},
	})
	if err != nil {
		return fmt.Errorf("create webhook: %w", err)
	}
	// The receiver verifies signatures with the secret. If the service made it, only this answer shows it.
	if secret == "" {
		secret = webhook.Secret
	}
	fmt.Printf("webhook %d: secret %s\n", webhook.WebhookId, secret)

	// Watch before publishing: with its first message the service says that the watch has begun.
	watch, err := client.WatchDeliveries(ctx, &webhookv1.WatchDeliveriesRequest{
		CustomerId: customer, WebhookIds: []int64{webhook.WebhookId},
	})
	if err == nil {
		_, err = watch.Recv()
	}
	if err != nil {
		return fmt.Errorf("watch deliveries: %w", err)
	}

	// The request id makes it safe to publish again after a lost answer.
	published, err := client.PublishEvent(ctx, &webhookv1.PublishEventRequest{
		RequestId: fmt.Sprintf("quickstart-%d", webhook.WebhookId),
		Event: &webhookv1.Event{
			CustomerId: customer,
			EventType:  "job.completed",
			Content:    &webhookv1.Event_DataJson{DataJson: `{"job_id":"job-abc123","status":"completed"}`},
		},
	})
	if err != nil {
		return fmt.Errorf("publish event: %w", err)
	}
	fmt.Printf("event %s: goes to %d webhook(s)\n", published.EventId, published.DeliveryCount)
	return await(watch, published.EventId)
}

// await prints every change of a delivery, and returns when the event's has ended: nil if it succeeded.
func await(watch grpc.ServerStreamingClient[webhookv1.WatchDeliveriesResponse], eventID string) error {
	for {
		message, err := watch.Recv() // an empty message is a heartbeat
		if status.Code(err) == codes.DeadlineExceeded {
			return fmt.Errorf("the delivery has not succeeded within %v", deadline)
		} else if err != nil {
			return fmt.Errorf("watch deliveries: %w", err) // a service would watch again from the last cursor
		}
		for _, delivery := range message.Deliveries {
			state := strings.TrimPrefix(delivery.Status.String(), "DELIVERY_STATUS_")
			attempt := delivery.GetLastAttempt()
			fmt.Printf("delivery %s: %s after attempt %d: HTTP status %d %s\n", delivery.DeliveryId, state,
				delivery.AttemptCount, attempt.GetResponseStatus(), attempt.GetErrorMessage())
			switch {
			case delivery.EventId != eventID || state == "PENDING": // another event's, or to be tried again
			case state == "SUCCEEDED":
				return nil
			default:
				return fmt.Errorf("the delivery ended as %s", state)
			}
		}
	}
}

// explain adds what the service says about an error beyond its message: the reason, and the fields at fault.
func explain(err error) string {
	text := err.Error()
	for _, detail := range status.Convert(err).Details() {
		switch detail := detail.(type) {
		case *errdetails.ErrorInfo:
			text += "\n  reason: " + detail.Reason
		case *errdetails.BadRequest:
			for _, violation := range detail.FieldViolations {
				text += fmt.Sprintf("\n  field %s: %s", violation.Field, violation.Description)
			}
		}
	}
	return text
}
