package client

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"time"
	"unicode/utf8"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	webhookv1 "github.com/webhook-grpc/webhook-grpc/generated/go/webhook/v1"
)

// An Event is what happened.
type Event struct {
	// CustomerID may be left out with a token of one customer.
	CustomerID int64
	// Type is a registered event type, such as job.completed.
	Type string
	// Data is JSON text. It is kept, signed and sent byte for byte.
	Data json.RawMessage
	// RequestID makes the event safe to publish again; a natural key is best. One is made if it is empty.
	RequestID string
	// OccurTime is when it happened; zero: when it was published.
	OccurTime time.Time
	// Attributes are kept and shown, but not sent to receivers.
	Attributes map[string]string
}

// Published is the service's answer: the event is on disk.
type Published struct {
	EventID string
	// DeliveryCount is to how many webhooks the event goes.
	DeliveryCount int
	// Duplicate: an earlier call with the same request id had published it already.
	Duplicate  bool
	CreateTime time.Time
}

func publishedOf(response *webhookv1.PublishEventResponse) Published {
	return Published{
		EventID: response.GetEventId(), DeliveryCount: int(response.GetDeliveryCount()),
		Duplicate: response.GetDuplicate(), CreateTime: response.GetCreateTime().AsTime(),
	}
}

// request returns the request for an event, always with a request id. An event that could not be sent, and would hold up
// the others of its batch, is a RefusedError.
func (e Event) request() (*webhookv1.PublishEventRequest, error) {
	if field := e.malformed(); field != "" {
		return nil, refused(field, "is not UTF-8")
	}
	event := &webhookv1.Event{
		CustomerId: e.CustomerID, EventType: e.Type, Attributes: e.Attributes,
		Content: &webhookv1.Event_DataJson{DataJson: string(e.Data)},
	}
	if !e.OccurTime.IsZero() {
		event.OccurTime = timestamppb.New(e.OccurTime)
	}
	request := &webhookv1.PublishEventRequest{Event: event, RequestId: e.RequestID}
	if request.RequestId == "" {
		request.RequestId = rand.Text()
	}
	if size := proto.Size(request); size > batchBytesMax {
		return nil, refused("event", fmt.Sprintf("has %d bytes, more than a call may have", size))
	}
	return request, nil
}

// malformed returns the path of a field whose bytes gRPC can't send, empty if there is none.
func (e Event) malformed() string {
	switch {
	case !utf8.ValidString(e.Type):
		return "event.event_type"
	case !utf8.Valid(e.Data):
		return "event.data_json"
	case !utf8.ValidString(e.RequestID):
		return "request_id"
	}
	for key, value := range e.Attributes {
		if !utf8.ValidString(key) || !utf8.ValidString(value) {
			return "event.attributes"
		}
	}
	return ""
}

func refused(field, description string) error {
	return typed(WebhookError{
		Code: codes.InvalidArgument, Message: field + " " + description, Violations: []Violation{{field, description}},
	})
}
